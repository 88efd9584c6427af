"""From an audio file's bytes to samples, block by block, in bounded memory.

What is decoded, recognised by its content alone (`tokenmill.audio.containers`):

- WAV, RF64 and Wave64: PCM of 8, 16, 24 and 32 bits, floats, A-law and mu-law (`tokenmill.audio.wav`);
- FLAC (`tokenmill.audio.flac`); Ogg with Vorbis, Opus or FLAC (`tokenmill.audio.ogg`); MP3 (`tokenmill.audio.mp3`);
  M4A and MP4 with AAC or ALAC (`tokenmill.audio.m4a`).

Containers are taken apart in Python, which says exactly what is missing; of FFmpeg only the decoders of these six
codecs run, in this process, on single packets (`tokenmill.audio.packet_decoder`). Of several streams the first one of
sound is taken; cover art is passed over unread. Samples that are no numbers, or beyond what any scaling of integers
explains, make a file damaged. Everything before the damage is decoded first, so the message says how far it was read.

Sound of 1 to 64 channels and 1 to 768 kHz is decoded. A file with a header alone is a recording of 0 samples. Samples
beyond -1 … 1, as floats and lossy codecs have them, stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import numpy as np

from tokenmill.audio import reasons
from tokenmill.audio.audio_file import AudioContent
from tokenmill.audio.byte_reader import ByteReader
from tokenmill.audio.containers import open_track
from tokenmill.audio.tracks import AudioInfo, Block, Damaged, NotAudio, Unsupported
from tokenmill.errors import ItemError

__all__ = ["AudioInfo", "DecodedAudio"]

MOST_CHANNELS = 64
RATES_HZ = (1_000, 768_000)
#: Integers of 32 bits written as floats without scaling reach this far.
_LARGEST_SAMPLE = np.float32(2.0**31)


class DecodedAudio:
    """A file being decoded. Close it, or use it as a context manager. For one thread at a time; many may be open.

    Args:
        content: The file.
        max_seconds: A longer one is refused: before anything is decoded where its header tells, else once it is.

    Attributes:
        info: What its header says.
        samples_read: How many samples of a channel have been read.

    Raises:
        ItemError: With one of `tokenmill.audio.reasons`; nothing else, whatever the bytes are. It says how many seconds
            are lost: those announced, or those read where none are.
        InputError: The file cannot be opened.
        StorageError: The file cannot be read; also later.
    """

    info: AudioInfo

    def __init__(self, content: AudioContent, max_seconds: float) -> None:
        if not content.size_bytes:
            raise ItemError(reasons.EMPTY_FILE, "the file has no bytes")
        self.samples_read = 0
        self._max_seconds = max_seconds
        self._file = content.open()
        try:
            with self._explained():
                self._track = open_track(ByteReader(self._file, content.size_bytes))
            self.info = self._track.info
            self._check()
        except BaseException:
            self._file.close()
            raise

    def blocks(self) -> Iterator[Block]:
        """Yield float32 `[sample, channel]` of any length but 0, once; raises ItemError where the file is damaged."""
        with self._explained():
            for block in self._track.blocks():
                if not len(block):
                    continue
                if not (np.abs(block) <= _LARGEST_SAMPLE).all():
                    yield from self._until_bad(block)
                self.samples_read += len(block)
                if self._seconds_read > self._max_seconds:
                    raise ItemError(
                        reasons.TOO_LONG,
                        f"more than {self._max_seconds:g} s, which are the limit; its header did not tell",
                        lost_seconds=self._seconds_read,
                    )
                yield block

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _seconds_read(self) -> float:
        return self.samples_read / self.info.rate_hz

    def _until_bad(self, block: Block) -> Iterator[Block]:
        good = int((~(np.abs(block) <= _LARGEST_SAMPLE)).any(axis=1).argmax())
        if good:
            yield block[:good]
        self.samples_read += good
        raise Damaged(f"sample {self.samples_read} is {block[good].tolist()[:4]}")

    def _check(self) -> None:
        info = self.info
        if info.channels > MOST_CHANNELS or not RATES_HZ[0] <= info.rate_hz <= RATES_HZ[1]:
            raise ItemError(
                reasons.UNSUPPORTED_AUDIO,
                f"{info.channels} channels at {info.rate_hz} Hz; up to {MOST_CHANNELS} channels "
                f"at {RATES_HZ[0]} to {RATES_HZ[1]} Hz are decoded",
            )
        if info.samples is not None and info.samples > self._max_seconds * info.rate_hz:
            seconds = info.samples / info.rate_hz
            raise ItemError(
                reasons.TOO_LONG,
                f"{seconds:.3f} s by its header; {self._max_seconds:g} s are the limit",
                lost_seconds=seconds,
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Make an ItemError of what a track raises."""
        try:
            yield
        except NotAudio as error:
            raise ItemError(reasons.NOT_AUDIO, f"{error}") from error
        except Unsupported as error:
            raise ItemError(reasons.UNSUPPORTED_AUDIO, f"{error}", lost_seconds=self._lost_seconds()) from error
        except Damaged as error:
            raise ItemError(
                reasons.DAMAGED_AUDIO, f"{self._how_far()}: {error}", lost_seconds=self._lost_seconds()
            ) from error

    def _how_far(self) -> str:
        if not hasattr(self, "info"):
            return "nothing could be read"
        announced = self.info.samples
        of = "" if announced is None else f" of {announced / self.info.rate_hz:.3f} s"
        return f"read as far as {self._seconds_read:.3f} s{of}"

    def _lost_seconds(self) -> float:
        if not hasattr(self, "info"):
            return 0.0
        return self._seconds_read if self.info.samples is None else self.info.samples / self.info.rate_hz
