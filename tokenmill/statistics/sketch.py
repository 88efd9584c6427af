"""Quantiles of lengths: a log histogram with 1 % relative accuracy that merges exactly.

This is DDSketch (Masson, Rim and Lee, "DDSketch: A fast and fully-mergeable quantile sketch with relative-error
guarantees", VLDB 2019) for non-negative integers. Bucket borders are integers found by exact arithmetic, so a value's
bucket hangs on no platform's logarithm, and every count is an integer: merging in any order and grouping gives the
same sketch. (The `ddsketch` package takes one value at a time and keeps counts as floats.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

#: No quantile is further than this fraction from the exact one.
RELATIVE_ACCURACY = 0.01
_LARGEST = 2**63 - 1


def _bucket_ends() -> npt.NDArray[np.int64]:
    """Return the last integer of each bucket: 0, then floor(gamma^i) with gamma = 1.01 / 0.99, without repeats."""
    ends = [0]
    numerator = denominator = 1
    while ends[-1] < _LARGEST:
        end = min(numerator // denominator, _LARGEST)
        if end > ends[-1]:
            ends.append(end)
        numerator *= 101
        denominator *= 99
    return np.array(ends, np.int64)


#: int64 `[bucket]`: bucket b holds the integers in (BUCKET_ENDS[b - 1], BUCKET_ENDS[b]]; bucket 0 holds 0.
BUCKET_ENDS = _bucket_ends()


class Sketch:
    """How often each length came, by bucket, with exact count, sum, minimum and maximum.

    Lengths below 58 have a bucket each, so quantiles of short things are exact.

    Attributes:
        buckets: int64 `[bucket]`, values counted in each bucket of `BUCKET_ENDS`.
        total: Exact sum of the values.
        minimum: Smallest value; None where none was added.
        maximum: Largest value; None where none was added.
    """

    __slots__ = ("buckets", "maximum", "minimum", "total")

    def __init__(self) -> None:
        self.buckets: npt.NDArray[np.int64] = np.zeros(len(BUCKET_ENDS), np.int64)
        self.total = 0
        self.minimum: int | None = None
        self.maximum: int | None = None

    @property
    def count(self) -> int:
        """Number of values added."""
        return int(self.buckets.sum())

    @property
    def mean(self) -> float | None:
        """Exact mean; None where nothing was added."""
        count = self.count
        return self.total / count if count else None

    def add(self, values: npt.NDArray[np.int64]) -> None:
        """Count values `[n]`; raises ValueError where one is negative."""
        if not len(values):
            return
        smallest, largest = int(values.min()), int(values.max())
        if smallest < 0:
            raise ValueError(f"lengths are not negative; {smallest} came")
        counted = np.bincount(BUCKET_ENDS.searchsorted(values))
        self.buckets[: len(counted)] += counted
        if largest < 1 << 31:
            self.total += int(values.sum())
        else:  # in two halves, so that the sum of any int64 values is exact
            self.total += (int((values >> 32).sum()) << 32) + int((values & 0xFFFFFFFF).sum())
        self._widen(smallest, largest)

    def merge(self, other: Sketch) -> None:
        """Add what another sketch counted."""
        self.buckets += other.buckets
        self.total += other.total
        if other.minimum is not None and other.maximum is not None:
            self._widen(other.minimum, other.maximum)

    def sparse(self) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """Return the buckets that hold something, increasing, and how much each holds."""
        buckets = np.flatnonzero(self.buckets)
        return buckets.astype(np.uint32), self.buckets[buckets]

    def ends(self) -> dict[str, int | None]:
        """Return total, minimum and maximum: with `sparse`, all there is to a sketch."""
        return {"total": self.total, "minimum": self.minimum, "maximum": self.maximum}

    def fill(self, buckets: npt.NDArray[np.uint32], counts: npt.NDArray[np.int64], ends: Mapping[str, Any]) -> None:
        """Take over what `sparse` and `ends` returned, in place of all there was; raises IndexError and KeyError."""
        self.buckets[:] = 0
        self.buckets[buckets] = counts
        self.total, self.minimum, self.maximum = ends["total"], ends.get("minimum"), ends.get("maximum")

    def quantile(self, fraction: float) -> float | None:
        """Return the value at rank floor(fraction · (count - 1)) within 1 %; exact at both ends.

        Raises ValueError where fraction is outside [0, 1]. None where nothing was added.
        """
        return self.quantiles([fraction])[0]

    def quantiles(self, fractions: Sequence[float]) -> list[float | None]:
        """Return several quantiles, as `quantile` does."""
        if any(not 0 <= fraction <= 1 for fraction in fractions):
            raise ValueError(f"quantiles are fractions between 0 and 1; {list(fractions)} came")
        if self.minimum is None or self.maximum is None:
            return [None] * len(fractions)
        until = np.cumsum(self.buckets)
        count = int(until[-1])
        found: list[float | None] = []
        for fraction in fractions:
            rank = int(fraction * (count - 1))
            if rank == 0:
                found.append(float(self.minimum))
            elif rank == count - 1:
                found.append(float(self.maximum))
            else:
                bucket = int(np.searchsorted(until, rank, side="right"))
                found.append(min(max(_representative(bucket), float(self.minimum)), float(self.maximum)))
        return found

    def _widen(self, smallest: int, largest: int) -> None:
        self.minimum = smallest if self.minimum is None else min(self.minimum, smallest)
        self.maximum = largest if self.maximum is None else max(self.maximum, largest)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sketch):
            return NotImplemented
        return (self.total, self.minimum, self.maximum) == (other.total, other.minimum, other.maximum) and bool(
            np.array_equal(self.buckets, other.buckets)
        )

    __hash__ = None  # type: ignore[assignment]  # it changes


def values_at(buckets: npt.NDArray[np.int64], fractions: Sequence[float]) -> list[float]:
    """Return quantiles of values of which only the buckets are known, within 1 %.

    Args:
        buckets: int64 `[bucket]`, values counted in each bucket of `BUCKET_ENDS`, one at least.
        fractions: As `Sketch.quantiles` has them.
    """
    until = np.cumsum(buckets)
    ranks = [int(fraction * (int(until[-1]) - 1)) for fraction in fractions]
    return [_representative(int(np.searchsorted(until, rank, side="right"))) for rank in ranks]


def _representative(bucket: int) -> float:
    """Return the value whose relative distance to both ends of a bucket is the same, hence at most 1 %."""
    if bucket == 0:
        return 0.0
    first, last = int(BUCKET_ENDS[bucket - 1]) + 1, int(BUCKET_ENDS[bucket])
    return float(first) if first == last else 2 * first * last / (first + last)
