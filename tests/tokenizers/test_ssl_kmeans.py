from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from huggingface_hub import constants
from pydantic import ValidationError

from tests.tokenizers.audio_models import sound
from tests.tokenizers.speech_models import CLUSTERS, LAYER, MAKERS, codebook_of, speech_model
from tokenmill.audio.audio_file import AudioClip
from tokenmill.audio.tokenizer import AudioEncoder
from tokenmill.contract import resolve
from tokenmill.errors import AssetError, RunError, TokenizerError
from tokenmill.testing import audio_case, check_tokenizer
from tokenmill.tokenizers.ssl_kmeans import SslKmeansTokenizer
from tokenmill.tokenizers.ssl_kmeans.codebook import Codebook, read_codebook

__all__ = ["speech_model"]  # a fixture, found by its name here

Saved = Callable[[str], Path]
REVISION = "0123456789abcdef0123456789abcdef01234567"
RATE_HZ = 16_000
USED = sorted(set(MAKERS) - {"wav2vec2-classifier"})


@pytest.fixture
def made(speech_model: Saved, tmp_path: Path) -> Callable[..., SslKmeansTokenizer]:
    """Return a function that makes a tokenizer of a small model, with a codebook of it."""

    def tokenizer(name: str = "hubert", **fields: Any) -> SslKmeansTokenizer:
        directory, path = speech_model(name), tmp_path / f"{name}.npz"
        if not path.exists():
            codebook_of(directory, path)
        return SslKmeansTokenizer.model_validate(
            {"directory": str(directory), "layer": LAYER, "codebook": str(path), **fields}
        )

    return tokenizer


Made = Callable[..., SslKmeansTokenizer]


def encoder_of(tokenizer: SslKmeansTokenizer) -> AudioEncoder:
    encoder = tokenizer.load()
    assert isinstance(encoder, AudioEncoder)
    return encoder


