"""Frames in time: which frames of one stream fall on those of another, and the beginning of a row."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.audio.streams import RECORDING
from tokenmill.streams import StreamSpec

#: Rates are ratios of whole numbers (samples a second by samples a frame); a float is taken for the nearest such ratio.
_LARGEST_HOP = 100_000


def exact_rate(frame_hz: float) -> Fraction:
    """Return a stream's `frame_hz` as the ratio of whole numbers that it is: 53.333… as 160/3."""
    return Fraction(frame_hz).limit_denominator(_LARGEST_HOP)


def frame_spans(frame_hz: float, frames: int, other_hz: float, other_frames: int) -> npt.NDArray[np.int64]:
    """Say which frames of another stream fall on each frame of one: those that begin while it lasts.

    Frame n of a stream lasts from n / frame_hz to (n + 1) / frame_hz, and both streams begin at once. All is computed
    in whole numbers, so that frames are neither lost nor doubled, however long a recording is: every frame of the
    other stream falls on one frame, or begins after the last of them. Where the other stream is the slower one, frames
    have one of its frames or none.

    Args:
        frame_hz: Frames a second of the one.
        frames: How many it has.
        other_hz: Frames a second of the other.
        other_frames: How many that has.

    Returns:
        int64 `[frame + 1]`: frames `spans[n] … spans[n + 1] - 1` of the other fall on frame n.
    """
    ratio = exact_rate(other_hz) / exact_rate(frame_hz)
    # The first frame of the other that begins no earlier than frame n does: n · ratio, rounded up.
    first = -(np.arange(frames + 1, dtype=np.int64) * -ratio.numerator // ratio.denominator)
    return np.minimum(first, other_frames)


def beginning(
    streams: Mapping[str, npt.NDArray[Any]], specs: Mapping[str, StreamSpec], seconds: float
) -> dict[str, npt.NDArray[Any]]:
    """Return a row's streams as they would be of its first seconds, roughly: a row that decodes.

    Args:
        streams: A row of a table of sound.
        specs: Its streams' specs.
        seconds: How much to keep; whole frames of the slowest stream are.

    Returns:
        Name → array; those that do not run in time are whole.
    """
    rates = {name: exact_rate(spec.frame_hz) for name, spec in specs.items() if spec.frame_hz is not None}
    source_hz, _, _, _, source_samples, samples = map(int, streams[RECORDING])
    if not rates or source_samples <= seconds * source_hz:
        return dict(streams)
    slowest = min(rates.values())
    kept = Fraction(int(Fraction(seconds) * slowest) or 1) / slowest
    recording = streams[RECORDING].copy()
    recording[4] = min(int(kept * source_hz), source_samples)
    recording[5] = min(int(kept * source_hz) * samples // source_samples, samples)
    cut = {name: streams[name][: int(kept * rate)] for name, rate in rates.items()}
    return {**streams, **cut, RECORDING: recording}
