from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.images.samples import every_sort, gray_tiff, photo, png, png_chunk, saved, tiff, with_chunk, with_segment
from tests.images.test_decoding import decode, rejected
from tokenmill.errors import ItemError
from tokenmill.images import reasons
from tokenmill.images.containers import MOST_PARTS, MOST_SCANS, open_container
from tokenmill.images.image_file import DecodingOptions


def resident_mib(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(field)).split()[1]) // 1024


@contextmanager
def cheap(*, seconds: float = 1.0, mib: int = 16) -> Iterator[None]:
    """Hold what runs inside to an allowance of processor time and of memory, native memory included."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, start = resident_mib("VmRSS"), time.process_time()
    yield
    assert time.process_time() - start < seconds
    assert resident_mib("VmHWM") - before < mib


def huge(name: str) -> bytes:
    """Return a small file whose header says 20,000 x 20,000 pixels (WebP: 16,383)."""
    if name == "png":
        return png(20_000, 20_000, 8, 2, b"\0" * 60_001)
    if name == "jpeg":
        data = saved(photo(), "JPEG")
        at = data.index(b"\xff\xc0") + 5
        return data[:at] + struct.pack(">HH", 20_000, 20_000) + data[at + 4 :]
    if name == "gif":
        data = saved(photo(), "GIF")
        return data[:6] + struct.pack("<HH", 20_000, 20_000) + data[10:]
    if name == "webp":
        data = saved(photo(), "WEBP")
        at = data.index(b"\x9d\x01\x2a") + 3
        return data[:at] + struct.pack("<HH", 16_383, 16_383) + data[at + 4 :]
    if name == "webp canvas":
        data = saved(photo(), "WEBP")
        extended = struct.pack("<4sII", b"VP8X", 10, 0x02) + (19_999).to_bytes(3, "little") * 2
        return data[:12] + extended + data[12:]
    return gray_tiff(20_000, 20_000, bytes(100))


@pytest.mark.parametrize("name", ["png", "jpeg", "gif", "webp", "webp canvas", "tiff"])
def test_too_many_pixels_are_refused_for_nothing(name: str) -> None:
    data = huge(name)
    assert len(data) < 100_000
    with cheap(seconds=0.2, mib=2):
        assert rejected(data) == reasons.TOO_MANY_PIXELS


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF"])
def test_the_limit_is_the_options(kind: str) -> None:
    data = saved(photo(20, 30), kind)
    assert decode(data, DecodingOptions(max_pixels=600)).shape == (20, 30, 3)
    assert rejected(data, DecodingOptions(max_pixels=599)) == reasons.TOO_MANY_PIXELS


def test_pillows_own_limits_do_not_show() -> None:
    generous = DecodingOptions(max_pixels=10**9)
    with pytest.raises(ItemError, match="truncated"):  # Pillow's own refusal would speak of a bomb
        decode(png(15_000, 15_000, 1, 0, b"\0"), generous)
    assert rejected(huge("gif"), generous) == reasons.TOO_MANY_PIXELS
    assert rejected(huge("tiff"), generous) == reasons.TOO_MANY_PIXELS


def test_png_text_and_profiles_are_never_expanded() -> None:
    bomb = zlib.compress(bytes(50_000_000), 9)
    plain = saved(photo(), "PNG")
    data = with_chunk(plain, b"zTXt", b"a\0\0" + bomb)
    data = with_chunk(data, b"iTXt", b"a\0\1\0\0\0" + bomb)
    data = with_chunk(data, b"iCCP", b"a\0\0" + bomb)
    with cheap():
        np.testing.assert_array_equal(decode(data), photo())


def test_pixels_of_a_png_that_expand_beyond_the_image_are_left() -> None:
    data = png(2, 2, 8, 0, b"\0\1\2\0\3\4" + bytes(50_000_000))
    with cheap():
        assert decode(data)[..., 0].tolist() == [[1, 2], [3, 4]]


def test_a_large_profile_in_a_jpeg_is_left() -> None:
    plain = saved(photo(), "JPEG")
    data = plain
    for number in range(255):
        data = with_segment(data, 0xE2, b"ICC_PROFILE\0" + bytes([number + 1, 255]) + bytes(60_000))
    assert open_container(data).data == open_container(plain).data
    np.testing.assert_array_equal(decode(data), decode(plain))


def crowded(name: str) -> bytes:
    """Return a file of more parts than are gone through before its pixels."""
    many = MOST_PARTS + 1
    data = saved(photo(), name.split()[0])
    return {
        "JPEG": lambda: data[:2] + b"\xff\xe5\0\2" * many + data[2:],
        "PNG": lambda: data[:33] + png_chunk(b"prVt", b"") * many + data[33:],
        "WEBP": lambda: data[:12] + b"abcd\0\0\0\0" * many + data[12:],
        "GIF": lambda: data[:781] + b"\x21\xfe\1a\0" * many + data[781:],
        "GIF comment": lambda: data[:781] + b"\x21\xfe" + b"\1a" * many + b"\0" + data[781:],
    }[name]()


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "GIF comment"])
def test_segments_chunks_and_blocks_are_limited(name: str) -> None:
    data = crowded(name)
    with cheap():
        assert rejected(data) == reasons.IMAGE_BOMB


def test_filling_between_segments_costs_little() -> None:
    data = b"\xff\xd8" + b"\xff" * 20_000_000
    with cheap():
        assert rejected(data) == reasons.DAMAGED_IMAGE


def test_scans_of_a_jpeg_are_limited() -> None:
    data = saved(photo(), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert rejected(data[:-2] + scan * MOST_SCANS + data[-2:]) == reasons.IMAGE_BOMB


def test_what_lies_behind_a_jpeg_is_left() -> None:
    film = np.random.default_rng(0).bytes(20_000_000)
    for options in ({}, {"progressive": True}, {"restart_marker_rows": 1}):
        plain = saved(photo(), "JPEG", **options)
        assert film.count(b"\xff\xda") > MOST_SCANS
        assert open_container(plain + film).data == open_container(plain).data
        np.testing.assert_array_equal(decode(plain + film), decode(plain))


def test_tags_that_point_to_the_same_bytes_are_limited() -> None:
    payload = bytes(100_000)
    fat = {f"t{tag}": (1, 90_000, 8) for tag in range(40_000, 42_000)}
    with cheap():  # tags that pixels do not need may ask for what they like
        assert decode(gray_tiff(10, 10, payload, **fat)).shape == (10, 10, 3)
    needed = {f"t{tag}": (1, 60_000, 8) for tag in (320, 347)}
    assert rejected(gray_tiff(10, 10, payload, **needed)) == reasons.IMAGE_BOMB


def test_strips_and_tiles_are_counted() -> None:
    payload = bytes(500_000)
    strips = {"t273": (4, 120_000, 8), "t279": (4, 120_000, 8)}
    assert rejected(gray_tiff(10, 10, payload, **strips)) == reasons.IMAGE_BOMB
    assert rejected(gray_tiff(10, 10, payload, t278=(4, 1, 3))) == reasons.DAMAGED_IMAGE
    per_row = {"t273": (4, 120_000, 8), "t279": (4, 120_000, 8), "t278": (4, 1, 1)}
    assert rejected(gray_tiff(1, 120_000, bytes(1_000_000), **per_row)) == reasons.IMAGE_BOMB


def test_tiles_count_with_what_reaches_over_the_image() -> None:
    entries = {256: (4, 1, 1), 257: (4, 1, 1), 258: (3, 1, 8), 259: (3, 1, 8), 262: (3, 1, 1), 277: (3, 1, 1)}
    entries |= {322: (4, 1, 60_000), 323: (4, 1, 60_000), 324: (4, 1, 8), 325: (4, 1, 100)}
    with cheap():
        assert rejected(tiff(entries, zlib.compress(bytes(100)))) == reasons.TOO_MANY_PIXELS


def test_directories_that_lie_nowhere_or_loop() -> None:
    data = gray_tiff(2, 2, bytes(4))
    assert rejected(data[:4] + struct.pack("<I", 10**9) + data[8:]) == reasons.DAMAGED_IMAGE
    assert rejected(data[:4] + struct.pack("<I", len(data) - 1) + data[8:]) == reasons.DAMAGED_IMAGE
    at = struct.unpack_from("<I", data, 4)[0]
    assert decode(data[:-4] + struct.pack("<I", at)).shape == (2, 2, 3)  # the next directory is this one


def test_sizes_of_zero_are_damaged() -> None:
    assert rejected(png(0, 5, 8, 0, b"\0")) == reasons.DAMAGED_IMAGE
    assert rejected(gray_tiff(0, 5, b"\0")) == reasons.DAMAGED_IMAGE
    jpeg = saved(photo(), "JPEG")
    at = jpeg.index(b"\xff\xc0") + 5
    assert rejected(jpeg[:at] + b"\0\0" + jpeg[at + 2 :]) == reasons.DAMAGED_IMAGE


def test_wrong_checksums_are_damaged() -> None:
    data = saved(photo(), "PNG")
    at = data.index(b"IDAT") + 20
    assert rejected(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]) == reasons.DAMAGED_IMAGE


def test_containers_tell_sizes_and_orientation_of_every_sort() -> None:
    for name, data in every_sort().items():
        container = open_container(data)
        assert (container.width, container.height) == (64, 48), name
        assert container.orientation == (6 if "exif" in name or name in ("png alpha", "webp animated", "tiff") else 1)
        assert name.startswith(container.kind.lower())
        again = open_container(container.data)
        assert (again.width, again.height, again.orientation) == (64, 48, 1)
        assert b"words" not in container.data or name in ("gif animated",)
