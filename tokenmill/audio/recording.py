"""One channel of sound at a tokenizer's rate, block by block: what an audio tokenizer's `encode` is given.

A short recording is decoded and resampled by the thread that prepares it, and held. Of a long one the beginning is;
the rest is decoded while the tokenizer consumes it, so that memory does not grow with a recording's length.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tokenmill.audio import reasons
from tokenmill.audio.audio_file import AudioClip, AudioFile, Samples
from tokenmill.audio.decoding import DecodedAudio
from tokenmill.audio.levels import Levels
from tokenmill.audio.resampling import resampled
from tokenmill.audio.tracks import Block
from tokenmill.errors import ItemError

#: A recording of up to so many seconds is held whole.
WHOLE_SECONDS = 60.0


class Recording:
    """One channel of a recording at a rate. `blocks` can be read more than once, by one thread at a time.

    A recording of 0 samples has no blocks, and its numbers and levels all the same. What the sound is (silent, clipped,
    with an offset) makes no difference, and neither does its rate: what the tokenizer's rate cannot hold is filtered
    out, and what it could hold beyond the source's stays empty. Where all channels are taken, sound is their mean.

    Args:
        source: The file, or the piece of one.
        rate_hz: The rate of the samples wanted.

    Attributes:
        rate_hz: That rate.
    """

    def __init__(self, source: AudioFile | AudioClip, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self._source = source
        self._held: list[Samples] | None = None
        self._rest: Iterator[Samples] | None = None
        self._numbers: npt.NDArray[np.int64] | None = None
        self._level: npt.NDArray[np.float32] | None = None

    def read_ahead(self) -> None:
        """Decode the beginning, and all of a short recording; raises ItemError where it cannot be."""
        held: list[Samples] = []
        count = 0
        rest = self._samples_at_rate()
        for block in rest:
            held.append(block)
            count += len(block)
            if count > WHOLE_SECONDS * self.rate_hz:
                self._rest = rest
                break
        self._held = held

    def blocks(self) -> Iterator[Samples]:
        """Yield float32 `[sample]` at `rate_hz`, of any length but 0; raises ItemError where the file is damaged.

        A long recording is decoded again for every reading but the first.
        """
        if self._held is None:
            self.read_ahead()
        held, rest = self._held, self._rest
        assert held is not None
        if rest is None:
            yield from held
            return
        self._held = self._rest = None
        held.reverse()
        while held:
            yield held.pop()
        yield from rest

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

        RMS and peak in dB relative to full scale (-120 at least), and the share of silence, 0 … 1: of frames of 20 ms
        that stay below -60 dB. They are those of the samples at `rate_hz`.
        """
        assert self._level is not None
        return self._level

    @property
    def nbytes(self) -> int:
        """Memory that its samples take."""
        return 0 if self._held is None else sum(block.nbytes for block in self._held)

    def _samples_at_rate(self) -> Iterator[Samples]:
        """Yield the recording from its beginning, and note what it was at its end."""
        source = self._source
        if isinstance(source, AudioClip):
            counted = _Counted(iter((source.samples,)))
            numbers = (source.rate_hz, source.channels, source.channel, source.start_sample)
            yield from self._followed(counted, *numbers)
            return
        channel = source.options.channel
        with DecodedAudio(source.content, source.options.max_seconds) as decoded:
            info = decoded.info
            if channel is not None and channel >= info.channels:
                raise ItemError(
                    reasons.UNSUPPORTED_AUDIO, f"channel {channel} is asked for, and there are {info.channels}"
                )
            counted = _Counted(one_channel(block, channel) for block in decoded.blocks())
            yield from self._followed(counted, info.rate_hz, info.channels, channel, 0)

    def _followed(
        self, counted: _Counted, rate_hz: int, channels: int, channel: int | None, start: int
    ) -> Iterator[Samples]:
        levels, count = Levels(self.rate_hz), 0
        for block in resampled(iter(counted), rate_hz, self.rate_hz):
            levels.add(block)
            count += len(block)
            yield block
        number = -1 if channel is None else channel
        self._numbers = np.array([rate_hz, channels, number, start, counted.count, count], np.int64)
        self._level = levels.values()


class _Counted:
    """Blocks, and how many samples passed."""

    def __init__(self, blocks: Iterator[Samples]) -> None:
        self.count = 0
        self._blocks = blocks

    def __iter__(self) -> Iterator[Samples]:
        for block in self._blocks:
            self.count += len(block)
            yield block


def one_channel(block: Block, channel: int | None) -> Samples:
    """Return float32 `[sample]`: one channel of `[sample, channel]`, or the mean of all, added in their order."""
    if channel is not None:
        return np.ascontiguousarray(block[:, channel])
    total = block[:, 0].copy()
    for other in range(1, block.shape[1]):
        total += block[:, other]
    return total if block.shape[1] == 1 else total / np.float32(block.shape[1])
