from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from tests.tokenizers.audio_models import sound
from tests.tokenizers.image_models import WEIGHTS
from tests.tokenizers.speech import speech
from tokenmill.audio.audio_file import AudioClip, Samples
from tokenmill.errors import AssetError, MissingExtraError
from tokenmill.testing import audio_case, check_tokenizer
from tokenmill.tokenizers.lyra import FILES, HOP_SAMPLES, RATE_HZ, LyraTokenizer

LYRA = WEIGHTS / "lyra"
real = pytest.mark.skipif(
    not LYRA.is_dir(), reason=f"needs Lyra's own weights, which are not in the project, in {LYRA}"
)


def row_of(samples: Samples, **fields: Any) -> dict[str, npt.NDArray[Any]]:
    encoder = LyraTokenizer(weights=str(LYRA), **fields).load()
    encoded = encoder.encode([encoder.prepare(AudioClip(samples, RATE_HZ, 1))])
    return {name: jagged[0] for name, jagged in encoded.streams.items()}


def copied(into: Path) -> Path:
    into.mkdir()
    for name in FILES:
        (into / name).write_bytes((LYRA / name).read_bytes())
    return into


@real
def test_contract(tmp_path: Path) -> None:
    def moved(directory: Path) -> LyraTokenizer:
        return LyraTokenizer(weights=str(copied(directory / "copy")), codebooks=16)

    tokenizer = LyraTokenizer(weights=str(LYRA), codebooks=16)
    check_tokenizer(audio_case(tokenizer, [LyraTokenizer(weights=str(LYRA))], moved=moved), tmp_path)


@real
def test_codes_are_the_networks_own() -> None:
    from ai_edge_litert.interpreter import Interpreter

    samples = sound(1.0, RATE_HZ)
    encoder = Interpreter(str(LYRA / FILES[0]), num_threads=1)
    encoder.allocate_tensors()
    given, wanted = encoder.get_input_details()[0]["index"], encoder.get_output_details()[0]["index"]
    quantize = Interpreter(str(LYRA / FILES[1]), num_threads=1).get_signature_runner("encode")
    codes = []
    for start in range(0, len(samples), HOP_SAMPLES):
        encoder.set_tensor(given, samples[start : start + HOP_SAMPLES][None])
        encoder.invoke()
        found = quantize(input_frames=encoder.get_tensor(wanted), num_quantizers=np.int32(46))
        codes.append(found["output_0"][:, 0, 0])
    row = row_of(samples)
    assert row["codes"].tolist() == np.array(codes).tolist()
    assert len(np.unique(row["codes"])) == 16


@real
def test_fewer_codebooks_are_the_first_of_more() -> None:
    samples = sound(0.5, RATE_HZ)
    all_codes = row_of(samples)["codes"]
    for codebooks in (1, 16, 30):
        assert row_of(samples, codebooks=codebooks)["codes"].tolist() == all_codes[:, :codebooks].tolist()


