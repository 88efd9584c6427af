from __future__ import annotations

import struct

import numpy as np
import pytest

from tests.audio.samples import chunk, decoded, tones, wav, written
from tokenmill.audio import reasons
from tokenmill.errors import ItemError

SOUND = (tones(1000)[:, 0] * 32767).astype("<i2").tobytes()


def samples_of(data: bytes) -> int:
    info, found = decoded(data)
    assert info.samples == len(found)
    return len(found)


def refusal(data: bytes) -> ItemError:
    with pytest.raises(ItemError) as caught:
        decoded(data)
    return caught.value


@pytest.mark.parametrize(
    "sizes",
    [
        {"announced": 0xFFFFFFFF, "riff": 0xFFFFFFFF},  # ffmpeg into a pipe
        {"announced": 0x7FFFFFDB, "riff": 0x7FFFFFFF},  # sox
        {"announced": 0x80000000, "riff": 0x80000024},  # arecord
        {"announced": 0, "riff": 0},
        {"announced": 0, "riff": 36},
    ],
)
def test_sizes_of_programs_that_do_not_know_them_mean_to_the_end(sizes: dict[str, int]) -> None:
    assert samples_of(wav(SOUND, **sizes)) == 1000
    assert samples_of(wav(SOUND[:-1], **sizes)) == 999


def test_no_sound_at_all_with_chunks_behind_it() -> None:
    data = wav(b"") + chunk(b"LIST", bytes(20))
    assert samples_of(data[:4] + struct.pack("<I", len(data) - 8) + data[8:]) == 0


def test_a_data_chunk_longer_than_the_file() -> None:
    error = refusal(wav(SOUND, announced=4000))
    assert error.what == "read as far as 0.021 s of 0.042 s: the file ends before its data chunk does"
    assert error.reason == reasons.DAMAGED_AUDIO


def test_chunks_before_and_behind_are_passed_over() -> None:
    data = wav(SOUND)
    more = chunk(b"LIST", bytes(33)) + b"\0" + chunk(b"bext", bytes(602))
    assert samples_of(data[:12] + more + data[12:] + chunk(b"id3 ", bytes(100))) == 1000


def test_what_riff_announces_plays_no_part_where_data_is_told() -> None:
    assert samples_of(wav(SOUND, riff=17)) == 1000


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (wav(SOUND, align=0), None),  # as some write it; what the bits need
        (wav(SOUND, align=1), "16 bits in blocks of 1 bytes for 1 channels"),
        (wav(SOUND, 3, align=7), "16 bits in blocks of 7 bytes for 3 channels"),
        (wav(SOUND, bits=0, align=2), "0 bits in blocks of 2 bytes"),
        (wav(SOUND, channels=0), "0 channels and 48000 Hz"),
        (wav(SOUND, rate_hz=0), "1 channels and 0 Hz"),
        (b"RIFF\0\0\0\0WAVE" + chunk(b"data", SOUND), "before any fmt chunk"),
        (b"RIFF\0\0\0\0WAVE" + chunk(b"fmt ", bytes(8)) + chunk(b"data", SOUND), "has 8 bytes; 16 are the least"),
        (b"RIFF\0\0\0\0WAVE" + chunk(b"junk", b"") * 10_001, "no data chunk within 10000 chunks"),
        (wav(SOUND)[:40], "ends before its data chunk"),
    ],
)
def test_headers_that_contradict_themselves(data: bytes, what: str | None) -> None:
    if what is None:
        assert samples_of(data) == 1000
        return
    error = refusal(data)
    assert error.reason == reasons.DAMAGED_AUDIO
    assert what in error.what


@pytest.mark.parametrize(("tag", "bits"), [(2, 4), (0x11, 4), (0x55, 16), (1, 64), (3, 16), (6, 16)])
def test_formats_that_are_not_decoded(tag: int, bits: int) -> None:
    assert refusal(wav(SOUND, tag=tag, bits=bits, align=max(bits // 8, 1))).reason == reasons.UNSUPPORTED_AUDIO


def test_20_valid_bits_in_24() -> None:
    values = (tones(100)[:, 0] * 2**19).astype("<i4") << 12
    data = values.astype("<i4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
    _, found = decoded(wav(data, bits=20, align=3))
    np.testing.assert_array_equal(found[:, 0], (values / 2.0**31).astype(np.float32))


def test_extensible_of_a_format_that_nobody_knows() -> None:
    data = written(tones(100), 48_000, "WAVEX", "PCM_24")
    assert refusal(data.replace(b"\x80\0\0\xaa\0\x38\x9b\x71", bytes(8))).reason == reasons.UNSUPPORTED_AUDIO


def test_wave64_chunks_that_are_too_short_or_without_end() -> None:
    data = bytearray(written(tones(100), 48_000, "W64"))
    for size in (0, 23, 2**63):
        data[56:64] = struct.pack("<Q", size)
        assert refusal(bytes(data)).reason == reasons.DAMAGED_AUDIO


def test_rf64_of_more_than_4_gib_is_damaged_where_it_breaks_off() -> None:
    head = b"RF64\xff\xff\xff\xffWAVE" + chunk(b"ds64", struct.pack("<QQQI", 5 << 30, 5 << 30, 0, 0))
    data = head + wav(SOUND, announced=0xFFFFFFFF)[12:]
    with pytest.raises(ItemError, match=r"read as far as 0\.021 s of 55924\.053 s"):
        decoded(data)
