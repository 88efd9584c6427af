"""Octaves: 0, 1, 2-3, 4-7, 8-15 … the classes by which statistics tell places in a row and lengths of rows apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

#: int64 `[octave]`: the last integer of each; octave n holds the integers of n bits.
OCTAVE_ENDS = np.array([(1 << bits) - 1 for bits in range(64)], np.int64)


def octaves_of(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return int64 `[n]`, the octave of each of the integers `[n]`, of which none is negative."""
    return OCTAVE_ENDS.searchsorted(values)


def first_and_last(octave: int) -> tuple[int, int]:
    """Return the first and the last integer of an octave."""
    return (int(OCTAVE_ENDS[octave - 1]) + 1 if octave else 0), int(OCTAVE_ENDS[octave])
