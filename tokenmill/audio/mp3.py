"""MP3 files: frames are walked over here, header by header, and decoded by FFmpeg's decoder.

An MP3 file states no length of its own and has no checksum worth the name, so this is what counts as damage:

- Where a frame should begin, no header of the same version, rate and number of channels is found, and more than
  `TRAILING_BYTES` come after it. ID3v2 and APE tags may lie between frames and are passed over. ID3v1 and Lyrics3 tags,
  a run of zeros to the end, and up to `TRAILING_BYTES` of anything else in which no frames go on may follow the last
  frame.
- Fewer frames are there than the first one announces (Xing, Info or VBRI header), by more than one.
- The decoder refuses a frame. The first frames of a file cut out of another may need bits of frames before them; those
  become silence. The optional checksum of frames is not looked at: programs that change files leave old ones in them,
  and players ignore it.

The last frame is dropped where it is cut off. Encoder delay and padding are removed where the LAME tag states them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tokenmill.audio.byte_reader import ByteReader
from tokenmill.audio.packet_decoder import PacketDecoder
from tokenmill.audio.tracks import AudioInfo, Block, Damaged, NotAudio, trimmed

#: What may follow the last frame without making a file damaged.
TRAILING_BYTES = 4096
#: The first frame is looked for so far behind the beginning, or behind an ID3v2 tag.
_SEARCHED_BYTES = 64 << 10
#: So many headers in a row are no chance, wherever they are; two are enough where a file begins.
_SURE_FRAMES = 4
_BATCH_FRAMES = 16
#: Samples by which a decoder lags behind; LAME's delay does not contain them.
_DECODER_DELAY = 529
_LYRICS_BYTES = 1 << 20
_LONGEST_FRAME = 1441

_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_KBITS = {
    True: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


@dataclass(frozen=True, slots=True)
class _Frame:
    version: int
    rate_hz: int
    channels: int
    size_bytes: int

    @property
    def kind(self) -> tuple[int, int, int]:
        """What all frames of a file share."""
        return self.version, self.rate_hz, self.channels

    @property
    def samples(self) -> int:
        return 1152 if self.version == 3 else 576


@dataclass(frozen=True, slots=True)
class _Announced:
    """What an encoder wrote into a first frame that has no sound: frames after it, and samples to cut off."""

    frames: int | None = None
    delay: int | None = None
    padding: int = 0


class Mp3Track:
    """An open MP3 file, its reader in front of the first frame or behind an ID3v2 tag.

    Raises:
        NotAudio: No frames are found.
    """

    def __init__(self, reader: ByteReader) -> None:
        self._reader = reader
        first = _first_frame(reader)
        if first is None:
            raise NotAudio("no frames of MP3 are found")
        self._first = first
        announced = _announced(reader.peek(first.size_bytes), first)
        if announced is not None:
            reader.skip(first.size_bytes)
        self._announced = announced or _Announced()
        frames, delay = self._announced.frames, self._announced.delay
        self._skip = 0 if delay is None else delay + _DECODER_DELAY
        self._samples: int | None = None
        if frames is not None:
            self._samples = max(frames * first.samples - (0 if delay is None else delay + self._announced.padding), 0)
        self.info = AudioInfo("mp3", "mp3float", first.rate_hz, first.channels, self._samples)
        self._decoder = PacketDecoder("mp3float", b"")
        self._frames = 0

    def blocks(self) -> Iterator[Block]:
        """Yield float32 `[sample, channel]`."""
        announced = self._announced.frames
        # Where the padding is not known, the decoder's own delay is not cut off at the beginning either.
        yield from trimmed(self._decoded(), self._skip, None if self._announced.delay is None else self._samples)
        if announced is not None and self._frames < announced - 1:
            raise Damaged(f"{announced} frames are announced, and {self._frames} are there")

    def _decoded(self) -> Iterator[Block]:
        held: list[Block] = []
        try:
            for packet in self._packets():
                self._frames += 1
                held.append(self._one(packet))
                if len(held) == _BATCH_FRAMES:
                    yield np.concatenate(held)
                    held = []
        except Damaged:
            if held:
                yield np.concatenate(held)
            raise
        held.append(self._decoder.flush())
        yield np.concatenate(held)

    def _one(self, packet: bytes) -> Block:
        try:
            return self._decoder.decode((packet,))
        except Damaged:
            if self._frames > _SURE_FRAMES or self._announced.frames is not None:
                raise
            return np.zeros((self._first.samples, self._first.channels), np.float32)

    def _packets(self) -> Iterator[bytes]:
        reader, kind = self._reader, self._first.kind
        while True:
            frame = _header(reader.peek(4))
            if frame is not None and frame.kind == kind:
                packet = reader.read(frame.size_bytes)
                if len(packet) < frame.size_bytes:
                    return
                yield packet
            elif not _skipped_tag(reader, self._first):
                return


def id3v2_bytes(head: bytes) -> int:
    """Return the length of the ID3v2 tag that begins with these ten bytes; 0 where none does."""
    if len(head) < 10 or head[:3] != b"ID3" or 0xFF in head[3:5] or any(byte & 0x80 for byte in head[6:10]):
        return 0
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return size + (20 if head[5] & 0x10 else 10)


def _header(data: bytes, at: int = 0) -> _Frame | None:
    """Read a frame's header; None where there is none of layer III."""
    if len(data) < at + 4 or data[at] != 0xFF or data[at + 1] & 0xE6 != 0xE2:
        return None
    version, bits, rate = data[at + 1] >> 3 & 3, data[at + 2] >> 4, data[at + 2] >> 2 & 3
    if version == 1 or rate == 3 or not 0 < bits < 15:
        return None
    rate_hz = _RATES_HZ[version][rate]
    size = (144_000 if version == 3 else 72_000) * _KBITS[version == 3][bits - 1] // rate_hz + (data[at + 2] >> 1 & 1)
    return _Frame(version, rate_hz, 1 if data[at + 3] >> 6 == 3 else 2, size)


