from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pydantic import ValidationError

from tests.tokenizers.audio_models import RATES_HZ, Saved, clip, own_codes, own_sound, saved_codec, sound
from tokenmill.audio.audio_file import AudioClip, Samples
from tokenmill.contract import Encoded
from tokenmill.errors import AssetError, ItemError, RunError, TokenizerError
from tokenmill.testing import audio_case, check_batch_invariance, check_tokenizer
from tokenmill.tokenizers.neural_codecs import DacTokenizer, EncodecTokenizer, MimiTokenizer, XcodecTokenizer
from tokenmill.tokenizers.neural_codecs.config import NeuralCodecTokenizer
from tokenmill.tokenizers.neural_codecs.encoding import NeuralCodecEncoder
from tokenmill.tokenizers.neural_codecs.networks import Dac

__all__ = ["saved_codec"]  # a fixture, found by its name here

KINDS: dict[str, type[NeuralCodecTokenizer]] = {
    "dac": DacTokenizer,
    "dac-odd": DacTokenizer,
    "encodec": EncodecTokenizer,
    "encodec-48k": EncodecTokenizer,
    "mimi": MimiTokenizer,
    "xcodec": XcodecTokenizer,
}
NAMES = list(KINDS)
#: Those whose codes do not depend on where a recording is cut, but for rounding.
EXACT = ["dac", "dac-odd", "encodec", "mimi"]
SECONDS = (3.3, 0.013, 2.1, 1.0)


def small(name: str, directory: Path, **fields: Any) -> NeuralCodecTokenizer:
    return KINDS[name].model_validate({"directory": str(directory), **fields})


def encoded(tokenizer: NeuralCodecTokenizer, clips: list[AudioClip]) -> Encoded:
    encoder = tokenizer.load()
    assert isinstance(encoder, NeuralCodecEncoder)
    return encoder.encode([encoder.prepare(one) for one in clips])


def rows(tokenizer: NeuralCodecTokenizer, clips: list[AudioClip]) -> list[dict[str, npt.NDArray[Any]]]:
    found = encoded(tokenizer, clips)
    assert not found.failures
    return [{name: jagged[index] for name, jagged in found.streams.items()} for index in range(len(clips))]


def clips_of(name: str) -> list[AudioClip]:
    return [clip(seconds, RATES_HZ[name], seed) for seed, seconds in enumerate(SECONDS)]


def differing(found: list[dict[str, npt.NDArray[Any]]], others: list[dict[str, npt.NDArray[Any]]]) -> float:
    """The share of codes that differ, at most, of a row."""
    return max(float(np.mean(row["codes"] != other["codes"])) for row, other in zip(found, others, strict=True))


