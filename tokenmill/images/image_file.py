"""An image of a source as it is stored: the payload of image items. Decoding is put off until a tokenizer wants it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tokenmill.images.geometry import Geometry, Placed

#: uint8 `[row, column, channel]`, red, green and blue, taken as sRGB.
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """What decoding needs to know beside the bytes.

    Attributes:
        background: Red, green and blue that show through where an image is transparent.
        max_pixels: An image of more pixels is refused before anything of it is decoded. Decoding takes up to 20 bytes
            of memory a pixel. A GIF or TIFF file has 89,478,485 pixels at most, whatever stands here.
    """

    background: tuple[int, int, int] = (255, 255, 255)
    max_pixels: int = 64_000_000


@dataclass(frozen=True, slots=True)
class ImageFile:
    """The bytes of an image file, and how to decode them.

    Attributes:
        data: The file as stored: JPEG, PNG, WebP, GIF or TIFF.
        options: How to decode it.
    """

    data: bytes
    options: DecodingOptions = DecodingOptions()

    def pixels(self) -> Pixels:
        """Decode: upright by its EXIF orientation, in RGB, the first frame; raises ItemError with a reason."""
        from tokenmill.images.decoding import decode_image  # Pillow is in the extra

        return decode_image(self.data, self.options)

    def placed(self, geometry: Geometry) -> Placed:
        """Decode only as much as the geometry asks for, and apply it; raises ItemError with a reason."""
        from tokenmill.images.decoding import decode_placed

        return decode_placed(self.data, self.options, geometry)
