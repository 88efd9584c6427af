"""The learned part of the tokenizer: codebooks of levels and shapes, the order of codes, and the file that holds them.

A *band* is a range of coefficients whose power is coded as one level. A *group* is a range of coefficients that a code
describes together. A *cell* is a group and a depth: the codebook that refines the group after that many codes of it.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass, fields
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenmill.errors import AssetError
from tokenmill.tokenizers.mdct_rvq.transform import HOP

#: What the file's tables mean; raised whenever they come to mean something else.
VERSION = 1
#: Ids of each codebook.
CODES = 1024
#: Most codebooks of a row; a model has at least as many.
MOST_CODEBOOKS = 32
#: Levels are whole numbers, this many to a doubling of power.
LEVEL_UNIT = 8
#: The highest level: coefficients of the largest samples there can be.
LARGEST_LEVEL = 56 * LEVEL_UNIT
#: Coefficients in units of their band's level are whole numbers, this many to one.
SHAPE_UNIT = 32
#: Codebook values are cut off at this many times the level.
LARGEST_SHAPE = 8
#: Groups' weights in the order of codes are whole numbers, this many to a doubling of the gain for one of the power.
GAIN_UNIT = 1 << 10


class Search(NamedTuple):
    """A codebook, made ready for `nearest`: `[value, code]`, times -2, and the codes' squared lengths `[code]`."""

    codebook: npt.NDArray[np.float32]
    offsets: npt.NDArray[np.float32]


@dataclass(frozen=True)
class MdctRvqModel:
    """What training learned: tables of whole numbers.

    Attributes:
        version: int16 `[1]`, VERSION.
        bands: int16 `[band + 1]`, where bands begin, and the end of the last.
        groups: int16 `[group + 1]`, the same of groups.
        levels: int16 `[stage, code, band]`, codebooks of levels; code 0 of stage 0 is silence.
        shapes: int16 `[value]`, for each cell `[code, coefficient]` in SHAPE_UNIT, laid end to end.
        cell_groups: int16 `[cell]`, each cell's group; those of a group stand in the order of their depths.
        cell_gains: int32 `[cell]`, how much a code lowers the error: logarithm to base 2, in LEVEL_UNIT * GAIN_UNIT.
        weights: int32 `[band, group]`, by how much a band's level raises the gain of a group's codes; in GAIN_UNIT.
        noise: int16 `[group]`, level of the noise that stands in for a group without codes; in SHAPE_UNIT.
    """

    version: npt.NDArray[np.int16]
    bands: npt.NDArray[np.int16]
    groups: npt.NDArray[np.int16]
    levels: npt.NDArray[np.int16]
    shapes: npt.NDArray[np.int16]
    cell_groups: npt.NDArray[np.int16]
    cell_gains: npt.NDArray[np.int32]
    weights: npt.NDArray[np.int32]
    noise: npt.NDArray[np.int16]

    @property
    def codebooks(self) -> int:
        """How many codes of a frame there can be."""
        return len(self.levels) + len(self.cell_groups)

    @cached_property
    def band_widths(self) -> npt.NDArray[np.int64]:
        """Coefficients of each band."""
        return np.diff(self.bands.astype(np.int64))

    @cached_property
    def group_widths(self) -> npt.NDArray[np.int64]:
        """Coefficients of each group."""
        return np.diff(self.groups.astype(np.int64))

    @cached_property
    def level_codes(self) -> list[npt.NDArray[np.float32]]:
        """Codebooks of levels: `[code, band]` for each stage."""
        return [stage.astype(np.float32) for stage in self.levels]

    @cached_property
    def shape_codes(self) -> list[npt.NDArray[np.float32]]:
        """Codebooks of shapes: `[code, coefficient]` for each cell."""
        widths = self.group_widths[self.cell_groups]
        ends = np.cumsum(widths * CODES)
        parts = np.split(self.shapes.astype(np.float32), ends[:-1])
        return [part.reshape(CODES, width) for part, width in zip(parts, widths, strict=True)]

    @cached_property
    def level_searches(self) -> list[Search]:
        """Codebooks of levels to be searched; of the first stage silence is never nearest."""
        searches = [search_of(stage) for stage in self.level_codes]
        searches[0].offsets[0] = np.inf
        return searches

    @cached_property
    def shape_searches(self) -> list[Search]:
        """Codebooks of shapes to be searched."""
        return [search_of(codes) for codes in self.shape_codes]

    def save(self) -> bytes:
        """Return the file's bytes, the same for the same tables."""
        file = io.BytesIO()
        np.savez_compressed(file, **{field.name: getattr(self, field.name) for field in fields(self)})
        return file.getvalue()


