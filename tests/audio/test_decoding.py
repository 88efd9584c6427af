from __future__ import annotations

import io
import threading
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
import pytest

from tests.audio.samples import Block, decoded, encoded, every_sort, tones, wav, written
from tokenmill.audio import reasons
from tokenmill.audio.audio_file import HeldContent
from tokenmill.audio.decoding import DecodedAudio
from tokenmill.errors import ItemError

SAMPLES = 24_077
RATE_HZ = 48_000

#: How far each sort may be from the sound it was made of, as a signal-to-noise ratio in dB.
LOSSY = {"wav u8": 36, "wav a-law": 36, "wav mu-law": 36, "ogg vorbis": 20, "mp3": 20, "mp3 gapless": 20}
LOSSY |= {"ogg opus": 12, "m4a aac": 18}


def refusal(data: bytes, max_seconds: float = 1e6) -> ItemError:
    with pytest.raises(ItemError) as caught:
        decoded(data, max_seconds)
    return caught.value


def ratio_db(sound: Block, found: Block) -> float:
    return float(10 * np.log10(np.square(sound).mean() / max(float(np.square(found - sound).mean()), 1e-20)))


@pytest.mark.parametrize("name", list(every_sort()))
def test_sound_comes_back_in_place_and_to_the_sample(name: str) -> None:
    sound = tones(SAMPLES, 2, RATE_HZ)
    info, found = decoded(every_sort()[name])
    assert (info.container, info.rate_hz, info.channels, info.samples) == (
        name.split()[0].replace("rf64", "wav").replace("w64", "wav"),
        RATE_HZ,
        2,
        SAMPLES,
    )
    assert found.shape == sound.shape
    assert found.dtype == np.float32
    assert ratio_db(sound, found) > LOSSY.get(name, 80)


@pytest.mark.parametrize("samples", [1, 480, 1151, 1152, 4096, 48_000])
@pytest.mark.parametrize("name", ["wav", "flac", "ogg vorbis", "mp3", "ogg opus", "m4a aac", "m4a alac"])
def test_lengths_are_exact_where_the_format_tells(name: str, samples: int) -> None:
    sound = tones(samples, 1, RATE_HZ)
    files = {
        "wav": ("WAV", "PCM_16"),
        "flac": ("FLAC", "PCM_16"),
        "ogg vorbis": ("OGG", "VORBIS"),
        "mp3": ("MP3", "MPEG_LAYER_III"),
    }
    others = {"ogg opus": ("libopus", "ogg"), "m4a aac": ("aac", "ipod"), "m4a alac": ("alac", "ipod")}
    data = written(sound, RATE_HZ, *files[name]) if name in files else encoded(sound, RATE_HZ, *others[name])
    info, found = decoded(data)
    assert len(found) == samples
    assert info.samples == samples


@pytest.mark.parametrize("rate_hz", [1_000, 8_000, 192_000, 768_000])
def test_rates_from_1_to_768_khz(rate_hz: int) -> None:
    info, found = decoded(wav(bytes(2 * 30), rate_hz=rate_hz))
    assert (info.rate_hz, len(found)) == (rate_hz, 30)


@pytest.mark.parametrize("rate_hz", [1, 999, 768_001, 4_000_000_000])
def test_rates_beyond_reason(rate_hz: int) -> None:
    assert refusal(wav(bytes(2 * 30), rate_hz=rate_hz)).reason == reasons.UNSUPPORTED_AUDIO


def test_channels_up_to_64() -> None:
    sound = tones(100, 64, 8_000)
    info, found = decoded(written(sound, 8_000, "WAV", "FLOAT"))
    assert info.channels == 64
    np.testing.assert_array_equal(found, sound)
    assert refusal(wav(bytes(2 * 65), channels=65)).what == (
        "65 channels at 48000 Hz; up to 64 channels at 1000 to 768000 Hz are decoded"
    )


def test_a_file_without_bytes_and_one_without_sound() -> None:
    assert refusal(b"").reason == reasons.EMPTY_FILE
    info, found = decoded(wav(b""))
    assert (info.samples, found.shape) == (0, (0, 1))