def _first_frame(reader: ByteReader) -> _Frame | None:
    """Go to the first frame and return its header."""
    data = reader.peek(_SEARCHED_BYTES + _SURE_FRAMES * _LONGEST_FRAME)
    whole = len(data) == reader.left_bytes
    at = 0
    while 0 <= at < _SEARCHED_BYTES:
        frame = _header(data, at)
        if frame is not None and _sure(data, at, frame, whole):
            reader.skip(at)
            return frame
        at = data.find(b"\xff", at + 1)
    return None


def _sure(data: bytes, start: int, first: _Frame, whole: bool) -> bool:
    """Tell whether frames go on behind this one, as many as make sure, or to the end of a file's sound."""
    at, count = start, 0
    while (frame := _header(data, at)) is not None and frame.kind == first.kind and count < _SURE_FRAMES:
        at += frame.size_bytes
        count += 1
    if count >= (2 if not start else _SURE_FRAMES):
        return True
    rest = data[at:]
    return not start and whole and count > 0 and at <= len(data) and (not rest or rest[:3] in (b"TAG", b"APE"))


def _announced(data: bytes, frame: _Frame) -> _Announced | None:
    """Read the header that encoders put into a first frame without sound; None where it is a frame of sound."""
    if data[36:40] == b"VBRI" and len(data) >= 54:
        return _Announced(frames=struct.unpack_from(">I", data, 50)[0])
    stereo = frame.channels == 2
    at = 4 + ((32 if stereo else 17) if frame.version == 3 else (17 if stereo else 9))
    if data[at : at + 4] not in (b"Xing", b"Info") or len(data) < at + 8:
        return None
    flags = struct.unpack_from(">I", data, at + 4)[0]
    frames = None
    if flags & 1 and len(data) >= at + 12:
        frames = struct.unpack_from(">I", data, at + 8)[0] or None
    at += 8 + 4 * (flags & 1) + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
    if data[at : at + 4] not in (b"LAME", b"Lavf", b"Lavc") or len(data) < at + 24 or frames is None:
        return _Announced(frames)
    packed = int.from_bytes(data[at + 21 : at + 24], "big")
    return _Announced(frames, packed >> 12, packed & 0xFFF)


def _goes_on(data: bytes, first: _Frame) -> bool:
    """Tell whether a file's last bytes have frames like the first one: two in a row, or one that ends the file."""
    at = data.find(b"\xff", 1)
    while at >= 0:
        frame = _header(data, at)
        if frame is not None and frame.kind == first.kind:
            end = at + frame.size_bytes
            following = _header(data, end)
            if end == len(data) or (following is not None and following.kind == first.kind):
                return True
        at = data.find(b"\xff", at + 1)
    return False


def _skipped_tag(reader: ByteReader, first: _Frame) -> bool:
    """Pass over a tag between frames; False at the end of the sound; raises Damaged where it should go on."""
    head = reader.peek(32)
    size = id3v2_bytes(head)
    if head[:8] == b"APETAGEX" and len(head) == 32:
        size = struct.unpack_from("<I", head, 12)[0] + 32
    if 0 < size <= reader.left_bytes:
        reader.skip(size)
        return True
    left, at = reader.left_bytes, reader.position
    if left <= TRAILING_BYTES and _goes_on(reader.peek(left), first):
        raise Damaged(f"no frame begins at byte {at}, and frames follow")
    if left <= TRAILING_BYTES or (head[:11] == b"LYRICSBEGIN" and left <= _LYRICS_BYTES):
        return False
    while data := reader.read(64 << 10):
        if data.strip(b"\0"):
            raise Damaged(f"no frame begins at byte {at}, {left} bytes before the end")
    return False
