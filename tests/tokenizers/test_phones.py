from __future__ import annotations

import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pocketsphinx
import pytest
from pydantic import ValidationError

from tests.tokenizers.audio_models import sound
from tests.tokenizers.speech import TEXT, speech
from tokenmill.audio.audio_file import AudioClip, Samples
from tokenmill.errors import AssetError, MissingExtraError
from tokenmill.testing import audio_case, check_tokenizer
from tokenmill.tokenizers.phones import FRAME_SAMPLES, RATE_HZ, SILENCE, PhonesTokenizer, _pieces, expand

PACKAGED = Path(pocketsphinx.get_model_path()) / "en-us"
PIECE_SAMPLES = 480_000


def row_of(samples: Samples, **fields: Any) -> dict[str, npt.NDArray[Any]]:
    encoder = PhonesTokenizer(**fields).load()
    encoded = encoder.encode([encoder.prepare(AudioClip(samples, RATE_HZ, 1))])
    return {name: jagged[0] for name, jagged in encoded.streams.items()}


def own_model(into: Path) -> PhonesTokenizer:
    shutil.copytree(PACKAGED / "en-us", into / "model")
    shutil.copy(PACKAGED / "en-us-phone.lm.bin", into / "phones.lm.bin")
    return PhonesTokenizer(acoustic_model=str(into / "model"), phone_model=str(into / "phones.lm.bin"))


@pytest.mark.parametrize("collapse", [True, False])
def test_contract(collapse: bool, tmp_path: Path) -> None:
    def moved(directory: Path) -> PhonesTokenizer:
        return own_model(directory).model_copy(update={"collapse": collapse})

    tokenizer = PhonesTokenizer(collapse=collapse)
    case = audio_case(tokenizer, [PhonesTokenizer(collapse=not collapse)], seconds=0.3, moved=moved)
    check_tokenizer(case, tmp_path)


def test_the_vocabulary_is_that_of_the_model() -> None:
    spec = PhonesTokenizer().streams()["ids"]
    assert spec.vocabulary_size == 42
    assert spec.labels is not None
    assert {"AA", "ZH", "SIL", "+NSN+"} < set(spec.labels)
    assert PhonesTokenizer().token_text([2, 32]) == ["AA", "SIL"]
    with (PACKAGED / "cmudict-en-us.dict").open(encoding="utf-8") as words:
        said = {phone for _, word in zip(range(2000), words, strict=False) for phone in word.split()[1:]}
    assert said < set(spec.labels)


def test_most_phones_of_a_sentence_are_heard() -> None:
    import jiwer

    with (PACKAGED / "cmudict-en-us.dict").open(encoding="utf-8") as lines:
        dictionary = {word: phones for word, *phones in map(str.split, lines)}
    row = row_of(speech())
    heard = [
        phone for phone in PhonesTokenizer().token_text(row["ids"].tolist()) if phone.isalpha() and phone != SILENCE
    ]
    said = [phone for word in TEXT.split() for phone in dictionary[word]]
    assert jiwer.wer(" ".join(said), " ".join(heard)) < 0.6


def test_streams_know_their_rate() -> None:
    assert PhonesTokenizer(collapse=False).streams()["ids"].frame_hz == 100.0
    phones = PhonesTokenizer().streams()
    assert phones["ids"].frame_hz is None
    assert phones["ids"].dims == phones["durations"].dims == ("phone",)


