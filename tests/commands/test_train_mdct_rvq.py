"""`tokenmill train mdct-rvq` from audio files to weights that tokenize."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.commands.conftest import Run
from tokenmill.audio.audio_file import AudioClip
from tokenmill.audio.testing import wav
from tokenmill.tokenizers.mdct_rvq import MdctRvqTokenizer

RATE_HZ = 24_000


def tones(seconds: float, seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Notes of random pitches, a quarter of a second each, in noise."""
    draw = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    hz = np.repeat(draw.uniform(80, 2000, len(time) // 6000 + 1), 6000)[: len(time)]
    return 0.2 * np.sin(2 * np.pi * np.cumsum(hz) / RATE_HZ) + 0.02 * draw.standard_normal(len(time))


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    found = []
    for kind, count in (("few", 2), ("many", 5)):
        folder = tmp_path / kind / "more"
        folder.mkdir(parents=True)
        for number in range(count):
            (folder / f"{number}.wav").write_bytes(wav(tones(10, 10 * count + number)[:, None], RATE_HZ))
        found.append(folder.parent)
    (found[0] / "notes.txt").write_text("no sound")
    return found


def test_weights_are_learned_twice_the_same_and_work(run: Run, folders: list[Path], tmp_path: Path) -> None:
    outputs = [tmp_path / "one.npz", tmp_path / "two.npz"]
    for output in outputs:
        ran = run("train", "mdct-rvq", *map(str, folders), "--output", str(output))
        assert ran.code == 0, ran.err
        assert "notes.txt" in ran.err
        assert ran.out == ""
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    tokenizer = MdctRvqTokenizer(weights=str(outputs[0]), codebooks=32)
    encoder = tokenizer.load()
    sound = tones(3, 99).astype(np.float32)
    codes = encoder.encode([encoder.prepare(AudioClip(sound, RATE_HZ, 1))]).streams["codes"][0]
    apart = tokenizer.decoder().decode({"codes": codes}).samples[: len(sound)] - sound
    assert np.square(apart).mean() < 0.05 * np.square(sound).mean()


def test_an_output_is_never_overwritten(run: Run, folders: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "weights.npz"
    output.write_bytes(b"mine")
    ran = run("train", "mdct-rvq", str(folders[0]), "--output", str(output))
    assert ran.code == 2
    assert output.read_bytes() == b"mine"


def test_too_few_recordings_are_refused(run: Run, folders: list[Path], tmp_path: Path) -> None:
    for recordings in (folders[0] / "more" / "0.wav", folders[0] / "notes.txt", folders[0] / "absent"):
        ran = run("train", "mdct-rvq", str(recordings), "--output", str(tmp_path / "weights.npz"))
        assert ran.code == 2
        assert str(recordings) in ran.err
    assert not (tmp_path / "weights.npz").exists()
