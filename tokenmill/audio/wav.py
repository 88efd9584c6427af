"""WAV, RF64 and Sony's Wave64: chunks, and samples that are not compressed. No native code reads these bytes.

Decoded are PCM of 8, 16, 24 and 32 bits (any number of valid bits in them), floats of 32 and 64 bits, A-law and
mu-law, each also as `WAVE_FORMAT_EXTENSIBLE`. A data chunk that announces more than the file holds makes the file
damaged. Where its size is one that programs write which cannot go back to correct it (0 while the file goes on beyond
what RIFF announces, or about 2 or 4 GiB and beyond the end), sound goes to the end of the file; half a sample there is
left out.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tokenmill.audio.byte_reader import ByteReader
from tokenmill.audio.tracks import AudioInfo, Block, Damaged, Unsupported

_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")
_EXTENSIBLE_TAIL = bytes.fromhex("000000001000800000aa00389b71")
_PCM, _FLOAT, _A_LAW, _MU_LAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
#: Sizes from here on are what programs write that do not know the size yet.
_UNKNOWN_BYTES = 0x7FFF0000
_MOST_CHUNKS = 10_000
_BLOCK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class _Format:
    codec: str
    rate_hz: int
    channels: int
    sample_bytes: int
    floats: Callable[[bytes], npt.NDArray[np.float32]]


class WavTrack:
    """An open WAV file; raises Damaged or Unsupported."""

    def __init__(self, reader: ByteReader) -> None:
        self._reader = reader
        self._format, data_bytes = _found(reader)
        self._frame_bytes = self._format.sample_bytes * self._format.channels
        self._announced = data_bytes // self._frame_bytes
        self.info = AudioInfo("wav", self._format.codec, self._format.rate_hz, self._format.channels, self._announced)

    def blocks(self) -> Iterator[Block]:
        """Yield float32 `[sample, channel]`."""
        left = self._announced
        step = max(_BLOCK_BYTES // self._frame_bytes, 1)
        while left:
            data = self._reader.read(min(left, step) * self._frame_bytes)
            samples = len(data) // self._frame_bytes
            if samples:
                whole = data[: samples * self._frame_bytes]
                yield self._format.floats(whole).reshape(samples, self._format.channels)
            if samples < min(left, step):
                raise Damaged("the file ends before its data chunk does")
            left -= samples


def is_wav(head: bytes) -> bool:
    """Tell whether a file that begins so is one of these; 40 bytes are enough."""
    if head[:16] == _W64_RIFF:
        return head[24:28] == b"wave" and head[28:40] == _W64_TAIL
    return head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE"


def _found(reader: ByteReader) -> tuple[_Format, int]:
    """Walk to the data chunk; return the format and the bytes of data."""
    head = reader.peek(40)
    wide = head[:16] == _W64_RIFF
    riff_bytes = struct.unpack_from("<I", head, 4)[0]
    reader.seek(40 if wide else 12)
    form: _Format | None = None
    long_bytes: int | None = None
    for _ in range(_MOST_CHUNKS):
        kind, size = _chunk(reader, wide)
        if kind == b"data":
            if form is None:
                raise Damaged("the data chunk comes before any fmt chunk")
            return form, _data_bytes(size, long_bytes, riff_bytes, reader, wide)
        start = reader.position
        if kind == b"fmt ":
            form = _format(reader.read(min(size, 64)))
        elif kind == b"ds64" and size >= 16:
            long_bytes = int(struct.unpack("<Q", reader.read(16).ljust(16, b"\0")[8:16])[0])
        reader.seek(start + size + (-size % 8 if wide else size % 2))
    raise Damaged(f"no data chunk within {_MOST_CHUNKS} chunks")


def _chunk(reader: ByteReader, wide: bool) -> tuple[bytes, int]:
    head = reader.read(24 if wide else 8)
    if len(head) < (24 if wide else 8):
        raise Damaged("the file ends before its data chunk")
    if not wide:
        return head[:4], int(struct.unpack_from("<I", head, 4)[0])
    size = int(struct.unpack_from("<Q", head, 16)[0])
    if not 24 <= size < 1 << 62:
        raise Damaged(f"a chunk announces {size} bytes, its own header included")
    return head[:4], size - 24


def _data_bytes(size: int, long_bytes: int | None, riff_bytes: int, reader: ByteReader, wide: bool) -> int:
    left = reader.left_bytes
    if wide:
        return size
    if size == 0xFFFFFFFF and long_bytes:
        return long_bytes
    empty = size == 0 and riff_bytes + 8 == reader.size_bytes
    return left if (size == 0 and not empty) or (size >= _UNKNOWN_BYTES and size > left) else size


def _format(chunk: bytes) -> _Format:
    if len(chunk) < 16:
        raise Damaged(f"the fmt chunk has {len(chunk)} bytes; 16 are the least")
    tag, channels, rate_hz, _, align, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == _EXTENSIBLE:
        if len(chunk) < 40:
            raise Damaged(f"the extensible fmt chunk has {len(chunk)} bytes; 40 are the least")
        if chunk[26:40] != _EXTENSIBLE_TAIL:
            raise Unsupported(f"WAV of the format {chunk[24:40].hex()}")
        tag = struct.unpack_from("<H", chunk, 24)[0]
    if not channels or not rate_hz:
        raise Damaged(f"the fmt chunk states {channels} channels and {rate_hz} Hz")
    width = align // channels or (bits + 7) // 8
    if tag not in (_PCM, _FLOAT, _A_LAW, _MU_LAW):
        raise Unsupported(f"WAV of the format {tag:#06x}; PCM, floats, A-law and mu-law are decoded")
    if align % channels or width * 8 < bits or not bits:
        raise Damaged(f"the fmt chunk states {bits} bits in blocks of {align} bytes for {channels} channels")
    kinds = {
        (_PCM, 1): ("pcm_u8", _from_u8),
        (_PCM, 2): ("pcm_s16le", _from_s16),
        (_PCM, 3): ("pcm_s24le", _from_s24),
        (_PCM, 4): ("pcm_s32le", _from_s32),
        (_FLOAT, 4): ("pcm_f32le", _from_f32),
        (_FLOAT, 8): ("pcm_f64le", _from_f64),
        (_A_LAW, 1): ("pcm_alaw", _from_a_law),
        (_MU_LAW, 1): ("pcm_mulaw", _from_mu_law),
    }
    if (tag, width) not in kinds:
        raise Unsupported(f"WAV of the format {tag} with samples of {width} bytes")
    codec, floats = kinds[tag, width]
    return _Format(codec, rate_hz, channels, width, floats)


def _from_u8(data: bytes) -> npt.NDArray[np.float32]:
    return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) * np.float32(2.0**-7)


def _from_s16(data: bytes) -> npt.NDArray[np.float32]:
    return np.frombuffer(data, "<i2").astype(np.float32) * np.float32(2.0**-15)


def _from_s24(data: bytes) -> npt.NDArray[np.float32]:
    wide = np.zeros((len(data) // 3, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return _from_s32(wide.tobytes())


def _from_s32(data: bytes) -> npt.NDArray[np.float32]:
    return np.frombuffer(data, "<i4").astype(np.float32) * np.float32(2.0**-31)


def _from_f32(data: bytes) -> npt.NDArray[np.float32]:
    return np.frombuffer(data, "<f4").astype(np.float32)


def _from_f64(data: bytes) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):  # what no float32 holds becomes inf, and is refused as such
        return np.frombuffer(data, "<f8").astype(np.float32)


def _from_a_law(data: bytes) -> npt.NDArray[np.float32]:
    return _A_LAW_VALUES[np.frombuffer(data, np.uint8)]


def _from_mu_law(data: bytes) -> npt.NDArray[np.float32]:
    return _MU_LAW_VALUES[np.frombuffer(data, np.uint8)]


def _a_law_values() -> npt.NDArray[np.float32]:
    """Return the 256 values of ITU-T G.711's A-law."""
    code = np.arange(256) ^ 0x55
    exponent, mantissa = (code >> 4) & 7, code & 15
    magnitude = np.where(exponent == 0, (mantissa << 4) + 8, ((mantissa << 4) + 0x108) << np.maximum(exponent - 1, 0))
    return (np.where(code & 0x80, magnitude, -magnitude) / 32768).astype(np.float32)


def _mu_law_values() -> npt.NDArray[np.float32]:
    """Return the 256 values of ITU-T G.711's mu-law."""
    code = ~np.arange(256) & 0xFF
    magnitude = ((((code & 15) << 3) + 0x84) << ((code >> 4) & 7)) - 0x84
    return (np.where(code & 0x80, -magnitude, magnitude) / 32768).astype(np.float32)


_A_LAW_VALUES = _a_law_values()
_MU_LAW_VALUES = _mu_law_values()
