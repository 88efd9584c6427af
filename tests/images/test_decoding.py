from __future__ import annotations

import io
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageCms, TiffImagePlugin

from tests.images.samples import every_sort, gray_tiff, photo, png, saved, tiff, with_segment
from tokenmill.errors import ItemError
from tokenmill.images import reasons
from tokenmill.images.decoding import decode_image
from tokenmill.images.image_file import DecodingOptions, ImageFile, Pixels

OPTIONS = DecodingOptions()
BLUE = DecodingOptions(background=(10, 20, 200))

#: What turns upright pixels into those stored under an orientation, from the EXIF specification: where row 0 and
#: column 0 of the stored pixels are in the picture.
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: upright.swapaxes(0, 1)[::-1],
    7: lambda upright: upright.swapaxes(0, 1)[::-1, ::-1],
    8: lambda upright: upright.swapaxes(0, 1)[:, ::-1],
}


def decode(data: bytes, options: DecodingOptions = OPTIONS) -> Pixels:
    return decode_image(data, options)


def rejected(data: bytes, options: DecodingOptions = OPTIONS) -> str:
    with pytest.raises(ItemError) as caught:
        decode_image(data, options)
    assert caught.value.reason in reasons.REASONS
    return caught.value.reason


def decode_or_reason(data: bytes) -> Pixels | str:
    try:
        return decode(data)
    except ItemError as error:
        return error.reason


def over(colour: tuple[int, int, int], alpha: int, background: tuple[int, int, int]) -> list[int]:
    return [round((c * alpha + b * (255 - alpha)) / 255) for c, b in zip(colour, background, strict=True)]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate", "tiffinfo": {317: 2}}),
        ("TIFF", {"compression": "packbits"}),
        ("TIFF", {"big_tiff": True}),
    ],
)
def test_lossless_files_come_back_bit_for_bit(kind: str, options: dict[str, object]) -> None:
    pixels = decode(saved(photo(), kind, **options))
    np.testing.assert_array_equal(pixels, photo())
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable  # frameworks that share memory with arrays want that


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {}), ("WEBP", {}), ("TIFF", {"compression": "jpeg"})])
def test_lossy_files_come_back_closely(kind: str, options: dict[str, object]) -> None:
    pixels = decode(saved(photo(), kind, quality=95, **options))
    assert np.abs(pixels.astype(int) - photo()).mean() < 4


def test_every_sort_of_sample_decodes_to_its_size() -> None:
    for name, data in every_sort().items():
        turned = "exif" in name or name in ("png alpha", "webp animated", "tiff")
        assert decode(data).shape == ((64, 48, 3) if turned else (48, 64, 3)), name


@given(
    st.sampled_from([("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("TIFF", {"compression": "tiff_lzw"})]),
    arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3))),
)
def test_any_pixels_round_trip(form: tuple[str, dict[str, object]], pixels: Pixels) -> None:
    np.testing.assert_array_equal(decode(saved(pixels, form[0], **form[1])), pixels)


@given(st.integers(1, 8), st.sampled_from(["PNG", "TIFF", "WEBP"]), st.integers(1, 9), st.integers(1, 9))
def test_all_orientations_come_out_upright(orientation: int, kind: str, height: int, width: int) -> None:
    upright = photo(height, width)
    exif = Image.Exif()
    exif[274] = orientation
    lossless = {"lossless": True} if kind == "WEBP" else {}
    data = saved(np.ascontiguousarray(STORED[orientation](upright)), kind, exif=exif, **lossless)
    np.testing.assert_array_equal(decode(data), upright)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_jpegs(orientation: int) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = (250, 0, 0)  # red is at the top left
    exif = Image.Exif()
    exif[274] = orientation
    pixels = decode(saved(np.ascontiguousarray(STORED[orientation](upright)), "JPEG", exif=exif, subsampling=0))
    assert pixels.shape == (16, 32, 3)
    assert np.abs(pixels.astype(int) - upright).max() < 6


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II*\0",
        b"MM\0*\0\0\0\x08\xff\xff",
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0",  # orientation 9
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x01\0\0\0\x06\0\0\0",  # as text
        b"II*\0\xff\xff\xff\xff",
        b"\xff" * 1000,
    ],
)
def test_broken_exif_is_passed_over_silently(exif: bytes) -> None:
    plain = saved(photo(), "JPEG")
    np.testing.assert_array_equal(decode(with_segment(plain, 0xE1, b"Exif\0\0" + exif)), decode(plain))


