"""TIFF's directories of tags: the first one of a TIFF file, made again from what its pixels need, and EXIF's.

A tag names a place anywhere in the file, so a small file can make a reader copy the same bytes thousands of times, or
decode tiles far larger than the image. Here the tags that matter are read, everything they ask for is added up, and a
directory of only those is put in place of the original. Pixels are not decoded here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tokenmill.errors import ItemError
from tokenmill.images import reasons

ORIENTATION = 274

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_SAMPLES, _ROWS_PER_STRIP, _PLANAR, _TILE_WIDTH, _TILE_HEIGHT = 277, 278, 284, 322, 323
_STRIP_OFFSETS, _STRIP_SIZES, _TILE_OFFSETS, _TILE_SIZES = 273, 279, 324, 325
_STRIPS = (_STRIP_OFFSETS, _STRIP_SIZES, _ROWS_PER_STRIP)
_TILES = (_TILE_OFFSETS, _TILE_SIZES, _TILE_WIDTH, _TILE_HEIGHT)

#: Tags that a decoder gets to see, and the number of values they may have; None: as many as there are strips or tiles.
_KEPT: dict[int, int | None] = {
    _WIDTH: 1,
    _HEIGHT: 1,
    _BITS: 6,
    _COMPRESSION: 1,
    _PHOTOMETRIC: 1,
    266: 1,  # fill order
    _STRIP_OFFSETS: None,
    _SAMPLES: 1,
    _ROWS_PER_STRIP: 1,
    _STRIP_SIZES: None,
    _PLANAR: 1,
    292: 1,  # options of fax compression
    293: 1,
    317: 1,  # predictor
    320: 3 * 65536,  # palette
    _TILE_WIDTH: 1,
    _TILE_HEIGHT: 1,
    _TILE_OFFSETS: None,
    _TILE_SIZES: None,
    338: 6,  # extra samples
    339: 6,  # sample format
    347: 65536,  # JPEG tables
    530: 2,  # YCbCr subsampling
    532: 6,  # reference black and white
}

#: none, fax (three kinds), LZW, JPEG, deflate (two numbers), PackBits. Others are rare, and each would be one more
#: native decoder for hostile bytes.
_COMPRESSIONS = frozenset((1, 2, 3, 4, 5, 7, 8, 32773, 32946))

_FAX = frozenset((2, 3, 4))
#: Rows of a fax at most: libtiff writes a line to standard error for every bad one.
_MOST_FAX_ROWS = 65_535

#: Strips or tiles at most.
MOST_PIECES = 100_000

#: Bytes of a value, by type.
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
#: Types of unsigned integers, and how `struct` calls them.
_UNSIGNED = {1: "B", 3: "H", 4: "I", 16: "Q"}


@dataclass(frozen=True, slots=True)
class RebuiltTiff:
    """A TIFF file whose only directory has only what the first image's pixels need.

    Attributes:
        data: The file.
        width: Columns, as stored.
        height: Rows, as stored.
        orientation: 1 to 8.
        cost_pixels: Pixels that decoding goes through: those of all tiles, which may reach over the image.
        largest: Largest value of a sample.
        inverted: True where 0 is white.
    """

    data: bytes
    width: int
    height: int
    orientation: int
    cost_pixels: int
    largest: int
    inverted: bool


@dataclass(frozen=True, slots=True)
class _Layout:
    """How directories are written: byte order, and the sizes of 32-bit or 64-bit TIFF."""

    order: str
    big: bool

    @property
    def inline_bytes(self) -> int:
        return 8 if self.big else 4

    @property
    def entry_bytes(self) -> int:
        return 20 if self.big else 12


@dataclass(frozen=True, slots=True)
class _Entry:
    """A tag: its bytes in the directory, and where its values are."""

    raw: bytes
    kind: int
    count: int
    at: int


def orientation_of(exif: bytes) -> int:
    """Return the orientation that EXIF data states, 1 to 8; 1 where they do not, or make no sense."""
    exif = exif.removeprefix(b"Exif\0\0")
    try:
        layout, at = _header(exif)
        if layout.big:
            return 1
        return _orientation(exif, layout, _entries(exif, layout, at, frozenset((ORIENTATION,))))
    except (struct.error, ItemError):
        return 1


def rebuilt_tiff(data: bytes) -> RebuiltTiff:
    """Read a TIFF file's first directory, and make the file again with one that a decoder may see.

    Raises:
        ItemError: It is damaged, asks for what is not decoded here, or is a bomb.
        struct.error: It breaks off.
    """
    layout, at = _header(data)
    entries = _entries(data, layout, at, frozenset((*_KEPT, ORIENTATION)))
    turn = _orientation(data, layout, entries)
    entries.pop(ORIENTATION, None)
    for tag in _TILES if _STRIP_OFFSETS in entries else _STRIPS:  # never both, so that nobody reads the other one
        entries.pop(tag, None)
    tags = _Tags(data, layout, entries)
    width, height = tags.required(_WIDTH), tags.required(_HEIGHT)
    photometric, bits = tags.number(_PHOTOMETRIC, 0), tags.numbers(_BITS, (1,))
    _check_organisation(tags, photometric)
    pieces, cost = _pieces(tags, width, height)
    _check_values(entries, pieces, len(data))
    kept = b"".join(entries[tag].raw for tag in sorted(entries))
    if layout.big:
        head, directory = data[:8], struct.pack(layout.order + "Q", len(entries)) + kept + bytes(8)
        place = struct.pack(layout.order + "Q", len(data) + len(data) % 2)
    else:
        head, directory = data[:4], struct.pack(layout.order + "H", len(entries)) + kept + bytes(4)
        place = struct.pack(layout.order + "I", len(data) + len(data) % 2)
    rest = memoryview(data)[len(head) + len(place) :]
    whole = b"".join((head, place, rest, bytes(len(data) % 2), directory))
    return RebuiltTiff(whole, width, height, turn, cost, 2 ** min(max(bits), 16) - 1, photometric == 0)


def _header(data: bytes) -> tuple[_Layout, int]:
    order = "<" if data[:2] == b"II" else ">"
    if data[:2] not in (b"II", b"MM"):
        raise _damaged("there is no byte order")
    version = struct.unpack_from(order + "H", data, 2)[0]
    if version == 43:
        return _Layout(order, True), struct.unpack_from(order + "Q", data, 8)[0]
    if version == 42:
        return _Layout(order, False), struct.unpack_from(order + "I", data, 4)[0]
    raise _damaged(f"version {version} of TIFF is unknown")


def _entries(data: bytes, layout: _Layout, at: int, wanted: frozenset[int]) -> dict[int, _Entry]:
    if at >= len(data):
        raise _damaged("the directory lies behind the end of the file")
    count = struct.unpack_from(layout.order + ("Q" if layout.big else "H"), data, at)[0]
    at += 8 if layout.big else 2
    if count > 65535 or at + count * layout.entry_bytes > len(data):
        raise _damaged(f"the directory breaks off; it should have {count} tags")
    head = struct.Struct(layout.order + ("HHQ" if layout.big else "HHI"))
    found: dict[int, _Entry] = {}
    for number in range(count):
        start = at + number * layout.entry_bytes
        tag, kind, values = head.unpack_from(data, start)
        if tag in wanted and tag not in found and kind in _TYPE_BYTES:
            value_at = start + head.size
            if values * _TYPE_BYTES[kind] > layout.inline_bytes:
                value_at = struct.unpack_from(layout.order + ("Q" if layout.big else "I"), data, value_at)[0]
                if value_at + values * _TYPE_BYTES[kind] > len(data):
                    raise _damaged(f"the values of tag {tag} lie behind the end of the file")
            found[tag] = _Entry(data[start : start + layout.entry_bytes], kind, values, value_at)
    return found


def _orientation(data: bytes, layout: _Layout, entries: dict[int, _Entry]) -> int:
    entry = entries.get(ORIENTATION)
    if entry is None or entry.kind not in (3, 4) or entry.count != 1:
        return 1
    value: int = struct.unpack_from(layout.order + _UNSIGNED[entry.kind], data, entry.at)[0]
    return value if 1 <= value <= 8 else 1


@dataclass(frozen=True, slots=True)
class _Tags:
    """A directory's numbers."""

    data: bytes
    layout: _Layout
    entries: dict[int, _Entry]

    def numbers(self, tag: int, otherwise: tuple[int, ...]) -> tuple[int, ...]:
        """Return a tag's unsigned integers, of which there are as many as _KEPT allows."""
        entry = self.entries.get(tag)
        if entry is None:
            return otherwise
        if entry.kind not in _UNSIGNED or not 1 <= entry.count <= (_KEPT[tag] or MOST_PIECES):
            raise _damaged(f"tag {tag} has {entry.count} values of type {entry.kind}")
        return struct.unpack_from(f"{self.layout.order}{entry.count}{_UNSIGNED[entry.kind]}", self.data, entry.at)

    def number(self, tag: int, otherwise: int) -> int:
        return self.numbers(tag, (otherwise,))[0]

    def required(self, tag: int) -> int:
        if tag not in self.entries:
            raise _damaged(f"tag {tag} is absent")
        return self.number(tag, 0)


