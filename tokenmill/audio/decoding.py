"""From an audio file's bytes to samples, block by block, in bounded memory, by FFmpeg's libraries (PyAV)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import av
import numpy as np
import numpy.typing as npt

from tokenmill.audio import reasons
from tokenmill.audio.audio_file import AudioContent
from tokenmill.errors import ItemError


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a file's header says.

    Attributes:
        container: `wav`, `flac`, `ogg`, `mp3` or `m4a`.
        codec: FFmpeg's name of the codec.
        rate_hz: Sample rate.
        channels: Number of channels.
        samples: How many samples a channel has; None where the header does not say.
    """

    container: str
    codec: str
    rate_hz: int
    channels: int
    samples: int | None


class DecodedAudio:
    """A file being decoded. Close it, or use it as a context manager.

    Args:
        content: The file.
        max_seconds: A longer one is refused.

    Attributes:
        info: What its header says.
        samples_read: How many samples a channel has been read.

    Raises:
        ItemError: With one of `tokenmill.audio.reasons`.
    """

    info: AudioInfo

    def __init__(self, content: AudioContent, max_seconds: float) -> None:
        if not content.size_bytes:
            raise ItemError(reasons.EMPTY_FILE, "the file has no bytes")
        self.samples_read = 0
        self._file = content.open()
        try:
            self._container = av.open(self._file, metadata_errors="ignore")
            stream = self._container.streams.audio[0]
        except (av.error.FFmpegError, IndexError) as error:
            raise ItemError(reasons.NOT_AUDIO, f"{error}") from error
        context = stream.codec_context
        self.info = AudioInfo("wav", context.name, context.sample_rate, context.channels, None)

    def blocks(self) -> Iterator[npt.NDArray[np.float32]]:
        """Yield float32 `[sample, channel]`, of any length; raises ItemError where the file is damaged."""
        try:
            for frame in self._container.decode(audio=0):
                block = _floats(frame)
                self.samples_read += len(block)
                yield block
        except av.error.FFmpegError as error:
            raise ItemError(
                reasons.DAMAGED_AUDIO, f"read as far as {self.samples_read / self.info.rate_hz:.3f} s: {error}"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._container.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _floats(frame: av.AudioFrame) -> npt.NDArray[np.float32]:
    values = frame.to_ndarray()
    values = values.T if frame.format.is_planar else values.reshape(-1, len(frame.layout.channels))
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - 128) / 128
    return (values / float(np.iinfo(values.dtype).max + 1)).astype(np.float32)
