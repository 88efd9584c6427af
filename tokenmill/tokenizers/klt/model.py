"""The learned part of the tokenizer: rotations, classes and schedules, and the one file that holds them.

A *unit* is what a row of tokens describes: a tile, or a group of up to 4 x 4 tiles of which it holds the first
coefficients. Units are of 17 kinds: tiles, and groups of each shape. The first token of a unit names its class; a kind
and a class have a *schedule*: which coefficients each next token holds, in which ball, with which step.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tokenmill.errors import AssetError
from tokenmill.tokenizers.klt import balls
from tokenmill.tokenizers.klt.transform import ROTATION_UNIT, TILE_COEFFICIENTS

Array = npt.NDArray[np.int64]

#: Most tiles along a side of a group.
GROUP = 4
#: Kinds of units: tiles are kind 0, groups of `rows` x `columns` tiles are kind 1 + (rows - 1) * GROUP + columns - 1.
KINDS = 1 + GROUP * GROUP
#: Values of a token.
CODES = 1 << 16


def kind_of(rows: int, columns: int) -> int:
    """Return the kind of a group's shape."""
    return 1 + (rows - 1) * GROUP + columns - 1


def shape_of(kind: int) -> tuple[int, int]:
    """Return rows and columns of a kind of group."""
    return (kind - 1) // GROUP + 1, (kind - 1) % GROUP + 1


@dataclass(frozen=True)
class KltModel:
    """What training learned. Rotations and predictor apart, all are tables of whole numbers.

    Attributes:
        selection: int16 `[coefficient]`, which of the cosine transform's coefficients are used, by falling variance.
        rotation: int16 `[selected, main]`, of a tile's first selected coefficients; in ROTATION_UNIT.
        shared: int16 `[1]`, how many of a tile's coefficients its group holds.
        group_rotations: int16 `[value]`, the rotations of all kinds of groups, laid end to end.
        class_counts: int16 `[kind]`, number of classes of each kind, a power of two.
        class_weights: int32 `[value]`, for each kind `[coefficient, class]`, laid end to end: the cost of a unit's
            absolute values under each class; a unit is of the class that costs least.
        class_costs: int64 `[kind, class]`, what a class costs by itself.
        starts: int32 `[kind, class]`, the schedule's first row.
        lengths: int32 `[kind, class]`, its number of rows, one a token.
        places: int16 `[row, value]`, which of the unit's coefficients the token holds; -1 where it holds fewer.
        sizes: int16 `[row]`, how many these are.
        radii: int16 `[row]`, the radius of the ball.
        steps: int32 `[row]`, one of the ball's lattice, in units of coefficients.
        inward: int32 `[row, 3]`, how much nearer to 0 the values ±1, ±2 and further ones stand, in the same units.
        depths: int16 `[row]`, how many earlier tokens of the unit held the coefficient held most often.
        gains: int64 `[row]`, by how much the token lowers the sum of squares, on average; never rising in a schedule.
        tile_gains: int64 `[kind, class]`, the same for the first token of a tile in a group of this kind and class.
        predictor: float64 `[value]`, see tokenmill.tokenizers.klt.predictor.
    """

    selection: npt.NDArray[np.int16]
    rotation: npt.NDArray[np.int16]
    shared: npt.NDArray[np.int16]
    group_rotations: npt.NDArray[np.int16]
    class_counts: npt.NDArray[np.int16]
    class_weights: npt.NDArray[np.int32]
    class_costs: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]
    places: npt.NDArray[np.int16]
    sizes: npt.NDArray[np.int16]
    radii: npt.NDArray[np.int16]
    steps: npt.NDArray[np.int32]
    inward: npt.NDArray[np.int32]
    depths: npt.NDArray[np.int16]
    gains: npt.NDArray[np.int64]
    tile_gains: npt.NDArray[np.int64]
    predictor: npt.NDArray[np.float64]

    @property
    def shared_count(self) -> int:
        """How many of a tile's coefficients its group holds."""
        return int(self.shared[0])

    def width(self, kind: int) -> int:
        """Return the number of coefficients of a unit."""
        if kind == 0:
            return len(self.selection) - self.shared_count
        rows, columns = shape_of(kind)
        return rows * columns * self.shared_count

    @cached_property
    def tile_rotation(self) -> npt.NDArray[np.float64]:
        """The rotation of tiles, ready to multiply with: float64 `[selected, main]`."""
        return self.rotation.astype(np.float64)

    @cached_property
    def inward_of(self) -> npt.NDArray[np.float64]:
        """How much nearer to 0 the values 0, ±1, ±2 and further ones stand: float64 `[4 * row]`."""
        return np.pad(self.inward, ((0, 0), (1, 0))).astype(np.float64).reshape(-1)

    @cached_property
    def rotations(self) -> dict[int, npt.NDArray[np.float64]]:
        """The rotation of each kind of group: float64 `[shared, rotated]`."""
        found, start = {}, 0
        for kind in range(1, KINDS):
            width = self.width(kind)
            stop = start + width * width
            found[kind] = self.group_rotations[start:stop].reshape(width, width).astype(np.float64)
            start = stop
        return found

    @cached_property
    def weights(self) -> dict[int, npt.NDArray[np.float64]]:
        """The class weights of each kind: float64 `[coefficient, class]`; they speak of a unit's first coefficients."""
        found, start = {}, 0
        for kind in range(KINDS):
            classes = int(self.class_counts[kind])
            width = class_width(self.width(kind))
            found[kind] = self.class_weights[start : start + width * classes].reshape(width, classes).astype(np.float64)
            start += width * classes
        return found

    def save(self) -> bytes:
        """Return the file's bytes, the same for the same tables."""
        file = io.BytesIO()
        np.savez_compressed(file, **{field.name: getattr(self, field.name) for field in fields(self)})
        return file.getvalue()


