"""Packets of compressed sound to samples, by FFmpeg's decoders (PyAV): the only native code that sees a file's bytes.

FFmpeg's demuxers are not used: containers are taken apart here, in Python, so nothing in a file can choose a format, a
protocol or another file to open, and only the decoders named below ever run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import av
import av.logging
import numpy as np
import numpy.typing as npt
from av.audio.codeccontext import AudioCodecContext
from av.codec.context import CodecContext

from tokenmill.audio.tracks import Block, Damaged, Unsupported

Codec = Literal["flac", "vorbis", "opus", "mp3float", "aac", "alac"]

# What is wrong with a file is told once, by an ItemError.
av.logging.set_level(None)

#: What is damaged is refused rather than concealed; checksums are checked, but for MP3's (`tokenmill.audio.mp3`).
#: Further kinds of strictness would make silence of sound whose encoder left bits over.
_STRICT = "explode"

_SCALES = {"s16": 2.0**-15, "s32": 2.0**-31, "flt": None}
_DTYPES = {"s16": "<i2", "s32": "<i4", "flt": "<f4"}


class PacketDecoder:
    """One decoder, of one thread.

    Args:
        codec: FFmpeg's name of it.
        setup: The codec's own header (`extradata`).

    Raises:
        Damaged: It does not take its header.
    """

    def __init__(self, codec: Codec, setup: bytes) -> None:
        context = CodecContext.create(codec, "r")
        assert isinstance(context, AudioCodecContext)
        self._context = context
        self._context.thread_count = 1
        self._context.options = {"err_detect": _STRICT if codec == "mp3float" else f"crccheck+{_STRICT}"}
        if setup:
            self._context.extradata = setup
        self.rate_hz = 0
        self.channels = 0
        try:
            self._context.open(strict=False)
        except (av.error.FFmpegError, ValueError) as error:
            raise Damaged(f"the decoder {codec} does not take its header: {_words(error)}") from error

    def decode(self, packets: Iterable[bytes]) -> Block:
        """Return float32 `[sample, channel]` that packets complete; raises Damaged, or Unsupported."""
        frames: list[av.AudioFrame] = []
        try:
            for packet in packets:
                if packet:  # an empty one would mean the end
                    frames += self._context.decode(av.Packet(packet))
        except (av.error.FFmpegError, ValueError) as error:
            raise Damaged(_words(error)) from error
        return self._block(frames)

    def parsed(self, data: bytes) -> list[bytes]:
        """Cut raw data into packets; no data: the next of those that were held back."""
        try:
            return [bytes(packet) for packet in self._context.parse(data or None)]
        except (av.error.FFmpegError, ValueError) as error:
            raise Damaged(_words(error)) from error

    def flush(self) -> Block:
        """Return what the decoder held back, float32 `[sample, channel]`."""
        try:
            return self._block(self._context.decode(None))
        except (av.error.FFmpegError, ValueError) as error:
            raise Damaged(_words(error)) from error

    def _block(self, frames: Sequence[av.AudioFrame]) -> Block:
        planes = []
        for frame in frames:
            channels = frame.layout.nb_channels
            if not self.rate_hz:
                self.rate_hz, self.channels = frame.sample_rate, channels
            if (frame.sample_rate, channels) != (self.rate_hz, self.channels):
                raise Unsupported(
                    f"{self.rate_hz} Hz and {self.channels} channels become "
                    f"{frame.sample_rate} Hz and {channels} channels within the file"
                )
            planes.append(_planes(frame, channels))
        if not planes:
            return np.empty((0, max(self.channels, 1)), np.float32)
        return (planes[0] if len(planes) == 1 else np.concatenate(planes, axis=1)).T


def _planes(frame: av.AudioFrame, channels: int) -> npt.NDArray[np.float32]:
    """Return float32 `[channel, sample]`."""
    name = frame.format.name.removesuffix("p")
    dtype, scale = _DTYPES[name], _SCALES[name]
    if frame.format.is_planar:
        values = np.stack([np.frombuffer(memoryview(plane), dtype, frame.samples) for plane in frame.planes])
    else:
        values = np.frombuffer(memoryview(frame.planes[0]), dtype, frame.samples * channels).reshape(-1, channels).T
    return values if scale is None else values.astype(np.float32) * np.float32(scale)


def _words(error: Exception) -> str:
    return f"the decoder finds {getattr(error, 'strerror', None) or error}"
