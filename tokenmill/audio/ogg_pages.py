"""Pages of Ogg: their checksums, numbers and positions, and the packets on them.

Every page's checksum is checked. The pages of a stream are numbered, and none may be missing; the last one is marked,
and a stream that ends without it is damaged.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from tokenmill.audio.byte_reader import ByteReader
from tokenmill.audio.tracks import Damaged

_HEAD = struct.Struct("<4sBBqIIIB")
_PAGE_BYTES = _HEAD.size + 255 + 255 * 255
#: No packet of sound is longer. Comments may be, as they hold pictures; of those nothing is kept.
_MOST_PACKET_BYTES = 1 << 20
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True, slots=True)
class Page:
    """A page.

    Attributes:
        continued: Whether it begins within a packet.
        first: Whether it is the first of its stream.
        last: Whether it is the last of its stream.
        position: Samples up to the end of the last packet that ends here; None where none does.
        serial: The stream's.
        number: Of the page in its stream.
        lacing: Lengths of the pieces of packets, of which those below 255 end a packet.
        body: The pieces.
    """

    continued: bool
    first: bool
    last: bool
    position: int | None
    serial: int
    number: int
    lacing: bytes
    body: bytes


def read_page(reader: ByteReader) -> Page | None:
    """Read a page; None at the end of the file; raises Damaged."""
    head = reader.read(_HEAD.size)
    if not head:
        return None
    if len(head) < _HEAD.size:
        raise Damaged("the file ends within a page")
    magic, version, flags, position, serial, number, crc, pieces = _HEAD.unpack(head)
    if magic != b"OggS" or version:
        raise Damaged(f"no page begins at byte {reader.position - len(head)}")
    lacing = reader.read(pieces)
    body = reader.read(sum(lacing))
    if len(lacing) < pieces or len(body) < sum(lacing):
        raise Damaged("the file ends within a page")
    if checksum(head[:22] + b"\0\0\0\0" + head[26:] + lacing + body) != crc:
        raise Damaged(f"the checksum of page {number} is wrong")
    ends = position if position >= 0 else None
    return Page(bool(flags & 1), bool(flags & 2), bool(flags & 4), ends, serial, number, lacing, body)


def last_position(reader: ByteReader, serial: int) -> int | None:
    """Return where a stream ends, if the file's last page says it; the reader stays where it is."""
    at = reader.position
    reader.seek(max(reader.size_bytes - _PAGE_BYTES, 0))
    tail = reader.read(_PAGE_BYTES)
    reader.seek(at)
    start = tail.rfind(b"OggS")
    if not 0 <= start <= len(tail) - _HEAD.size:
        return None
    _, version, flags, position, found, *_ = _HEAD.unpack_from(tail, start)
    return position if not version and flags & 4 and found == serial and position >= 0 else None


class OggPackets:
    """The packets of one stream.

    Args:
        reader: The file, behind the first pages of all streams.
        first: The stream's first page.
        waiting: The page that was read behind them.

    Attributes:
        serial: The stream's.
    """

    def __init__(self, reader: ByteReader, first: Page, waiting: Page) -> None:
        self.serial = first.serial
        self._reader = reader
        self._number = first.number
        self._waiting: Page | None = waiting
        self._left: list[bytes | None] = []
        self._pieces: list[bytes] | None = None
        self._held_bytes = 0
        self._ended = first.last

    def headers(self, count: int) -> list[bytes]:
        """Return the next packets; of one that is too long, nothing."""
        while len(self._left) < count:
            if self._ended:
                raise Damaged("the stream ends within its headers")
            self._left += self._packets(self._next_page())
        found, self._left = self._left[:count], self._left[count:]
        return [packet or b"" for packet in found]

    def pages(self) -> Iterator[tuple[list[bytes], int | None, bool]]:
        """Yield the packets that end on each page, the position it states, and whether it is the last; or Damaged."""
        while not self._ended:
            page = self._next_page()
            packets, self._left = self._left + self._packets(page), []
            if None in packets:
                raise Damaged(f"a packet has more than {_MOST_PACKET_BYTES} bytes")
            yield [packet for packet in packets if packet is not None], page.position, page.last

    def _next_page(self) -> Page:
        page, self._waiting = self._waiting, None
        while page is None or page.serial != self.serial:
            page = read_page(self._reader)
            if page is None:
                raise Damaged("the file ends before the stream's last page")
        self._number = self._number + 1 & 0xFFFFFFFF
        if page.number != self._number:
            raise Damaged(f"page {page.number} where {self._number} should follow")
        self._ended = page.last
        return page

    def _packets(self, page: Page) -> list[bytes | None]:
        if page.continued != (self._pieces is not None):
            raise Damaged(f"page {page.number} does not go on with the packet before it")
        packets: list[bytes | None] = []
        at = 0
        for length in page.lacing:
            if self._pieces is None:
                self._pieces, self._held_bytes = [], 0
            self._held_bytes += length
            if self._held_bytes > _MOST_PACKET_BYTES:
                self._pieces.clear()
            else:
                self._pieces.append(page.body[at : at + length])
            at += length
            if length < 255:
                packets.append(None if self._held_bytes > _MOST_PACKET_BYTES else b"".join(self._pieces))
                self._pieces = None
        return packets


def checksum(data: bytes) -> int:
    """Return Ogg's CRC: zlib's polynomial with bits the other way round, and no inversion before and after."""
    mirrored = zlib.crc32(data.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_MIRRORED), "big")