def _check_organisation(tags: _Tags, photometric: int) -> None:
    compression = tags.number(_COMPRESSION, 1)
    if compression not in _COMPRESSIONS:
        raise ItemError(reasons.UNSUPPORTED_IMAGE, f"a TIFF with compression {compression}")
    if compression in _FAX and tags.required(_HEIGHT) > _MOST_FAX_ROWS:
        raise ItemError(reasons.UNSUPPORTED_IMAGE, f"a fax of {tags.required(_HEIGHT)} rows")
    if tags.number(_SAMPLES, 1) > 6:
        raise ItemError(reasons.UNSUPPORTED_IMAGE, f"a TIFF of {tags.number(_SAMPLES, 1)} samples a pixel")
    if photometric == 6 and compression == 1:
        raise ItemError(reasons.UNSUPPORTED_IMAGE, "a TIFF of YCbCr without compression")


def _pieces(tags: _Tags, width: int, height: int) -> tuple[int, int]:
    """Return how many strips or tiles there are, and their pixels."""
    if _STRIP_OFFSETS in tags.entries:
        piece_width, piece_height = width, min(tags.number(_ROWS_PER_STRIP, height), height)
        cost = width * height
    else:
        piece_width, piece_height = tags.required(_TILE_WIDTH), tags.required(_TILE_HEIGHT)
        cost = 0
    if min(piece_width, piece_height, width, height) < 1:
        raise _damaged(f"{width}x{height} pixels in pieces of {piece_width}x{piece_height}")
    pieces = -(-width // piece_width) * -(-height // piece_height)
    if tags.number(_PLANAR, 1) == 2:
        pieces *= tags.number(_SAMPLES, 1)
    return pieces, cost or pieces * piece_width * piece_height


def _check_values(entries: dict[int, _Entry], pieces: int, file_bytes: int) -> None:
    total = 0
    for tag, entry in entries.items():
        most = _KEPT[tag]
        if most is not None and not 1 <= entry.count <= most:
            raise _damaged(f"tag {tag} has {entry.count} values")
        if most is None and entry.count != pieces:
            kind = _bomb if entry.count > max(pieces, 2) * 2 else _damaged
            raise kind(f"tag {tag} has {entry.count} values where the image has {pieces} pieces")
        total += entry.count * _TYPE_BYTES[entry.kind]
    if pieces > MOST_PIECES:
        raise _bomb(f"the TIFF has {pieces} strips or tiles; {MOST_PIECES} are the limit")
    if total > file_bytes:
        raise _bomb(f"the values of the tags have {total} bytes in a file of {file_bytes}")


def _damaged(what: str) -> ItemError:
    return ItemError(reasons.DAMAGED_IMAGE, f"TIFF: {what}")


def _bomb(what: str) -> ItemError:
    return ItemError(reasons.IMAGE_BOMB, what)
