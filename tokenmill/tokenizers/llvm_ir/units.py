"""Units as they are written, and the state that goes with them. Compiled; `text`, the way back, keeps the same state.

The state of a module: names in the order of their first mention, the highest numbers of nodes and attribute groups,
what stood behind a line's template the last time. Of a function: a slot for each parameter, definition and block.
A function is read ahead, so that an operand can name a slot that is defined later.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenmill.ir.compiled import compiled, whole
from tokenmill.tokenizers.llvm_ir.layout import (
    COUNT_BLOCKS,
    COUNT_EDGES,
    COUNT_VALUES,
    DEFINE,
    EDGES,
    FUNCTION_NUMBER,
    HIGHEST_GROUP,
    HIGHEST_NODE,
    IN_DEFINE,
    IN_FUNCTION,
    LAST_LINE_START,
    LINE_NAME,
    LINE_NODE,
    LINE_NUMBER,
    LINE_VALUES,
    MEMORY,
    MODULE_NAMES,
    NEWLINE,
    NEXT_LOCAL,
    RAW_HEX_PAIRS,
    SLOTS,
    STATE_FIELDS,
    TEMPLATE,
    Bytes,
    Ints,
    Slots,
    Units,
)
from tokenmill.tokenizers.llvm_ir.parts import Parts, begin_parts, parts
from tokenmill.tokenizers.llvm_ir.scanning import hex_end, hex_value
from tokenmill.tokenizers.llvm_ir.seen import Seen, seen

#: Column of the comment on a block's predecessors.
COMMENT_COLUMN = 50
#: Hexadecimal digits that are written in pairs, where they are so many in a row: decimal numbers are shorter.
LEAST_RAW_HEX = 24
# Flags of units: where tokens may begin.
INSIDE, LEXEME_START, LINE_START = 0, 1, 2


class Work(NamedTuple):
    """Memory of one coding at a time: state, the module's names, the function's slots, edges and labels."""

    state: npt.NDArray[np.int64]
    names: Seen
    number_slots: npt.NDArray[np.int32]
    number_stamps: npt.NDArray[np.int64]
    slot_table: npt.NDArray[np.int32]
    slot_stamps: npt.NDArray[np.int64]
    slot_kinds: npt.NDArray[np.uint8]
    slot_ordinals: npt.NDArray[np.int32]
    slot_starts: npt.NDArray[np.int64]
    slot_lengths: npt.NDArray[np.int64]
    block_slots: npt.NDArray[np.int32]
    edge_heads: npt.NDArray[np.int32]
    edge_next: npt.NDArray[np.int32]
    edge_sources: npt.NDArray[np.int32]
    label_places: npt.NDArray[np.int64]
    label_texts: npt.NDArray[np.int64]
    label_ends: npt.NDArray[np.int64]
    nodes: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    parts: Parts


def work() -> Work:
    """Return fresh memory for `encode`."""
    return Work(
        state=np.zeros(STATE_FIELDS, np.int64),
        names=seen(MODULE_NAMES, 2 * MODULE_NAMES),
        number_slots=np.zeros(2 * SLOTS, np.int32),
        number_stamps=np.zeros(2 * SLOTS, np.int64),
        slot_table=np.zeros(2 * SLOTS, np.int32),
        slot_stamps=np.zeros(2 * SLOTS, np.int64),
        slot_kinds=np.empty(SLOTS, np.uint8),
        slot_ordinals=np.empty(SLOTS, np.int32),
        slot_starts=np.empty(SLOTS, np.int64),
        slot_lengths=np.empty(SLOTS, np.int64),
        block_slots=np.empty(SLOTS, np.int32),
        edge_heads=np.empty(SLOTS, np.int32),
        edge_next=np.empty(EDGES, np.int32),
        edge_sources=np.empty(EDGES, np.int32),
        label_places=np.empty(SLOTS, np.int64),
        label_texts=np.empty(SLOTS, np.int64),
        label_ends=np.empty(SLOTS, np.int64),
        nodes=np.empty(MEMORY, np.int64),
        groups=np.empty(MEMORY, np.int64),
        parts=parts(),
    )


@compiled
def begin_module(state: Ints, name_table: Slots, nodes: Ints, groups: Ints, parts: Parts) -> None:
    """Forget the last module."""
    state[:] = 0
    begin_parts(state, parts)
    state[HIGHEST_NODE] = -1
    state[HIGHEST_GROUP] = -1
    name_table[:] = 0
    nodes[:] = -1
    groups[:] = -1


@compiled
def begin_function(state: Ints) -> None:
    """Forget the last function."""
    state[NEXT_LOCAL : COUNT_EDGES + 1] = 0
    state[IN_FUNCTION] = 1
    state[FUNCTION_NUMBER] += 1


@compiled
def template(state: Ints, unit: int) -> None:
    """Take a unit into the template of its line."""
    if unit <= LAST_LINE_START and unit >= NEWLINE:
        state[TEMPLATE] = unit
        state[LINE_NAME] = 0
        state[LINE_NODE] = -1
        state[LINE_NUMBER] = -1
        state[LINE_VALUES] = state[COUNT_VALUES]
        state[IN_DEFINE] = unit == DEFINE
    else:
        state[TEMPLATE] = (state[TEMPLATE] * 1000003 + unit + 1) & 0xFFFFFFFFFFFF


@compiled
def memory_place(state: Ints) -> int:
    """Return where the memory of nodes has what stood behind this template."""
    value: int = state[TEMPLATE]
    return (value ^ (value >> 13) ^ (value >> 29)) & (MEMORY - 1)


@compiled
def group_place(state: Ints) -> int:
    """Return where the memory of groups has what stood behind the name that this line calls, or this template."""
    value: int = state[TEMPLATE]
    if state[LINE_NAME] and state[IN_FUNCTION] and not state[IN_DEFINE]:
        value = state[LINE_NAME] * 2654435761
    return (value ^ (value >> 13) ^ (value >> 29)) & (MEMORY - 1)


@compiled
def add_edge(state: Ints, heads: Slots, following: Slots, sources: Slots, target: int) -> None:
    """Note that the current block branches to `target`."""
    count = state[COUNT_EDGES]
    if count < EDGES and target >= 0 and target < SLOTS:
        sources[count] = state[COUNT_BLOCKS] - 1
        following[count] = heads[target]
        heads[target] = count
        state[COUNT_EDGES] = count + 1


@compiled
def put(units: Units, flags: Bytes, out: int, unit: int, flag: int) -> int:
    """Write a unit; returns where the next one goes."""
    units[out] = unit
    flags[out] = flag
    return out + 1


@compiled
def put_far(units: Units, flags: Bytes, out: int, unit: int, value: int) -> int:
    """Write a unit and three digits."""
    units[out] = unit
    flags[out] = INSIDE
    units[out + 1] = value >> 16
    units[out + 2] = (value >> 8) & 255
    units[out + 3] = value & 255
    flags[out + 1] = INSIDE
    flags[out + 2] = INSIDE
    flags[out + 3] = INSIDE
    return out + 4


@compiled
def put_bytes(text: Bytes, at: int, stop: int, state: Ints, units: Units, flags: Bytes, out: int, flag: int) -> int:
    """Write bytes as they are, the first with `flag`."""
    while at < stop:
        run = hex_end(text, at, stop)
        if run - at >= LEAST_RAW_HEX:
            while run - at >= 2:
                unit = RAW_HEX_PAIRS + 16 * hex_value(text[at]) + hex_value(text[at + 1])
                template(state, unit)
                out = put(units, flags, out, unit, flag)
                flag = INSIDE
                at += 2
        while at < min(run + 1, stop):
            units[out] = text[at]
            flags[out] = flag
            template(state, whole(text[at]))
            flag = INSIDE
            out += 1
            at += 1
    return out
