from __future__ import annotations

import io
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from tests.audio.samples import decoded, encoded, tones, written
from tokenmill.audio import reasons
from tokenmill.audio.byte_reader import ByteReader
from tokenmill.audio.ogg_pages import checksum, last_position, read_page
from tokenmill.errors import ItemError

RATE_HZ = 48_000
SECONDS = 8
KINDS = ("vorbis", "opus", "flac")


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    sound = tones(SECONDS * RATE_HZ)
    return {
        "vorbis": written(sound, RATE_HZ, "OGG", "VORBIS"),
        "opus": encoded(sound, RATE_HZ, "libopus", "ogg"),
        "flac": encoded(sound, RATE_HZ, "flac", "ogg"),
    }


def pages(data: bytes) -> list[bytes]:
    reader = ByteReader(io.BytesIO(data), len(data))

    def cut() -> Iterator[bytes]:
        start = 0
        while read_page(reader) is not None:
            yield data[start : reader.position]
            start = reader.position

    return list(cut())


def changed(page: bytes, at: int, value: bytes) -> bytes:
    """Return a page with other bytes, and a right checksum."""
    page = page[:at] + value + page[at + len(value) :]
    page = page[:22] + bytes(4) + page[26:]
    return page[:22] + struct.pack("<I", checksum(page)) + page[26:]


def renamed(data: bytes, serial: int) -> bytes:
    return b"".join(changed(page, 14, struct.pack("<I", serial)) for page in pages(data))


def refusal(data: bytes) -> ItemError:
    with pytest.raises(ItemError) as caught:
        decoded(data)
    return caught.value


def test_checksum_of_a_page_that_another_program_wrote(files: dict[str, bytes]) -> None:
    for data in files.values():
        assert b"".join(pages(data)) == data


@pytest.mark.parametrize("kind", KINDS)
def test_one_bit_anywhere_is_found(files: dict[str, bytes], kind: str) -> None:
    data = bytearray(files[kind])
    data[len(data) // 2] ^= 1
    error = refusal(bytes(data))
    assert error.reason == reasons.DAMAGED_AUDIO
    assert "the checksum of page" in error.what
    assert f" s of {SECONDS:.3f} s: " in error.what
    assert 1 < float(error.what.split()[4]) < 6
    assert error.lost_seconds == SECONDS


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_that_is_missing(files: dict[str, bytes], kind: str) -> None:
    cut = pages(files[kind])
    assert (
        f"page {len(cut) // 2 + 1} where {len(cut) // 2} should follow"
        in refusal(b"".join(cut[: len(cut) // 2] + cut[len(cut) // 2 + 1 :])).what
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_without_its_last_page(files: dict[str, bytes], kind: str) -> None:
    error = refusal(b"".join(pages(files[kind])[:-1]))
    assert error.what.endswith("the file ends before the stream's last page")
    assert " s of " not in error.what  # its length would have stood there
    assert 3 < error.lost_seconds < SECONDS


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_page_behind_the_last_one_does_not_count(files: dict[str, bytes], kind: str) -> None:
    np.testing.assert_array_equal(decoded(files[kind] + b"garbage" * 999)[1], decoded(files[kind])[1])


@pytest.mark.parametrize("kind", KINDS)
def test_files_chained_are_one_sound(files: dict[str, bytes], kind: str) -> None:
    info, found = decoded(files[kind] + renamed(files[kind], 77))
    assert info.samples is None
    one = decoded(files[kind])[1]
    np.testing.assert_array_equal(found, np.concatenate([one, one]))


def test_files_of_other_sorts_chained_are_refused(files: dict[str, bytes]) -> None:
    other = written(tones(4000, 2), RATE_HZ, "OGG", "VORBIS")
    error = refusal(files["vorbis"] + other)
    assert error.reason == reasons.UNSUPPORTED_AUDIO
    assert error.what == "a chain of vorbis of 48000 Hz and 1 channels and vorbis of 48000 Hz and 2 channels"
    assert error.lost_seconds == pytest.approx(SECONDS)


def test_other_streams_beside_it_are_passed_over(files: dict[str, bytes]) -> None:
    video = changed(pages(files["opus"])[0], 14, struct.pack("<I", 5)).replace(b"OpusHead", b"\x80theora ")
    video = changed(video, 0, b"OggS")
    more = changed(changed(video, 5, b"\0"), 18, struct.pack("<I", 1))
    own = pages(files["opus"])
    data = b"".join([video, own[0], more, *own[1:3], more, *own[3:]])
    np.testing.assert_array_equal(decoded(data)[1], decoded(files["opus"])[1])


@pytest.mark.parametrize("kind", ["vorbis", "opus"])
def test_streams_cut_out_of_others_begin_where_they_begin(files: dict[str, bytes], kind: str) -> None:
    """Radio stations send headers, and then what they are just sending: positions do not begin at 0."""
    own = pages(files[kind])
    headers = 1 + sum(struct.unpack_from("<q", page, 6)[0] == 0 for page in own[1:])
    kept = own[:headers] + own[headers + 2 :]
    data = b"".join(changed(page, 18, struct.pack("<I", number)) for number, page in enumerate(kept))
    before = struct.unpack_from("<q", own[headers + 1], 6)[0]
    info, found = decoded(data)
    assert info.samples == len(found)
    assert SECONDS * RATE_HZ - before - 4096 < len(found) <= SECONDS * RATE_HZ - before + 4096
    np.testing.assert_allclose(found[-20_000:], decoded(files[kind])[1][-20_000:], atol=1e-3)


def test_comments_of_any_size_are_passed_over(files: dict[str, bytes]) -> None:
    own = pages(files["opus"])
    body = b"OpusTags" + bytes(3 << 20)
    lacing = [255] * (len(body) // 255) + [len(body) % 255]
    new = []
    for start in range(0, len(lacing), 255):
        some = lacing[start : start + 255]
        head = struct.pack("<4sBBqIIIB", b"OggS", 0, 1 if start else 0, 0, 0, 0, 0, len(some))
        at = start * 255
        new.append(head + bytes(some) + body[at : at + sum(some)])
    serial = own[0][14:18]
    numbered = [changed(page, 14, serial) for page in (own[0], *new, *own[2:])]
    data = b"".join(changed(page, 18, struct.pack("<I", number)) for number, page in enumerate(numbered))
    np.testing.assert_array_equal(decoded(data)[1], decoded(files["opus"])[1])


def test_a_file_that_begins_in_the_middle_of_a_stream(files: dict[str, bytes]) -> None:
    assert refusal(b"".join(pages(files["opus"])[2:])).what.endswith("the first page is not the first of a stream")
    assert refusal(pages(files["opus"])[0]).what.endswith("the file ends behind its first pages")


def test_where_a_stream_ends_is_told_by_the_last_page_alone(files: dict[str, bytes]) -> None:
    data = files["vorbis"]
    serial = struct.unpack_from("<I", data, 14)[0]
    reader = ByteReader(io.BytesIO(data), len(data))
    reader.seek(11)
    assert last_position(reader, serial) == SECONDS * RATE_HZ
    assert last_position(reader, serial + 1) is None
    assert reader.position == 11
    short = data[:-100_000] if len(data) > 200_000 else data[: len(data) // 2]
    assert last_position(ByteReader(io.BytesIO(short), len(short)), serial) is None
