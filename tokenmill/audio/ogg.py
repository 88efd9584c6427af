"""Ogg files: packets of Vorbis, Opus or FLAC, decoded by FFmpeg's decoders, and the positions that pages state.

The first stream of sound is taken; others, such as pictures, are passed over. Files chained one behind the other are
one sound, as long as codec, rate and channels stay the same. What Opus puts before the sound, and what encoders fill
the last packet with, is cut off by the positions. How pages must be is said in `tokenmill.audio.ogg_pages`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import numpy as np

from tokenmill.audio.byte_reader import ByteReader
from tokenmill.audio.flac import FrameNumbers, flac_info
from tokenmill.audio.ogg_pages import OggPackets, Page, last_position, read_page
from tokenmill.audio.packet_decoder import Codec, PacketDecoder
from tokenmill.audio.tracks import AudioInfo, Block, Damaged, Unsupported, trimmed

_NO_COMMENTS = b"\x03vorbis" + struct.pack("<II", 0, 0) + b"\x01"
#: Streams beside each other in a file.
_MOST_STREAMS = 100


class OggTrack:
    """An open Ogg file; raises Damaged or Unsupported."""

    def __init__(self, reader: ByteReader) -> None:
        self._reader = reader
        page = read_page(reader)
        if page is None or not page.first:
            raise Damaged("the first page is not the first of a stream")
        self._link = _Link(reader, page)
        self.info = self._link.info

    def blocks(self) -> Iterator[Block]:
        """Yield float32 `[sample, channel]`."""
        yield from self._link.blocks()
        while (page := _next_first_page(self._reader)) is not None:
            link = _Link(self._reader, page)
            if _sort(link.info) != _sort(self.info):
                raise Unsupported(f"a chain of {_sort(self.info)} and {_sort(link.info)}")
            yield from link.blocks()


def _sort(info: AudioInfo) -> str:
    return f"{info.codec} of {info.rate_hz} Hz and {info.channels} channels"


class _Link:
    """One stream of sound, from its first page to its last."""

    def __init__(self, reader: ByteReader, page: Page) -> None:
        head, packets = _first_sound(reader, page)
        self._frames: FrameNumbers | None = None
        self._skip, samples = 0, None
        codec: Codec
        if head.startswith(b"\x01vorbis"):
            codec = "vorbis"
            channels, rate_hz = struct.unpack_from("<BI", head.ljust(30, b"\0"), 11)
            setup = _laced([head, _NO_COMMENTS, packets.headers(2)[1]])
        elif head.startswith(b"OpusHead"):
            codec, rate_hz = "opus", 48_000
            channels, self._skip = struct.unpack_from("<BH", head.ljust(19, b"\0"), 9)
            setup = head[:10] + b"\0\0" + head[12:]  # the decoder would skip as well, behind positions' back
            packets.headers(1)
        else:
            codec, setup = "flac", head[17:51]
            info = flac_info("ogg", setup)
            rate_hz, channels, samples = info.rate_hz, info.channels, info.samples
            self._frames = FrameNumbers()
            packets.headers(int.from_bytes(head[7:9], "big"))
        if not rate_hz or not channels:
            raise Damaged(f"the header states {channels} channels and {rate_hz} Hz")
        end = last_position(reader, packets.serial)
        self._decoder = PacketDecoder(codec, setup)
        self._pages = packets.pages()
        self._broken: Damaged | None = None
        self._begun: Block = np.empty((0, channels), np.float32)
        self._position: int | None = None
        last = True
        try:
            first, self._position, last = next(self._pages, ([], None, True))
            self._begun = self._decoded(first)
        except Damaged as error:  # what the header says is known all the same
            self._broken = error
        # Where the first sample decoded lies: behind 0 in a stream cut out of another, before it where the encoder's
        # first samples are none. Where the first page is the last one too, it states where to end instead.
        self._start = 0 if last or self._position is None else self._position - len(self._begun)
        self._skip += max(-self._start, 0)
        if samples is None and end is not None:
            samples = max(end - self._start - self._skip, 0)
        self.info = AudioInfo("ogg", codec, rate_hz, channels, samples)

    def blocks(self) -> Iterator[Block]:
        """Yield float32 `[sample, channel]`."""
        return trimmed(self._until_end(), self._skip, None)

    def _until_end(self) -> Iterator[Block]:
        """Yield what is decoded, one page late, as what the last page states may take from the one before."""
        if self._broken is not None:
            raise self._broken
        held, given = self._begun, 0
        for packets, position, _ in self._pages:
            block = self._decoded(packets)
            if position is not None:
                self._position = position
            yield held
            given += len(held)
            held = block
        yield held if self._position is None else held[: max(self._position - self._start - given, 0)]

    def _decoded(self, packets: Sequence[bytes]) -> Block:
        if self._frames is not None:
            for packet in packets:
                self._frames.check(packet)
        return self._decoder.decode(packets)


def _first_sound(reader: ByteReader, page: Page) -> tuple[bytes, OggPackets]:
    """Read the first pages of all streams; return the header of the first one of sound, and its packets to come."""
    found: tuple[bytes, Page] | None = None
    others: list[str] = []
    for _ in range(_MOST_STREAMS):
        head = page.body[: sum(page.lacing)]
        if found is None and head.startswith((b"\x01vorbis", b"OpusHead", b"\x7fFLAC")):
            found = head, page
        elif found is None:
            others.append(ascii(head[:8].decode("latin-1")))
        following = read_page(reader)
        if following is None:
            raise Damaged("the file ends behind its first pages")
        page = following
        if not page.first:
            break
    else:
        raise Unsupported(f"more than {_MOST_STREAMS} streams")
    if found is None:
        raise Unsupported(f"Ogg of {', '.join(others)}; Vorbis, Opus and FLAC are decoded")
    return found[0], OggPackets(reader, found[1], page)


def _next_first_page(reader: ByteReader) -> Page | None:
    """Pass over pages of other streams behind the end of one; what is no page does not count."""
    while reader.peek(4) == b"OggS" and (page := read_page(reader)) is not None:
        if page.first:
            return page
    return None


def _laced(headers: Sequence[bytes]) -> bytes:
    """Return Vorbis' three headers as FFmpeg takes them."""
    sizes = b"".join(b"\xff" * (len(header) // 255) + bytes([len(header) % 255]) for header in headers[:-1])
    return bytes([len(headers) - 1]) + sizes + b"".join(headers)
