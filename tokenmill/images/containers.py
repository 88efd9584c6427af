"""What surrounds an image's pixels in a JPEG, PNG, WebP or GIF file, read without decoding anything.

A decoder never sees a file as it came: it gets a file made again from those parts that its pixels need. So size, limits
and orientation are known first, at the cost of a walk over headers, and what else a file may hold (text, thumbnails,
profiles, further frames, private data, whatever they expand to) costs a few bytes of skipping. Pixels are not decoded
here; TIFF, whose parts lie anywhere in the file, has a room of its own.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import Literal

from tokenmill.errors import ItemError
from tokenmill.images import reasons
from tokenmill.images.tiff_directory import orientation_of, rebuilt_tiff

Kind = Literal["JPEG", "PNG", "WEBP", "GIF", "TIFF"]

#: Segments, chunks or blocks of a file at most; a photograph's file has tens, a large PNG some thousands.
MOST_PARTS = 100_000
#: Scans of a JPEG at most: each may touch every pixel at the cost of a few bytes. Encoders write about ten.
MOST_SCANS = 100

#: Where a JPEG's next marker begins: a byte FF that neither fills up nor stands for itself.
_MARKER = re.compile(rb"\xff[^\x00\xff]")
#: The same within a scan, where restart markers count as pixels.
_SCAN_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
#: Start of frame: baseline, extended and progressive, by Huffman or arithmetic coding.
_FRAMES = frozenset((0xC0, 0xC1, 0xC2, 0xC9, 0xCA))
#: The others: lossless and hierarchical.
_OTHER_FRAMES = frozenset((0xC3, 0xC5, 0xC6, 0xC7, 0xC8, 0xCB, 0xCD, 0xCE, 0xCF, 0xDE))
#: Tables, restart interval, and the two segments that tell the colour space: JFIF (E0) and Adobe (EE).
_JPEG_KEPT = frozenset((0xC4, 0xCC, 0xDB, 0xDD, 0xE0, 0xEE)) | _FRAMES
_STANDALONE = frozenset((0x01, *range(0xD0, 0xD9)))

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT"))


@dataclass(frozen=True, slots=True)
class Container:
    """An image file as a decoder will see it.

    Attributes:
        kind: Its format.
        data: The file, made again from the parts that the first image's pixels need.
        width: Columns, as stored.
        height: Rows, as stored.
        orientation: EXIF orientation, 1 to 8; 1 where none is stated.
        cost_pixels: Pixels that decoding goes through, which is what the limit is for.
        covered: Left, top, right and bottom of what the first image covers of a GIF's canvas; None: all of it.
        largest: Largest value of a sample of more than 8 bits.
        inverted: True where a sample of more than 8 bits is 0 for white.
    """

    kind: Kind
    data: bytes
    width: int
    height: int
    orientation: int
    cost_pixels: int
    covered: tuple[int, int, int, int] | None = None
    largest: int = 65535
    inverted: bool = False


def open_container(data: bytes) -> Container:
    """Tell what file this is and make it ready for a decoder.

    Raises:
        ItemError: With one of `tokenmill.images.reasons`; the number of pixels is left for the caller to judge.
    """
    if not data:
        raise ItemError(reasons.EMPTY_FILE, "the file has no bytes")
    try:
        container = _opened(data)
    except (struct.error, IndexError) as error:
        raise _damaged("the file breaks off inside its header") from error
    if container.width < 1 or container.height < 1:
        raise _damaged(f"the header says {container.width}x{container.height} pixels")
    return container


def _opened(data: bytes) -> Container:
    if data[:3] == b"\xff\xd8\xff":
        return _jpeg(data)
    if data[:8] == _PNG_MAGIC:
        return _png(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return _gif(data)
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        tiff = rebuilt_tiff(data)
        return Container(
            "TIFF",
            tiff.data,
            tiff.width,
            tiff.height,
            tiff.orientation,
            tiff.cost_pixels,
            largest=tiff.largest,
            inverted=tiff.inverted,
        )
    raise ItemError(
        reasons.NOT_AN_IMAGE, f"the file begins with {data[:8].hex(' ')}, as no JPEG, PNG, WebP, GIF or TIFF does"
    )


def _jpeg(data: bytes) -> Container:
    view = memoryview(data)
    kept: list[bytes | memoryview] = [b"\xff\xd8"]
    at, orientation, size = 2, None, None
    for _ in range(MOST_PARTS):
        found = _MARKER.search(data, at)
        if found is None:
            raise _damaged("the JPEG breaks off before its first scan")
        start, at = found.span()
        marker = data[at - 1]
        if marker in _STANDALONE:
            continue
        if marker == 0xD9:
            raise _damaged("the JPEG ends before its first scan")
        if marker == 0xDA:
            break
        end = at + struct.unpack_from(">H", data, at)[0]
        if end > len(data) or end < at + 2:
            raise _damaged(f"the JPEG breaks off in segment {marker:02x} at byte {start}")
        if marker in _OTHER_FRAMES:
            raise ItemError(reasons.UNSUPPORTED_IMAGE, f"a JPEG of process {marker:02x}: lossless or hierarchical")
        if marker in _FRAMES:
            if size is not None:
                raise _damaged("the JPEG has two frame headers before its first scan")
            bits, height, width, components = struct.unpack_from(">BHHB", data, at + 2)
            if bits != 8 or components not in (1, 3, 4):
                raise ItemError(reasons.UNSUPPORTED_IMAGE, f"a JPEG of {components} components of {bits} bits")
            size = (width, height)
        if marker in _JPEG_KEPT:
            kept.append(view[start:end])
        elif marker == 0xE1 and orientation is None and data[at + 2 : at + 8] == b"Exif\0\0":
            orientation = orientation_of(data[at + 8 : end])
        at = end
    else:
        raise _bomb(f"the JPEG has more than {MOST_PARTS} segments before its first scan")
    if size is None:
        raise _damaged("the JPEG has no frame header")
    kept.append(view[start : _end_of_scans(data, start)])
    return Container("JPEG", b"".join(kept), *size, orientation or 1, size[0] * size[1])


def _end_of_scans(data: bytes, at: int) -> int:
    """Return where a JPEG ends whose first scan begins at `at`: cameras put films and further images behind it."""
    scans = 0
    for _ in range(MOST_PARTS):
        found = _SCAN_MARKER.search(data, at)
        if found is None:
            return len(data)
        at, marker = found.end(), data[found.end() - 1]
        if marker == 0xD9:
            return at
        if marker not in _STANDALONE:
            at += int.from_bytes(data[at : at + 2], "big")
        scans += marker == 0xDA
        if scans > MOST_SCANS:
            break
    raise _bomb(f"the JPEG has more than {MOST_SCANS} scans, or segments by the thousand between them")


def _png(data: bytes) -> Container:
    view = memoryview(data)
    kept: list[bytes | memoryview] = [_PNG_MAGIC]
    at, orientation, palette, pixels = 8, 1, False, False
    width, height, depth, colour = _png_header(data)
    for _ in range(MOST_PARTS):
        if at == len(data):
            break  # without IEND: harmless where all pixels are there, and the decoder knows whether they are
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise _damaged(f"the PNG breaks off in chunk {kind!r} at byte {at}")
        if kind == b"IEND":
            break
        if kind in _PNG_KEPT and struct.unpack_from(">I", data, end - 4)[0] != zlib.crc32(view[at + 4 : end - 4]):
            raise _damaged(f"the checksum of the PNG's chunk {kind!r} at byte {at} is wrong")
        if kind == b"tRNS":
            kept.append(_transparency(data[at + 8 : end - 4], depth, colour))
        elif kind == b"PLTE":
            palette = palette or length >= 3
            kept.append(view[at:end])
        elif kind in _PNG_KEPT:
            pixels = pixels or kind == b"IDAT"
            kept.append(view[at:end])
        elif kind == b"eXIf":
            orientation = orientation_of(data[at + 8 : end - 4])
        at = end
    else:
        raise _bomb(f"the PNG has more than {MOST_PARTS} chunks")
    if not pixels or (colour == 3 and not palette):
        raise _damaged("the PNG has no pixels" if not pixels else "the PNG has no palette")
    kept.append(_png_chunk(b"IEND", b""))
    return Container("PNG", b"".join(kept), width, height, orientation, width * height)


def _png_header(data: bytes) -> tuple[int, int, int, int]:
    length, kind, width, height, depth, colour = struct.unpack_from(">I4sIIBB", data, 8)
    if kind != b"IHDR" or length != 13:
        raise _damaged("the PNG does not begin with a header")
    return width, height, depth, colour


def _transparency(value: bytes, depth: int, colour: int) -> bytes:
    """Return the chunk that tells which colour is transparent, in terms of the values that Pillow compares with."""
    if colour == 0 and depth in (2, 4) and len(value) >= 2:  # Pillow scales the pixels to 8 bits, but not this
        scaled = min(int.from_bytes(value[:2], "big") * 255 // (2**depth - 1), 65535)
        return _png_chunk(b"tRNS", scaled.to_bytes(2, "big"))
    if colour == 2 and depth == 16:  # of the pixels Pillow keeps the high byte, by which no colour can be told
        return b""
    return _png_chunk(b"tRNS", value)


def _png_chunk(kind: bytes, value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + kind + value + struct.pack(">I", zlib.crc32(kind + value))


def _webp(data: bytes) -> Container:
    view = memoryview(data)
    kept: list[bytes | memoryview] = []
    at, orientation, size, complete = 12, 1, None, False
    for _ in range(MOST_PARTS):
        if len(data) - at < 8:
            break
        kind, length = struct.unpack_from("<4sI", data, at)
        end = at + 8 + length + (length & 1)
        if kind == b"EXIF":
            orientation = orientation_of(data[at + 8 : end])
        elif not complete:
            if at + 8 + length > len(data):
                raise _damaged(f"the WebP breaks off in chunk {kind!r} at byte {at}")
            if kind == b"VP8X":
                # Of its flags, animation and alpha are kept: profile, EXIF and XMP are not there any more.
                kept.append(struct.pack("<4sIB", kind, length, data[at + 8] & 0x12))
                kept.append(view[at + 9 : end])
                size = size or (
                    1 + int.from_bytes(data[at + 12 : at + 15], "little"),
                    1 + int.from_bytes(data[at + 15 : at + 18], "little"),
                )
            elif kind in (b"ANIM", b"ALPH", b"VP8 ", b"VP8L", b"ANMF"):
                kept.append(view[at:end])
                complete = kind not in (b"ANIM", b"ALPH")
                if complete and size is None:
                    size = _webp_size(kind, data[at + 8 : at + 18])
                if end > len(data):
                    kept.append(b"\0")
        at = end
    else:
        raise _bomb(f"the WebP has more than {MOST_PARTS} chunks")
    if size is None or not complete:
        raise _damaged("the WebP has no image")
    body = b"".join(kept)
    whole = struct.pack("<4sI4s", b"RIFF", 4 + len(body), b"WEBP") + body
    return Container("WEBP", whole, *size, orientation, size[0] * size[1])


def _webp_size(kind: bytes, start: bytes) -> tuple[int, int]:
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", start, 6)
        return width & 0x3FFF, height & 0x3FFF
    bits = struct.unpack_from("<I", start, 1)[0]
    return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)


def _gif(data: bytes) -> Container:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    head, control = data[:at], b""
    for _ in range(MOST_PARTS):
        kind = data[at]
        if kind == 0x2C:
            break
        if kind == 0x3B:
            raise _damaged("the GIF ends before its first image")
        if kind == 0x21:
            end = _after_blocks(data, at + 2)
            if data[at + 1] == 0xF9:
                control = data[at:end]
            at = end
        else:
            at += 1  # stray bytes between blocks: programs that show GIFs pass over them too
    else:
        raise _bomb(f"the GIF has more than {MOST_PARTS} blocks before its first image")
    left, top, columns, rows = struct.unpack_from("<HHHH", data, at + 1)
    if columns < 1 or rows < 1:
        raise _damaged(f"the GIF's first image has {columns}x{rows} pixels")
    width, height = max(width, left + columns), max(height, top + rows)
    covered = None if (columns, rows) == (width, height) else (left, top, left + columns, top + rows)
    whole = b"".join((head, control, memoryview(data)[at:]))
    return Container("GIF", whole, width, height, 1, width * height, covered)


def _after_blocks(data: bytes, at: int) -> int:
    for _ in range(MOST_PARTS):
        length = data[at]
        at += 1 + length
        if length == 0:
            return at
    raise _bomb(f"an extension of the GIF has more than {MOST_PARTS} blocks")


def _damaged(what: str) -> ItemError:
    return ItemError(reasons.DAMAGED_IMAGE, what)


def _bomb(what: str) -> ItemError:
    return ItemError(reasons.IMAGE_BOMB, what)
