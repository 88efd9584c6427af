"""What is known of a table's recordings: how long and how loud they are, how much is silent, what they came as.

It is read off the streams `recording` and `level`, which every table of sound has.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.audio.streams import LEVEL, LEVEL_SPEC, RECORDING, RECORDING_SPEC
from tokenmill.statistics import arrow
from tokenmill.statistics.sketch import Sketch
from tokenmill.streams import Jagged, StreamSpec

#: Levels are counted in tenths of a dB above this; what is lower, or no number, counts as this.
QUIETEST_DBFS = -120.0
_STEPS_PER_DB = 10
#: Louder is counted as this. Full scale is 0 dBFS; only files of floating-point samples exceed it.
_LOUDEST_DBFS = 120.0

#: Measures of the series in a file: recordings by bucket of milliseconds, by the source's rate and channels, the
#: source's samples by its rate, and recordings by tenths of a dB above -120 dBFS.
_LENGTHS = "documents_by_milliseconds"
_COUNTS = {
    "by_rate": (RECORDING, "documents_by_source_hz"),
    "samples": (RECORDING, "samples_by_source_hz"),
    "by_channels": (RECORDING, "documents_by_source_channels"),
    "rms": (LEVEL, "documents_by_rms_decibel_tenths"),
    "peak": (LEVEL, "documents_by_peak_decibel_tenths"),
}


@dataclass(slots=True)
class SoundStatistics:
    """Counts of recordings.

    Attributes:
        silent_microseconds: How long they are silent, in all.
        lengths: Sketch of their lengths in whole milliseconds.
        by_rate: The source's rate in Hz → recordings.
        samples: The source's rate in Hz → samples of the source that were tokenized (of one channel).
        by_channels: How many channels the source has → recordings.
        rms: RMS in tenths of a dB above -120 dBFS → recordings.
        peak: The same of their peaks.
    """

    silent_microseconds: int = 0
    lengths: Sketch = field(default_factory=Sketch)
    by_rate: dict[int, int] = field(default_factory=dict)
    samples: dict[int, int] = field(default_factory=dict)
    by_channels: dict[int, int] = field(default_factory=dict)
    rms: dict[int, int] = field(default_factory=dict)
    peak: dict[int, int] = field(default_factory=dict)

    @classmethod
    def for_streams(cls, specs: Mapping[str, StreamSpec]) -> SoundStatistics | None:
        """Return counts of no recordings; None for a table of something else."""
        return cls() if specs.get(RECORDING) == RECORDING_SPEC and specs.get(LEVEL) == LEVEL_SPEC else None

    @property
    def seconds(self) -> Fraction:
        """How long all recordings are, exactly."""
        return sum((Fraction(samples, rate_hz) for rate_hz, samples in self.samples.items()), Fraction())

    def add(self, recordings: Jagged, levels: Jagged) -> None:
        """Count recordings by their rows of the two streams, which were checked against their specs."""
        source_hz, channels, _, _, samples, _ = recordings.values.reshape(-1, 6).T
        rms, peak, silence = levels.values.reshape(-1, 3).T.astype(np.float64)
        self.lengths.add(samples * 1000 // source_hz)
        # Each is rounded by itself, so that sums are the same in any order.
        self.silent_microseconds += int(np.rint(silence * samples / source_hz * 1e6).astype(np.int64).sum())
        _count(self.by_rate, source_hz)
        _count(self.samples, source_hz, samples)
        _count(self.by_channels, channels)
        _count(self.rms, _steps(rms))
        _count(self.peak, _steps(peak))

    def merge(self, other: SoundStatistics) -> None:
        """Add what another counted."""
        self.silent_microseconds += other.silent_microseconds
        self.lengths.merge(other.lengths)
        for name in _COUNTS:
            mine = getattr(self, name)
            for key, count in getattr(other, name).items():
                mine[key] = mine.get(key, 0) + count

    def counts(self) -> dict[str, Any]:
        """Return, for a file's JSON header, all that is not a series of counts."""
        return {"silent_microseconds": self.silent_microseconds, "milliseconds": self.lengths.ends()}

    def series(self, source: str) -> Iterator[arrow.Series]:
        """Give the series of counts, for a file."""
        yield arrow.Series(source, RECORDING, _LENGTHS, *self.lengths.sparse())
        for name, (stream, measure) in _COUNTS.items():
            counted = sorted(getattr(self, name).items())
            keys, counts = (np.array([pair[place] for pair in counted], np.int64) for place in (0, 1))
            yield arrow.Series(source, stream, measure, keys.astype(np.uint32), counts)

    def fill(self, file: arrow.StatisticsFile, counts: Mapping[str, Any], source: str) -> None:
        """Take over what a file holds of the recordings, within `arrow.reading`."""
        self.silent_microseconds = counts["silent_microseconds"]
        self.lengths.fill(*file.series[source, RECORDING, _LENGTHS], counts["milliseconds"])
        for name, place in _COUNTS.items():
            keys, counted = file.series[source, *place]
            setattr(self, name, dict(zip(keys.tolist(), counted.tolist(), strict=True)))

    def sums(self, documents: int) -> Iterator[tuple[str, int, int]]:
        """Give what is to be equal: what it is of, the number that is said, and what the counts sum to."""
        yield "recordings by length", documents, self.lengths.count
        for name, (_, measure) in _COUNTS.items():
            if name != "samples":
                yield measure.replace("_", " "), documents, sum(getattr(self, name).values())


def microseconds(seconds: float) -> int:
    """Return seconds as the whole number that is counted: 0 for what is no number, or below 0."""
    return round(max(seconds, 0.0) * 1_000_000) if math.isfinite(seconds) else 0


def level_quantiles(counts: Mapping[int, int], fractions: list[float]) -> list[float | None]:
    """Return the levels in dBFS, to a tenth of a dB, at ranks floor(fraction · (count - 1)) of counted levels."""
    if not counts:
        return [None] * len(fractions)
    steps = sorted(counts)
    until = np.cumsum([counts[step] for step in steps])
    ranks = [int(fraction * (int(until[-1]) - 1)) for fraction in fractions]
    return [steps[int(until.searchsorted(rank, side="right"))] / _STEPS_PER_DB + QUIETEST_DBFS for rank in ranks]


def _steps(levels: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    heard = np.nan_to_num(levels, nan=QUIETEST_DBFS).clip(QUIETEST_DBFS, _LOUDEST_DBFS)
    return np.rint((heard - QUIETEST_DBFS) * _STEPS_PER_DB).astype(np.int64)


def _count(counts: dict[int, int], keys: npt.NDArray[np.int64], weights: npt.NDArray[np.int64] | None = None) -> None:
    """Add to counts by key: one for each of the keys `[n]`, or its weight; what is 0 is not written down."""
    found, places = np.unique(keys, return_inverse=True)
    sums = np.zeros(len(found), np.int64)
    np.add.at(sums, places, 1 if weights is None else weights)
    for key, count in zip(found.tolist(), sums.tolist(), strict=True):
        if count:
            counts[key] = counts.get(key, 0) + count
