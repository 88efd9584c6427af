"""What `text` writes: numbers, names, slots, and what is known only at a function's end. Compiled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenmill.tokenizers.llvm_ir.compiled import compiled, whole
from tokenmill.tokenizers.llvm_ir.layout import (
    BLOCK_SLOT,
    CLEARED_BLOCKS,
    COUNT_NAMES,
    COUNT_PARAMETERS,
    DEFINE,
    EDGES,
    FAR_NAME,
    FIRST_LEXEME,
    IN_FUNCTION,
    LAST_NAME,
    MEMORY,
    MODULE_NAMES,
    NAME_BYTES,
    NAMED_PARAMETER,
    NAMES,
    NAMES_COUNT,
    NEW_NAME,
    NEXT_STR,
    NEXT_STRING,
    NUMBERED,
    STATE_FIELDS,
    Bytes,
    Tables,
    Units,
)
from tokenmill.tokenizers.llvm_ir.scanning import NO_PREDS_TEXT, PREDS_TEXT, STR_TEXT, needs_quotes

LABEL_FIX = 4


class Reading(NamedTuple):
    """Memory of one decoding at a time.

    `slot_values` are numbers, or -1 - the number of a name; `kind_slots` `[kind, ordinal]`; `fixes` `[fix, field]`:
    place, kind, ordinal.
    """

    state: npt.NDArray[np.int64]
    names: npt.NDArray[np.uint8]
    name_starts: npt.NDArray[np.int64]
    kind_values: npt.NDArray[np.int64]
    edge_heads: npt.NDArray[np.int32]
    edge_next: npt.NDArray[np.int32]
    edge_sources: npt.NDArray[np.int32]
    fixes: npt.NDArray[np.int64]
    nodes: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]


def reading(units: npt.NDArray[np.uint16]) -> Reading:
    """Return memory for decoding these units."""
    names, name_bytes, longest, definitions = sizes(units)
    return Reading(
        state=np.zeros(STATE_FIELDS, np.int64),
        names=np.empty(name_bytes + 16, np.uint8),
        name_starts=np.zeros(names + 2, np.int64),
        kind_values=np.empty((4, definitions + 2), np.int64),
        edge_heads=np.empty(definitions + 2, np.int32),
        edge_next=np.empty(min(longest, EDGES) + 1, np.int32),
        edge_sources=np.empty(min(longest, EDGES) + 1, np.int32),
        fixes=np.empty((longest + 2, 3), np.int64),
        nodes=np.empty(MEMORY, np.int64),
        groups=np.empty(MEMORY, np.int64),
    )


@compiled
def sizes(units: Units) -> tuple[int, int, int, int]:
    """Return how many names there are, their bytes at most, the longest function, its definitions at most."""
    names, name_bytes, longest, length, most, definitions = 0, 0, 0, 0, 0, 0
    for unit in units:
        if unit in (NEW_NAME, NEXT_STRING):
            names += 1
            name_bytes += 16
        elif NAME_BYTES <= unit < NAME_BYTES + 256:
            name_bytes += 1
        if unit == DEFINE:
            length, definitions = 0, 1
        length += 1
        if NUMBERED <= unit <= NAMED_PARAMETER:
            definitions += 1
        longest = max(longest, length)
        most = max(most, definitions)
    return names, name_bytes, longest, most


@compiled
def room(out: Bytes, size: int, more: int) -> Bytes:
    """Return a buffer with room for `more` bytes behind `size`."""
    if size + more <= len(out):
        return out
    wider = np.empty(2 * len(out) + more, np.uint8)
    wider[:size] = out[:size]
    return wider


@compiled
def write(out: Bytes, size: int, word: tuple[int, ...]) -> int:
    """Write a tuple of bytes; returns the new size."""
    for byte in word:
        out[size] = byte
        size += 1
    return size


@compiled
def write_number(out: Bytes, size: int, value: int) -> int:
    """Write a number in decimals; returns the new size."""
    digits = 1
    limit = 10
    while value >= limit:
        limit *= 10
        digits += 1
    for place in range(size + digits - 1, size - 1, -1):
        out[place] = 48 + value % 10
        value //= 10
    return size + digits


@compiled
def name_span(name: int, tables: Tables, memory: Reading) -> tuple[Bytes, int, int]:
    """Return which bytes a name is, its start and its end: of the vocabulary's names, or of the module's."""
    common = len(tables.names.starts) - 1
    if name < common:
        return tables.names.data, tables.names.starts[name], tables.names.starts[name + 1]
    return memory.names, memory.name_starts[name - common], memory.name_starts[name - common + 1]


@compiled
def write_name(out: Bytes, size: int, name: int, quotes: bool, tables: Tables, memory: Reading) -> tuple[Bytes, int]:
    """Write a name, in quotes where it needs them and `quotes` allows; returns the buffer and the new size."""
    data, start, stop = name_span(name, tables, memory)
    out = room(out, size, stop - start + 128)
    quoted = quotes and needs_quotes(data, start, stop)
    if quoted:
        out[size] = 34
        size += 1
    for at in range(start, stop):
        out[size] = data[at]
        size += 1
    if quoted:
        out[size] = 34
        size += 1
    return out, size


@compiled
def write_value(out: Bytes, size: int, value: int, tables: Tables, memory: Reading) -> tuple[Bytes, int]:
    """Write the number or name of a slot."""
    if value >= 0:
        out = room(out, size, 128)
        return out, write_number(out, size, value)
    return write_name(out, size, -1 - value, False, tables, memory)


@compiled
def far(units: Units, at: int, count: int) -> int:
    """Return the number that three digits spell, or -1."""
    if at + 3 > count or units[at] > 255 or units[at + 1] > 255 or units[at + 2] > 255:
        return whole(-1)
    return (whole(units[at]) << 16) | (whole(units[at + 1]) << 8) | whole(units[at + 2])


@compiled
def read_name(units: Units, at: int, count: int, total: int, tables: Tables, memory: Reading) -> tuple[int, int, int]:
    """Read which name it is; returns it (or -1), where the units go on, and how many names are held."""
    state = memory.state
    common = len(tables.names.starts) - 1
    first = FIRST_LEXEME + len(tables.lexemes.starts) - 1
    if at >= count:
        return whole(-1), at, total
    unit = whole(units[at])
    at += 1
    if first <= unit < first + common:
        state[LAST_NAME] = 1 + unit - first
        return unit - first, at, total
    known = whole(-1)
    if NAMES <= unit < NAMES + NAMES_COUNT:
        known = unit - NAMES
    elif unit == FAR_NAME:
        known = far(units, at, count)
        at += 3
        if known < 0:
            return known, at, total
    if known >= 0:
        state[LAST_NAME] = 2 + common + known
        if known >= state[COUNT_NAMES]:
            return whole(-1), at, total
        return common + known, at, total
    size = memory.name_starts[total]
    if unit == NEXT_STRING:
        size = write(memory.names, size, STR_TEXT)
        if state[NEXT_STR]:
            memory.names[size] = 46
            size = write_number(memory.names, size + 1, state[NEXT_STR])
        state[NEXT_STR] += 1
    elif unit == NEW_NAME:
        while at < count and NAME_BYTES <= units[at] < NAME_BYTES + 256:
            memory.names[size] = units[at] - NAME_BYTES
            size += 1
            at += 1
    else:
        return whole(-1), at, total
    state[LAST_NAME] = 2 + common + state[COUNT_NAMES]
    memory.name_starts[total + 1] = size
    if state[COUNT_NAMES] < MODULE_NAMES - 1:
        state[COUNT_NAMES] += 1
    return common + total, at, total + 1


@compiled
def close_function(out: Bytes, size: int, begun: int, fixes: int, tables: Tables, memory: Reading) -> tuple[Bytes, int]:
    """Put in what is known only now; returns the buffer and its size, which is -1 for units that make no sense."""
    state = memory.state
    state[IN_FUNCTION] = 0
    if fixes == 0:
        return out, size
    late = out[begun:size].copy()
    taken = 0
    size = begun
    for fix in range(fixes):
        place, kind, ordinal = memory.fixes[fix, 0] - begun, memory.fixes[fix, 1], memory.fixes[fix, 2]
        out = room(out, size, place - taken + 128)
        out[size : size + place - taken] = late[taken:place]
        size += place - taken
        taken = place
        if kind != LABEL_FIX:
            field = COUNT_PARAMETERS + kind
            if ordinal >= state[field]:
                return out, whole(-1)
            out, size = write_value(out, size, memory.kind_values[kind, ordinal], tables, memory)
            continue
        edge = memory.edge_heads[ordinal] if ordinal < memory.state[CLEARED_BLOCKS] else np.int32(-1)
        if edge < 0:
            size = write(out, size, NO_PREDS_TEXT)
            continue
        size = write(out, size, PREDS_TEXT)
        while edge >= 0:
            out = room(out, size, 128)
            out[size] = 37
            source = memory.edge_sources[edge]
            out, size = write_value(out, size + 1, memory.kind_values[BLOCK_SLOT, source], tables, memory)
            edge = memory.edge_next[edge]
            if edge >= 0:
                out[size] = 44
                out[size + 1] = 32
                size += 2
    out = room(out, size, len(late) - taken + 128)
    out[size : size + len(late) - taken] = late[taken:]
    return out, size + len(late) - taken


@compiled
def name_slot(kind: int, value: int, memory: Reading) -> None:
    """Note what a parameter, definition or block is called."""
    state = memory.state
    field = COUNT_PARAMETERS + kind
    if state[field] < memory.kind_values.shape[1]:
        memory.kind_values[kind, state[field]] = value
    state[field] += 1
