from __future__ import annotations

import struct

import numpy as np
import pytest

from tests.audio.samples import decoded, encoded, every_sort, id3v2, tones, written
from tokenmill.audio import reasons
from tokenmill.audio.mp3 import TRAILING_BYTES, id3v2_bytes
from tokenmill.errors import ItemError

RATE_HZ = 48_000
FRAME_BYTES = 192  # of 64 kbit/s at 48 kHz


@pytest.fixture(scope="module")
def plain() -> bytes:
    """Frames alone, 64 kbit/s, without any header of the file."""
    data = encoded(tones(RATE_HZ), RATE_HZ, "libmp3lame", "mp3", write_xing="0", id3v2_version="0")
    assert data[:2] == b"\xff\xfb"
    return data


def refusal(data: bytes) -> ItemError:
    with pytest.raises(ItemError) as caught:
        decoded(data)
    return caught.value


def test_without_a_header_nothing_is_cut_off_and_no_length_is_known(plain: bytes) -> None:
    info, found = decoded(plain)
    assert info.samples is None
    assert len(found) == len(plain) // FRAME_BYTES * 1152
    assert len(plain) % FRAME_BYTES == 0


@pytest.mark.parametrize(
    "trailing",
    [
        b"TAG" + bytes(125),
        b"garbage" * 100,
        bytes(100_000),
        b"APETAGEX" + struct.pack("<III", 2000, 50_000, 1) + bytes(50_012),
        b"LYRICSBEGIN" + b"la " * 3000 + b"LYRICS200TAG" + bytes(125),
        id3v2(20_000),
    ],
)
def test_tags_zeros_and_a_little_garbage_may_follow(plain: bytes, trailing: bytes) -> None:
    assert np.array_equal(decoded(plain + trailing)[1], decoded(plain)[1])


def test_a_file_goes_on_behind_a_tag_in_its_middle(plain: bytes) -> None:
    assert len(decoded(plain + id3v2(5000) + plain)[1]) == 2 * len(decoded(plain)[1])


def test_a_broken_header_in_the_middle(plain: bytes) -> None:
    at = 30 * FRAME_BYTES
    for more, where in ((b"", "and frames follow"), (plain, f"{2 * len(plain) - at} bytes before the end")):
        error = refusal(plain[:at] + b"\0\0\0\0" + plain[at + 4 :] + more)
        assert error.reason == reasons.DAMAGED_AUDIO
        assert error.what == f"read as far as 0.720 s: no frame begins at byte {at}, {where}"
        assert error.lost_seconds == pytest.approx(0.72)


@pytest.mark.parametrize("place", [1, 2, 3])
def test_frames_of_another_version_rate_or_number_of_channels_are_no_frames_of_it(plain: bytes, place: int) -> None:
    changed = bytearray(plain)
    changed[20 * FRAME_BYTES + place] ^= {1: 0x08, 2: 0x04, 3: 0x80}[place]
    assert refusal(bytes(changed)).what.startswith("read as far as 0.480 s")


def test_what_is_missing_in_the_middle(plain: bytes) -> None:
    assert refusal(plain[:5000] + plain[5100:]).reason == reasons.DAMAGED_AUDIO


def test_the_last_frame_is_dropped_where_it_is_cut_off(plain: bytes) -> None:
    assert len(decoded(plain[:-100])[1]) == len(decoded(plain)[1]) - 1152


def test_more_than_a_little_garbage_is_damage(plain: bytes) -> None:
    decoded(plain + b"x" * TRAILING_BYTES)
    assert refusal(plain + b"x" * (TRAILING_BYTES + 1)).reason == reasons.DAMAGED_AUDIO


def test_files_cut_out_of_others_begin_within_a_frame(plain: bytes) -> None:
    found = decoded(plain[5 * FRAME_BYTES + 100 :])[1]
    whole = decoded(plain)[1]
    assert len(found) == len(whole) - 6 * 1152
    np.testing.assert_allclose(found[5 * 1152 :], whole[11 * 1152 :], atol=1e-6)


def test_as_many_frames_as_are_announced_but_one_must_be_there() -> None:
    data = every_sort()["mp3 gapless"]
    decoded(data[:-100])
    error = refusal(data[:-1000])
    assert "frames are announced, and" in error.what
    assert error.lost_seconds == pytest.approx(24_077 / RATE_HZ)


def test_delay_and_padding_are_cut_off_by_the_lame_tag() -> None:
    for samples in (100, 1152, 5000, 48_001):
        for data in (
            written(tones(samples), RATE_HZ, "MP3", "MPEG_LAYER_III"),
            encoded(tones(samples), RATE_HZ, "libmp3lame", "mp3"),
        ):
            info, found = decoded(data)
            assert info.samples == len(found) == samples


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100])
def test_every_version_and_rate(rate_hz: int) -> None:
    info, found = decoded(encoded(tones(rate_hz, 2, rate_hz), rate_hz, "libmp3lame", "mp3"))
    assert (info.rate_hz, found.shape) == (rate_hz, (rate_hz, 2))


def test_lengths_of_tags() -> None:
    assert id3v2_bytes(id3v2(12_345)) == 12_355
    assert id3v2_bytes(b"ID3\x04\0\x10\0\0\0\x05") == 25  # with a footer
    for none in (b"", b"ID3", b"ID4\x04\0\0\0\0\0\x05", b"ID3\x04\0\0\0\0\0\x85", b"ID3\xff\0\0\0\0\0\x05"):
        assert id3v2_bytes(none) == 0
