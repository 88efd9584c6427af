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

#: A JPEG is reduced while it is decoded as long as it stays this many times larger than it is to become.
_SPARE = 2
#: Where an image is at least twice this many times larger than it is to become, means of whole squares of pixels bring
#: it to not less than this many times, before the bicubic filter does the rest.
_GAP = 3.0


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
    """How an image becomes the pixels that a tokenizer sees.

    Resizing is Pillow's bicubic filter, in two cases after a faster step. Where an image is at least six times larger
    than it is to become, means of squares of pixels first bring it to no less than three times that size. A JPEG that
    is at least four times larger than it is to become is decoded at 1/2, 1/4 or 1/8 of its size, no less than twice the
    size it is to become (`place`, which gets pixels, has no part in that). For photographs of 1024 to 4096 pixels and
    an edge of 256 the first differs from the filter alone by 55 dB, the second by 49 dB and more, in a half to a fifth
    of the time; JPEG's own losses are larger up to about 1500 pixels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    mode: Literal["crop", "fit", "native"] = "crop"
    """`crop`: the shortest side becomes `edge`, and the centre `edge` x `edge` is cut out; `fit`: the longest side
    becomes `edge` where it is longer; `native`: as it is. `fit` and `native` are tiled, the last pixels repeated."""
    edge: int = Field(default=256, ge=16, le=16384)
    """Pixels of the side that `mode` speaks of; `native` has none."""

    def place(self, pixels: Pixels) -> Placed:
        """Apply it to an upright image, uint8 `[row, column, channel]`."""
        height, width = pixels.shape[:2]
        if not self._resizes(width, height):
            return Placed(pixels, (height, width))
        return Placed(np.array(self.resized(Image.fromarray(pixels), width, height)), (height, width))

    def _resizes(self, width: int, height: int) -> bool:
        return self.mode == "crop" or (self.mode == "fit" and max(width, height) > self.edge)

    def reduction(self, width: int, height: int) -> int:
        """Return by what an image may be reduced while it is decoded: 1, 2, 4 or 8."""
        if not self._resizes(width, height):
            return 1
        side = min(width, height) if self.mode == "crop" else max(width, height)
        enough = [step for step in (8, 4, 2) if side >= step * _SPARE * self.edge and min(width, height) >= step]
        return enough[0] if enough else 1

    def resized(self, image: Image.Image, width: int, height: int, reduction: int = 1) -> Image.Image:
        """Apply it to an image of `width` x `height` pixels that was reduced while it was decoded, if at all.

        A reduced image's last column and row may reach over the original's edge, so its own size is not that of the
        original divided: what is cut out is told in fractions of its pixels.
        """
        if not self._resizes(width, height):
            return image
        if self.mode == "crop":
            side = min(width, height)
            left, top = (width - side) / 2, (height - side) / 2
            size, box = (self.edge, self.edge), (left, top, left + side, top + side)
        else:
            share = self.edge / max(width, height)
            size, box = (max(round(width * share), 1), max(round(height * share), 1)), (0.0, 0.0, width, height)
        left, top, right, bottom = (value / reduction for value in box)
        return image.resize(size, Image.Resampling.BICUBIC, (left, top, right, bottom), _GAP)