@pytest.mark.parametrize("samples", [0, 1, 100, 160, 161, 410, 700, 1600, 16_000, 16_100])
def test_phones_last_as_long_as_the_recording(samples: int) -> None:
    given = sound(2.0, RATE_HZ)[4000 : 4000 + samples]
    row = row_of(given)
    assert row["durations"].sum() == -(-samples // FRAME_SAMPLES)
    assert (row["durations"] > 0).all()
    frames = row_of(given, collapse=False)["ids"]
    assert frames.tolist() == expand(row["ids"], row["durations"]).tolist()


@pytest.mark.parametrize("level", [0, 0.4])
def test_silence_is_one_phone_across_all_pieces(level: float) -> None:
    row = row_of(np.full(2 * PIECE_SAMPLES + 16_000, level, np.float32))
    assert PhonesTokenizer().token_text(row["ids"].tolist()) == [SILENCE]
    assert row["durations"].tolist() == [6100]


def test_a_recording_is_heard_as_by_a_decoder_that_heard_nothing_before() -> None:
    encoder = PhonesTokenizer().load()
    clips = [
        AudioClip(scale * sound(1.5, RATE_HZ, seed), RATE_HZ, 1) for seed, scale in ((0, 1.0), (1, 0.05), (2, 1.0))
    ]
    alone = [row_of(clip.samples) for clip in clips]
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        found = encoder.encode([encoder.prepare(clips[index]) for index in order])
        for place, index in enumerate(order):
            for name in ("ids", "durations"):
                assert found.streams[name][place].tolist() == alone[index][name].tolist()


def test_long_recordings_are_cut_where_they_are_quiet() -> None:
    samples = 0.3 * np.random.default_rng(0).standard_normal(3 * PIECE_SAMPLES).astype(np.float32)
    quiet = 25 * RATE_HZ
    samples[quiet : quiet + 4800] = 0
    pieces = list(_pieces(iter([samples])))
    assert quiet < len(pieces[0]) < quiet + 4800
    assert sum(map(len, pieces)) == len(samples)
    for piece in pieces[:-1]:
        assert 20 * RATE_HZ <= len(piece) <= 30 * RATE_HZ
        assert len(piece) % FRAME_SAMPLES == 0
    joined = np.concatenate(pieces)
    assert np.abs(joined - samples.clip(-1, 1) * 32767).max() <= 0.5


@pytest.mark.parametrize("length", [1, 4099, 479_999, 480_000, 480_001, 2_000_000])
def test_cuts_do_not_depend_on_the_blocks(length: int) -> None:
    samples = np.tile(sound(4.0, RATE_HZ), 20)[: 2 * PIECE_SAMPLES + 12_345]
    step = max(length, 500)  # of single samples there would be a million

    def blocks() -> Iterator[Samples]:
        yield samples[:length]
        for start in range(length, len(samples), step):
            yield samples[start : start + step]

    wanted = [piece.tobytes() for piece in _pieces(iter([samples]))]
    assert [piece.tobytes() for piece in _pieces(blocks())] == wanted


def test_sound_beyond_full_scale_is_clipped() -> None:
    (piece,) = _pieces(iter([np.array([2.0, -2.0, 0.5], np.float32)]))
    assert piece.tolist() == [32_767, -32_767, 16_384]


def test_a_model_of_ones_own_is_the_same_if_its_files_are(tmp_path: Path) -> None:
    tokenizer = own_model(tmp_path)
    tokenizer.check()
    assert {name: asset.sha256 for name, asset in tokenizer.assets().items()} == {
        name: asset.sha256 for name, asset in PhonesTokenizer().assets().items()
    }
    assert PhonesTokenizer().assets()["mdef"].location == "package:pocketsphinx/model/en-us/en-us/mdef"


@pytest.mark.parametrize("name", ["mdef", "means", "transition_matrices"])
def test_a_damaged_model_is_found_at_planning_even_if_it_ends_the_process(name: str, tmp_path: Path) -> None:
    tokenizer = own_model(tmp_path)
    path = tmp_path / "model" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AssetError, match=r"model: pocketsphinx cannot use this model"):
        tokenizer.check()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"BMDF",
        b"0.3\n42 n_base",
        b"BMDF" + struct.pack("<12i", 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0) + b"AA\0",
        b"BMDF" + struct.pack("<12i", 1, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0) + b"SIL\0AA\0",
        b"BMDF" + struct.pack("<12i", 1, 1 << 30, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0) + b"SIL\0",
        b"BMDF" + struct.pack("<12i", 1, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0) + b"SIL\0",
    ],
)
def test_phones_that_cannot_be_read_are_refused(content: bytes, tmp_path: Path) -> None:
    tokenizer = own_model(tmp_path)
    (tmp_path / "model" / "mdef").write_bytes(content)
    with pytest.raises(AssetError, match=r"mdef: the phones[\s\S]*pocketsphinx_mdef_convert"):
        tokenizer.streams()


def test_missing_files_are_named(tmp_path: Path) -> None:
    tokenizer = own_model(tmp_path)
    (tmp_path / "model" / "variances").unlink()
    with pytest.raises(AssetError, match="there is no variances"):
        tokenizer.assets()


@pytest.mark.parametrize("fields", [{"acoustic_model": "a"}, {"phone_model": "b"}, {"collapse": "perhaps"}])
def test_a_wrong_config_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PhonesTokenizer.model_validate(fields)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(MissingExtraError, match=r"tokenmill\[phones\]"):
        PhonesTokenizer().assets()
