"""Learning the tables of KltModel from images: rotations by principal components, classes, schedules.

All that is drawn is drawn from generators with fixed seeds: the same images give the same file on one machine with one
set of library versions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tokenmill.images.geometry import Placed
from tokenmill.images.image_file import Pixels
from tokenmill.tokenizers.klt import balls
from tokenmill.tokenizers.klt.model import CODES, GROUP, KINDS, KltModel, class_width, shape_of
from tokenmill.tokenizers.klt.transform import EDGE, ROTATION_UNIT, UNIT, forward, rotate

Floats = npt.NDArray[np.float64]

#: Sizes of balls among which each token's is chosen.
_SIZES = (3, 4, 5, 6, 8, 11, 17, 24, 36)


@dataclass(frozen=True)
class TrainingSettings:
    """How large the tables become.

    Attributes:
        selected: Coefficients of a tile that are used at all.
        main: How many of them are rotated.
        shared: How many of the rotated ones a group holds.
        tile_classes: Classes of tiles.
        group_classes: Classes of each shape of groups.
        tile_tokens: Most tokens of a tile.
        group_tokens: Most tokens of a group, for each of its tiles.
        sample: Units of a class by which balls and steps are chosen.
    """

    selected: int = 4096
    main: int = 400
    shared: int = 16
    tile_classes: int = 16
    group_classes: int = 8
    tile_tokens: int = 224
    group_tokens: int = 6
    sample: int = 400


@dataclass
class Schedule:
    """The tokens of units of one kind and class, as they are chosen."""

    places: list[npt.NDArray[np.int64]] = field(default_factory=list)
    radii: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    inward: list[tuple[int, int, int]] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    gains: list[int] = field(default_factory=list)


def tile_coefficients(crops: Sequence[Pixels]) -> npt.NDArray[np.float32]:
    """Return the coefficients of the tiles of 256 x 256 images: float32 `[image, row, column, coefficient]`."""
    found = [forward(Placed(crop, crop.shape[:2]).tiles(EDGE)).astype(np.float32) for crop in crops]
    return np.stack(found).reshape(len(crops), GROUP, GROUP, -1)


def learn(crops: Sequence[Pixels], settings: TrainingSettings, report: Callable[[str], None]) -> KltModel:
    """Learn all tables but the predictor's.

    Args:
        crops: uint8 `[row, column, channel]`, 256 x 256 each.
        settings: How large the tables become.
        report: Is told what is being done.
    """
    coefficients = tile_coefficients(crops)
    report(f"{len(coefficients):,} groups of tiles")
    flat = coefficients.reshape(-1, coefficients.shape[-1])
    power = np.einsum("ij,ij->j", flat, flat, dtype=np.float64)
    selection = np.argsort(-power, kind="stable")[: settings.selected]
    flat = flat[:, selection]
    main = settings.main
    rotation = principal(flat[:, :main])
    tiles = np.concatenate([rotate(flat[:, :main].astype(np.float64), rotation), flat[:, main:]], axis=1)
    tiles = tiles.astype(np.float32).reshape(len(coefficients), GROUP, GROUP, -1)
    del coefficients, flat
    tables = _Tables(settings)
    report("tiles: classes and schedules")
    rest = tiles[..., settings.shared :].reshape(-1, tiles.shape[-1] - settings.shared)
    tile_first = tables.add(0, rest, settings.tile_classes, settings.tile_tokens).reshape(-1, GROUP, GROUP)
    rotations = []
    for kind in range(1, KINDS):
        rows, columns = shape_of(kind)
        report(f"groups of {rows} x {columns} tiles: rotation, classes and schedules")
        blocks, firsts = [], []
        # Of small groups there are many in an image: as many places are looked at as make a fair sample.
        for row in range(0, GROUP - rows + 1, rows):
            for column in range(0, GROUP - columns + 1, columns):
                block = tiles[:, row : row + rows, column : column + columns, : settings.shared]
                blocks.append(block.reshape(len(block), -1))
                firsts.append(tile_first[:, row : row + rows, column : column + columns].mean(axis=(1, 2)))
        joint = np.concatenate(blocks)[: 2 * len(tiles)].astype(np.float64)
        turned = principal(joint)
        rotations.append(turned)
        tables.add(
            kind,
            rotate(joint, turned),
            settings.group_classes,
            settings.group_tokens * rows * columns,
            np.concatenate(firsts)[: 2 * len(tiles)],
        )
    return tables.model(selection, rotation, rotations)


def principal(values: npt.NDArray[np.floating]) -> Floats:
    """Return the rotation to principal components, by falling power, in ROTATION_UNIT: `[value, component]`."""
    moments = np.zeros((values.shape[1], values.shape[1]))
    for start in range(0, len(values), 4096):
        some = values[start : start + 4096].astype(np.float64)
        moments += some.T @ some
    _, vectors = np.linalg.eigh(moments)
    vectors = vectors[:, ::-1]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    rotation: Floats = np.rint(vectors * signs * (ROTATION_UNIT - 1))
    return rotation


class _Tables:
    """Collects schedules and classes of all kinds of units."""

    def __init__(self, settings: TrainingSettings) -> None:
        self._settings = settings
        classes = max(settings.tile_classes, settings.group_classes)
        self._counts = np.zeros(KINDS, np.int16)
        self._weights: list[npt.NDArray[np.int32]] = []
        self._costs = np.zeros((KINDS, classes), np.int64)
        self._starts = np.zeros((KINDS, classes), np.int32)
        self._lengths = np.zeros((KINDS, classes), np.int32)
        self._tile_gains = np.zeros((KINDS, classes), np.int64)
        self._all = Schedule()

    def add(
        self, kind: int, values: npt.NDArray[np.floating], classes: int, tokens: int, firsts: Floats | None = None
    ) -> Floats:
        """Learn the classes and schedules of one kind; returns the drop of each unit's first token: `[unit]`.

        `firsts` `[unit]`: of groups, the mean drop of their tiles' first tokens.
        """
        self._counts[kind] = classes
        named, weights, costs = cluster(values[:, : class_width(values.shape[1])], classes)
        self._weights.append(weights.reshape(-1))
        self._costs[kind, :classes] = costs
        drops = np.zeros(len(values))
        for name in range(classes):
            members = np.flatnonzero(named == name)
            schedule, first = draw_up(values[members], tokens, CODES // classes, self._settings.sample)
            drops[members] = first
            self._starts[kind, name] = len(self._all.radii)
            self._lengths[kind, name] = len(schedule.radii)
            for mine, its in zip(vars(self._all).values(), vars(schedule).values(), strict=True):
                mine.extend(its)
            if firsts is not None:
                self._tile_gains[kind, name] = int(firsts[members].mean()) if len(members) else 0
        return drops

    def model(self, selection: npt.NDArray[np.int64], rotation: Floats, rotations: list[Floats]) -> KltModel:
        """Put the tables together."""
        rows = self._all
        places = np.full((len(rows.radii), balls.MAX_SIZE), -1, np.int16)
        for row, held in enumerate(rows.places):
            places[row, : len(held)] = held
        return KltModel(
            selection=selection.astype(np.int16),
            rotation=rotation.astype(np.int16),
            shared=np.array([self._settings.shared], np.int16),
            group_rotations=np.concatenate([one.reshape(-1) for one in rotations]).astype(np.int16),
            class_counts=self._counts,
            class_weights=np.concatenate(self._weights),
            class_costs=self._costs,
            starts=self._starts,
            lengths=self._lengths,
            places=places,
            sizes=np.array([len(held) for held in rows.places], np.int16),
            radii=np.array(rows.radii, np.int16),
            steps=np.array(rows.steps, np.int32),
            inward=np.array(rows.inward, np.int32),
            depths=np.array(rows.depths, np.int16),
            gains=np.array(rows.gains, np.int64),
            tile_gains=self._tile_gains,
            predictor=np.zeros(0),
        )


#: Class weights and costs are whole numbers, this many to a nat.
_COST_UNIT = 1 << 12
#: A class's mean absolute value counts as no less than this many grey levels: what is finer is hardly ever coded.
_FLOOR = 4.0


def cluster(
    values: npt.NDArray[np.floating], classes: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Divide units into classes of Laplacian statistics, by alternation as in k-means.

    Args:
        values: `[unit, coefficient]`.
        classes: How many.

    Returns:
        The units' classes `[unit]`, weights `[coefficient, class]` and costs `[class]`, as KltModel holds them.
    """
    magnitudes = np.abs(values).astype(np.float32)
    by_size = np.argsort(np.log(magnitudes + _FLOOR * UNIT).sum(axis=1), kind="stable")
    named = np.empty(len(values), np.int64)
    named[by_size] = np.arange(len(values)) * classes // max(len(values), 1)
    weights, costs = np.zeros((values.shape[1], classes), np.int32), np.zeros(classes, np.int64)
    for _ in range(40):
        for name in range(classes):
            members = magnitudes[named == name]
            # A class that ran empty keeps its weights; a small one leans on all units.
            if len(members):
                spread = (members.sum(axis=0, dtype=np.float64) + 2 * magnitudes.mean(axis=0)) / (len(members) + 2)
                spread = np.maximum(spread, _FLOOR * UNIT)
                weights[:, name] = np.rint(_COST_UNIT / spread)
                costs[name] = int(np.rint(_COST_UNIT * np.log(spread).sum()))
        again = (magnitudes @ weights.astype(np.float32) + costs).argmin(axis=1)
        if (again == named).all():
            break
        named = again
    return named, weights, costs


