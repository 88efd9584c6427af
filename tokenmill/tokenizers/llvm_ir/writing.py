"""What `text` writes: numbers, names, slots, and what is known only at a function's end. Compiled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenmill.ir.compiled import compiled, whole
from tokenmill.tokenizers.llvm_ir.layout import (
    BLOCK_SLOT,
    COUNT_EDGES,
    COUNT_FIXES,
    COUNT_NAMES,
    COUNT_PARAMETERS,
    COUNT_PARTS,
    DEFINE,
    EDGES,
    FAR_NAME,
    FIRST_LEXEME,
    FUNCTION_NUMBER,
    HEX_PAIRS,
    IN_FUNCTION,
    LAST_NAME,
    LAST_OF_NAME,
    LAST_PART,
    LONGEST_PART,
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
    PART_AGAIN,
    PARTS,
    STATE_FIELDS,
    TOTAL_NAMES,
    Bytes,
    Tables,
    Units,
)
from tokenmill.tokenizers.llvm_ir.parts import Parts, find_part, is_kept, is_mangled, note_part, part_end, parts
from tokenmill.tokenizers.llvm_ir.scanning import CLASSES, NO_PREDS_TEXT, PREDS_TEXT, STR_TEXT, needs_quotes
from tokenmill.tokenizers.llvm_ir.units import add_edge

LABEL_FIX = 4
# Sizes of a text that cannot be: the units are of no text, or of a larger one than is allowed.
NO_TEXT, TOO_LARGE = -1, -2


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
    edge_stamps: npt.NDArray[np.int64]
    edge_next: npt.NDArray[np.int32]
    edge_sources: npt.NDArray[np.int32]
    fixes: npt.NDArray[np.int64]
    nodes: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    parts: Parts


def reading(units: npt.NDArray[np.uint16]) -> Reading:
    """Return memory for decoding these units."""
    names, name_bytes, longest, definitions = sizes(units)
    return Reading(
        state=np.zeros(STATE_FIELDS, np.int64),
        names=np.empty(name_bytes + 16, np.uint8),
        name_starts=np.zeros(names + 2, np.int64),
        kind_values=np.zeros((4, definitions + 2), np.int64),
        edge_heads=np.empty(definitions + 2, np.int32),
        edge_stamps=np.zeros(definitions + 2, np.int64),
        edge_next=np.empty(min(longest, EDGES) + 1, np.int32),
        edge_sources=np.empty(min(longest, EDGES) + 1, np.int32),
        fixes=np.empty((longest + 2, 3), np.int64),
        nodes=np.empty(MEMORY, np.int64),
        groups=np.empty(MEMORY, np.int64),
        parts=parts(),
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
        elif HEX_PAIRS <= unit < PART_AGAIN:
            name_bytes += 2
        elif PART_AGAIN <= unit <= LAST_OF_NAME:
            name_bytes += LONGEST_PART
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
def write_hex(out: Bytes, size: int, value: int) -> int:
    """Write a byte as two hexadecimal digits; returns the new size."""
    for digit in (value >> 4, value & 15):
        out[size] = digit + (48 if digit < 10 else 87)
        size += 1
    return size


@compiled
def far(units: Units, at: int) -> int:
    """Return the number that three digits spell, or -1."""
    if at + 3 > len(units) or units[at] > 255 or units[at + 1] > 255 or units[at + 2] > 255:
        return whole(-1)
    return (whole(units[at]) << 16) | (whole(units[at + 1]) << 8) | whole(units[at + 2])


@compiled
def read_letters(units: Units, at: int, size: int, memory: Reading) -> tuple[int, int]:
    """Read a name that is spelled, behind the names held; returns where it ends, or -1, and where the units go on."""
    names = memory.names
    scanned = begun = size
    memory.state[LAST_PART] = -1
    while at < len(units) and NAME_BYTES <= units[at] <= LAST_OF_NAME:
        unit = whole(units[at])
        at += 1
        if unit < HEX_PAIRS:
            names[size] = unit - NAME_BYTES
            size += 1
        elif unit < PART_AGAIN:
            size = write_hex(names, size, unit - HEX_PAIRS)
        else:
            scanned = read_parts(begun, scanned, size, memory)
            part = unit - PARTS
            if unit == PART_AGAIN:
                part = memory.parts.following[memory.state[LAST_PART] + 1]
            if part < 0 or part >= memory.state[COUNT_PARTS]:
                return whole(-1), at
            start = memory.parts.seen.starts[part]
            for place in range(start, start + memory.parts.seen.lengths[part]):
                names[size] = names[place]
                size += 1
    read_parts(begun, scanned, size, memory)
    return size, at


@compiled
def read_parts(begun: int, at: int, stop: int, memory: Reading) -> int:
    """Note the parts of a name that begins at `begun`, from `at` on; returns where those end that are complete."""
    names = memory.names
    if not is_mangled(names, begun, stop):
        return begun
    while True:
        start = at
        while start < stop and CLASSES[names[start]] != 1:
            start += 1
        if start == stop:
            return start
        end = part_end(names, start, stop)
        if end < 0:
            return start
        if is_kept(names, start, end):
            note_part(names, start, end, find_part(names, start, end, memory.parts), memory.state, memory.parts)
        at = end


@compiled
def read_name(units: Units, at: int, tables: Tables, memory: Reading) -> tuple[int, int]:
    """Read which name it is; returns it (or -1), and where the units go on."""
    state = memory.state
    common = len(tables.names.starts) - 1
    first = FIRST_LEXEME + len(tables.lexemes.starts) - 1
    if at >= len(units):
        return whole(-1), at
    unit = whole(units[at])
    at += 1
    if first <= unit < first + common:
        state[LAST_NAME] = 1 + unit - first
        return unit - first, at
    if NAMES <= unit < NAMES + NAMES_COUNT or unit == FAR_NAME:
        known = unit - NAMES
        if unit == FAR_NAME:
            known = far(units, at)
            at += 3
        if known < 0 or known >= state[COUNT_NAMES]:
            return whole(-1), at
        state[LAST_NAME] = 2 + common + known
        return common + known, at
    total = state[TOTAL_NAMES]
    size = memory.name_starts[total]
    if unit == NEXT_STRING:
        size = write(memory.names, size, STR_TEXT)
        if state[NEXT_STR]:
            memory.names[size] = 46
            size = write_number(memory.names, size + 1, state[NEXT_STR])
        state[NEXT_STR] += 1
    elif unit == NEW_NAME:
        size, at = read_letters(units, at, size, memory)
        if size < 0:
            return whole(-1), at
    else:
        return whole(-1), at
    state[LAST_NAME] = 2 + common + state[COUNT_NAMES]
    memory.name_starts[total + 1] = size
    state[TOTAL_NAMES] = total + 1
    if state[COUNT_NAMES] < MODULE_NAMES - 1:
        state[COUNT_NAMES] += 1
    return common + total, at


@compiled
def name_slot(kind: int, value: int, memory: Reading) -> None:
    """Note what a parameter, definition or block is called."""
    field = COUNT_PARAMETERS + kind
    memory.kind_values[kind, memory.state[field]] = value
    memory.state[field] += 1


@compiled
def note_fix(place: int, kind: int, ordinal: int, memory: Reading) -> None:
    """Note what is to be put in at `place`: a slot's name, or with LABEL_FIX a block's predecessors."""
    fix = memory.state[COUNT_FIXES]
    memory.fixes[fix, 0] = place
    memory.fixes[fix, 1] = kind
    memory.fixes[fix, 2] = ordinal
    memory.state[COUNT_FIXES] = fix + 1


@compiled
def branch(target: int, memory: Reading) -> None:
    """Note that the current block branches to `target`."""
    stamp = memory.state[FUNCTION_NUMBER]
    if target < len(memory.edge_heads) and memory.state[COUNT_EDGES] < len(memory.edge_next):
        if memory.edge_stamps[target] != stamp:
            memory.edge_stamps[target] = stamp
            memory.edge_heads[target] = -1
        add_edge(memory.state, memory.edge_heads, memory.edge_next, memory.edge_sources, target)


@compiled
def close_function(out: Bytes, size: int, begun: int, limit: int, tables: Tables, memory: Reading) -> tuple[Bytes, int]:
    """Put in what is known only now; returns the buffer and its size: NO_TEXT, TOO_LARGE where that cannot be."""
    state = memory.state
    fixes = state[COUNT_FIXES]
    state[IN_FUNCTION] = 0
    state[COUNT_FIXES] = 0
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
        if kind == LABEL_FIX:
            out, size = write_predecessors(out, size, ordinal, limit, tables, memory)
        elif ordinal < state[COUNT_PARAMETERS + kind]:
            out, size = write_value(out, size, memory.kind_values[kind, ordinal], tables, memory)
        else:
            return out, NO_TEXT
        if size > limit:
            return out, TOO_LARGE
    out = room(out, size, len(late) - taken + 128)
    out[size : size + len(late) - taken] = late[taken:]
    return out, size + len(late) - taken


@compiled
def write_predecessors(
    out: Bytes, size: int, block: int, limit: int, tables: Tables, memory: Reading
) -> tuple[Bytes, int]:
    """Write the comment on a block's predecessors; stops beyond the limit."""
    if memory.edge_stamps[block] != memory.state[FUNCTION_NUMBER]:
        return out, write(out, size, NO_PREDS_TEXT)
    size = write(out, size, PREDS_TEXT)
    edge = memory.edge_heads[block]
    while edge >= 0 and size <= limit:
        out = room(out, size, 128)
        out[size] = 37
        source = memory.edge_sources[edge]
        out, size = write_value(out, size + 1, memory.kind_values[BLOCK_SLOT, source], tables, memory)
        edge = memory.edge_next[edge]
        if edge >= 0:
            out[size] = 44
            out[size + 1] = 32
            size += 2
    return out, size
