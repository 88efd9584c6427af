"""The tokenizer `mdct-rvq` with its packaged weights: contract, prefixes, edges, long recordings, damaged weights."""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from tokenmill.audio.audio_file import AudioClip, AudioFile, HeldContent, Samples
from tokenmill.audio.recording import Recording
from tokenmill.audio.sound import Sound
from tokenmill.contract import resolve
from tokenmill.errors import AssetError
from tokenmill.testing import audio_case, check_tokenizer
from tokenmill.tokenizers import mdct_rvq
from tokenmill.tokenizers.mdct_rvq import MdctRvqTokenizer
from tokenmill.tokenizers.mdct_rvq.coding import encode
from tokenmill.tokenizers.mdct_rvq.model import MdctRvqModel, load_model
from tokenmill.tokenizers.mdct_rvq.transform import HOP, RATE_HZ, analyse, frame_count

Row = Mapping[str, npt.NDArray[Any]]

#: Of the sound in test_golden_codes: codes of one frame, and all of them added up.
GOLDEN_FRAME = [351, 926, 464, 868, 706, 458, 768, 920]
GOLDEN_SUM = 1243038
RECORDINGS = Path(__file__).parents[2] / "examples" / "data" / "audio" / "folder"
PACKAGED = Path(mdct_rvq.__file__).with_name("weights.npz")


def chord(seconds: float, level: float = 0.2) -> Samples:
    """Notes with harmonics that come and go, and a little noise: no sine is computed by a library of this machine."""
    draw = np.random.default_rng(0)
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    sound = 0.02 * draw.standard_normal(len(time))
    for number, hz in enumerate((110, 165, 220, 277, 660, 1320)):
        phase = (hz * time) % 1
        sound += 4 * phase * (1 - phase) * ((time * (number + 1) / 2) % 1) / (number + 1)
    samples: Samples = (level * (sound - sound.mean())).astype(np.float32)
    return samples


def rows_of(tokenizer: MdctRvqTokenizer, *sounds: Samples) -> list[Row]:
    encoder = tokenizer.load()
    encoded = encoder.encode([encoder.prepare(AudioClip(samples, RATE_HZ, 1)) for samples in sounds])
    assert not encoded.failures
    return [{name: jagged[index] for name, jagged in encoded.streams.items()} for index in range(len(sounds))]


def decoded(row: Row, codebooks: int | None = None) -> Sound:
    return MdctRvqTokenizer().decoder().decode({**row, "codes": row["codes"][:, :codebooks]})


def decibels(sound: Samples, coded: Samples) -> float:
    """By how much the sound is louder than what is wrong with it."""
    return float(10 * np.log10(np.square(sound).mean() / np.square(coded - sound).mean()))


def model() -> MdctRvqModel:
    return load_model(PACKAGED.read_bytes(), str(PACKAGED))


def test_contract(tmp_path: Path) -> None:
    def moved(directory: Path) -> MdctRvqTokenizer:
        return MdctRvqTokenizer(weights=str(shutil.copy(PACKAGED, directory / "own.npz")))

    variants = [MdctRvqTokenizer(codebooks=1), MdctRvqTokenizer(codebooks=32)]
    check_tokenizer(audio_case(MdctRvqTokenizer(), variants, moved=moved), tmp_path)


@pytest.mark.parametrize("codebooks", [0, 33])
def test_wrong_numbers_of_codebooks_are_refused(codebooks: int) -> None:
    with pytest.raises(ValidationError):
        MdctRvqTokenizer(codebooks=codebooks)


def test_shape_and_streams() -> None:
    tokenizer = MdctRvqTokenizer(codebooks=32)
    codes = tokenizer.streams()["codes"]
    assert (codes.dims, codes.shape, codes.dtype) == (("frame", "codebook"), (None, 32), "uint16")
    assert (codes.vocabulary_size, codes.frame_hz) == (1024, 75.0)
    assert tokenizer.shape().frame_hz * 32 * 10 == 24_000  # bits a second