def test_palette() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    for kind in ("PNG", "GIF", "TIFF"):
        assert decode(saved(image, kind)).tolist() == [[[255, 0, 0], [0, 0, 255]]]


def test_palette_with_one_transparent_colour() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    for kind in ("PNG", "GIF"):
        assert decode(saved(image, kind, transparency=1), BLUE).tolist() == [[[255, 0, 0], [10, 20, 200]]]


def test_palette_with_alphas() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    image.putpixel((2, 0), 2)
    data = saved(image, "PNG", transparency=bytes([0, 100, 255]))
    assert decode(data, BLUE).tolist() == [[[10, 20, 200], over((0, 255, 0), 100, (10, 20, 200)), [0, 0, 255]]]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@given(alpha=st.integers(0, 255))
def test_alpha_is_laid_over_the_background(kind: str, alpha: int) -> None:
    lossless = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    data = saved(Image.new("RGBA", (1, 1), (200, 100, 0, alpha)), kind, **lossless)
    assert decode(data, BLUE)[0, 0].tolist() == over((200, 100, 0), alpha, (10, 20, 200))
    assert decode(data)[0, 0].tolist() == over((200, 100, 0), alpha, (255, 255, 255))


def test_gray_with_alpha() -> None:
    for kind in ("PNG", "TIFF"):
        data = saved(Image.new("LA", (1, 1), (80, 51)), kind)
        assert decode(data, BLUE)[0, 0].tolist() == over((80, 80, 80), 51, (10, 20, 200))