@pytest.mark.parametrize("name", list(every_sort()))
@pytest.mark.parametrize("share", [0.35, 0.7, 0.97])
def test_files_that_break_off_say_how_far_they_were_read(name: str, share: float) -> None:
    data = every_sort()[name]
    if name.startswith("mp3"):
        share = min(share, 0.9)  # the count of frames that it announces may be one too many
    error = refusal(data[: int(len(data) * share)])
    assert error.reason == reasons.DAMAGED_AUDIO
    if name.startswith("m4a"):  # its tables lie at the end
        assert "moov" in error.what
        return
    seconds = SAMPLES / RATE_HZ
    assert error.what.startswith("read as far as 0.")
    read = float(error.what.split()[4])
    assert read < seconds
    if name.startswith("ogg"):  # which has half a second on a page
        return
    assert read > share * seconds - 0.2
    assert f"s of {seconds:.3f} s:" in error.what
    assert error.lost_seconds == pytest.approx(seconds, abs=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_no_numbers(value: float) -> None:
    sound = tones(1000, 2)
    sound[617, 1] = value
    error = refusal(written(sound, RATE_HZ, "WAV", "FLOAT"))
    assert error.reason == reasons.DAMAGED_AUDIO
    assert error.what.startswith(f"read as far as {617 / RATE_HZ:.3f} s of 0.021 s: sample 617 is [")
    assert error.lost_seconds == pytest.approx(1000 / RATE_HZ)


def test_doubles_that_no_float_holds() -> None:
    data = wav(np.array([0.5, 1e200]).tobytes(), bits=64, tag=3)
    assert "sample 1 is [inf]" in refusal(data).what


def test_floats_beyond_full_scale_stay_as_they_are() -> None:
    sound = np.array([[3.5], [-32768.0]], np.float32)
    np.testing.assert_array_equal(decoded(written(sound, RATE_HZ, "WAV", "FLOAT"))[1], sound)


def test_too_long_by_the_header_is_refused_before_decoding() -> None:
    error = refusal(written(tones(RATE_HZ), RATE_HZ, "FLAC")[:200], max_seconds=0.9)
    assert (error.reason, error.lost_seconds) == (reasons.TOO_LONG, 1.0)
    assert error.what == "1.000 s by its header; 0.9 s are the limit"
    assert len(decoded(written(tones(RATE_HZ)), max_seconds=1.0)[1]) == RATE_HZ


def test_too_long_is_found_while_decoding_where_no_header_tells() -> None:
    data = bytearray(written(tones(RATE_HZ), RATE_HZ, "FLAC"))
    data[21] &= 0xF0
    data[22:26] = bytes(4)  # STREAMINFO's number of samples: unknown
    assert decoded(bytes(data))[0].samples is None
    error = refusal(bytes(data), max_seconds=0.5)
    assert error.reason == reasons.TOO_LONG
    assert 0.5 < error.lost_seconds < 0.7


def test_a_flac_header_without_frames_is_a_recording_of_no_samples() -> None:
    data = bytearray(written(tones(RATE_HZ), RATE_HZ, "FLAC")[:42])
    data[4] |= 0x80  # the last block
    assert (
        refusal(bytes(data)).what == "read as far as 0.000 s of 1.000 s: 48000 samples are announced, and 0 are there"
    )
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    assert decoded(bytes(data))[1].shape == (0, 1)


def test_names_play_no_part_as_there_are_none() -> None:
    error = refusal(b"%PDF-1.7 and so on" * 100)
    assert error.reason == reasons.NOT_AUDIO
    assert error.what == "it begins with '%PDF-1.7', as no file of sound does"


@dataclass
class Watched:
    """A file that notes whether it was closed."""

    data: bytes
    opened: list[io.BytesIO] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def open(self) -> BinaryIO:
        self.opened.append(io.BytesIO(self.data))
        return self.opened[-1]


@pytest.mark.parametrize("data", [b"no sound", wav(bytes(64)), wav(bytes(64), 65), wav(bytes(64), announced=1000)])
def test_files_are_closed_whatever_happens(data: bytes) -> None:
    content = Watched(data)
    try:
        with DecodedAudio(content, 1e6) as audio:
            list(audio.blocks())
    except ItemError:
        pass
    assert [file.closed for file in content.opened] == [True]


def test_errors_of_storage_pass_through() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError("gone")

    content = Watched(b"RIFF")
    content.open = lambda: Broken()  # type: ignore[method-assign]
    with pytest.raises(OSError, match="gone"):
        DecodedAudio(content, 1e6)


def test_many_threads_decode_at_once_and_alike() -> None:
    names = list(every_sort()) * 3
    expected = {name: decoded(data)[1] for name, data in every_sort().items()}
    wrong: list[str] = []

    def work(own: list[str]) -> None:
        wrong.extend(name for name in own if not np.array_equal(decoded(every_sort()[name])[1], expected[name]))

    threads = [threading.Thread(target=work, args=(names[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_decoding_one_file_twice_gives_the_same_samples() -> None:
    for data in every_sort().values():
        with DecodedAudio(HeldContent(data), 1e6) as one, DecodedAudio(HeldContent(data), 1e6) as other:
            for first, second in zip(one.blocks(), other.blocks(), strict=True):  # both at work at the same time
                np.testing.assert_array_equal(first, second)
