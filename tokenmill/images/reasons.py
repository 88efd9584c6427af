"""Why an image has no row: the fixed list of reasons that decoding gives. docs/operations.md repeats it for operators.

Readers give reasons of their own before an image is decoded (`tokenmill.sources.reasons`).
"""

from __future__ import annotations

#: The file has no bytes.
EMPTY_FILE = "empty_file"
#: The file does not begin as JPEG, PNG, WebP, GIF or TIFF files do. Its name plays no part.
NOT_AN_IMAGE = "not_an_image"
#: The file breaks off, a checksum is wrong, a field contradicts another, or its pixels cannot be decoded.
DAMAGED_IMAGE = "damaged_image"
#: The file may well be sound, but its kind of pixels or compression is not decoded here: 32-bit integers, floats,
#: CIELAB, JPEG of 12 bits or without loss, TIFF with a compression beyond the common ones.
UNSUPPORTED_IMAGE = "unsupported_image"
#: The header announces more pixels than the limit. Nothing was decoded.
TOO_MANY_PIXELS = "too_many_pixels"
#: The file is put together so that reading it would cost far more than its pixels do: scans, segments, chunks, or
#: values of tags by the thousand. Nothing was decoded.
IMAGE_BOMB = "image_bomb"

REASONS = (
    EMPTY_FILE,
    NOT_AN_IMAGE,
    DAMAGED_IMAGE,
    UNSUPPORTED_IMAGE,
    TOO_MANY_PIXELS,
    IMAGE_BOMB,
)
