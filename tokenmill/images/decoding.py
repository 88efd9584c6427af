"""From an image file's bytes to upright RGB pixels, within limits."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

from tokenmill.errors import ItemError
from tokenmill.images.image_file import DecodingOptions, Pixels


def decode_image(data: bytes, options: DecodingOptions) -> Pixels:
    """Return uint8 `[row, column, channel]`; raises ItemError."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP", "GIF", "TIFF")) as image:
            if image.width * image.height > options.max_pixels:
                raise ItemError("too_many_pixels", f"{image.width}x{image.height} pixels")
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise ItemError("damaged_image", str(error)[:300]) from error
