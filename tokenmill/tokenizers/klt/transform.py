"""Pixels to coefficients and back: an orthonormal transform whose arithmetic is exact.

Matrices are rounded to whole numbers, and every sum stays below 2**53: products in float64 are then exact, whatever
order a BLAS adds in, so that coefficients do not depend on the library, its threads or a batch's shape.

A tile's three colours become a sum and two differences, each the low frequencies of its discrete cosine transform;
then come two learned rotations, of a tile's main coefficients and of the first of these in all tiles of a group.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tokenmill.images.image_file import Pixels

Floats = npt.NDArray[np.float64]

#: Edge of a tile, in pixels.
EDGE = 64
#: Frequencies kept along each side: of the sum of the colours, and of their two differences.
LUMA, CHROMA = 64, 32
#: Coefficients are whole numbers, this many to a grey level.
UNIT = 8
#: Rotations are stored as whole numbers, this many to one.
ROTATION_UNIT = 1 << 14
#: The grey level that no coefficient at all stands for.
MIDDLE = 128
_FORWARD_UNIT, _BACK_UNIT = 1 << 16, 1 << 13
_BACK_SCALE = 1 / (UNIT * _BACK_UNIT**2)
#: Coefficients of a tile that `forward` returns.
TILE_COEFFICIENTS = LUMA * LUMA + 2 * CHROMA * CHROMA


def _cosines(frequencies: int) -> Floats:
    """Return the first rows of the orthonormal discrete cosine transform: `[frequency, place]`."""
    places = (np.arange(EDGE) + 0.5) / EDGE
    matrix: Floats = np.cos(np.pi * np.arange(frequencies)[:, None] * places) * np.sqrt(2 / EDGE)
    matrix[0] /= np.sqrt(2)
    return matrix


# R + G + B, R - B and R - 2G + B have norms 3, 2 and 6 (squared); the second factor takes them along.
_PLANES = ((LUMA, 3.0), (CHROMA, 2.0), (CHROMA, 6.0))
_ACROSS = [np.rint(_cosines(count) * _FORWARD_UNIT).T.copy() for count, _ in _PLANES]
_DOWN = [np.rint(_cosines(count) / np.sqrt(norm) * _FORWARD_UNIT) for count, norm in _PLANES]
_BACK_ACROSS = [np.rint(_cosines(count) * _BACK_UNIT) for count, _ in _PLANES]
_BACK_DOWN = [np.rint(_cosines(count) / np.sqrt(norm) * _BACK_UNIT).T.copy() for count, norm in _PLANES]


def forward(tiles: Pixels) -> Floats:
    """Transform tiles.

    Args:
        tiles: uint8 `[tile, row, column, channel]`.

    Returns:
        Coefficients, whole numbers, `[tile, coefficient]`.
    """
    count = len(tiles)
    red, green, blue = (tiles[..., channel].astype(np.int16) for channel in range(3))
    both = red + blue
    colours = (both + (green - 3 * MIDDLE), red - blue, both - 2 * green)
    parts = []
    for plane, across, down in zip(colours, _ACROSS, _DOWN, strict=True):
        half = (plane.reshape(count * EDGE, EDGE).astype(np.float64) @ across).reshape(count, EDGE, -1)
        parts.append(np.matmul(down, half).reshape(count, -1))
    coefficients: Floats = np.concatenate(parts, axis=1)
    coefficients *= UNIT / _FORWARD_UNIT**2
    np.rint(coefficients, out=coefficients)
    return coefficients


def squares_of(tiles: Pixels) -> Floats:
    """Return the squares of a tile's pixels about MIDDLE, added up and in units of coefficients: `[tile]`."""
    values = tiles.reshape(len(tiles), -1).astype(np.int16) - MIDDLE  # squares, up to 2**14, fit as well
    squares: Floats = np.square(values).sum(axis=1, dtype=np.int64) * float(UNIT**2)
    return squares


def backward(coefficients: Floats) -> Pixels:
    """Turn coefficients `[tile, coefficient]` back into tiles: uint8 `[tile, row, column, channel]`."""
    count = len(coefficients)
    planes = []
    start = 0
    for (kept, _), across, down in zip(_PLANES, _BACK_ACROSS, _BACK_DOWN, strict=True):
        part = coefficients[:, start : start + kept * kept].reshape(count, kept, kept)
        start += kept * kept
        half = np.matmul(down, part).reshape(count * EDGE, kept)
        planes.append((half @ across).reshape(count, EDGE, EDGE))
    total, difference, excess = planes
    total *= _BACK_SCALE
    total += MIDDLE
    difference *= _BACK_SCALE
    excess *= _BACK_SCALE
    pixels = np.empty((count, EDGE, EDGE, 3), np.uint8)
    outer = total + excess
    excess *= 2
    total -= excess
    # Multiples of a power of two within 53 bits: these sums are exact too.
    for channel, plane in enumerate((outer + difference, total, np.subtract(outer, difference, out=outer))):
        np.rint(plane, out=plane)
        pixels[..., channel] = np.clip(plane, 0, 255, out=plane)
    return pixels


def rotate(values: Floats, rotation: Floats) -> Floats:
    """Multiply whole numbers `[row, value]` by a stored rotation `[value, rotated]`; rounds to whole numbers."""
    rotated = values @ rotation
    rotated /= ROTATION_UNIT
    return np.rint(rotated, out=rotated)
