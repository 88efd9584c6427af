"""An image's coefficients to tokens and back.

The tokens of all units stand in one row, by the gain that their schedules expect, so that the row's beginning is a
coarser image. What comes next follows from the classes that the first tokens of the units before have named: no
length of a tile is stored anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tokenmill.images.image_file import Pixels
from tokenmill.tokenizers.klt import balls
from tokenmill.tokenizers.klt.model import CODES, GROUP, KltModel, kind_of
from tokenmill.tokenizers.klt.transform import TILE_COEFFICIENTS, backward, forward, rotate

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_FIRST = np.iinfo(np.int64).max
#: Tiles that are transformed together: what they take in between still lies in a core's own cache.
_TILES_AT_ONCE = 8


@dataclass(frozen=True)
class Layout:
    """The units of a grid of tiles: groups first, row by row, then tiles, row by row.

    Attributes:
        kinds: `[unit]`.
        offsets: `[unit + 1]`, where each unit's coefficients begin.
        group_of: `[tile]`, the unit that is the tile's group.
        members: A group's tiles `[tile]`, row by row, for each group.
    """

    kinds: Integers
    offsets: Integers
    group_of: Integers
    members: tuple[Integers, ...]

    @property
    def group_count(self) -> int:
        """Number of units that are groups."""
        return len(self.members)


def lay_out(model: KltModel, rows: int, columns: int) -> Layout:
    """Return the units of a grid."""
    numbers = np.arange(rows * columns).reshape(rows, columns)
    blocks = [
        numbers[row : row + GROUP, column : column + GROUP]
        for row in range(0, rows, GROUP)
        for column in range(0, columns, GROUP)
    ]
    kinds = np.array([*(kind_of(*block.shape) for block in blocks), *(0 for _ in range(rows * columns))], np.int64)
    widths = np.array([model.width(kind) for kind in range(len(model.class_counts))], np.int64)
    group_of = np.empty(rows * columns, np.int64)
    for number, block in enumerate(blocks):
        group_of[block] = number
    members = tuple(block.reshape(-1) for block in blocks)
    return Layout(kinds, np.concatenate([[0], np.cumsum(widths[kinds])]), group_of, members)


@dataclass(frozen=True)
class Order:
    """Tokens in the order of a row.

    Attributes:
        units: `[token]`, whose it is.
        rows: `[token]`, its row in the model's schedules.
    """

    units: Integers
    rows: Integers


def order_tokens(model: KltModel, layout: Layout, classes: Integers) -> Order:
    """Return all tokens that the units have, in order.

    Args:
        model: The learned tables.
        layout: The image's units.
        classes: `[unit]`, the class of each; -1 for units whose class is not known, which are left out.
    """
    known = np.flatnonzero(classes >= 0)
    kinds, named = layout.kinds[known], classes[known]
    lengths = model.lengths[kinds, named].astype(np.int64)
    units = np.repeat(known, lengths)
    place = np.arange(len(units)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows = np.repeat(model.starts[kinds, named], lengths) + place
    gains = np.minimum(model.gains[rows], np.repeat(_first_gains(model, layout, classes)[known], lengths))
    gains[place == 0] = _first_gains(model, layout, classes)[known]
    # Of equal gains first tokens go first: they name classes, on which the order of everything after depends.
    sequence = np.lexsort((units, place, -gains))
    return Order(units[sequence], rows[sequence])


def _first_gains(model: KltModel, layout: Layout, classes: Integers) -> Integers:
    """Return by which gain each unit's first token is placed: groups before all, tiles as their group's class says."""
    groups = layout.group_count
    gains = np.full(len(layout.kinds), _FIRST)
    above = np.maximum(classes[:groups], 0)
    gains[groups:] = model.tile_gains[layout.kinds[:groups], above][layout.group_of]
    return gains


def read_classes(model: KltModel, layout: Layout, ids: Integers) -> Integers:
    """Return the class that each unit's first token names: `[unit]`, -1 where the ids end before it."""
    classes = np.full(len(layout.kinds), -1, np.int64)
    codes = CODES // model.class_counts.astype(np.int64)[layout.kinds]
    groups = min(layout.group_count, len(ids))
    classes[:groups] = ids[:groups] // codes[:groups]
    if groups < layout.group_count:
        return classes
    first = _first_gains(model, layout, classes)
    for gain in np.unique(first[layout.group_count :])[::-1]:
        order = order_tokens(model, layout, classes)
        begins = model.starts[layout.kinds[order.units], classes[order.units]] == order.rows
        before = np.where(begins, first[order.units], np.minimum(model.gains[order.rows], first[order.units])) > gain
        start = int(before.sum())
        units = np.flatnonzero(first == gain)[: max(len(ids) - start, 0)]
        classes[units] = ids[start : start + len(units)] // codes[units]
    return classes


