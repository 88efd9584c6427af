"""Ball codes: how sixteen bits hold several quantised coefficients at once.

A code is a point of the integer lattice in `size` dimensions whose absolute values add up to `radius` at most (the
pyramid vector quantiser of Fischer, "A pyramid vector quantizer", 1986, with its inside). There are as many points as
bits allow, so that no bit of a token is wasted, and sparse vectors, which is what images give, cost no more than
their few large values. Nothing here knows of images.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Most dimensions of a code.
MAX_SIZE = 36
#: Largest radius of a code.
MAX_RADIUS = 40
_SIDE = MAX_RADIUS + 1
_CLIP = 1 << 40


def _count_points() -> Integers:
    """Return how many points there are: int64 `[size, radius]`, sizes 0 … MAX_SIZE, clipped where no token holds it."""
    counts = np.ones((MAX_SIZE + 1, MAX_RADIUS + 1), np.int64)
    for size in range(1, MAX_SIZE + 1):
        for radius in range(1, MAX_RADIUS + 1):
            around = counts[size, radius - 1] + counts[size - 1, radius] + counts[size - 1, radius - 1]
            counts[size, radius] = min(int(around), _CLIP)
    return counts


def _count_before() -> Integers:
    """Return how many points come before the first whose first value is ±magnitude: `[size, radius, magnitude]`."""
    before = np.zeros((MAX_SIZE + 1, MAX_RADIUS + 1, MAX_RADIUS + 1), np.int64)
    for radius in range(MAX_RADIUS + 1):
        for magnitude in range(1, radius + 1):
            signs = 1 if magnitude == 1 else 2
            before[1:, radius, magnitude] = (
                before[1:, radius, magnitude - 1] + signs * COUNTS[:-1, radius - magnitude + 1]
            )
    return np.minimum(before, _CLIP)


#: Number of points `[size, radius]`.
COUNTS = _count_points()
_BEFORE = _count_before()


def largest_radius(size: int, codes: int) -> int:
    """Return the largest radius with which a ball of `size` dimensions has at most `codes` points."""
    return int(np.searchsorted(COUNTS[size], codes, side="right")) - 1


def nearest(magnitudes: Floats, radii: Integers) -> Floats:
    """Return the point next to each row of values that are not negative.

    Args:
        magnitudes: `[code, value]`, in units of the step.
        radii: `[code]`.

    Returns:
        `[code, value]`, whole numbers that add up to no more than each row's radius.
    """
    points: Floats = np.rint(magnitudes)
    outside = np.flatnonzero(points.sum(axis=1) > radii)
    if len(outside):
        points[outside] = _project(magnitudes[outside], radii[outside])
    return points


def _project(magnitudes: Floats, radii: Integers) -> Floats:
    """Bring rows outside their ball onto its surface: by the nearest real point, then the nearest whole one."""
    falling = -np.sort(-magnitudes, axis=1)
    thresholds = (np.cumsum(falling, axis=1) - radii[:, None]) / np.arange(1, magnitudes.shape[1] + 1)
    kept = np.maximum((falling > thresholds).sum(axis=1), 1)
    threshold = np.maximum(thresholds[np.arange(len(kept)), kept - 1], 0.0)
    real = np.maximum(magnitudes - threshold[:, None], 0.0)
    points: Floats = np.floor(real)
    missing = radii - points.sum(axis=1)
    by_fraction = np.argsort(points - real, axis=1, kind="stable")
    rows, nth = np.nonzero(np.arange(magnitudes.shape[1]) < missing[:, None])
    points[rows, by_fraction[rows, nth]] += 1
    return points


def rank(points: Integers, sizes: Integers, radii: Integers) -> Integers:
    """Return the number of each point among those of its ball, 0 for the one at the centre.

    Args:
        points: `[code, value]`, signed; what lies beyond a code's size is 0.
        sizes: `[code]`.
        radii: `[code]`.

    Returns:
        `[code]`, each below COUNTS[size, radius].
    """
    magnitudes = np.abs(points)
    left = radii[:, None] - np.cumsum(magnitudes, axis=1)
    dimensions = np.maximum(sizes[:, None] - np.arange(points.shape[1]), 0)
    ranks = np.take(_BEFORE, (dimensions * _SIDE + left + magnitudes) * _SIDE + magnitudes)
    rows, places = np.nonzero(points < 0)
    ranks[rows, places] += COUNTS[dimensions[rows, places] - 1, left[rows, places]]
    summed: Integers = ranks.sum(axis=1)
    return summed


@cache
def points_of(size: int, radius: int) -> npt.NDArray[np.int8]:
    """Return all points of a ball in the order of their ranks: int8 `[rank, value]`."""
    if size == 0:
        return np.zeros((1, 0), np.int8)
    blocks = []
    for value in [0, *(sign * magnitude for magnitude in range(1, radius + 1) for sign in (1, -1))]:
        rest = points_of(size - 1, radius - abs(value))
        blocks.append(np.concatenate([np.full((len(rest), 1), value, np.int8), rest], axis=1))
    return np.concatenate(blocks)
