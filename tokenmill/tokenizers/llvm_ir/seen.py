"""Runs of bytes that a module has mentioned, each with its number. Compiled.

The table is probed a few times at most: a run that finds no place in it is as one that never came, in both directions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenmill.ir.compiled import compiled, whole
from tokenmill.tokenizers.llvm_ir.layout import PROBES, Bytes
from tokenmill.tokenizers.llvm_ir.scanning import same


class Seen(NamedTuple):
    """By number where a run lies, and a hash table of numbers; 0 stands for none."""

    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    table: npt.NDArray[np.int32]


def seen(most: int, places: int) -> Seen:
    """Return fresh memory for so many runs, in a table of so many places, a power of two."""
    return Seen(np.empty(most, np.int64), np.empty(most, np.int64), np.zeros(places, np.int32))


@compiled
def find_seen(data: Bytes, at: int, stop: int, hashed: int, runs: Seen) -> int:
    """Return a run's number, or -1."""
    mask = len(runs.table) - 1
    place = hashed & mask
    for _ in range(PROBES):
        found = whole(runs.table[place]) - 1
        if found < 0:
            break
        if runs.lengths[found] == stop - at and same(data, at, data, runs.starts[found], stop - at):
            return found
        place = (place + 1) & mask
    return whole(-1)


@compiled
def add_seen(at: int, stop: int, hashed: int, count: int, runs: Seen) -> None:
    """Give a run the number `count`."""
    mask = len(runs.table) - 1
    place = hashed & mask
    for _ in range(PROBES):
        if runs.table[place] == 0:
            runs.table[place] = count + 1
            break
        place = (place + 1) & mask
    runs.starts[count] = at
    runs.lengths[count] = stop - at
