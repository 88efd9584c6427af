"""A recording of a source as it is stored: the payload of audio items. Decoding is put off until a tokenizer wants it.

A file of its own is never held in memory: it is opened, and read as a stream. Files that lie in a tar or Parquet file
are held.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tokenmill.audio.recording import Recording

#: float32 `[sample]`, one channel, in -1 … 1 where it is not clipped.
Samples = npt.NDArray[np.float32]


class AudioContent(Protocol):
    """The bytes of a file, which can be opened more than once.

    Attributes:
        size_bytes: How many there are.
    """

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""

    def open(self) -> BinaryIO:
        """Open the file for reading and seeking; raises InputError or StorageError."""
        ...


@dataclass(frozen=True, slots=True)
class HeldContent:
    """A file that is held in memory."""

    data: bytes

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""
        return len(self.data)

    def open(self) -> BinaryIO:
        """Open the file."""
        return io.BytesIO(self.data)


@dataclass(frozen=True, slots=True)
class AudioOptions:
    """What decoding needs to know beside the bytes.

    Attributes:
        channel: The one channel to take, 0 the first; None for the mean of all.
        max_seconds: A longer recording is refused, before it is decoded where its header tells.
    """

    channel: int | None = None
    max_seconds: float = 86_400.0


@dataclass(frozen=True, slots=True)
class AudioFile:
    """An audio file, and how to decode it.

    Attributes:
        content: The file as stored: WAV, FLAC, Ogg (Vorbis, Opus, FLAC), MP3 or M4A (AAC, ALAC).
        options: How to decode it.
    """

    content: AudioContent
    options: AudioOptions = AudioOptions()

    @property
    def nbytes(self) -> int:
        """Memory that it takes: none where the file is read from where it is stored."""
        return self.content.size_bytes if isinstance(self.content, HeldContent) else 0

    def recording(self, rate_hz: int) -> Recording:
        """Return its sound at a rate. Nothing is decoded yet."""
        from tokenmill.audio.recording import Recording  # PyAV and soxr are in the extra

        return Recording(self, rate_hz)


@dataclass(frozen=True, slots=True)
class AudioClip:
    """A piece of a recording that a reader has cut out: speech between pauses, or one channel of several.

    Attributes:
        samples: float32 `[sample]` at the recording's own rate.
        rate_hz: That rate.
        channels: How many channels the recording has.
        channel: The one that was taken; None for the mean of all.
        start_sample: Where in the recording the piece begins.
    """

    samples: Samples
    rate_hz: int
    channels: int
    channel: int | None = None
    start_sample: int = 0

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.samples.nbytes

    def recording(self, rate_hz: int) -> Recording:
        """Return its sound at a rate."""
        from tokenmill.audio.recording import Recording

        return Recording(self, rate_hz)