def test_golden_codes() -> None:
    """What is searched for is exact: these are the codes everywhere, as long as the weights stay."""
    (row,) = rows_of(MdctRvqTokenizer(codebooks=32), chord(1))
    assert row["codes"].shape == (76, 32)
    assert row["codes"][40, :8].tolist() == GOLDEN_FRAME
    assert int(row["codes"].astype(np.int64).sum()) == GOLDEN_SUM


def test_fewer_codebooks_are_the_first_of_more() -> None:
    (whole,) = rows_of(MdctRvqTokenizer(codebooks=32), chord(2))
    for codebooks in (1, 2, 3, 4, 9, 20, 31):
        (some,) = rows_of(MdctRvqTokenizer(codebooks=codebooks), chord(2))
        assert some["codes"].tobytes() == whole["codes"][:, :codebooks].tobytes()


def test_every_prefix_decodes_and_more_codebooks_are_nearer() -> None:
    sound = chord(4)
    (row,) = rows_of(MdctRvqTokenizer(codebooks=32), sound)
    nearness = [decibels(sound, decoded(row, codebooks).samples) for codebooks in range(1, 33)]
    assert nearness[31] > 15
    assert nearness[7] > 5
    # From here on there is no code that says of a band how loud it is, which may bring noise where none was before.
    assert all(after > before for before, after in pairwise(nearness[3:]))


def test_the_decoder_cuts_rows() -> None:
    (row,) = rows_of(MdctRvqTokenizer(codebooks=10), chord(0.5))
    decoder = MdctRvqTokenizer().decoder()
    for fraction, count in ((0.001, 1), (0.25, 3), (0.5, 5), (1.0, 10)):
        cut = decoder.prefix(row, fraction)
        assert cut["codes"].shape == (39, count)
        assert len(decoder.decode(cut).samples) == RATE_HZ // 2


def test_codes_alone_decode() -> None:
    """Codes that a model made come without a recording: then the frames say how long the sound is."""
    draw = np.random.default_rng(0)
    decoder = MdctRvqTokenizer().decoder()
    for frames, codebooks in ((1, 1), (7, 5), (1100, 32)):
        codes = draw.integers(0, 1024, (frames, codebooks)).astype(np.uint16)
        sound = decoder.decode({"codes": codes})
        assert len(sound.samples) == (frames - 1) * HOP
        assert np.isfinite(sound.samples).all()


@pytest.mark.parametrize("samples", [0, 1, 240, HOP, 12345])
def test_lengths_are_kept(samples: int) -> None:
    (row,) = rows_of(MdctRvqTokenizer(), chord(1)[:samples])
    assert row["codes"].shape == (frame_count(samples), 8)
    sound = decoded(row)
    assert (len(sound.samples), sound.rate_hz) == (samples, RATE_HZ)


