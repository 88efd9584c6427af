"""Image tokenizers that are networks over square tiles: what their configs share, and grids put together of tiles.

A network sees tiles of one size only. A tile becomes a grid of cells; the tiles of an image lie side by side, and so do
their grids: an image is one grid `[row, column]` of cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from tokenmill.contract import Encoded, Failure
from tokenmill.errors import TokenizerError
from tokenmill.images.geometry import GEOMETRY, GEOMETRY_SPEC, Geometry, Placed
from tokenmill.images.tokenizer import ImagePreparation, ImageTokenizer
from tokenmill.streams import Jagged, StreamSpec
from tokenmill.tokenizers.precision import Precision

if TYPE_CHECKING:
    import torch
    from PIL import Image

# Of tiles where neither the config nor the model's own says what it was trained at.
_DEFAULT_EDGE = 256


@dataclass(frozen=True)
class Tile:
    """What a network sees at once.

    Attributes:
        edge: Pixels a side.
        factor: Pixels a side of a cell; it divides `edge`.
    """

    edge: int
    factor: int

    @property
    def cells(self) -> int:
        """Cells a side."""
        return self.edge // self.factor


class TiledTokenizer(ImageTokenizer):
    """Base of the configs of image tokenizers that are networks over tiles."""

    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")

    tile_edge: int | None = Field(default=None, ge=8, le=16384)
    """Pixels a side of the tiles of the geometries `fit` and `native`; default: what the model was trained at, or 256
    where its configuration does not tell. With `crop` the crop is the one tile."""
    batch_size: int = Field(default=8, ge=1, le=4096)
    """Tiles that the network sees at once; a batch is always filled up to it. Set it lower where memory runs out."""
    precision: Precision = "float32"
    """Of the encoder's weights and arithmetic. Decoding is always done in float32."""

    @model_validator(mode="after")
    def _tiles_agree(self) -> Self:
        if self.geometry.mode == "crop" and self.tile_edge is not None:
            raise ValueError(
                "`tile_edge` is for the geometries `fit` and `native`; with `crop` set the geometry's edge"
            )
        return self

    def tile(self, factor: int, trained_edge: int | None) -> Tile:
        """Return the tile; raises TokenizerError where its edge is no multiple of `factor` (pixels a side of a cell).

        Args:
            factor: By how much the network reduces each side.
            trained_edge: Pixels a side that the model was trained at, if known.
        """
        if self.geometry.mode == "crop":
            edge, field = self.geometry.edge, "geometry.edge"
        else:
            edge, field = self.tile_edge or trained_edge or _DEFAULT_EDGE, "tile_edge"
        if edge % factor or edge < factor:
            raise TokenizerError(
                f"this model makes one cell of {factor}x{factor} pixels; tiles of {edge} are no multiple of that",
                fix=f"set `{field}` to a multiple of {factor}, such as {max(round(edge / factor), 1) * factor}",
            )
        return Tile(edge, factor)

    def grid_shape(self, tile: Tile) -> tuple[int | None, int | None]:
        """Return rows and columns of an image's grid of cells, None where they differ from image to image."""
        return (tile.cells, tile.cells) if self.geometry.mode == "crop" else (None, None)


class TileEncoder(ImagePreparation):
    """Runs a network over the tiles of a batch of images.

    Args:
        geometry: The tokenizer's.
        tile: What the network sees.
        stream: Name of the stream that its results are, and its spec: (row, column), or (row, column, more).
        network: From uint8 `[tile, row, column, channel]` on the device to `[tile, row, column, …]` of cells.
        batch_size: Tiles of each batch.
        device: Where it runs.
    """

    def __init__(
        self,
        geometry: Geometry,
        tile: Tile,
        stream: tuple[str, StreamSpec],
        network: Callable[[torch.Tensor], torch.Tensor],
        batch_size: int,
        device: torch.device,
    ) -> None:
        super().__init__(geometry, batch_items=batch_size)
        self._tile = tile
        self._stream, self._spec = stream
        self._network = network
        self._batch_size = batch_size
        self._device = device

    def encode(self, payloads: Sequence[Any]) -> Encoded:
        """Tokenize a batch of Placed; raises RunError where the device runs out of memory."""
        edge = self._tile.edge
        grids = [placed.grid(edge) for placed in payloads]
        ends = np.cumsum([rows * columns for rows, columns in grids], dtype=np.int64)
        cells = np.split(self._cells(payloads), ends[:-1]) if payloads else []
        rows, geometry, failures = [], [], []
        for index, (placed, grid, own) in enumerate(zip(payloads, grids, cells, strict=True)):
            if own.dtype.kind == "f" and not np.isfinite(own).all():
                failures.append(Failure(index, "not_finite", f"the network gave numbers that no {own.dtype} holds"))
                continue
            rows.append(_side_by_side(own, grid))
            geometry.append(placed.numbers(edge))
        streams = {
            self._stream: Jagged.from_rows(rows, self._spec),
            GEOMETRY: Jagged.from_rows(geometry, GEOMETRY_SPEC),
        }
        return Encoded(streams, tuple(failures))

    def _cells(self, payloads: Sequence[Placed]) -> npt.NDArray[Any]:
        """Return `[tile, row, column, …]` of all images' tiles."""
        import torch

        from tokenmill.tokenizers.networks import in_fixed_batches

        tiles = np.concatenate([placed.tiles(self._tile.edge) for placed in payloads])
        done = in_fixed_batches(
            lambda batch: (self._network(batch),), torch.from_numpy(tiles), self._batch_size, self._device
        )
        cells: npt.NDArray[Any] = done[0].numpy()
        return cells


class TileDecoder:
    """Turns an image's grid of cells back into pixels, tile by tile.

    Args:
        tile: What the network sees.
        stream: Name of the stream that holds the grid.
        network: From `[1, row, column, …]` of a tile's cells to uint8 `[1, row, column, channel]`.
    """

    def __init__(self, tile: Tile, stream: str, network: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._tile = tile
        self._stream = stream
        self._network = network

    def decode(self, streams: Mapping[str, npt.NDArray[Any]]) -> Image.Image:
        """Decode one row to an image of the used size, as the model's own decoder does."""
        import torch
        from PIL import Image

        height, width, rows, columns = (int(number) for number in streams[GEOMETRY][2:])
        cells = _cut(streams[self._stream], self._tile.cells)
        with torch.inference_mode():
            tiles = [self._network(torch.from_numpy(cells[i : i + 1]))[0].numpy() for i in range(len(cells))]
        pixels = _side_by_side(np.stack(tiles), (rows, columns))
        return Image.fromarray(np.ascontiguousarray(pixels[:height, :width]))


def _side_by_side(parts: npt.NDArray[Any], grid: tuple[int, int]) -> npt.NDArray[Any]:
    """Lay `[part, row, column, …]` out as one `[row, column, …]`; the parts come row by row of `grid`."""
    rows, columns = grid
    _, height, width, *rest = parts.shape
    laid = parts.reshape(rows, columns, height, width, *rest).swapaxes(1, 2)
    return laid.reshape(rows * height, columns * width, *rest)


def _cut(grid: npt.NDArray[Any], cells: int) -> npt.NDArray[Any]:
    """Cut `[row, column, …]` into `[part, row, column, …]` of `cells` a side: what `_side_by_side` put together."""
    height, width, *rest = grid.shape
    cut = grid.reshape(height // cells, cells, width // cells, cells, *rest).swapaxes(1, 2)
    return np.ascontiguousarray(cut.reshape(-1, cells, cells, *rest))