def class_width(width: int) -> int:
    """Return by how many of a unit's coefficients its class is chosen."""
    return min(width, 256)


def load_model(data: bytes, where: str) -> KltModel:
    """Read and check a weights file; raises AssetError naming `where`."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            tables = {field.name: file[field.name] for field in fields(KltModel)}
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError, NotImplementedError) as error:
        raise AssetError(
            f"this is no intact weights file: {type(error).__name__}: {error}",
            where=where,
            fix="fetch it again, or make one with `tokenmill train klt`",
        ) from error
    model = KltModel(**tables)
    problem = _problem(model)
    if problem is not None:
        raise AssetError(f"these weights cannot be: {problem}", where=where, fix="make them with `tokenmill train klt`")
    return model


def _problem(model: KltModel) -> str | None:
    """Return what is wrong with tables that were read, or None."""
    dtypes = dict(zip((field.name for field in fields(KltModel)), _DTYPES, strict=True))
    for name, dtype in dtypes.items():
        if getattr(model, name).dtype != np.dtype(dtype):
            return f"{name} is {getattr(model, name).dtype}, not {dtype}"
    rows, classes = len(model.sizes), model.class_costs.shape[-1]
    shapes = {
        "shared": (1,),
        "class_counts": (KINDS,),
        "class_costs": (KINDS, classes),
        "starts": (KINDS, classes),
        "lengths": (KINDS, classes),
        "places": (rows, balls.MAX_SIZE),
        "radii": (rows,),
        "steps": (rows,),
        "inward": (rows, 3),
        "depths": (rows,),
        "gains": (rows,),
        "tile_gains": (KINDS, classes),
    }
    for name, shape in shapes.items():
        if getattr(model, name).shape != shape:
            return f"{name} has shape {getattr(model, name).shape}, not {shape}"
    if model.selection.ndim != 1 or not ((model.selection >= 0) & (model.selection < TILE_COEFFICIENTS)).all():
        return "selection names coefficients that there are not"
    if model.rotation.ndim != 2 or model.rotation.shape[0] != model.rotation.shape[1]:
        return f"rotation has shape {model.rotation.shape}"
    if not 0 < model.shared_count <= len(model.rotation) <= len(model.selection):
        return "shared, rotation and selection do not fit each other"
    if len(model.group_rotations) != sum(model.width(kind) ** 2 for kind in range(1, KINDS)):
        return f"group_rotations has {len(model.group_rotations)} values"
    counts = model.class_counts.astype(np.int64)
    if not ((counts > 0) & (counts <= classes) & (CODES % np.maximum(counts, 1) == 0)).all():
        return "class_counts holds what divides no token"
    if len(model.class_weights) != sum(class_width(model.width(kind)) * counts[kind] for kind in range(KINDS)):
        return f"class_weights has {len(model.class_weights)} values"
    return _schedule_problem(model, counts)


def _schedule_problem(model: KltModel, counts: Array) -> str | None:
    if not ((model.sizes > 0) & (model.sizes <= balls.MAX_SIZE) & (model.steps > 0)).all():
        return "a ball of no size or no step"
    if not ((model.radii > 0) & (model.radii <= balls.MAX_RADIUS)).all():
        return "a ball of no radius"
    for kind in range(KINDS):
        for name in range(counts[kind]):
            start, length = int(model.starts[kind, name]), int(model.lengths[kind, name])
            if start < 0 or length < 1 or start + length > len(model.sizes):
                return f"schedule {name} of kind {kind} lies outside the tables"
            places = model.places[start : start + length]
            held = np.arange(balls.MAX_SIZE) < model.sizes[start : start + length, None]
            if ((places >= 0) != held).any() or places.max() >= model.width(kind):
                return f"schedule {name} of kind {kind} names coefficients that there are not"
            points = balls.COUNTS[model.sizes[start : start + length], model.radii[start : start + length]]
            if points[0] > CODES // counts[kind] or points.max() > CODES:
                return f"schedule {name} of kind {kind} has balls that no token holds"
            if (np.diff(model.gains[start : start + length]) > 0).any():
                return f"schedule {name} of kind {kind} has rising gains"
    return None


_DTYPES = (
    *("int16",) * 5,
    *("int32", "int64", "int32", "int32"),
    *("int16",) * 3,
    *("int32", "int32", "int16", "int64", "int64", "float64"),
)
assert np.iinfo(np.int16).max >= ROTATION_UNIT