@pytest.mark.parametrize("name", ["dac", "encodec", "encodec-48k", "mimi", "xcodec"])
def test_contract(name: str, saved_codec: Saved, tmp_path: Path) -> None:
    directory = saved_codec(name)

    def moved(into: Path) -> NeuralCodecTokenizer:
        return small(name, Path(shutil.copytree(directory, into / "copy")))

    variants = [
        small(name, directory, codebooks=2),
        small(name, directory, batch_size=3),
        small(name, directory, precision="bfloat16"),
        small(name, saved_codec("encodec") if name == "encodec-48k" else directory, chunk_seconds=2),
    ]
    if name == "xcodec":
        variants.append(small(name, directory, context_seconds=1))
    check_tokenizer(audio_case(small(name, directory), variants, seconds=0.2, moved=moved), tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_codes_are_the_models_own(name: str, saved_codec: Saved) -> None:
    tokenizer = small(name, saved_codec(name))
    for seconds in (0.001, 0.01, 0.03, 0.2, 1.0, 1.005, 2.3):
        own = own_codes(saved_codec(name), sound(seconds, RATES_HZ[name]))
        (row,) = rows(tokenizer, [clip(seconds, RATES_HZ[name])])
        assert row["codes"].shape == own.shape
        assert row["codes"].tolist() == own.tolist()
    assert len(np.unique(row["codes"])) > 32


@pytest.mark.parametrize("name", NAMES)
def test_nothing_has_no_codes(name: str, saved_codec: Saved) -> None:
    tokenizer = small(name, saved_codec(name))
    (row,) = rows(tokenizer, [clip(0, RATES_HZ[name])])
    assert row["codes"].shape == (0, 4)
    decoder = tokenizer.decoder()
    assert decoder is not None
    assert decoder.decode(row).samples.shape == (0,)


@pytest.mark.parametrize("name", NAMES)
def test_codes_do_not_depend_on_neighbours_in_batches(name: str, saved_codec: Saved) -> None:
    tokenizer = small(name, saved_codec(name), batch_size=3)
    check_batch_invariance(audio_case(tokenizer, seconds=0.2))


@pytest.mark.parametrize("name", NAMES)
def test_batches_give_the_codes_of_windows_alone(name: str, saved_codec: Saved) -> None:
    alone = rows(small(name, saved_codec(name)), clips_of(name))
    together = rows(small(name, saved_codec(name), batch_size=3), clips_of(name))
    # What is filled up is as if it were not; convolutions of another shape may round otherwise.
    assert differing(alone, together) < 0.002


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_codes_do_not_depend_on_where_a_recording_is_cut(name: str, batch_size: int, saved_codec: Saved) -> None:
    whole = rows(small(name, saved_codec(name)), clips_of(name))
    cut = rows(small(name, saved_codec(name), chunk_seconds=1, batch_size=batch_size), clips_of(name))
    # A network of convolutions only rounds alike wherever it begins; products of matrices of other shapes do not.
    assert differing(whole, cut) <= (0 if name.startswith("dac") else 0.002)
    assert len(whole[0]["codes"]) == len(cut[0]["codes"])


def test_codes_of_xcodec_depend_little_on_where_a_recording_is_cut(saved_codec: Saved) -> None:
    whole = rows(small("xcodec", saved_codec("xcodec")), clips_of("xcodec"))
    cut = rows(small("xcodec", saved_codec("xcodec"), chunk_seconds=1, context_seconds=1), clips_of("xcodec"))
    assert [len(row["codes"]) for row in whole] == [len(row["codes"]) for row in cut]
    assert 0 < differing(whole, cut) < 0.25
    assert whole[1]["codes"].tolist() == cut[1]["codes"].tolist()  # fits in one window


@pytest.mark.parametrize("name", ["dac", "dac-odd", "encodec", "mimi"])
def test_context_is_all_that_a_frame_depends_on(name: str, saved_codec: Saved) -> None:
    encoder = small(name, saved_codec(name)).load()
    assert isinstance(encoder, NeuralCodecEncoder)
    shape, network = encoder.shape, encoder._network
    hop, frames = shape.hop_samples, 60
    samples = torch.from_numpy(sound(frames * hop / shape.rate_hz, shape.rate_hz))[None].repeat(2, 1)
    middle = frames // 2
    samples[1, middle * hop : (middle + 1) * hop] += 1
    with torch.inference_mode():
        (plain, changed), _ = network.features(samples, None)
    per_frame = (plain != changed).any(dim=1)[0].reshape(frames, -1).any(dim=1).nonzero().flatten()
    # A frame sees `left_frames` before it: what is changed in one reaches as many after it, though at the far end it
    # may be too little to change a number.
    assert shape.left_frames - 1 <= int(per_frame.max()) - middle <= shape.left_frames
    assert shape.right_frames - 1 <= middle - int(per_frame.min()) <= shape.right_frames
    assert shape.causal == (shape.right_frames == 0)


@pytest.mark.parametrize("name", NAMES)
def test_rows_decode_as_the_model_decodes_them(name: str, saved_codec: Saved) -> None:
    found = rows(small(name, saved_codec(name)), clips_of(name))
    fields: dict[str, Any] = {} if name == "encodec-48k" else {"chunk_seconds": 1}
    decoder = small(name, saved_codec(name), **fields).decoder()
    assert decoder is not None
    for row, seconds in zip(found, SECONDS, strict=True):
        decoded = decoder.decode(row)
        assert decoded.rate_hz == RATES_HZ[name]
        assert len(decoded.samples) == round(seconds * RATES_HZ[name])
        own = own_sound(saved_codec(name), row)[: len(decoded.samples)]
        np.testing.assert_allclose(decoded.samples[: len(own)], own, atol=1e-4 * float(np.abs(own).max()))
        assert len(decoded.samples) - len(own) < 10  # a decoder of odd strides gives less than its frames stand for


@pytest.mark.parametrize("name", ["dac", "encodec", "encodec-48k"])
def test_codes_that_a_model_generated_decode_without_a_recording(name: str, saved_codec: Saved) -> None:
    (row,) = rows(small(name, saved_codec(name)), [clip(2.1, RATES_HZ[name])])
    decoder: Any = small(name, saved_codec(name)).decoder()
    whole = decoder.decode(row).samples
    generated = decoder.decode({stream: values for stream, values in row.items() if stream != "recording"}).samples
    assert generated[: len(whole)].tolist() == whole.tolist()
    hop_samples = RATES_HZ[name] // round(len(row["codes"]) / 2.1)
    assert 0 <= len(generated) - len(whole) < hop_samples + 10


def test_a_prefix_is_what_fewer_codebooks_give(saved_codec: Saved) -> None:
    for name in NAMES:
        (row,) = rows(small(name, saved_codec(name)), [clip(1.3, RATES_HZ[name])])
        (fewer,) = rows(small(name, saved_codec(name), codebooks=2), [clip(1.3, RATES_HZ[name])])
        decoder: Any = small(name, saved_codec(name)).decoder()
        cut = decoder.prefix(row, 0.5)
        assert cut["codes"].tolist() == fewer["codes"].tolist()
        assert decoder.decode(cut).samples.tolist() == decoder.decode(fewer).samples.tolist()


def test_chunks_of_encodec_48k_have_a_gain(saved_codec: Saved) -> None:
    tokenizer = small("encodec-48k", saved_codec("encodec-48k"))
    quiet, loud = rows(
        tokenizer,
        [AudioClip((level * sound(2.5, 48_000)).astype(np.float32), 48_000, 1) for level in (0.25, 1)],
    )
    assert quiet["gain"].shape == loud["gain"].shape == (3,)
    np.testing.assert_allclose(quiet["gain"] * 4, loud["gain"], rtol=1e-4)
    assert np.mean(quiet["codes"] != loud["codes"]) < 0.01
    assert tokenizer.streams()["gain"].frame_hz == pytest.approx(1 / 0.99)


class _Damaged:
    """A recording whose file breaks off after some seconds."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz

    def blocks(self) -> Iterator[Samples]:
        yield sound(2.5, self._rate_hz)
        raise ItemError("damaged_audio", "read as far as 2.500 s")


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_damaged_recording_fails_alone(batch_size: int, saved_codec: Saved) -> None:
    tokenizer = small("mimi", saved_codec("mimi"), chunk_seconds=1, batch_size=batch_size)
    encoder: Any = tokenizer.load()
    prepared = [encoder.prepare(one) for one in clips_of("mimi")]
    sound_rows = encoder.encode(prepared)
    found = encoder.encode([prepared[0], _Damaged(24_000), *prepared[1:]])
    assert [(failure.index, failure.reason) for failure in found.failures] == [(1, "damaged_audio")]
    assert found.streams["codes"].values.tobytes() == sound_rows.streams["codes"].values.tobytes()


def test_precision_changes_few_codes(saved_codec: Saved) -> None:
    for name in ("dac", "mimi"):
        exact = rows(small(name, saved_codec(name)), clips_of(name))
        rough = rows(small(name, saved_codec(name), precision="bfloat16"), clips_of(name))
        assert 0 < differing(exact, rough) < 0.3


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_the_libraries_own(name: str, saved_codec: Saved, tmp_path: Path) -> None:
    import transformers

    if name in ("dac-odd", "encodec-48k"):
        return
    kind = KINDS[name].architecture
    own = getattr(transformers, f"{kind.class_name[:-5]}Config")()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind.name}))
    shape = small(name, tmp_path).shape()
    rate = getattr(own, "sampling_rate", None) or own.sample_rate
    assert shape.rate_hz == rate
    assert shape.codebook_size == own.codebook_size
    assert shape.codebooks == (own.n_codebooks if name == "dac" else own.num_quantizers)
    if name != "mimi":  # whose own hop is that before it halves the rate
        assert shape.hop_samples == own.hop_length
    assert shape.frame_hz == pytest.approx(own.frame_rate, abs=1 if name == "dac" else 1e-9)  # of DAC rounded up


@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_another_kind_is_refused(name: str, saved_codec: Saved) -> None:
    other = saved_codec("mimi" if name != "mimi" else "dac")
    with pytest.raises(TokenizerError, match=f"says one of: {KINDS[name].architecture.name}"):
        small(name, other).streams()


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("encodec", {"use_causal_conv": False}, "looks ahead"),
        ("encodec", {"normalize": True}, "as a whole"),
        ("encodec", {"trim_right_ratio": 0.5}, "decoder looks ahead"),
        ("encodec", {"chunk_length_s": 1.0}, "without an `overlap`"),
        ("encodec", {"chunk_length_s": 1.0, "overlap": 0.0}, "do not overlap"),
        ("mimi", {"use_causal_conv": False}, "looks ahead"),
        ("mimi", {"frame_rate": 25.0}, "not below"),
        ("mimi", {"num_semantic_quantizers": 2}, "semantic"),
    ],
)
def test_models_that_cannot_be_cut_are_refused(
    name: str, changes: dict[str, Any], says: str, saved_codec: Saved, tmp_path: Path
) -> None:
    config = json.loads((saved_codec(name) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(TokenizerError, match=says):
        small(name, tmp_path, codebooks=1).streams()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("dac", {"downsampling_ratios": [2, 0]}),
        ("dac", {"sampling_rate": "fast"}),
        ("encodec", {"target_bandwidths": []}),
        ("encodec", {"target_bandwidths": [True]}),
        ("encodec", {"overlap": "a bit", "chunk_length_s": 1}),
        ("mimi", {"frame_rate": -1}),
        ("xcodec", {"acoustic_model_config": [1]}),
    ],
)
def test_a_broken_config_is_refused(name: str, changes: dict[str, Any], saved_codec: Saved, tmp_path: Path) -> None:
    config = json.loads((saved_codec(name) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(AssetError, match=r"config\.json"):
        small(name, tmp_path).streams()


@pytest.mark.parametrize("name", ["dac", "encodec", "mimi", "xcodec"])
def test_missing_and_foreign_weights_are_refused(name: str, saved_codec: Saved, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(saved_codec(name), tmp_path / "copy"))
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(AssetError, match="cannot load this"):
        small(name, directory).load()
    weights.unlink()
    with pytest.raises(AssetError, match="safetensors"):
        small(name, directory).assets()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"codebooks": 5}, "has 4 codebooks; `codebooks` asks for 5"),
        ({"chunk_seconds": 2}, "codes chunks of 1 s, each by itself"),
    ],
)
def test_what_a_model_cannot_do_is_refused(fields: dict[str, Any], says: str, saved_codec: Saved) -> None:
    with pytest.raises(TokenizerError, match=says):
        small("encodec-48k", saved_codec("encodec-48k"), **fields).streams()


@pytest.mark.parametrize(
    "fields", [{}, {"directory": "a", "hub_id": "b/c"}, {"directory": "a", "codebooks": 0}, {"hub_id": "b/c"}]
)
def test_a_wrong_config_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MimiTokenizer.model_validate(fields)


def test_planning_imports_no_torch(saved_codec: Saved) -> None:
    script = (
        "import sys; from tokenmill.contract import resolve; from tokenmill.registry import tokenizer_class;"
        f"resolve(tokenizer_class('dac')(directory={str(saved_codec('dac'))!r}));"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("batch_size", "says"), [(3, "`batch_size` below 3"), (1, "`chunk_seconds` lower")])
def test_out_of_memory_says_what_to_set(
    batch_size: int, says: str, saved_codec: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    def codes(self: Dac, features: torch.Tensor, memory: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Dac, "codes", codes)
    with pytest.raises(RunError, match=says):
        encoded(small("dac", saved_codec("dac"), batch_size=batch_size), clips_of("dac"))
