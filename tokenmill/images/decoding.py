"""From an image file's bytes to upright RGB pixels, within limits, by Pillow.

What is decoded, of JPEG, PNG, WebP, GIF and TIFF files, recognised by their content alone:

- the first frame or page; of an animated PNG the image that programs without animation show; of a GIF whose first frame
  is smaller than the canvas, the canvas, with the background around the frame;
- upright, by the EXIF orientation (of TIFF the tag; XMP is not read);
- transparency of every sort over `DecodingOptions.background`, in sRGB values as programs that show images do; a colour
  named transparent in a PNG of 16 bits a channel is not honoured, as Pillow keeps too little of it to tell;
- gray of 9 to 16 bits scaled to 8 (65535 becomes 255), never clipped; of 16-bit colour the high byte;
- CMYK by the formula without a profile, R = (255 - C) (255 - K) / 255; CMYK and YCCK JPEGs inverted, as Adobe writes
  them;
- colour profiles are not applied. One more native parser (Little CMS) would read hostile bytes, and it takes 8 ms for
  512 x 512 pixels and 5 ms for a profile, several times what decoding takes. Wide-gamut photographs come out a little
  paler than on a screen that knows their profile.

CIELAB, 32-bit integers and floats have no range that a file states, and are refused as `unsupported_image`.

The decoders (libjpeg-turbo, zlib, libwebp, libtiff and Pillow's own) are native code and run in this process, for these
five formats and no others. They see files made again by `tokenmill.images.containers`, never the originals. Files whose
pixels are incomplete are refused as `damaged_image`. JPEG, GIF, lossy WebP and fax have no checksum: a byte changed
inside them may decode to other pixels. libtiff writes what it finds wrong to standard error, whatever Python does.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
from PIL import GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from tokenmill.errors import ItemError
from tokenmill.images import reasons
from tokenmill.images.containers import Container, Kind, open_container
from tokenmill.images.geometry import Geometry, Placed
from tokenmill.images.image_file import DecodingOptions, Pixels

#: The classes themselves: `Image.open` would try formats one by one, and warn of sizes that our own limit allows.
_PLUGINS: dict[Kind, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}

#: Pixels beyond which Pillow's readers of GIF and TIFF warn or refuse on their own.
_PILLOW_PIXELS = 89_478_485

#: Images of more pixels, of which each may take 20 bytes for a moment, are decoded one at a time in a process.
_LARGE_PIXELS = 8_000_000
_large = threading.Lock()

#: How pixels as stored are turned upright, by EXIF orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_WHOLE = Geometry(mode="native")


def decode_image(data: bytes, options: DecodingOptions) -> Pixels:
    """Decode an image file.

    Returns:
        uint8 `[row, column, channel]`, upright, red, green and blue.

    Raises:
        ItemError: With one of `tokenmill.images.reasons`; nothing else, whatever the bytes are.
    """
    return decode_placed(data, options, _WHOLE).pixels


def decode_placed(data: bytes, options: DecodingOptions, geometry: Geometry) -> Placed:
    """Decode an image file and apply a geometry, which tells how much of a large JPEG must be decoded.

    Raises:
        ItemError: With one of `tokenmill.images.reasons`; nothing else, whatever the bytes are.
    """
    container = open_container(data)
    most = options.max_pixels if container.kind in ("JPEG", "PNG", "WEBP") else min(options.max_pixels, _PILLOW_PIXELS)
    if container.cost_pixels > most:
        raise ItemError(
            reasons.TOO_MANY_PIXELS,
            f"the {container.kind} has {container.width}x{container.height} pixels, "
            f"{container.cost_pixels} to decode; {most} are the limit",
        )
    reduction = geometry.reduction(container.width, container.height) if container.kind == "JPEG" else 1
    alone = _large if container.cost_pixels > _LARGE_PIXELS * reduction**2 else nullcontext()
    try:
        with alone:
            image = _rgb(_loaded(container, reduction), container, options.background)
            image = geometry.resized(image, container.width, container.height, reduction)
            if container.orientation in _UPRIGHT:
                image = image.transpose(_UPRIGHT[container.orientation])
            pixels = np.array(image)
    except ItemError:
        raise
    except Exception as error:
        # Pillow raises what its parsers stumble over: OSError, SyntaxError, ValueError, KeyError, OverflowError, ...
        raise ItemError(reasons.DAMAGED_IMAGE, f"{type(error).__name__}: {str(error)[:300]}") from error
    turned = container.orientation >= 5
    return Placed(pixels, (container.width, container.height) if turned else (container.height, container.width))


def _loaded(container: Container, reduction: int) -> Image.Image:
    try:
        image = _PLUGINS[container.kind](io.BytesIO(container.data))
    except SyntaxError as error:
        if container.kind == "TIFF":  # its directory is sound: Pillow does not know such pixels
            raise ItemError(reasons.UNSUPPORTED_IMAGE, f"TIFF: {str(error)[:300]}") from error
        raise
    expected = (container.width, container.height)
    if image.size != expected:
        raise ItemError(reasons.DAMAGED_IMAGE, f"{expected} pixels in the file's header, {image.size} in its image")
    if reduction > 1:
        image.draft(None, (expected[0] // reduction, expected[1] // reduction))
    image.load()
    return image


def _rgb(image: Image.Image, container: Container, background: tuple[int, int, int]) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = _eight_bits(image, container)
    elif image.mode in ("I", "F", "LAB"):
        raise ItemError(reasons.UNSUPPORTED_IMAGE, f"{container.kind} of Pillow's mode {image.mode}")
    if image.has_transparency_data:
        transparent = image.convert("RGBA")
        image = Image.new("RGB", image.size, background)
        image.paste(transparent, mask=transparent)
    elif image.mode != "RGB":
        image = image.convert("RGB")
    if container.covered is not None:
        _uncover(image, container.covered, background)
    return image


def _eight_bits(image: Image.Image, container: Container) -> Image.Image:
    """Scale gray of more than 8 bits, to the nearest value; a transparent gray becomes an alpha channel."""
    wide = np.asarray(image).astype(np.uint32)
    narrow = ((wide * 255 + container.largest // 2) // container.largest).clip(0, 255).astype(np.uint8)
    gray = Image.fromarray(255 - narrow if container.inverted else narrow)
    transparent = image.info.get("transparency")
    if transparent is not None:
        gray.putalpha(Image.fromarray(np.where(wide == transparent, 0, 255).astype(np.uint8)))
    return gray


def _uncover(image: Image.Image, covered: tuple[int, int, int, int], background: tuple[int, int, int]) -> None:
    left, top, right, bottom = covered
    width, height = image.size
    for box in ((0, 0, width, top), (0, bottom, width, height), (0, top, left, bottom), (right, top, width, bottom)):
        if box[0] < box[2] and box[1] < box[3]:
            image.paste(background, box)
