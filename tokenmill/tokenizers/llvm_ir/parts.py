"""Parts of mangled names: identifiers behind their lengths, such as `4core3fmt`. Compiled; both directions use it.

A part that is mentioned again costs one unit, and none of its own where it follows the part that it followed the last
time. What is a part can be told from the bytes up to its end, so that the way back knows as much as the way there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenmill.ir.compiled import compiled, whole
from tokenmill.tokenizers.llvm_ir.layout import COUNT_PARTS, LAST_PART, LONGEST_PART, PARTS_COUNT, Bytes, Ints
from tokenmill.tokenizers.llvm_ir.scanning import CLASSES, hash_bytes
from tokenmill.tokenizers.llvm_ir.seen import Seen, add_seen, find_seen, seen


class Parts(NamedTuple):
    """The parts that a module's names have mentioned, and what followed each."""

    seen: Seen
    following: npt.NDArray[np.int64]


def parts() -> Parts:
    """Return fresh memory."""
    return Parts(seen(PARTS_COUNT, 4 * PARTS_COUNT), np.empty(PARTS_COUNT + 1, np.int64))


@compiled
def begin_parts(state: Ints, parts: Parts) -> None:
    """Forget the last module."""
    state[COUNT_PARTS] = 0
    parts.seen.table[:] = 0
    parts.following[:] = -1


@compiled
def is_mangled(data: Bytes, at: int, stop: int) -> bool:
    """Tell whether a name begins as mangled ones of C++ and Rust do."""
    return stop - at > 3 and data[at] == 95 and (data[at + 1] == 90 or data[at + 1] == 82)


@compiled
def part_end(data: Bytes, at: int, stop: int) -> int:
    """Return where the part ends that begins at `at` with a digit, or -1 where that is beyond `stop`."""
    length = whole(0)
    while at < stop and CLASSES[data[at]] == 1:
        length = length * 10 + whole(data[at]) - 48
        if length > 1 << 20:
            return whole(-1)
        at += 1
    return at + length if at + length <= stop and at < stop else whole(-1)


@compiled
def is_kept(data: Bytes, at: int, end: int) -> bool:
    """Tell whether a part may come again: it is no hash, and not too long."""
    if end - at > LONGEST_PART:
        return False
    return not (end - at == 19 and data[at] == 49 and data[at + 1] == 55 and data[at + 2] == 104)


@compiled
def find_part(data: Bytes, at: int, end: int, parts: Parts) -> int:
    """Return a part's number, or -1."""
    return find_seen(data, at, end, hash_bytes(data, at, end), parts.seen)


@compiled
def note_part(data: Bytes, at: int, end: int, found: int, state: Ints, parts: Parts) -> None:
    """Note that a part, whose number is `found` or -1, was mentioned."""
    if found < 0 and state[COUNT_PARTS] < PARTS_COUNT:
        found = state[COUNT_PARTS]
        add_seen(at, end, hash_bytes(data, at, end), found, parts.seen)
        state[COUNT_PARTS] = found + 1
    parts.following[state[LAST_PART] + 1] = found
    state[LAST_PART] = found