@real
@pytest.mark.parametrize("samples", [0, 1, 319, 320, 321, 16_000])
def test_the_last_frame_is_filled_with_silence(samples: int) -> None:
    given = sound(1.0, RATE_HZ)[:samples]
    row = row_of(given)
    assert row["codes"].shape == (-(-samples // HOP_SAMPLES), 46)
    assert row["codes"].tolist() == row_of(np.pad(given, (0, -samples % HOP_SAMPLES)))["codes"].tolist()
    assert len(LyraTokenizer(weights=str(LYRA)).decoder().decode(row).samples) == samples


@real
def test_every_recording_begins_with_a_fresh_state() -> None:
    encoder = LyraTokenizer(weights=str(LYRA)).load()
    clips = [AudioClip(sound(0.5, RATE_HZ, seed), RATE_HZ, 1) for seed in range(3)]
    first = encoder.encode([encoder.prepare(clip) for clip in clips]).streams["codes"]
    for index in (2, 0, 1):
        assert encoder.encode([encoder.prepare(clips[index])]).streams["codes"][0].tobytes() == first[index].tobytes()
    decoder = LyraTokenizer(weights=str(LYRA)).decoder()
    rows = [row_of(clip.samples) for clip in clips[:2]]
    one, _, again = (decoder.decode(rows[index]).samples for index in (0, 1, 0))
    assert one.tobytes() == again.tobytes()


@real
def test_blocks_are_used_up_one_after_the_other() -> None:
    """So that a long recording never lies in memory: a block is asked for when all frames before it are codes."""

    class Told:
        def __init__(self) -> None:
            self.encoded = 0
            self.ahead: list[int] = []

        def blocks(self) -> Iterator[Samples]:
            for number in range(50):
                self.ahead.append(number * 1000 // HOP_SAMPLES - self.encoded)
                yield np.zeros(1000, np.float32)

    encoder: Any = LyraTokenizer(weights=str(LYRA), codebooks=1).load()
    told = Told()
    quantize = encoder._quantize

    def counted(**arrays: Any) -> Any:
        told.encoded += 1
        return quantize(**arrays)

    encoder._quantize = counted
    assert len(encoder.row(told)["codes"]) == -(-50_000 // HOP_SAMPLES)
    assert told.ahead == [0] * 50


@real
def test_decoded_sound_does_not_lag() -> None:
    samples = sound(3.0, RATE_HZ)
    decoded = LyraTokenizer(weights=str(LYRA)).decoder().decode(row_of(samples)).samples
    lags = np.correlate(np.pad(decoded, 400), samples, "valid")
    assert abs(int(np.argmax(lags)) - 400) <= 2


@real
@pytest.mark.parametrize(("codebooks", "least_pesq", "least_stoi"), [(16, 2.0, 0.86), (30, 2.7, 0.9), (46, 3.0, 0.92)])
def test_decoded_speech_is_like_what_was_said(codebooks: int, least_pesq: float, least_stoi: float) -> None:
    from pesq import pesq
    from pystoi import stoi

    said = speech()
    decoded = LyraTokenizer(weights=str(LYRA)).decoder().decode(row_of(said, codebooks=codebooks)).samples
    assert pesq(RATE_HZ, said, decoded, "wb") > least_pesq
    assert stoi(said, decoded, RATE_HZ) > least_stoi


@real
def test_a_prefix_is_the_first_codebooks() -> None:
    decoder = LyraTokenizer(weights=str(LYRA)).decoder()
    row = row_of(sound(1.0, RATE_HZ))
    cut = decoder.prefix(row, 16 / 46)
    assert cut["codes"].tolist() == row["codes"][:, :16].tolist()
    assert decoder.prefix(row, 1e-9)["codes"].shape[1] == 1
    exact = {**row, "codes": row_of(sound(1.0, RATE_HZ), codebooks=16)["codes"]}
    assert decoder.decode(cut).samples.tobytes() == decoder.decode(exact).samples.tobytes()


@real
@pytest.mark.parametrize("damage", ["absent", "empty", "short", "text", "cut", "mixed", "operator", "other"])
def test_damaged_weights_are_refused(damage: str, tmp_path: Path) -> None:
    weights = copied(tmp_path / "weights")
    path = weights / FILES[2]
    content = path.read_bytes()
    if damage == "absent":
        path.unlink()
    elif damage == "other":
        shutil.copy(weights / FILES[0], path)
    else:
        changed = bytearray(content)
        changed[8:2000] = changed[8:2000][::-1]
        # An operator's tensors: the file is read, and its network cannot run.
        operator = content[:-54_000] + bytes(200) + content[-53_800:]
        changes = {
            "operator": operator,
            "empty": b"",
            "short": content[:100],
            "text": b"no network " * 1000,
            "mixed": bytes(changed),
        }
        path.write_bytes(changes.get(damage, content[: len(content) // 2]))
    tokenizer = LyraTokenizer(weights=str(weights))
    if damage in ("absent", "empty", "short", "text"):
        with pytest.raises(AssetError, match=r"lyragan\.tflite"):
            tokenizer.assets()
    for refused in (tokenizer.check, tokenizer.decoder):
        with pytest.raises(AssetError, match=r"lyragan\.tflite"):
            refused()


def test_weights_that_are_not_there_are_refused_at_planning(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"soundstream_encoder\.tflite[\s\S]*`weights` is a directory"):
        LyraTokenizer(weights=str(tmp_path)).assets()


@pytest.mark.parametrize("fields", [{}, {"weights": "a", "codebooks": 0}, {"weights": "a", "codebooks": 47}])
def test_a_wrong_config_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LyraTokenizer.model_validate(fields)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingExtraError, match=r"tokenmill\[lyra\]"):
        LyraTokenizer(weights="anywhere").load()


def test_the_shape_is_that_of_the_codec() -> None:
    shape = LyraTokenizer(weights="anywhere", codebooks=30).shape()
    assert (shape.frame_hz, shape.codebooks, shape.codebook_size) == (50.0, 30, 16)
    assert shape.causal
    assert shape.exact
    spec = LyraTokenizer(weights="anywhere").streams()["codes"]
    assert (spec.dtype, spec.shape, spec.frame_hz) == ("uint8", (None, 46), 50.0)


@real
def test_planning_runs_no_network() -> None:
    script = (
        "import sys; from tokenmill.contract import resolve; from tokenmill.tokenizers.lyra import LyraTokenizer;"
        f"resolve(LyraTokenizer(weights={str(LYRA)!r})); print('ai_edge_litert' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