def row_of(tokenizer: SslKmeansTokenizer, samples: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
    encoder = encoder_of(tokenizer)
    encoded = encoder.encode([encoder.prepare(AudioClip(samples, RATE_HZ, 1))])
    return {name: jagged[0] for name, jagged in encoded.streams.items()}


@pytest.mark.parametrize(("name", "collapse"), [("hubert", False), ("wav2vec2-large", True), ("wavlm", True)])
def test_contract(name: str, collapse: bool, made: Made, tmp_path: Path) -> None:
    tokenizer = made(name, collapse=collapse)

    def moved(into: Path) -> SslKmeansTokenizer:
        folder = Path(shutil.copytree(str(tokenizer.directory), into / "model"))
        codebook = shutil.copy(tokenizer.codebook, into / "codebook.npz")
        return made(name, collapse=collapse, directory=str(folder), codebook=str(codebook))

    variants = [
        made(name, collapse=not collapse),
        made(name, collapse=collapse, layer=LAYER + 1),
        made(name, collapse=collapse, precision="bfloat16"),
    ]
    (tmp_path / "moved").mkdir()
    check_tokenizer(audio_case(tokenizer, variants, moved=moved), tmp_path / "moved")


@pytest.mark.parametrize("name", USED)
def test_codes_are_of_the_layers_own_vectors(name: str, made: Made) -> None:
    import transformers

    tokenizer = made(name)
    samples = sound(2.0, RATE_HZ)
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(tokenizer.directory)
    values = extractor(samples, sampling_rate=RATE_HZ, return_tensors="pt").input_values
    model = getattr(transformers, type(MAKERS[name]()).__name__).from_pretrained(tokenizer.directory).eval().base_model
    with torch.inference_mode():
        vectors = model(values, output_hidden_states=True).hidden_states[LAYER][0]
    codes = torch.from_numpy(read_codebook(tokenizer.codebook).codes)
    distances = torch.cdist(vectors.double(), codes.double())
    ids = row_of(tokenizer, samples)["ids"]
    assert len(ids) == len(vectors) == 99
    assert len(set(ids.tolist())) > 3
    # Of the normalised samples the last bits differ: so may a code, where two are equally near.
    assert np.abs(distances.numpy()[np.arange(len(ids)), ids] - distances.min(dim=1).values.numpy()).max() < 1e-4


def test_streams_know_their_rate_and_vocabulary(made: Made) -> None:
    frames, units = made().streams(), made(collapse=True).streams()
    assert (frames["ids"].frame_hz, frames["ids"].vocabulary_size, frames["ids"].dtype) == (50.0, CLUSTERS, "uint8")
    assert "durations" not in frames
    assert units["ids"].frame_hz is None
    assert units["durations"].dims == units["ids"].dims == ("unit",)


@pytest.mark.parametrize("samples", [0, 1, 399, 400, 719, 720, 16_000, 480_000, 480_001, 480_400, 1_200_123])
def test_there_are_as_many_frames_as_the_convolutions_give(samples: int, made: Made) -> None:
    ids = row_of(made(), sound(80, RATE_HZ)[:samples])["ids"]
    assert len(ids) == (0 if samples < 400 else (samples - 400) // 320 + 1)


def test_collapsed_units_expand_to_the_frames(made: Made) -> None:
    for samples in (sound(31.0, RATE_HZ), np.zeros(20_000, np.float32), np.zeros(0, np.float32)):
        units = row_of(made(collapse=True), samples)
        assert np.repeat(units["ids"], units["durations"]).tolist() == row_of(made(), samples)["ids"].tolist()
        assert not (units["ids"][1:] == units["ids"][:-1]).any()
        assert (units["durations"] > 0).all()


def test_a_long_recording_is_seen_in_windows_with_context(made: Made) -> None:
    tokenizer = made()
    samples = sound(70.0, RATE_HZ)
    ids = row_of(tokenizer, samples)["ids"]
    windows = [row_of(tokenizer, samples[start : start + 480_000])["ids"] for start in range(0, 1_120_000, 416_000)]
    # Windows of 30 s begin every 26 s, and give what is not within 2 s of their ends; the last one all that is left.
    assert ids[:1400].tolist() == windows[0][:1400].tolist()
    assert ids[1400:2700].tolist() == windows[1][100:1400].tolist()
    assert ids[2700:].tolist() == windows[2][100:].tolist()


def test_what_is_beside_a_recording_makes_no_difference(made: Made) -> None:
    encoder = encoder_of(made())
    short, long = (encoder.prepare(AudioClip(sound(seconds, RATE_HZ, 1), RATE_HZ, 1)) for seconds in (1.0, 40.0))
    alone = encoder.encode([short]).streams["ids"][0]
    assert encoder.encode([long, short]).streams["ids"][1].tobytes() == alone.tobytes()
    assert encoder.encode([short, long]).streams["ids"][0].tobytes() == alone.tobytes()


@pytest.mark.parametrize(("precision", "most"), [("bfloat16", 0.999), ("float16", 1)])
def test_fewer_bits_give_nearly_the_same_codes(precision: str, most: float, made: Made) -> None:
    samples = sound(5.0, RATE_HZ)
    exact, rough = (row_of(made(precision=name), samples)["ids"] for name in ("float32", precision))
    assert exact.shape == rough.shape
    assert 0.5 < float((exact == rough).mean()) <= most


def test_sound_is_normalised_only_if_the_model_was_trained_so(made: Made, tmp_path: Path) -> None:
    tokenizer = made("hubert-large")
    samples = sound(1.0, RATE_HZ)
    same = row_of(tokenizer, 0.1 * samples)["ids"] == row_of(tokenizer, samples)["ids"]
    assert same.mean() > 0.9
    directory = Path(shutil.copytree(str(tokenizer.directory), tmp_path / "other"))
    path = directory / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"do_normalize": False}))
    plain = made("hubert-large", directory=str(directory), codebook=str(codebook_of(directory, tmp_path / "plain.npz")))
    same = row_of(plain, 0.1 * samples)["ids"] == row_of(plain, samples)["ids"]
    assert same.mean() < 0.9


def test_a_codebook_of_another_layer_or_model_is_refused(made: Made, speech_model: Saved, tmp_path: Path) -> None:
    other = made(layer=LAYER + 1)
    for refused in (other.check, other.load):
        with pytest.raises(TokenizerError, match=rf"fitted on layer {LAYER}[\s\S]*`layer: {LAYER}`"):
            refused()
    with pytest.raises(TokenizerError, match=r"another model: config\.json and model\.safetensors"):
        made(directory=str(speech_model("hubert-large"))).check()
    made().check()


def test_a_layer_that_there_is_not_is_refused(made: Made) -> None:
    with pytest.raises(TokenizerError, match=r"`layer` is 5; this model has 4"):
        made(layer=5).streams()


