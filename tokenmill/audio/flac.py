"""FLAC files: metadata blocks are walked over here; frames are found and decoded by FFmpeg's parser and decoder.

Every frame's checksum is checked, frames must follow on each other by the numbers that they bear, and their samples
must be as many as STREAMINFO announces. What else stands behind the last frame, such as an ID3v1 tag, is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator

from tokenmill.audio.byte_reader import ByteReader
from tokenmill.audio.packet_decoder import PacketDecoder
from tokenmill.audio.tracks import AudioInfo, Block, Damaged

STREAMINFO_BYTES = 34
_MOST_BLOCKS = 10_000
_READ_BYTES = 32 << 10
#: The parser holds ten frames back to tell them from chance; of 8 channels and 65535 samples each, they have 20 MiB.
_MOST_HELD_BYTES = 24 << 20


class FlacTrack:
    """An open FLAC file, its reader in front of `fLaC`; raises Damaged or Unsupported."""

    def __init__(self, reader: ByteReader) -> None:
        self._reader = reader
        reader.skip(4)
        setup = b""
        for number in range(_MOST_BLOCKS):
            head = reader.read(4)
            if len(head) < 4:
                raise Damaged("the file ends before its first frame")
            size = int.from_bytes(head[1:], "big")
            if not number:
                if head[0] & 0x7F or size != STREAMINFO_BYTES:
                    raise Damaged("the first metadata block is not STREAMINFO")
                setup = reader.read(size)
            else:
                reader.skip(size)
            if head[0] & 0x80:
                break
        else:
            raise Damaged(f"more than {_MOST_BLOCKS} metadata blocks")
        self.info = flac_info("flac", setup)
        self._decoder = PacketDecoder("flac", setup)

    def blocks(self) -> Iterator[Block]:
        """Yield float32 `[sample, channel]`."""
        samples, numbers = 0, FrameNumbers()
        for packets in self._packets():
            for packet in packets:
                numbers.check(packet)
                block = self._decoder.decode((packet,))
                samples += len(block)
                yield block
        if self.info.samples is not None and samples != self.info.samples:
            raise Damaged(f"{self.info.samples} samples are announced, and {samples} are there")

    def _packets(self) -> Iterator[list[bytes]]:
        reader, held_bytes = self._reader, 0
        while data := reader.read(_READ_BYTES):
            packets = self._decoder.parsed(data)
            held_bytes += len(data) - sum(map(len, packets))
            if held_bytes > _MOST_HELD_BYTES:
                raise Damaged(f"no frame ends within {_MOST_HELD_BYTES} bytes")
            yield packets
        while packets := self._decoder.parsed(b""):
            yield packets


def flac_info(container: str, setup: bytes) -> AudioInfo:
    """Return what STREAMINFO says; raises Damaged."""
    if len(setup) < STREAMINFO_BYTES:
        raise Damaged("the file ends within STREAMINFO")
    packed = int.from_bytes(setup[10:18], "big")
    rate_hz, channels, samples = packed >> 44, (packed >> 41 & 7) + 1, packed & (1 << 36) - 1
    if not rate_hz:
        raise Damaged("STREAMINFO states 0 Hz")
    return AudioInfo(container, "flac", rate_hz, channels, samples or None)


class FrameNumbers:
    """Sees to it that frames follow on each other, by the number in their headers."""

    def __init__(self) -> None:
        self._next: int | None = None

    def check(self, packet: bytes) -> None:
        """Take the next frame's header; raises Damaged where a frame is missing."""
        if len(packet) < 8 or packet[0] != 0xFF or packet[1] & 0xFC != 0xF8:
            raise Damaged("no frame header where a frame should begin")
        number, length = _coded_number(packet)
        if self._next is not None and number != self._next:
            raise Damaged(f"frame {number} where {self._next} should follow")
        # Of frames of any size the number is that of the first sample; of one size, that of the frame.
        self._next = number + (_block_samples(packet, 4 + length) if packet[1] & 1 else 1)


def _coded_number(packet: bytes) -> tuple[int, int]:
    """Return a number written as UTF-8 writes characters, and in how many bytes."""
    first = packet[4]
    if first < 0x80:
        return first, 1
    length = 8 - (first ^ 0xFF).bit_length()
    if not 2 <= length <= 7:
        raise Damaged("a frame's number cannot be read")
    number = first & (0x7F >> length)
    for byte in packet[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    return number, length


def _block_samples(packet: bytes, after_number: int) -> int:
    code = packet[2] >> 4
    if code in (6, 7):
        return int.from_bytes(packet[after_number : after_number + code - 5], "big") + 1
    return 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8
