"""Image files made in memory, one of every sort that is decoded, and the pieces to make unusual ones by hand."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tokenmill.images.image_file import Pixels


def photo(height: int = 48, width: int = 64, seed: int = 0) -> Pixels:
    """Return pixels that are smooth with some grain, as photographs are."""
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    waves = np.stack([np.sin(9 * rows + 3 * columns), np.cos(7 * columns), rows * columns], -1)
    grain = np.random.default_rng(seed).normal(0, 4, (height, width, 3))
    return (128 + 100 * waves + grain).clip(0, 255).astype(np.uint8)


def saved(image: Image.Image | npt.NDArray[Any], kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + kind + value + struct.pack(">I", zlib.crc32(kind + value))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG of unfiltered rows, each with its leading zero, and chunks before the pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    middle = b"".join(png_chunk(*chunk) for chunk in chunks)
    pixels = png_chunk(b"IDAT", zlib.compress(rows, 9))
    return b"\x89PNG\r\n\x1a\n" + header + middle + pixels + png_chunk(b"IEND", b"")


def with_chunk(file: bytes, kind: bytes, value: bytes) -> bytes:
    """Return a PNG with one more chunk behind its header."""
    return file[:33] + png_chunk(kind, value) + file[33:]


def with_segment(file: bytes, marker: int, value: bytes) -> bytes:
    """Return a JPEG with one more segment at its start."""
    return file[:2] + struct.pack(">BBH", 0xFF, marker, len(value) + 2) + value + file[2:]


def tiff(entries: dict[int, tuple[int, int, int]], payload: bytes = b"", *, next_at: int = 0) -> bytes:
    """Return a little-endian TIFF: by tag the type, the count and the value or its place; the payload is at 8."""
    at = 8 + len(payload) + len(payload) % 2
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(entries.items()))
    return struct.pack("<2sHI", b"II", 42, at) + payload.ljust(at - 8, b"\0") + directory + struct.pack("<I", next_at)


def gray_tiff(width: int, height: int, payload: bytes, **others: tuple[int, int, int]) -> bytes:
    """Return a TIFF of one 8-bit gray strip; others as `t273=(type, count, value)`."""
    entries = {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, 1, 8),
        259: (3, 1, 1),
        262: (3, 1, 1),
        273: (4, 1, 8),
        277: (3, 1, 1),
        278: (4, 1, height),
        279: (4, 1, len(payload)),
    }
    entries.update({int(name[1:]): entry for name, entry in others.items()})
    return tiff(entries, payload)


def every_sort() -> dict[str, bytes]:
    """Return one small file of every sort, by name."""
    colours = photo()
    picture = Image.fromarray(colours)
    gray = picture.convert("L")
    alpha = picture.copy()
    alpha.putalpha(gray)
    frames = [Image.fromarray(photo(seed=seed)) for seed in (1, 2)]
    wide = (np.arange(48 * 64, dtype=np.uint16) * 21).reshape(48, 64)
    exif = Image.Exif()
    exif[274] = 6
    many: dict[str, Any] = {"save_all": True, "append_images": frames}
    return {
        "jpeg": saved(picture, "JPEG", quality=85),
        "jpeg progressive": saved(picture, "JPEG", progressive=True),
        "jpeg gray": saved(gray, "JPEG"),
        "jpeg cmyk": saved(picture.convert("CMYK"), "JPEG"),
        "jpeg exif": saved(picture, "JPEG", exif=exif, comment=b"words"),
        "png": saved(picture, "PNG"),
        "png alpha": saved(alpha, "PNG", exif=exif),
        "png palette": saved(picture.quantize(17), "PNG", transparency=b"\x00\x80\xff"),
        "png 1 bit": saved(picture.convert("1"), "PNG"),
        "png 16 bits": saved(wide, "PNG"),
        "png animated": saved(picture, "PNG", **many),
        "webp": saved(picture, "WEBP", quality=70),
        "webp lossless": saved(alpha, "WEBP", lossless=True),
        "webp animated": saved(picture, "WEBP", exif=exif, **many),
        "gif": saved(picture, "GIF"),
        "gif animated": saved(picture, "GIF", comment=b"words", **many),
        "tiff": saved(picture, "TIFF", exif=exif),
        "tiff lzw": saved(picture, "TIFF", compression="tiff_lzw"),
        "tiff deflate": saved(alpha, "TIFF", compression="tiff_adobe_deflate"),
        "tiff jpeg": saved(picture, "TIFF", compression="jpeg"),
        "tiff fax": saved(picture.convert("1"), "TIFF", compression="group4"),
        "tiff pages": saved(wide, "TIFF", save_all=True, append_images=frames),
        "tiff big": saved(picture, "TIFF", big_tiff=True),
    }