def test_codes_of_other_vectors_are_refused(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "wide.npz"
    path.write_bytes(Codebook(np.ones((3, 33), np.float32), {}, LAYER, {}).save())
    with pytest.raises(TokenizerError, match="33 components; the model's vectors have 32"):
        made(codebook=str(path)).streams()


@pytest.mark.parametrize("damage", ["absent", "cut", "text", "header", "version", "nan", "dtype", "pickle"])
def test_a_damaged_codebook_is_refused(damage: str, made: Made, tmp_path: Path) -> None:
    intact = Path(made().codebook).read_bytes()
    path = tmp_path / "damaged.npz"
    codes = np.ones((3, 32), np.float32)
    header = np.frombuffer(
        b'{"kind": "tokenmill ssl-kmeans codebook", "version": 2, "model": {}, "layer": 2, "made": {}}', np.uint8
    )
    arrays: dict[str, dict[str, npt.NDArray[Any]]] = {
        "header": {"codes": codes, "header": np.frombuffer(b"[1]", np.uint8)},
        "version": {"codes": codes, "header": header},
        "nan": {"codes": codes * np.nan, "header": header.copy()},
        "dtype": {"codes": codes.astype(np.float64), "header": header.copy()},
        "pickle": {"codes": np.array([{}], object), "header": header},
    }
    for name in ("nan", "dtype"):
        arrays[name]["header"][arrays[name]["header"] == ord("2")] = ord("1")
    if damage in arrays:
        np.savez(path, codes=arrays[damage]["codes"], header=arrays[damage]["header"])
    elif damage != "absent":
        path.write_bytes(intact[: len(intact) // 2] if damage == "cut" else b"no codebook")
    with pytest.raises(AssetError, match=r"damaged\.npz[\s\S]*(train ssl-kmeans|make it again)"):
        made(codebook=str(path)).streams()


def test_a_codebook_says_how_it_was_made(tmp_path: Path) -> None:
    codebook = Codebook(np.arange(6, dtype=np.float32).reshape(2, 3), {"model.safetensors": "ab"}, 9, {"seconds": 5.0})
    assert codebook.save() == codebook.save()
    path = tmp_path / "codebook.npz"
    path.write_bytes(codebook.save())
    again = read_codebook(path)
    assert again.codes.tolist() == codebook.codes.tolist()
    assert (again.model, again.layer, again.made) == (codebook.model, codebook.layer, codebook.made)


def test_a_model_without_its_preprocessor_is_refused(made: Made, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(str(made().directory), tmp_path / "copy"))
    (directory / "preprocessor_config.json").unlink()
    with pytest.raises(AssetError, match=r"no preprocessor_config\.json[\s\S]*Wav2Vec2FeatureExtractor"):
        made(directory=str(directory)).assets()
    for content in ("[]", "{", '{"sampling_rate": "fast"}'):
        (directory / "preprocessor_config.json").write_text(content)
        with pytest.raises(AssetError, match=r"preprocessor_config\.json"):
            made(directory=str(directory)).streams()


def test_models_of_other_tasks_are_refused(made: Made, speech_model: Saved, tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="Wav2Vec2Model, Wav2Vec2ForPreTraining or Wav2Vec2ForCTC"):
        made(directory=str(speech_model("wav2vec2-classifier"))).assets()
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(TokenizerError, match="data2vec-audio, hubert, wav2vec2, wavlm"):
        made(directory=str(tmp_path)).assets()


def test_vectors_that_are_not_finite_are_no_codes(made: Made) -> None:
    encoder: Any = encoder_of(made())
    with torch.no_grad():
        encoder._model._model.encoder.layers[-1].final_layer_norm.weight.fill_(float("inf"))
    with pytest.raises(RunError, match=r"float32.*not finite"):
        encoder.encode([encoder.prepare(AudioClip(sound(1.0, RATE_HZ), RATE_HZ, 1))])


@pytest.mark.parametrize(
    "fields", [{"directory": None}, {"hub_id": "a/b", "revision": REVISION}, {"layer": 0}, {"precision": "int8"}]
)
def test_a_wrong_config_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SslKmeansTokenizer.model_validate({"directory": "a", "layer": 1, "codebook": "b", **fields})


def test_planning_imports_no_torch(made: Made) -> None:
    script = (
        "import sys; from tokenmill.contract import resolve;"
        "from tokenmill.tokenizers.ssl_kmeans import SslKmeansTokenizer as Kind;"
        "tokenizer = Kind.model_validate_json(sys.stdin.read()); resolve(tokenizer); tokenizer.check();"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=made().model_dump_json(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_pinned_revision_in_the_cache_needs_no_network(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = made()
    shutil.copytree(str(local.directory), tmp_path / "models--org--model" / "snapshots" / REVISION)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", lambda *arguments: pytest.fail(f"asked for {arguments[1:]}"))
    pinned = made(directory=None, hub_id="org/model", revision=REVISION)
    assert pinned.assets()["preprocessor_config.json"].location == f"hub:org/model@{REVISION}/preprocessor_config.json"
    assert resolve(pinned).fingerprint == resolve(local).fingerprint
    samples = sound(0.5, RATE_HZ)
    assert row_of(pinned, samples)["ids"].tolist() == row_of(local, samples)["ids"].tolist()