def test_gray_and_one_bit() -> None:
    ramp = np.arange(256, dtype=np.uint8)[None]
    for kind in ("PNG", "TIFF", "GIF"):
        np.testing.assert_array_equal(decode(saved(ramp, kind))[0], ramp[0, :, None].repeat(3, 1))
    bits = Image.new("1", (2, 1))
    bits.putpixel((1, 0), 1)
    for kind in ("PNG", "TIFF"):
        assert decode(saved(bits, kind)).tolist() == [[[0, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize(("depth", "row"), [(1, 0b01000000), (2, 0b00011011), (4, 0x05)])
def test_a_transparent_gray_of_few_bits(depth: int, row: int) -> None:
    second = (row >> (8 - 2 * depth)) & (2**depth - 1)
    data = png(2, 1, depth, 0, bytes([0, row]), (b"tRNS", struct.pack(">H", second)))
    assert decode(data, BLUE).tolist() == [[[0, 0, 0], [10, 20, 200]]]


def test_a_transparent_colour() -> None:
    data = png(2, 1, 8, 2, b"\0" + bytes([1, 2, 3, 4, 5, 6]), (b"tRNS", struct.pack(">HHH", 4, 5, 6)))
    assert decode(data, BLUE).tolist() == [[[1, 2, 3], [10, 20, 200]]]


SIXTEEN = np.linspace(0, 65535, 1000).round().astype(np.uint16)[None]
EIGHT = ((SIXTEEN.astype(int) * 2 + 257) // 514).astype(np.uint8)  # to the nearest of n / 257


def test_gray_of_16_bits_is_scaled() -> None:
    big = Image.frombytes("I;16B", (1000, 1), SIXTEEN.astype(">u2").tobytes())
    for data in (saved(SIXTEEN, "PNG"), saved(SIXTEEN, "TIFF"), saved(big, "TIFF")):
        np.testing.assert_array_equal(decode(data)[0], EIGHT[0, :, None].repeat(3, 1))


def test_gray_of_16_bits_where_zero_is_white() -> None:
    payload = SIXTEEN.astype("<u2").tobytes()
    data = gray_tiff(1000, 1, payload, t258=(3, 1, 16), t262=(3, 1, 0))
    np.testing.assert_array_equal(decode(data)[0, :, 0], 255 - EIGHT[0])


def test_gray_of_12_bits_is_scaled() -> None:
    payload = bytes([0x00, 0x0F, 0xFF, 0x80, 0x00, 0x10])  # 0, 4095, 2048, 16 in 12 bits each
    data = gray_tiff(4, 1, payload, t258=(3, 1, 12))
    assert decode(data)[0, :, 0].tolist() == [0, 255, round(2048 / 4095 * 255), 1]


def test_a_transparent_gray_of_16_bits() -> None:
    data = png(2, 1, 16, 0, b"\0" + struct.pack(">HH", 770, 771), (b"tRNS", struct.pack(">H", 771)))
    assert decode(data, BLUE).tolist() == [[[3, 3, 3], [10, 20, 200]]]


def test_colour_of_16_bits_keeps_the_high_byte() -> None:
    values = (0x0000, 0x1234, 0xFFFF)
    plain = png(1, 1, 16, 2, b"\0" + struct.pack(">HHH", *values), (b"tRNS", struct.pack(">HHH", *values)))
    assert decode(plain).tolist() == [[[0x00, 0x12, 0xFF]]]  # and the transparent colour is not honoured
    alpha = png(1, 1, 16, 6, b"\0" + struct.pack(">HHHH", *values, 0x8080))
    assert decode(alpha, BLUE)[0, 0].tolist() == over((0x00, 0x12, 0xFF), 0x80, (10, 20, 200))
    gray = png(1, 1, 16, 4, b"\0" + struct.pack(">HH", 0x4040, 0x8080))
    assert decode(gray, BLUE)[0, 0].tolist() == over((0x40,) * 3, 0x80, (10, 20, 200))


def test_cmyk() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    dark = Image.new("CMYK", (16, 16), (100, 0, 0, 51))
    for kind in ("JPEG", "TIFF"):
        assert np.abs(decode(saved(red, kind))[8, 8].astype(int) - [255, 0, 0]).max() <= 2
        assert np.abs(decode(saved(dark, kind))[8, 8].astype(int) - [124, 204, 204]).max() <= 2


def test_ycck() -> None:
    # Stored are Y = 120, Cb = Cr = 128 and 255 - K, where transform 2 says that the inverse of the inks became YCbCr.
    stored = Image.new("CMYK", (16, 16), (255 - 120, 255 - 128, 255 - 128, 51))
    data = saved(stored, "JPEG")
    at = data.index(b"Adobe") + 11
    pixels = decode(data[:at] + b"\x02" + data[at + 1 :])
    expected = round((255 - 120) * (255 - 51) / 255)
    assert np.abs(pixels[8, 8].astype(int) - expected).max() <= 2


def test_ycbcr_in_tiff() -> None:
    image = Image.fromarray(photo()).convert("YCbCr")
    pixels = decode(saved(image, "TIFF", compression="tiff_lzw"))
    assert np.abs(pixels.astype(int) - photo()).max() <= 4
    assert rejected(saved(image, "TIFF")) == reasons.UNSUPPORTED_IMAGE


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_pixels_without_a_stated_range_are_unsupported(mode: str) -> None:
    assert rejected(saved(Image.new(mode, (3, 2)), "TIFF")) == reasons.UNSUPPORTED_IMAGE


@pytest.mark.parametrize("compression", ["lzma", "zstd", "webp"])
def test_rare_compressions_of_tiff_are_unsupported(compression: str) -> None:
    entry = {"lzma": 34925, "zstd": 50000, "webp": 50001}[compression]
    assert rejected(gray_tiff(2, 2, bytes(4), t259=(3, 1, entry))) == reasons.UNSUPPORTED_IMAGE


def test_unknown_organisation_of_tiff_is_unsupported() -> None:
    assert rejected(gray_tiff(2, 2, bytes(4), t258=(3, 1, 5))) == reasons.UNSUPPORTED_IMAGE
    assert rejected(gray_tiff(2, 2, bytes(40), t277=(3, 1, 7))) == reasons.UNSUPPORTED_IMAGE


def test_jpeg_of_12_bits_and_lossless_jpeg_are_unsupported() -> None:
    data = saved(photo(), "JPEG")
    frame = data.index(b"\xff\xc0")
    assert rejected(data[: frame + 4] + b"\x0c" + data[frame + 5 :]) == reasons.UNSUPPORTED_IMAGE
    assert rejected(data[: frame + 1] + b"\xc3" + data[frame + 2 :]) == reasons.UNSUPPORTED_IMAGE


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_the_first_frame_is_taken(kind: str, options: dict[str, object]) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    first, *others = (Image.new("RGB", (20, 10), colour) for colour in colours)
    data = saved(first, kind, save_all=True, append_images=others, **options)
    with Image.open(io.BytesIO(data)) as image:
        assert getattr(image, "n_frames", 1) == 3
    np.testing.assert_array_equal(decode(data), np.full((10, 20, 3), (255, 0, 0)))


def test_a_gif_frame_smaller_than_its_canvas_lies_on_the_background() -> None:
    data = saved(Image.new("RGB", (4, 3), (255, 0, 0)), "GIF")
    frame = data.index(b",", 13)
    moved = data[:6] + struct.pack("<HH", 8, 7) + data[10 : frame + 1] + struct.pack("<HH", 2, 1) + data[frame + 5 :]
    expected = np.full((7, 8, 3), (10, 20, 200))
    expected[1:4, 2:6] = (255, 0, 0)
    np.testing.assert_array_equal(decode(moved, BLUE), expected)


def test_a_gif_frame_larger_than_its_canvas_widens_it() -> None:
    data = saved(photo(), "GIF")
    small = data[:6] + struct.pack("<HH", 1, 1) + data[10:]
    np.testing.assert_array_equal(decode(small), decode(data))


def test_content_rules_and_empty_files_and_strangers_have_reasons() -> None:
    assert rejected(b"") == reasons.EMPTY_FILE
    assert rejected(b"\0") == reasons.NOT_AN_IMAGE
    assert rejected(b"hello, world") == reasons.NOT_AN_IMAGE
    assert rejected(saved(photo(), "BMP")) == reasons.NOT_AN_IMAGE


@pytest.mark.parametrize("name", list(every_sort()))
def test_a_file_that_breaks_off_is_damaged(name: str) -> None:
    data = every_sort()[name]
    whole = decode(data)
    for percent in range(0, 100, 4):
        cut = data[: max(len(data) * percent // 100, 12)]
        pixels = decode_or_reason(cut)
        if isinstance(pixels, str):
            assert pixels in (reasons.DAMAGED_IMAGE, reasons.NOT_AN_IMAGE)
            continue
        assert name.endswith(("animated", "pages")) or percent > 90  # what is missing is not of the first image
        if "webp" not in name:  # whose orientation is at the end
            np.testing.assert_array_equal(pixels, whole)


def test_a_truncated_jpeg_is_damaged_wherever_it_is_cut() -> None:
    for options in ({}, {"progressive": True}):
        data = saved(photo(), "JPEG", **options)
        for length in range(4, len(data) - 2, 7):
            assert rejected(data[:length]) == reasons.DAMAGED_IMAGE


def test_every_changed_bit_of_a_png_is_noticed_or_without_effect() -> None:
    data = saved(photo(12, 9), "PNG")
    for bit in range(0, len(data) * 8, 5):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        pixels = decode_or_reason(bytes(changed))
        if isinstance(pixels, str):
            assert pixels in reasons.REASONS
        else:
            np.testing.assert_array_equal(pixels, photo(12, 9))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_colour_profiles_are_not_applied(kind: str) -> None:
    profile = bytes(ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes())
    np.testing.assert_array_equal(decode(saved(photo(), kind, icc_profile=profile)), decode(saved(photo(), kind)))


def test_extreme_shapes() -> None:
    for height, width in ((1, 1), (1, 10_000), (10_000, 1)):
        pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
        for kind in ("PNG", "TIFF", "GIF", "JPEG", "WEBP"):
            result = decode(saved(pixels, kind))
            assert result.shape == (height, width, 3)
            if kind in ("PNG", "TIFF"):
                np.testing.assert_array_equal(result, pixels)


def test_associated_alpha_in_tiff_is_taken_apart() -> None:
    payload = bytes([50, 25, 0, 128])
    entries = {256: (4, 1, 1), 257: (4, 1, 1), 258: (3, 4, 12), 259: (3, 1, 1), 262: (3, 1, 2), 273: (4, 1, 8)}
    entries |= {277: (3, 1, 4), 279: (4, 1, 4), 338: (3, 1, 1)}
    data = tiff(entries, payload + struct.pack("<HHHH", 8, 8, 8, 8))
    plain = over((round(50 * 255 / 128), round(25 * 255 / 128), 0), 128, (10, 20, 200))
    assert np.abs(decode(data, BLUE)[0, 0].astype(int) - plain).max() <= 1


def test_tiles_and_planes_of_tiff() -> None:
    tile = photo(16, 16)[..., 0]
    entries = {256: (4, 1, 10), 257: (4, 1, 12), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}
    entries |= {322: (3, 1, 16), 323: (3, 1, 16), 324: (4, 1, 8), 325: (4, 1, 256)}
    np.testing.assert_array_equal(decode(tiff(entries, tile.tobytes()))[..., 1], tile[:12, :10])
    planes = np.ascontiguousarray(photo(4, 6).transpose(2, 0, 1)).tobytes()
    tail = struct.pack("<HHH", 8, 8, 8) + struct.pack("<III", 8, 32, 56) + struct.pack("<III", 24, 24, 24)
    entries = {256: (4, 1, 6), 257: (4, 1, 4), 258: (3, 3, 80), 259: (3, 1, 1), 262: (3, 1, 2), 273: (4, 3, 86)}
    entries |= {277: (3, 1, 3), 278: (4, 1, 4), 279: (4, 3, 98), 284: (3, 1, 2)}
    np.testing.assert_array_equal(decode(tiff(entries, planes + tail)), photo(4, 6))


def test_tags_that_pixels_do_not_need_are_not_read() -> None:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[270] = "words " * 1000
    info[700] = b"<x>" * 1000
    np.testing.assert_array_equal(decode(saved(photo(), "TIFF", tiffinfo=info)), photo())


@given(st.binary(max_size=300))
def test_any_bytes_behind_a_known_beginning_raise_item_errors_only(tail: bytes) -> None:
    for head in (
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\0\0\0\0WEBPVP8 ",
        b"GIF89a",
        b"II*\0\x08\0\0\0",
        b"MM\0+",
    ):
        rejected(head + tail, DecodingOptions(max_pixels=1_000_000))


def test_threads_decode_alike() -> None:
    samples = list(every_sort().values())
    alone = [decode(data) for data in samples]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for expected, pixels in zip(alone, pool.map(decode, samples), strict=True):
                np.testing.assert_array_equal(pixels, expected)


def test_the_payload_decodes_itself() -> None:
    np.testing.assert_array_equal(ImageFile(saved(photo(), "PNG")).pixels(), photo())