@dataclass(frozen=True)
class Analysed:
    """An image's coefficients, and the tokens that it can have.

    Attributes:
        layout: Its units.
        values: Coefficients of all units, laid end to end, and a 0 after the last.
        classes: `[unit]`.
        order: All tokens.
    """

    layout: Layout
    values: Floats
    classes: Integers
    order: Order


def analyse(model: KltModel, tiles: Pixels, grid: tuple[int, int]) -> Analysed:
    """Transform an image's tiles, classify its units and order the tokens."""
    layout = lay_out(model, *grid)
    main = len(model.rotation)
    tile_values = np.empty((len(tiles), len(model.selection)))
    for start in range(0, len(tiles), _TILES_AT_ONCE):
        some = slice(start, start + _TILES_AT_ONCE)
        coefficients = forward(tiles[some])
        chosen = np.take(coefficients, model.selection, axis=1)
        tile_values[some, :main] = rotate(chosen[:, :main], model.tile_rotation)
        tile_values[some, main:] = chosen[:, main:]
    shared = model.shared_count
    values = np.zeros(layout.offsets[-1] + 1)
    for kind in np.unique(layout.kinds[: layout.group_count]):
        units = np.flatnonzero(layout.kinds == kind)
        joint = np.stack([tile_values[layout.members[unit], :shared].reshape(-1) for unit in units])
        values[layout.offsets[units][:, None] + np.arange(joint.shape[1])] = rotate(joint, model.rotations[int(kind)])
    values[layout.offsets[layout.group_count] : -1] = tile_values[:, shared:].reshape(-1)
    classes = _classify(model, layout, values)
    return Analysed(layout, values, classes, order_tokens(model, layout, classes))


def _classify(model: KltModel, layout: Layout, values: Floats) -> Integers:
    classes = np.empty(len(layout.kinds), np.int64)
    for kind in np.unique(layout.kinds):
        units = np.flatnonzero(layout.kinds == kind)
        weights = model.weights[int(kind)]
        magnitudes = np.abs(values[layout.offsets[units][:, None] + np.arange(len(weights))])
        costs = magnitudes @ weights + model.class_costs[kind, : weights.shape[1]]
        classes[units] = costs.argmin(axis=1)
    return classes


@dataclass(frozen=True)
class Coded:
    """Tokens of an image.

    Attributes:
        ids: `[token]`.
        points: `[token, value]`, the balls' points that the ids stand for.
        drops: `[token]`, by how much each lowers the sum of squares, in units of coefficients.
    """

    ids: Integers
    points: Integers
    drops: Floats


def encode(model: KltModel, image: Analysed, count: int) -> Coded:
    """Return the image's first `count` tokens, or all where there are fewer."""
    return encode_together(model, [image], [count])[0]