def search_of(codes: npt.NDArray[np.float32]) -> Search:
    """Make a codebook `[code, value]` ready for `nearest`."""
    return Search(np.ascontiguousarray(-2 * codes.T), np.square(codes).sum(axis=1))


def load_model(data: bytes, where: str) -> MdctRvqModel:
    """Read and check a weights file; raises AssetError naming `where`."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            version = int(file["version"][0])
            if version != VERSION:
                raise AssetError(
                    f"these weights are of version {version}; this release reads version {VERSION}",
                    where=where,
                    fix="make them again with `tokenmill train mdct-rvq`",
                )
            tables = {field.name: file[field.name] for field in fields(MdctRvqModel)}
    except (
        zipfile.BadZipFile,
        zlib.error,
        KeyError,
        IndexError,
        ValueError,
        OSError,
        EOFError,
        NotImplementedError,
    ) as error:
        raise AssetError(
            f"this is no intact weights file: {type(error).__name__}: {error}",
            where=where,
            fix="fetch it again, or make one with `tokenmill train mdct-rvq`",
        ) from error
    model = MdctRvqModel(**tables)
    problem = _problem(model)
    if problem is not None:
        raise AssetError(
            f"these weights cannot be: {problem}", where=where, fix="make them with `tokenmill train mdct-rvq`"
        )
    return model


def _problem(model: MdctRvqModel) -> str | None:
    """Return what is wrong with tables that were read, or None."""
    for field in fields(MdctRvqModel):
        table = getattr(model, field.name)
        dtype, dimensions = _TABLES[field.name]
        if table.dtype != np.dtype(dtype) or table.ndim != dimensions:
            return f"{field.name} is {table.dtype} in {table.ndim} dimensions, not {dtype} in {dimensions}"
    for name in ("bands", "groups"):
        edges = getattr(model, name)
        if len(edges) < 2 or edges[0] != 0 or edges[-1] != HOP or not (np.diff(edges) > 0).all():
            return f"{name} do not lie one after another from 0 to {HOP}"
    bands, groups = len(model.bands) - 1, len(model.groups) - 1
    if not len(model.levels) or model.levels.shape[1:] != (CODES, bands):
        return f"levels has shape {model.levels.shape}"
    if int(np.abs(model.levels.astype(np.int64)).max()) > LARGEST_LEVEL:
        return "levels holds what no sound has"
    if not len(model.cell_groups) or not ((model.cell_groups >= 0) & (model.cell_groups < groups)).all():
        return "cell_groups names groups that there are not"
    if model.codebooks < MOST_CODEBOOKS:
        return f"it has {model.codebooks} codebooks, {MOST_CODEBOOKS} are the fewest"
    shapes = {
        "shapes": (int(model.group_widths[model.cell_groups].sum()) * CODES,),
        "cell_gains": (len(model.cell_groups),),
        "weights": (bands, groups),
        "noise": (groups,),
    }
    for name, shape in shapes.items():
        if getattr(model, name).shape != shape:
            return f"{name} has shape {getattr(model, name).shape}, not {shape}"
    if int(np.abs(model.shapes.astype(np.int64)).max()) > LARGEST_SHAPE * SHAPE_UNIT:
        return "shapes holds values beyond the largest"
    return None


#: Of each table its dtype and how many dimensions it has.
_TABLES = {
    "version": ("int16", 1),
    "bands": ("int16", 1),
    "groups": ("int16", 1),
    "levels": ("int16", 3),
    "shapes": ("int16", 1),
    "cell_groups": ("int16", 1),
    "cell_gains": ("int32", 1),
    "weights": ("int32", 2),
    "noise": ("int16", 1),
}
