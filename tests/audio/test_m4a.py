from __future__ import annotations

import struct

import numpy as np
import pytest

from tests.audio.samples import decoded, encoded, every_sort, tones
from tokenmill.audio import reasons
from tokenmill.errors import ItemError

RATE_HZ = 48_000


@pytest.fixture(scope="module", params=["aac", "alac"])
def data(request: pytest.FixtureRequest) -> bytes:
    """Three seconds, the tables in front."""
    return encoded(tones(3 * RATE_HZ), RATE_HZ, request.param, "ipod", movflags="faststart")


def refusal(data: bytes) -> ItemError:
    with pytest.raises(ItemError) as caught:
        decoded(data)
    return caught.value


def table(data: bytes, kind: bytes) -> int:
    """Return where a box's version and flags are."""
    return data.index(kind) + 4


def with_number(data: bytes, kind: bytes, offset: int, number: int) -> bytes:
    at = table(data, kind) + offset
    return data[:at] + struct.pack(">I", number) + data[at + 4 :]


def test_tables_in_front_or_at_the_end(data: bytes) -> None:
    assert data.index(b"moov") < data.index(b"mdat")
    info, found = decoded(data)
    assert (info.samples, found.shape) == (3 * RATE_HZ, (3 * RATE_HZ, 1))
    behind = every_sort()[f"m4a {info.codec}"]
    assert behind.index(b"moov") > behind.index(b"mdat")
    assert decoded(behind)[0].samples == 24_077


def test_a_file_that_breaks_off_says_how_far_it_was_read(data: bytes) -> None:
    start = data.index(b"mdat")
    for share in (0.0, 0.3, 0.8):
        error = refusal(data[: int(start + 4 + share * (len(data) - start))])
        assert error.reason == reasons.DAMAGED_AUDIO
        assert error.what.endswith("s of 3.000 s: the file ends before the packets do that its tables name")
        assert float(error.what.split()[4]) == pytest.approx(3 * share, abs=0.5)
        assert error.lost_seconds == 3


def test_sound_is_where_it_was_before_encoding(data: bytes) -> None:
    sound, found = tones(3 * RATE_HZ), decoded(data)[1]
    products = [float((sound[1000:-1000] * np.roll(found, shift, 0)[1000:-1000]).sum()) for shift in range(-3, 4)]
    assert int(np.argmax(products)) == 3


def test_packets_of_one_length(data: bytes) -> None:
    alac = encoded(np.zeros((4096 * 5, 1), np.float32), RATE_HZ, "alac", "ipod")
    at = table(alac, b"stsz")
    assert struct.unpack_from(">I", alac, at + 4)[0] > 0
    assert (decoded(alac)[1] == np.zeros((4096 * 5, 1))).all()


@pytest.mark.parametrize(
    ("kind", "offset", "number", "what"),
    [
        (b"stsz", 8, 0xFFFFFFFF, "a table announces 4294967295 rows"),
        (b"stsz", 4, 1, "durations of"),  # all of 1 byte, and two numbers more than there are
        (b"stts", 4, 0x7FFFFFFF, "a table announces 2147483647 rows"),
        (b"stts", 8, 0xFFFFFFFF, "durations of 4294967"),
        (b"stsc", 4, 0x10000000, "a table announces 268435456 rows"),
        (b"stsc", 8, 7, "the table of chunks contradicts itself"),
        (b"stsc", 12, 0xFFFFFFFF, "the chunks do not hold as many packets as have a size"),
        (b"stco", 4, 0xFFFFFFF0, "a table announces 4294967280 rows"),
        (b"mdhd", 12, 0, "a timescale is 0"),
    ],
)
def test_tables_that_claim_what_is_not_there(data: bytes, kind: bytes, offset: int, number: int, what: str) -> None:
    if (kind, offset) == (b"stsz", 4):
        data = with_number(data, b"stsz", 8, 3)
    error = refusal(with_number(data, kind, offset, number))
    assert error.reason == reasons.DAMAGED_AUDIO
    assert what in error.what


def test_more_packets_of_one_length_than_the_file_could_hold(data: bytes) -> None:
    error = refusal(with_number(with_number(data, b"stsz", 4, 1), b"stsz", 8, 100_000_000))
    assert "100000000 packets of 1 bytes are announced in a file of" in error.what


def test_alac_of_frames_that_would_take_the_memory() -> None:
    data = every_sort()["m4a alac"]
    at = data.index(b"alac", data.index(b"alac", data.index(b"stsd")) + 4) + 8
    assert struct.unpack_from(">I", data, at)[0] == 4096
    error = refusal(data[:at] + struct.pack(">I", 1 << 24) + data[at + 4 :])
    assert error.reason == reasons.UNSUPPORTED_AUDIO


def test_apples_own_numbers_of_samples_count_where_they_are() -> None:
    data = every_sort()["m4a aac"]
    tag = b"iTunSMPB\0\0\0\x70data\0\0\0\1\0\0\0\0 00000000 00000840 000001CA 0000000000001000 00000000"
    box = struct.pack(">I4s", len(tag) + 8, b"free") + tag
    at = data.index(b"moov") - 4
    size = struct.unpack_from(">I", data, at)[0]
    tagged = data[:at] + struct.pack(">I", size + len(box)) + data[at + 4 :] + box  # moov is the last box
    info, found = decoded(tagged)
    assert info.samples == len(found) == 0x1000
    np.testing.assert_array_equal(found[:1000], decoded(data)[1][0x840 - 1024 :][:1000])


def test_boxes_that_are_longer_than_what_holds_them(data: bytes) -> None:
    at = data.index(b"minf") - 4
    assert "the box b'minf' announces" in refusal(data[:at] + b"\x7f" + data[at + 1 :]).what
    at = data.index(b"moov") - 4
    assert refusal(data[:at] + b"\x7f" + data[at + 1 :]).reason == reasons.UNSUPPORTED_AUDIO
    assert "within its moov box" in refusal(data[: at + 100]).what
    assert "announces 3 bytes, its header included" in refusal(b"\0\0\0\x08ftyp" + b"\0\0\0\x03free").what


def test_fragmented_files_and_files_without_sound(data: bytes) -> None:
    pieces = encoded(tones(RATE_HZ), RATE_HZ, "aac", "ipod", movflags="frag_keyframe+empty_moov")
    assert refusal(pieces).what == "fragmented MP4"
    assert refusal(pieces).reason == reasons.UNSUPPORTED_AUDIO
    assert refusal(data.replace(b"soun", b"vide")).reason == reasons.NOT_AUDIO


def test_files_without_a_table_that_is_needed(data: bytes) -> None:
    for kind in (b"stsd", b"stts", b"stsz", b"stsc", b"stco", b"mdhd"):
        error = refusal(data.replace(kind, b"free"))
        assert error.reason in (reasons.DAMAGED_AUDIO, reasons.UNSUPPORTED_AUDIO)
