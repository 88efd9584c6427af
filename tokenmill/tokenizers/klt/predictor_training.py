"""Learning the predictor's regression and margins from images, with the real decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from tokenmill.images.geometry import Placed
from tokenmill.images.image_file import Pixels
from tokenmill.tokenizers.klt.coding import analyse, encode
from tokenmill.tokenizers.klt.lengths import Search, Trial, search
from tokenmill.tokenizers.klt.model import KltModel
from tokenmill.tokenizers.klt.predictor import KNOTS, Curve, crossing, features, near_probe
from tokenmill.tokenizers.klt.transform import EDGE

Floats = npt.NDArray[np.float64]

#: Fraction of images that may miss a target, on those by which margins are calibrated.
_MISSES = 0.05
#: What is added to each margin: images of other kinds differ more than those of one collection.
_SPARE = 0.0025


def fit_predictor(model: KltModel, crops: Sequence[Pixels]) -> Floats:
    """Return the predictor's table, PREDICTOR_SIZE values; half of the images fit it, the other half calibrate it."""
    trials = [_trial(model, crop) for crop in crops]
    fitted, calibrated = trials[::2], trials[1::2]
    tables: list[Floats] = []
    measures: tuple[Literal["l1", "mse"], ...] = ("l1", "mse")
    for measure in measures:
        weights = _regression(fitted, measure)
        tables += [weights, _margins(calibrated, measure, weights)]
    return np.concatenate(tables)


def with_predictor(model: KltModel, predictor: Floats) -> KltModel:
    """Return the model with that predictor."""
    return replace(model, predictor=predictor)


def _trial(model: KltModel, crop: Pixels) -> tuple[Trial, Curve]:
    placed = Placed(crop, crop.shape[:2])
    image = analyse(model, placed.tiles(EDGE), placed.grid(EDGE))
    trial = Trial(model, placed, image, encode(model, image, len(image.order.rows)))
    return trial, Curve(trial.squares(), trial.areas)


def _target(knot: float, measure: Literal["l1", "mse"]) -> float:
    return float(np.exp(knot) if measure == "l1" else np.exp(2 * knot))


def _regression(trials: Sequence[tuple[Trial, Curve]], measure: Literal["l1", "mse"]) -> Floats:
    seen, wanted = [], []
    for number, (trial, curve) in enumerate(trials):
        for knot in KNOTS[1 + number % 3 :: 3]:
            probe = crossing(curve, _target(knot, measure), measure)
            ratio = max(trial.error(probe, measure), 1e-9) / curve.level(probe, measure)
            most = len(curve.squares) - 1
            counts = np.unique(np.clip([int(probe * factor) for factor in (0.5, 0.8, 0.95, 1.05, 1.3, 2.0)], 1, most))
            for count in counts:
                error = max(trial.error(int(count), measure), 1e-9)
                wanted.append(np.log(error / curve.level(int(count), measure) / ratio))
            seen.append(features(curve, probe, ratio, counts))
    matrix, goal = np.concatenate(seen), np.array(wanted)
    return np.linalg.solve(matrix.T @ matrix + 1e-3 * np.eye(matrix.shape[1]), matrix.T @ goal)


def _margins(trials: Sequence[tuple[Trial, Curve]], measure: Literal["l1", "mse"], weights: Floats) -> Floats:
    """Return for each knot the margin with which as many images miss as may."""
    margins = np.zeros(len(KNOTS))
    for number, knot in enumerate(KNOTS):
        target = _target(knot, measure)
        needed = []
        for trial, curve in trials:
            most = len(curve.squares) - 1
            count, error = search(trial, curve, Search(policy="search", error=target, measure=measure), most)
            if error > target:
                continue
            probe, reached = near_probe(weights, curve, target, measure, partial(trial.error, measure=measure))
            ratio = max(reached, 1e-9) / curve.level(probe, measure)
            # One token fewer must look as if it missed; where one token is enough no margin is too small.
            moved = float((features(curve, probe, ratio, np.array([count - 1])) @ weights)[0])
            missing = np.log(target) - np.log(curve.level(count - 1, measure) * ratio) - moved
            needed.append(missing if count > 1 else -np.inf)
        # Where nearly all images are capped there is nothing to calibrate by: the neighbour's margin is kept.
        needed = [max(one, -0.5) for one in needed]
        margins[number] = (
            np.sort(needed)[int((1 - _MISSES) * len(needed))] if len(needed) >= 10 else margins[max(number - 1, 0)]
        )
    return margins + _SPARE
