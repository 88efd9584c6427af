"""How numbers are summed up: quantiles, entropies, and fractions, rounded to be the same everywhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tokenmill.statistics.sketch import Sketch

#: Name in a summary → fraction of the documents that are at most that long.
QUANTILES = {
    "min": 0.0,
    "p1": 0.01,
    "p5": 0.05,
    "p25": 0.25,
    "p50": 0.5,
    "p75": 0.75,
    "p95": 0.95,
    "p99": 0.99,
    "max": 1.0,
}


def describe(sketch: Sketch, unit: float = 1) -> dict[str, float | None]:
    """Return the quantiles and the mean of what was counted in units of `unit`."""
    values = dict(zip(QUANTILES, sketch.quantiles(list(QUANTILES.values())), strict=True))
    values["mean"] = sketch.mean
    return {name: None if value is None else rounded(value * unit) for name, value in values.items()}


def entropy_bits(counts: npt.NDArray[np.int64]) -> float | None:
    """Return the entropy of the empirical unigram distribution, in bits a token; None where there are no tokens.

    Args:
        counts: int64 `[id]`, each above 0.
    """
    total = int(counts.sum())
    if not total:
        return None
    weights = counts.astype(np.float64)
    return max(0.0, float(np.log2(total) - (weights * np.log2(weights)).sum() / total))


def ratio(part: int, whole: int) -> float | None:
    """Return part / whole, rounded; None where the whole is 0."""
    return rounded(part / whole) if whole else None


def rounded(value: float | None) -> float | None:
    """Return a number with 6 significant digits."""
    return None if value is None else float(f"{value:.6g}")
