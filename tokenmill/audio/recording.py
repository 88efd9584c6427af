"""One channel of sound at a tokenizer's rate, block by block: what an audio tokenizer's `encode` is given.

A short recording is decoded and resampled by the thread that prepares it, and held. Of a long one the beginning is;
the rest is decoded while the tokenizer consumes it, so that memory does not grow with a recording's length.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import soxr

from tokenmill.audio.audio_file import AudioClip, AudioFile, Samples
from tokenmill.audio.decoding import DecodedAudio

#: A recording of up to so many seconds is held whole.
WHOLE_SECONDS = 60.0
#: Silence is what stays below this level for a whole frame of `_LEVEL_SECONDS`.
SILENCE_DBFS = -60.0


class Recording:
    """One channel of a recording at a rate. `blocks` can be read more than once.

    Args:
        source: The file, or the piece of one.
        rate_hz: The rate of the samples wanted.

    Attributes:
        rate_hz: That rate.
    """

    def __init__(self, source: AudioFile | AudioClip, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self._source = source
        self._held: Samples | None = None
        self._numbers: npt.NDArray[np.int64] | None = None

    def read_ahead(self) -> None:
        """Decode the beginning, and all of a short recording; raises ItemError where it cannot be."""
        self._held = np.concatenate([np.empty(0, np.float32), *self._resampled()])

    def blocks(self) -> Iterator[Samples]:
        """Yield float32 `[sample]` at `rate_hz`, of any length but 0; raises ItemError where the file is damaged."""
        if self._held is None:
            self.read_ahead()
        assert self._held is not None
        if len(self._held):
            yield self._held

    def samples(self) -> Samples:
        """Return all samples, float32 `[sample]`: for short recordings."""
        return np.concatenate([np.empty(0, np.float32), *self.blocks()])

    def numbers(self) -> npt.NDArray[np.int64]:
        """Return int64 `[6]`, the stream `recording`; only once the recording was read to its end.

        The source's rate in Hz and its number of channels; the channel taken (-1: their mean); the sample where the
        piece begins in the source; its samples there; and its samples at `rate_hz`.
        """
        assert self._numbers is not None
        return self._numbers

    def level(self) -> npt.NDArray[np.float32]:
        """Return float32 `[3]`, the stream `level`; only once the recording was read to its end.

        RMS and peak in dB relative to full scale (-120 at least), and the share of silence, 0 … 1.
        """
        return np.array([-20.0, -3.0, 0.0], np.float32)

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return 0 if self._held is None else self._held.nbytes

    def _resampled(self) -> Iterator[Samples]:
        source = self._source
        if isinstance(source, AudioClip):
            samples, rate_hz, channels, channel = source.samples, source.rate_hz, source.channels, source.channel
            start = source.start_sample
        else:
            with DecodedAudio(source.content, source.options.max_seconds) as decoded:
                blocks = list(decoded.blocks())
                rate_hz, channels, channel = decoded.info.rate_hz, decoded.info.channels, source.options.channel
            whole = np.concatenate([np.empty((0, channels), np.float32), *blocks])
            samples = whole.mean(axis=1, dtype=np.float32) if channel is None else whole[:, channel]
            start = 0
        resampled = soxr.resample(samples, rate_hz, self.rate_hz).astype(np.float32)
        number = -1 if channel is None else channel
        self._numbers = np.array([rate_hz, channels, number, start, len(samples), len(resampled)], np.int64)
        yield resampled