def encode_together(model: KltModel, images: Sequence[Analysed], counts: Sequence[int]) -> list[Coded]:
    """Return the first tokens of several images, as many as asked of each; none depends on the others.

    Small arrays cost more to call for than to compute: together, images take less time.
    """
    if not images:
        return []
    orders = [
        Order(image.order.units[:count], image.order.rows[:count]) for image, count in zip(images, counts, strict=True)
    ]
    starts = np.cumsum([0, *(len(image.values) for image in images)])[:-1]
    places = np.concatenate(
        [
            _places(model, image.layout, order.units, order.rows) + start
            for image, order, start in zip(images, orders, starts, strict=True)
        ]
    )
    rows = np.concatenate([order.rows for order in orders])
    # Tokens of one depth hold different coefficients. Small balls are taken apart from large ones: less to pad.
    steps = 2 * model.depths[rows] + (model.sizes[rows] > balls.MAX_SIZE // 2)
    sequence = np.argsort(steps, kind="stable")
    back = np.empty_like(sequence)
    back[sequence] = np.arange(len(sequence))
    ends = np.flatnonzero(np.diff(steps[sequence], append=-1)) + 1
    rows, places = rows[sequence], places[sequence]
    sizes, radii = model.sizes[rows].astype(np.int64), model.radii[rows].astype(np.int64)
    rest = np.concatenate([image.values for image in images])
    points = np.zeros((len(rows), balls.MAX_SIZE), np.int64)
    drops, ids = np.zeros(len(rows)), np.zeros(len(rows), np.int64)
    for start, stop in pairwise([0, *ends.tolist()]):
        some = slice(start, stop)
        width = int(sizes[some].max())
        at = places[some, :width]
        left = np.take(rest, at)
        magnitudes = balls.nearest(np.abs(left) / model.steps[rows[some], None], radii[some])
        signed = np.copysign(magnitudes, left)
        points[some, :width] = signed
        ids[some] = balls.rank(points[some, :width], sizes[some], radii[some])
        after = left - _reconstructed(model, rows[some], signed)
        drops[some] = np.einsum("ij,ij->i", left, left) - np.einsum("ij,ij->i", after, after)
        rest[at] = after
    ids, points, drops = ids[back], points[back], drops[back]
    found = []
    stop = 0
    for image, order in zip(images, orders, strict=True):
        mine = slice(stop, stop := stop + len(order.rows))
        found.append(Coded(_with_classes(model, image, order, ids[mine]), points[mine], drops[mine]))
    return found


def _with_classes(model: KltModel, image: Analysed, order: Order, ids: Integers) -> Integers:
    """Return ids of which the first of each unit names its class as well."""
    kinds, classes = image.layout.kinds[order.units], image.classes[order.units]
    first = model.starts[kinds, classes] == order.rows
    ids[first] += (classes * (CODES // model.class_counts.astype(np.int64)[kinds]))[first]
    return ids


def _places(model: KltModel, layout: Layout, units: Integers, rows: Integers) -> Integers:
    """Return where each token's coefficients lie: `[token, value]`; what it does not hold lies behind the last."""
    places = model.places[rows].astype(np.int64)
    return np.where(places < 0, layout.offsets[-1], places + layout.offsets[units][:, None])


def _reconstructed(model: KltModel, rows: Integers, points: Integers | Floats) -> Floats:
    """Return the coefficients that points stand for: `[token, value]`."""
    magnitudes = np.abs(points)
    inward = np.take(model.inward_of, 4 * rows[:, None] + np.minimum(magnitudes, 3).astype(np.int64))
    found: Floats = np.copysign(magnitudes * model.steps[rows, None] - inward, points)
    return found


def decode_ids(model: KltModel, layout: Layout, ids: Integers) -> Floats:
    """Return the coefficients of all units, laid end to end, that a row's beginning stands for.

    Ids that no encoder writes stand for the last point of their ball.
    """
    classes = read_classes(model, layout, ids)
    order = order_tokens(model, layout, classes)
    units, rows = order.units[: len(ids)], order.rows[: len(ids)]
    ids = ids[: len(rows)].copy()
    kinds = layout.kinds[units]
    first = model.starts[kinds, classes[units]] == rows
    ids[first] %= (CODES // model.class_counts.astype(np.int64)[kinds])[first]
    points = np.zeros((len(rows), balls.MAX_SIZE), np.int64)
    balls_used = np.stack([model.sizes[rows], model.radii[rows]], axis=1)
    for size, radius in np.unique(balls_used, axis=0):
        some = np.flatnonzero((balls_used == (size, radius)).all(axis=1))
        table = balls.points_of(int(size), int(radius))
        points[some, :size] = table[np.minimum(ids[some], len(table) - 1)]
    return add_up(model, layout, Order(units, rows), points)


def add_up(model: KltModel, layout: Layout, order: Order, points: Integers) -> Floats:
    """Return the coefficients that tokens, given as points of their balls, amount to."""
    values = np.zeros(layout.offsets[-1] + 1)
    at = _places(model, layout, order.units, order.rows)
    np.add.at(values, at.reshape(-1), _reconstructed(model, order.rows, points).reshape(-1))
    values[-1] = 0
    return values


def synthesise(model: KltModel, layout: Layout, values: Floats) -> Pixels:
    """Return the tiles that coefficients of all units stand for: uint8 `[tile, row, column, channel]`."""
    shared, main = model.shared_count, len(model.rotation)
    tile_count = len(layout.group_of)
    tile_values = np.empty((tile_count, len(model.selection)))
    for kind in np.unique(layout.kinds[: layout.group_count]):
        units = np.flatnonzero(layout.kinds == kind)
        rotated = values[layout.offsets[units][:, None] + np.arange(model.width(int(kind)))]
        joint = rotate(rotated, model.rotations[int(kind)].T)
        for unit, one in zip(units, joint, strict=True):
            tile_values[layout.members[unit], :shared] = one.reshape(-1, shared)
    tile_values[:, shared:] = values[layout.offsets[layout.group_count] : -1].reshape(tile_count, -1)
    tiles = np.empty((tile_count, 64, 64, 3), np.uint8)
    for start in range(0, tile_count, _TILES_AT_ONCE):
        some = slice(start, start + _TILES_AT_ONCE)
        coefficients = np.zeros((len(tile_values[some]), TILE_COEFFICIENTS))
        coefficients[:, model.selection[:main]] = rotate(tile_values[some, :main], model.tile_rotation.T)
        coefficients[:, model.selection[main:]] = tile_values[some, main:]
        tiles[some] = backward(coefficients)
    return tiles
