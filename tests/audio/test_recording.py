from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.audio.samples import audio_file, every_sort, tones, wav, written
from tokenmill.audio import reasons
from tokenmill.audio.audio_file import AudioClip, AudioFile, Samples
from tokenmill.audio.recording import WHOLE_SECONDS, Recording, one_channel
from tokenmill.errors import ItemError

RATE_HZ = 8_000


def long_flac(seconds: float = WHOLE_SECONDS * 2.5) -> bytes:
    return written(tones(int(seconds * RATE_HZ), 2, RATE_HZ), RATE_HZ, "FLAC")


def read(recording: Recording) -> Samples:
    blocks = list(recording.blocks())
    assert all(len(block) and block.dtype == np.float32 for block in blocks)
    return np.concatenate([np.empty(0, np.float32), *blocks])


def test_a_short_recording_is_held_and_read_as_often_as_one_likes() -> None:
    sound = tones(4000, 2)
    recording = audio_file(written(sound, 48_000, "WAV", "FLOAT")).recording(48_000)
    assert recording.nbytes == 0
    recording.read_ahead()
    assert recording.nbytes == 4000 * 4
    for _ in range(2):
        np.testing.assert_array_equal(read(recording), (sound[:, 0] + sound[:, 1]) / 2)
    assert recording.numbers().tolist() == [48_000, 2, -1, 0, 4000, 4000]
    assert recording.numbers().dtype == np.int64
    assert recording.level().dtype == np.float32


def test_reading_needs_no_reading_ahead() -> None:
    assert len(audio_file(written(tones(4000))).recording(24_000).samples()) == 2000


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_one_of_several_channels(channel: int) -> None:
    sound = tones(500, 3)
    recording = audio_file(written(sound, 48_000, "WAV", "FLOAT"), channel=channel).recording(48_000)
    np.testing.assert_array_equal(read(recording), sound[:, channel])
    assert recording.numbers()[2] == channel


def test_a_channel_that_is_not_there() -> None:
    with pytest.raises(ItemError, match="channel 2 is asked for, and there are 2") as caught:
        audio_file(written(tones(500, 2)), channel=2).recording(48_000).read_ahead()
    assert caught.value.reason == reasons.UNSUPPORTED_AUDIO


def test_the_mean_of_channels_depends_on_no_layout_in_memory() -> None:
    sound = tones(3000, 64)
    np.testing.assert_array_equal(one_channel(sound, None), one_channel(np.asfortranarray(sound), None))
    np.testing.assert_allclose(one_channel(sound, None), sound.mean(axis=1), atol=1e-6)


def test_of_a_long_recording_the_beginning_is_held_until_it_is_read() -> None:
    recording = audio_file(long_flac()).recording(16_000)
    recording.read_ahead()
    assert WHOLE_SECONDS * 64_000 < recording.nbytes < (WHOLE_SECONDS + 10) * 64_000
    first = read(recording)
    assert recording.nbytes == 0
    assert len(first) == 2.5 * WHOLE_SECONDS * 16_000
    numbers, level = recording.numbers(), recording.level()
    np.testing.assert_array_equal(read(recording), first)  # decoded again
    np.testing.assert_array_equal(recording.numbers(), numbers)
    np.testing.assert_array_equal(recording.level(), level)


def test_a_recording_abandoned_midway_is_read_again_from_its_beginning() -> None:
    recording = audio_file(long_flac()).recording(RATE_HZ)
    blocks = recording.blocks()
    kept = [next(blocks) for _ in range(40)]
    del blocks
    whole = read(recording)
    np.testing.assert_array_equal(np.concatenate(kept), whole[: sum(map(len, kept))])


