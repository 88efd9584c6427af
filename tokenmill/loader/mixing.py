"""Mixing: which source each sample of the global sequence comes from, a pure function of (seed, number, weights).

Sample number k falls on the point frac(k · φ⁻¹ + shift) of a circle, φ being the golden ratio, and belongs to
the source whose arc of the circle, as long as its weight, holds that point. The points are spread as evenly as can
be (a Weyl sequence), so every batch has each source's share to about one sample, or two or three where it has
thousands, and only k needs remembering.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tokenmill.errors import LoaderError
from tokenmill.loader.permutation import keyed_number

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / φ, odd
_LAST_POINT = np.nextafter(2.0**64, 0)


class Mixture:
    """Sources drawn by weight.

    Args:
        weights: `[source]`, at least 0; only their ratios count.
        key: Names the seed.
    """

    def __init__(self, weights: Sequence[float], key: str) -> None:
        array = np.asarray(weights, np.float64)
        largest = array.max(initial=0)
        if not (np.isfinite(array).all() and (array >= 0).all() and largest > 0):
            raise LoaderError(f"the weights {list(weights)} of the sources must be numbers of 0 or more, not all 0")
        shares = array / largest
        ends = np.cumsum(shares) / shares.sum()
        last = int(np.flatnonzero(array)[-1])
        # What rounding leaves at the end of the circle belongs to the last source that has a weight.
        self._ends = np.minimum(ends[:last] * 2.0**64, _LAST_POINT).astype(np.uint64)
        self._shift = np.uint64(keyed_number(f"{key}/mix"))

    def sources(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """Return int64 `[sample]`: the source of each of samples first … first + count - 1."""
        numbers = np.arange(count, dtype=np.uint64) + np.uint64(first)
        points = numbers * _GOLDEN + self._shift
        return np.asarray(self._ends.searchsorted(points, "right"), np.int64)
