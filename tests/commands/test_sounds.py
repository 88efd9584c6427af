"""`tokenmill head` of tables of sound: rows in words, as WAV files and as spectrograms."""

from __future__ import annotations

import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.commands.conftest import Run
from tests.toy_codec import ToyCodec, ToyDecoder
from tokenmill.commands.sounds import PICTURE
from tokenmill.commands.spectrograms import HEIGHT, WIDTH
from tokenmill.dataset import open_dataset


def samples_of(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 8_000)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def files(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_rows_in_words(run: Run, sounds: Path) -> None:
    ran = run("head", str(sounds / "out"), "--table", "fine", "-n", "2")
    assert (ran.code, ran.err) == (0, "")
    lines = [line.strip().split("  ", 1) for line in ran.out.splitlines() if line]
    facts = [(name, value.strip()) for name, value in (line for line in lines if len(line) == 2)]
    assert facts[1][0] == "codes"
    assert facts[1][1].startswith("400 frames at 2000 Hz × 4 codebooks uint8: 8 ")
    assert facts[1][1].count(" | ") == 4
    assert facts[2] == ("recording", "0.20 s of 16 kHz, 1 channel")
    assert facts[6] == ("recording", "0.40 s of 16 kHz, the mean of 2 channels")
    assert facts[3][1].startswith("RMS -")
    assert facts[3][1].endswith("% silence")
    assert "Sound(" not in ran.out


def test_sound_is_not_decoded_for_words(run: Run, sounds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ToyCodec, "decoder", lambda self: pytest.fail("decoded"))
    assert run("head", str(sounds / "out")).code == 0


def test_rows_are_written_as_they_sound(run: Run, sounds: Path) -> None:
    heard = sounds / "new" / "heard"
    ran = run("head", str(sounds / "out"), "-n", "2", "--audio", str(heard), "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.json["tables"]["fine"][1]["sound"] == {"rate_hz": 8_000, "samples": 3_200}
    assert ran.json["tables"]["fine"][1]["text"] is None
    fine = {f"fine-{row}-{name}.wav" for row in (0, 1) for name in ("original", "quarter", "half", "all")}
    coarse = {f"coarse-{row}-{name}.wav" for row in (0, 1) for name in ("original", "all")}
    assert files(heard) == {PICTURE, *fine, *coarse}
    table = open_dataset(str(sounds / "out"))["fine"]
    decoder = ToyDecoder(ToyCodec())
    original = samples_of(heard / "fine-1-original.wav").astype(float)
    distances = []
    for name, fraction in (("quarter", 0.25), ("half", 0.5), ("all", 1.0)):
        wanted = decoder.decode(decoder.prefix(table[1].streams, fraction)).samples
        found = samples_of(heard / f"fine-1-{name}.wav")
        assert np.abs(found / 32768 - wanted).max() < 1e-4
        distances.append(np.abs(found - original).mean())
    assert distances == sorted(distances, reverse=True)


def test_the_picture_has_a_cell_for_every_file(run: Run, sounds: Path) -> None:
    run("head", str(sounds / "out"), "--table", "fine", "-n", "3", "--audio", str(sounds / "heard"))
    picture = np.asarray(Image.open(sounds / "heard" / PICTURE))
    row_height, top = 18 + HEIGHT + 2 * 18 + 14, 14 + 18 + 7 + 18 + 7 + 18
    assert picture.shape[1] == 14 + 4 * (WIDTH + 14)
    cells = [
        [picture[y : y + HEIGHT, x : x + WIDTH] for x in range(14, picture.shape[1] - WIDTH, WIDTH + 14)]
        for y in range(top, picture.shape[0] - HEIGHT, row_height)
    ]
    assert [len(row) for row in cells] == [4, 4, 4]
    for row in cells:
        assert len({cell.tobytes() for cell in row}) == 4


def test_a_recording_that_is_gone_leaves_an_empty_place_and_a_note(run: Run, sounds: Path) -> None:
    (sounds / "in" / "1.wav").unlink()
    ran = run("head", str(sounds / "out"), "--table", "fine", "-n", "2", "--audio", str(sounds / "heard"))
    assert ran.code == 0
    assert ran.err.count("note: an original is not shown: ") == 1
    assert {"fine-0-original.wav", "fine-1-all.wav"} <= files(sounds / "heard")
    assert "fine-1-original.wav" not in files(sounds / "heard")


def test_of_long_recordings_the_beginning_is_heard(run: Run, sounds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenmill.commands.head._DECODED_SECONDS", 0.25)
    ran = run("head", str(sounds / "out"), "--table", "fine", "-n", "4", "--audio", str(sounds / "heard"))
    assert "1,600 frames at 2000 Hz" in ran.out
    lengths = {name: len(samples_of(sounds / "heard" / name)) for name in files(sounds / "heard") - {PICTURE}}
    assert set(lengths.values()) == {1_600, 2_000}
    assert lengths["fine-3-original.wav"] == lengths["fine-3-half.wav"] == 2_000


def test_rows_that_cannot_be_cut_are_heard_whole(run: Run, sounds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Whole:
        def decode(self, streams: Any) -> Any:
            return ToyDecoder(ToyCodec()).decode(streams)

    monkeypatch.setattr(ToyCodec, "decoder", lambda self: Whole())
    run("head", str(sounds / "out"), "--table", "fine", "-n", "1", "--audio", str(sounds / "heard"))
    assert files(sounds / "heard") == {PICTURE, "fine-0-original.wav", "fine-0-all.wav"}


def test_what_does_not_decode_to_sound_is_refused(run: Run, sounds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ToyCodec, "decoder", lambda self: None)
    ran = run("head", str(sounds / "out"), "--audio", str(sounds / "heard"))
    assert (ran.code, ran.out) == (1, "")
    assert "no row that decodes to sound" in ran.err
    assert not (sounds / "heard").exists()


def test_a_directory_that_cannot_be_written(run: Run, sounds: Path) -> None:
    (sounds / "heard").write_text("a file")
    ran = run("head", str(sounds / "out"), "--audio", str(sounds / "heard"))
    assert ran.code == 3
    assert "cannot be written: File exists" in ran.err


def test_without_pillow_there_are_files_and_a_note(run: Run, sounds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenmill.commands.contact_sheet", None)
    ran = run("head", str(sounds / "out"), "--table", "coarse", "-n", "1", "--audio", str(sounds / "heard"))
    assert ran.code == 0
    assert "no spectrograms" in ran.err
    assert files(sounds / "heard") == {"coarse-0-original.wav", "coarse-0-all.wav"}