def test_silence_is_silence() -> None:
    """And next to sound it stays so: half a second before and after."""
    half = np.zeros(RATE_HZ // 2, np.float32)
    silent, broken = rows_of(MdctRvqTokenizer(), half, np.concatenate([half, chord(1), half]))
    assert not silent["codes"].any()
    assert not decoded(silent).samples.any()
    samples = decoded(broken).samples
    assert not samples[: RATE_HZ // 2 - 2 * HOP].any()
    assert not samples[-RATE_HZ // 2 + 2 * HOP :].any()
    assert samples.any()


@pytest.mark.parametrize("level", [1e-4, 1e-3, 0.03, 1.0, 3.0])
def test_quiet_and_loud_sounds_are_coded_alike(level: float) -> None:
    sound = chord(2, level)
    (row,) = rows_of(MdctRvqTokenizer(codebooks=32), sound)
    assert decibels(sound, decoded(row).samples) > 12


@pytest.mark.parametrize("kind", ["clipped", "offset", "click", "noise", "sine"])
def test_odd_sounds(kind: str) -> None:
    draw = np.random.default_rng(0)
    time = np.arange(RATE_HZ)
    click = np.zeros(RATE_HZ)
    click[RATE_HZ // 2] = 1
    sound = {
        "clipped": (20 * chord(1)).clip(-1, 1),
        "offset": np.full(RATE_HZ, 0.5) + 0.01 * chord(1),
        "click": click,
        "noise": draw.uniform(-1, 1, RATE_HZ),
        "sine": np.sin(2 * np.pi * 997 / RATE_HZ * time),
    }[kind].astype(np.float32)
    (row,) = rows_of(MdctRvqTokenizer(codebooks=32), sound)
    assert decibels(sound, decoded(row).samples) > {"noise": 1.5, "click": 4}.get(kind, 10)


def test_codes_do_not_depend_on_how_frames_are_put_together() -> None:
    """Not on blocks, which `test_mdct_rvq_transform` cuts in all ways, nor on which frames are searched for at once."""
    tables = model()
    frames = np.concatenate(list(analyse([chord(8)])))
    whole = encode(tables, frames, 16)
    draw = np.random.default_rng(0)
    for count in (2, 9, 40):
        cuts = np.sort(draw.integers(0, len(frames), count))
        pieces = [encode(tables, piece, 16) for piece in np.split(frames, cuts)]
        assert np.concatenate(pieces).tobytes() == whole.tobytes()
    order = draw.permutation(len(frames))
    assert encode(tables, frames[order], 16).tobytes() == whole[order].tobytes()


def test_long_recordings_take_bounded_memory() -> None:
    class Long(Recording):
        """Ten minutes, block by block: 58 MB of samples."""

        def blocks(self) -> Iterator[Samples]:
            some = chord(10)
            for _ in range(60):
                yield some

    encoder = MdctRvqTokenizer(codebooks=4).load()
    encoder.row(AudioClip(chord(1), RATE_HZ, 1).recording(RATE_HZ))  # what is made once, such as codebooks to search
    tracemalloc.start()
    row = encoder.row(Long(AudioClip(chord(1), RATE_HZ, 1), RATE_HZ))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(row["codes"]) == 10 * 60 * 75 + 1
    assert peak < 32 << 20


@pytest.mark.parametrize(("name", "coarse", "fine"), [("ten-of-clubs.wav", 5, 15), ("guitar.flac", 8, 16)])
def test_quality_on_recordings(name: str, coarse: float, fine: float) -> None:
    """Speech and music that no weight was learned from, at 6 and 24 kbit/s."""
    tokenizer = MdctRvqTokenizer(codebooks=32)
    encoder = tokenizer.load()
    recording = AudioFile(HeldContent((RECORDINGS / name).read_bytes())).recording(RATE_HZ)
    sound = recording.samples()
    codes = encoder.row(recording)["codes"]
    row = {"codes": codes, "recording": recording.numbers()}
    for codebooks, least in ((8, coarse), (32, fine)):
        assert decibels(sound, decoded(row, codebooks).samples) > least


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    data = PACKAGED.read_bytes()
    other = replace(model(), version=np.array([2], np.int16)).save()
    short = replace(model(), levels=model().levels[:, :-1]).save()
    for name, damaged in {
        "cut": data[:-1000],
        "empty": b"",
        "other": b"PK" + data,
        "flipped": _flipped(data),
        "version": other,
        "short": short,
    }.items():
        path = tmp_path / name
        path.write_bytes(damaged)
        with pytest.raises(AssetError) as caught:
            MdctRvqTokenizer(weights=str(path)).load()
        assert str(path) in str(caught.value)
    with pytest.raises(AssetError):
        resolve(MdctRvqTokenizer(weights=str(tmp_path / "absent")))


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]


def test_packaged_weights() -> None:
    asset = MdctRvqTokenizer().assets()["weights"]
    assert asset.location == "package:tokenmill/tokenmill/tokenizers/mdct_rvq/weights.npz"
    assert asset.size_bytes == PACKAGED.stat().st_size <= 6_000_000