def draw_up(values: npt.NDArray[np.floating], tokens: int, first_codes: int, sample: int) -> tuple[Schedule, Floats]:
    """Choose a class's tokens one by one, each the ball that lowers the squares most.

    Args:
        values: `[unit, coefficient]`, the units of the class.
        tokens: How many at most.
        first_codes: Codes of the first token, which also names the class.
        sample: Units by which balls and steps are chosen.

    Returns:
        The schedule, and by how much its first token lowers each unit's squares: `[unit]`.
    """
    schedule = Schedule()
    if not len(values):
        values = np.zeros((1, values.shape[1]))
    rest = values[:: max(len(values) // (4 * sample), 1)].astype(np.float64)
    stride = max(len(rest) // sample, 1)
    held = np.zeros(values.shape[1], np.int64)
    power = np.square(rest).mean(axis=0)
    fits: dict[tuple[int, int], float] = {}
    first = np.zeros(len(values))
    for token in range(tokens):
        best = _best_ball(rest[::stride], power, held, CODES if token else first_codes, fits)
        radius = balls.largest_radius(len(best.at), CODES if token else first_codes)
        at, step = best.at, best.step
        left = rest[:, at]
        inward, after = _code(left, radius, step)
        gain = float((left * left - after * after).sum(axis=1).mean())
        if not token:
            whole = values[:, at].astype(np.float64)
            coded = _apply(whole, radius, step, inward)
            first = (whole * whole - coded * coded).sum(axis=1)
        if gain < (UNIT * 2.0) ** 2 and token:
            break
        rest[:, at] = after
        power[at] = np.square(after).mean(axis=0)
        schedule.places.append(at)
        schedule.radii.append(radius)
        schedule.steps.append(step)
        schedule.inward.append(inward)
        schedule.depths.append(int(held[at[0]]))
        schedule.gains.append(min(max(int(gain), 0), *schedule.gains[-1:], 1 << 60))
        held[at] += 1
    return schedule, first


@dataclass(frozen=True)
class _Ball:
    """A token that could come next: its coefficients, its step, and the mean drop of squares."""

    at: npt.NDArray[np.int64]
    step: int
    gain: float


def _best_ball(
    rest: Floats,
    power: Floats,
    held: npt.NDArray[np.int64],
    codes: int,
    fits: dict[tuple[int, int], float],
) -> _Ball:
    """Try balls of the strongest coefficients; those of a ball have been held equally often.

    Tokens of coefficients that were held equally often can be encoded together, so that there are few steps one after
    another. `fits` remembers which step, in mean absolute values, suited a size and how often its values were held.
    """
    order = np.argsort(-power, kind="stable")
    best = _Ball(np.arange(1), 1, -1.0)
    for level in np.unique(held[order[: balls.MAX_SIZE]]):
        strongest = order[held[order] == level]
        bounds = np.cumsum(power[strongest[: balls.MAX_SIZE]])
        for size in reversed(_SIZES):
            if size > len(strongest) or bounds[size - 1] <= best.gain:
                continue
            some = np.abs(rest[:, strongest[:size]])
            gain, step = _best_step(some, balls.largest_radius(size, codes), fits.get((int(level), size)))
            fits[int(level), size] = step / max(float(some.mean()), 1e-9)
            if gain > best.gain:
                best = _Ball(np.sort(strongest[:size]), max(round(step), 1), gain)
    return best


def _best_step(magnitudes: Floats, radius: int, near: float | None) -> tuple[float, float]:
    """Return the largest mean drop of squares that a ball brings, and the step that brings it."""
    mean = max(float(magnitudes.mean()), 1e-9)
    radii = np.full(len(magnitudes), radius, np.int64)
    tried: dict[float, float] = {}

    def drop(factor: float) -> float:
        if factor not in tried:
            step = factor * mean
            points = balls.nearest(magnitudes / step, radii)
            after = magnitudes - points * step
            tried[factor] = float((magnitudes * magnitudes - after * after).sum() / len(magnitudes))
        return tried[factor]

    start = near if near is not None else magnitudes.shape[1] / radius
    grid = (0.8, 1.0, 1.25) if near is not None else (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8)
    best = max((start * factor for factor in grid), key=drop)
    for _ in range(4):
        around = max((best / 1.25, best * 1.25), key=drop)
        if drop(around) <= drop(best):
            break
        best = around
    return drop(best), best * mean


def _code(left: Floats, radius: int, step: int) -> tuple[tuple[int, int, int], Floats]:
    """Code values with a ball; returns how far inward values stand, and what is left."""
    magnitudes = np.abs(left)
    points = balls.nearest(magnitudes / step, np.full(len(left), radius, np.int64))
    inward = []
    for low, high in ((1, 1), (2, 2), (3, balls.MAX_RADIUS)):
        some = (points >= low) & (points <= high)
        count = int(some.sum())
        apart = float((points[some] * step - magnitudes[some]).sum()) / (count + 4)
        inward.append(round(min(max(apart, -step / 2), step / 2)))
    found = (inward[0], inward[1], inward[2])
    return found, _apply(left, radius, step, found)


def _apply(left: Floats, radius: int, step: int, inward: tuple[int, int, int]) -> Floats:
    magnitudes = np.abs(left)
    points = balls.nearest(magnitudes / step, np.full(len(left), radius, np.int64)).astype(np.int64)
    shift = np.where(points > 0, np.array(inward)[np.clip(points - 1, 0, 2)], 0)
    after: Floats = np.sign(left) * (magnitudes - (points * step - shift))
    return after
