"""From an image's squared errors, which the transform knows for every length, to the length that meets a target.

Two trial decodings, at a first guess and at a better one, tell how the measured error of this very image relates to
its squared error; a small regression says how that relation changes from there to the target, and a margin, calibrated
for targets of all sizes, how much further to go so that few images miss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Logarithms of the targets, as root mean squares, between which margins are interpolated.
KNOTS = np.log(np.array([0.01, 0.02, 0.03, 0.045, 0.06, 0.08, 0.1, 0.13, 0.17, 0.25]))
_FEATURES = 7
#: Values of the table that KltModel holds: for each measure a regression and its margins.
PREDICTOR_SIZE = 2 * (_FEATURES + len(KNOTS))
#: What l1 usually is of the root mean square.
_USUAL = 0.62


@dataclass(frozen=True)
class Curve:
    """An image's mean square error, in [0, 1], after 0, 1, 2 … tokens `[token + 1]`, and its size in 64 x 64 areas."""

    squares: Floats
    areas: int

    def level(self, count: int, measure: Literal["l1", "mse"]) -> float:
        """Return what the measure would be if all errors were of one size."""
        square = max(float(self.squares[count]), 1e-9)
        return square**0.5 if measure == "l1" else square

    def first_below(self, level: float, measure: Literal["l1", "mse"]) -> int:
        """Return the fewest tokens at which `level` is reached; all where it never is."""
        square = level * level if measure == "l1" else level
        reached = self.squares <= square
        return int(reached.argmax()) if reached[-1] else len(self.squares) - 1


def crossing(curve: Curve, target: float, measure: Literal["l1", "mse"]) -> int:
    """Return a first guess at the number of tokens that meets a target."""
    return max(curve.first_below(target / _USUAL if measure == "l1" else target, measure), 1)


def features(curve: Curve, probe: int, ratio: float, counts: npt.NDArray[np.int64]) -> Floats:
    """Return what the regression sees of some lengths: `[length, feature]`; 0 at the probe itself."""
    squares = np.maximum(curve.squares, 1e-9)
    step = 0.5 * np.log(squares[counts] / squares[probe])
    log_ratio = np.log(max(ratio, 1e-3))
    level = 0.5 * np.log(squares[probe])
    return np.stack(
        [step, step * log_ratio, step * level, step * step, step * step * log_ratio, np.abs(step), step**3], axis=1
    )


def near_probe(
    weights: Floats, curve: Curve, target: float, measure: Literal["l1", "mse"], error_of: Callable[[int], float]
) -> tuple[int, float]:
    """Return a number of tokens near the target, and the error measured there; two lengths are tried.

    Args:
        weights: The regression's.
        curve: The image's squared errors.
        target: The error to reach.
        measure: Of it.
        error_of: Measures the error with a number of tokens.
    """
    first = crossing(curve, target, measure)
    measured = error_of(first)
    predicted = _predicted(weights, curve, first, measured, measure)
    reached = predicted <= np.log(target)
    second = int(reached.argmax()) + 1 if reached.any() else len(predicted)
    return (first, measured) if second == first else (second, error_of(second))


def _predicted(weights: Floats, curve: Curve, probe: int, measured: float, measure: Literal["l1", "mse"]) -> Floats:
    """Return the logarithm of the error that is expected with 1, 2, 3 … tokens."""
    counts = np.arange(1, len(curve.squares))
    ratio = max(measured, 1e-9) / curve.level(probe, measure)
    levels = 0.5 * np.log(np.maximum(curve.squares[1:], 1e-9)) * (1 if measure == "l1" else 2)
    expected: Floats = levels + np.log(ratio) + features(curve, probe, ratio, counts) @ weights
    return expected


def _tables(predictor: Floats, measure: Literal["l1", "mse"]) -> tuple[Floats, Floats]:
    mine = predictor.reshape(2, -1)[("l1", "mse").index(measure)]
    return mine[:_FEATURES], mine[_FEATURES:]


def likely_crossing(
    predictor: Floats,
    curve: Curve,
    target: float,
    measure: Literal["l1", "mse"],
    error_of: Callable[[int], float],
) -> int:
    """Return the number of tokens that is likely to meet a target.

    Args:
        predictor: float64 `[PREDICTOR_SIZE]`, as KltModel holds it.
        curve: The image's squared errors.
        target: The error to reach.
        measure: Of it.
        error_of: Measures the error with a number of tokens; it is asked twice.
    """
    weights, margins = _tables(predictor, measure)
    probe, measured = near_probe(weights, curve, target, measure, error_of)
    predicted = _predicted(weights, curve, probe, measured, measure)
    reached = predicted <= np.log(target) - margin(margins, target, measure)
    return int(reached.argmax()) + 1 if reached.any() else len(predicted)


def margin(margins: Floats, target: float, measure: Literal["l1", "mse"]) -> float:
    """Return by how much, as a logarithm, to aim below a target."""
    return float(np.interp(np.log(target) * (1 if measure == "l1" else 0.5), KNOTS, margins))
