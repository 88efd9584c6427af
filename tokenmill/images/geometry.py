"""Geometry: from an image's pixels to those that a tokenizer sees; part of every image tokenizer's config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from tokenmill.images.image_file import Pixels
from tokenmill.streams import StreamSpec

#: Name of the stream that every image table has, and its spec: original height and width, height and width used, and
#: the tile grid's rows and columns.
GEOMETRY = "geometry"
GEOMETRY_SPEC = StreamSpec("int32", dims=("value",), shape=(6,))


@dataclass(frozen=True, slots=True)
class Placed:
    """An image as a tokenizer sees it.

    Attributes:
        pixels: uint8 `[row, column, channel]`, the pixels used.
        original: Height and width that the image had, upright.
    """

    pixels: Pixels
    original: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Memory that the pixels take."""
        return self.pixels.nbytes

    def grid(self, edge: int) -> tuple[int, int]:
        """Return rows and columns of the grid of `edge`-pixel tiles that covers the pixels."""
        height, width = self.pixels.shape[:2]
        return -(-height // edge), -(-width // edge)

    def tiles(self, edge: int) -> Pixels:
        """Return uint8 `[tile, row, column, channel]`, row by row; the last pixels are repeated to fill up tiles."""
        rows, columns = self.grid(edge)
        height, width = self.pixels.shape[:2]
        pixels = self.pixels
        if (height, width) != (rows * edge, columns * edge):
            pixels = np.pad(pixels, ((0, rows * edge - height), (0, columns * edge - width), (0, 0)), mode="edge")
        cut = pixels.reshape(rows, edge, columns, edge, 3).swapaxes(1, 2)
        return np.ascontiguousarray(cut.reshape(rows * columns, edge, edge, 3))

    def numbers(self, edge: int) -> npt.NDArray[np.int32]:
        """Return what the stream `geometry` holds of this image: int32 `[6]`."""
        return np.array((*self.original, *self.pixels.shape[:2], *self.grid(edge)), np.int32)


class Geometry(BaseModel):
    """How an image becomes the pixels that a tokenizer sees."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    mode: Literal["crop", "fit", "native"] = "crop"
    """`crop`: the shortest side becomes `edge`, and the centre `edge` x `edge` is cut out; `fit`: the longest side
    becomes `edge` where it is longer; `native`: as it is. `fit` and `native` are tiled, the last pixels repeated."""
    edge: int = Field(default=256, ge=16, le=16384)
    """Pixels of the side that `mode` speaks of; `native` has none."""

    def place(self, pixels: Pixels) -> Placed:
        """Apply it; raises ItemError where the image cannot be brought to this geometry."""
        height, width = pixels.shape[:2]
        if self.mode == "native":
            return Placed(pixels, (height, width))
        image = Image.fromarray(pixels)
        if self.mode == "crop":
            side = min(height, width)
            left, top = (width - side) / 2, (height - side) / 2
            box = (left, top, left + side, top + side)
            resized = image.resize((self.edge, self.edge), Image.Resampling.BICUBIC, box=box)
            return Placed(np.asarray(resized), (height, width))
        longest = max(height, width)
        if longest <= self.edge:
            return Placed(pixels, (height, width))
        size = (max(round(width * self.edge / longest), 1), max(round(height * self.edge / longest), 1))
        return Placed(np.asarray(image.resize(size, Image.Resampling.BICUBIC)), (height, width))