class FileContent:
    """A file of its own, of which nothing may stay open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size_bytes = path.stat().st_size

    def open(self) -> object:
        return self._path.open("rb")


@pytest.mark.filterwarnings("error::ResourceWarning")
@pytest.mark.parametrize("blocks_read", [None, 0, 3, 60])
def test_abandoned_recordings_leave_no_file_open(tmp_path: Path, blocks_read: int | None) -> None:
    path = tmp_path / "long.flac"
    path.write_bytes(long_flac())
    recording = AudioFile(FileContent(path)).recording(RATE_HZ)  # type: ignore[arg-type]
    recording.read_ahead()
    if blocks_read is not None:
        blocks = recording.blocks()
        for _ in range(blocks_read):
            next(blocks)
        del blocks
    del recording
    gc.collect()
    assert str(path) not in {str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}


def test_damage_behind_the_beginning_is_found_by_reading_on_and_again_each_time() -> None:
    data = long_flac()
    recording = audio_file(data[: len(data) * 9 // 10]).recording(RATE_HZ)
    recording.read_ahead()
    for _ in range(2):
        with pytest.raises(ItemError, match=r"read as far as 13\d\.\d{3} s of 150\.000 s") as caught:
            read(recording)
        assert caught.value.reason == reasons.DAMAGED_AUDIO
        assert caught.value.lost_seconds == 150.0


def test_samples_do_not_depend_on_the_blocks_they_come_in() -> None:
    """The same sound comes in blocks of the sizes that its containers have."""
    sorts = {"wav s16": 1, "flac": 2, "ogg flac": 3, "rf64": 4}
    found = {name: audio_file(every_sort()[name]).recording(22_050) for name in sorts}
    expected = read(found["wav s16"])
    for name in ("rf64", "w64"):
        other = audio_file(every_sort()[name]).recording(22_050)
        np.testing.assert_array_equal(read(other), expected)
    np.testing.assert_array_equal(read(found["flac"]), read(found["ogg flac"]))
    np.testing.assert_array_equal(found["flac"].level(), found["ogg flac"].level())


def test_a_clip_is_what_its_piece_of_the_file_is() -> None:
    sound = tones(5000, 1)[:, 0]
    clip = AudioClip(sound[1000:3000], 48_000, 2, 1, 1000).recording(24_000)
    whole = audio_file(written(sound[1000:3000, None], 48_000, "WAV", "FLOAT")).recording(24_000)
    np.testing.assert_array_equal(read(clip), read(whole))
    assert clip.numbers().tolist() == [48_000, 2, 1, 1000, 2000, 1000]


EDGES = {
    "no samples": (np.empty((0, 1), np.float32), 48_000, (-120, -120, 0)),
    "10 ms": (tones(480), 48_000, (-11, -6, 0)),
    "silence": (np.zeros((48_000, 1), np.float32), 48_000, (-120, -120, 1)),
    "clipped": (np.sign(tones(48_000)), 48_000, (0, 0, 0)),
    "offset": (np.full((48_000, 1), 0.5, np.float32), 48_000, (-6, -6, 0)),
    "8 kHz": (tones(8_000, 1, 8_000), 8_000, (-9, -3, 0)),
    "192 kHz": (tones(192_000, 1, 192_000), 192_000, (-9, -3, 0)),
    "64 channels": (np.repeat(tones(4800), 64, axis=1), 48_000, (-9, -3, 0)),
}


@pytest.mark.parametrize("name", list(EDGES))
@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
def test_recordings_at_the_edge(name: str, rate_hz: int) -> None:
    sound, from_hz, level = EDGES[name]
    recording = audio_file(written(sound, from_hz, "WAV", "FLOAT")).recording(rate_hz)
    samples = read(recording)
    assert len(samples) == len(sound) * rate_hz // from_hz
    assert np.isfinite(samples).all()
    assert recording.numbers().tolist() == [from_hz, sound.shape[1], -1, 0, len(sound), len(samples)]
    np.testing.assert_allclose(recording.level(), level, atol=2.5)


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    """Half an hour and eight minutes, each in a process of its own."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.audio.test_recording import FileContent\n"
        "from tokenmill.audio.audio_file import AudioFile\n"
        "r = AudioFile(FileContent(Path(sys.argv[1]))).recording(16_000); r.read_ahead()\n"
        "samples = sum(len(b) for b in r.blocks())\n"
        "status = Path('/proc/self/status').read_text()\n"
        "print(samples, status.partition('VmHWM:')[2].split()[0])\n"
    )
    grown = []
    for seconds in (480, 1800):
        path = tmp_path / f"{seconds}.wav"
        path.write_bytes(wav(tones(48_000).astype("<i2").tobytes() * seconds))
        done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
        samples, kib = map(int, done.stdout.split())
        assert samples == seconds * 16_000
        grown.append(kib / 1024)
    assert grown[1] - grown[0] < 8, "MiB"
