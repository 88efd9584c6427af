"""From text to units. Compiled; `text` holds the way back, and both keep the same state.

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
    BLOCK_SLOT,
    COUNT_BLOCKS,
    COUNT_EDGES,
    COUNT_NAMES,
    COUNT_SLOTS,
    COUNT_VALUES,
    DEFINE,
    EDGES,
    FAR_NAME,
    FIRST_LEXEME,
    FUNCTION_NUMBER,
    HEX_PAIRS,
    HIGHEST_GROUP,
    HIGHEST_NODE,
    IN_DEFINE,
    IN_FUNCTION,
    LAST_LINE_START,
    LAST_NAME,
    LAST_PART,
    LINE_NAME,
    LINE_NODE,
    LINE_NUMBER,
    LINE_VALUES,
    MEMORY,
    MODULE_NAMES,
    NAME_BYTES,
    NAMES,
    NAMES_COUNT,
    NEW_NAME,
    NEWLINE,
    NEXT_LOCAL,
    NEXT_STR,
    NEXT_STRING,
    PART_AGAIN,
    PARTS,
    PROBES,
    RAW_HEX_PAIRS,
    SLOTS,
    STATE_FIELDS,
    TEMPLATE,
    Bytes,
    Ints,
    Slots,
    Tables,
    Units,
)
from tokenmill.tokenizers.llvm_ir.parts import (
    Parts,
    begin_parts,
    find_part,
    is_hex,
    is_kept,
    is_mangled,
    note_part,
    part_end,
    parts,
)
from tokenmill.tokenizers.llvm_ir.scanning import CLASSES, STR_TEXT, begins, find, hash_bytes, number, same

#: Column of the comment on a block's predecessors.
COMMENT_COLUMN = 50
#: Hexadecimal digits that are written in pairs, in a name and in a lexeme, where they are so many in a row. Decimal
#: numbers of lexemes are shorter.
LEAST_HEX, LEAST_RAW_HEX = 8, 24
#: Bytes of a part of a name that is told by its number: shorter ones are tokens of their own.
LEAST_PART = 8
# Flags of units: where tokens may begin.
INSIDE, LEXEME_START, LINE_START = 0, 1, 2


class Work(NamedTuple):
    """Memory of one coding at a time: state, the module's names, the function's slots, edges and labels."""

    state: npt.NDArray[np.int64]
    name_table: npt.NDArray[np.int32]
    name_starts: npt.NDArray[np.int64]
    name_lengths: npt.NDArray[np.int64]
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
        name_table=np.zeros(2 * MODULE_NAMES, np.int32),
        name_starts=np.empty(MODULE_NAMES, np.int64),
        name_lengths=np.empty(MODULE_NAMES, np.int64),
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
        run = at
        while run < stop and is_hex(text[run]):
            run += 1
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


@compiled
def find_name(text: Bytes, at: int, stop: int, hashed: int, work: Work) -> int:
    """Return a name's number in the module, or -1."""
    mask = len(work.name_table) - 1
    place = hashed & mask
    for _ in range(PROBES):
        found = whole(work.name_table[place]) - 1
        if found < 0:
            break
        if work.name_lengths[found] == stop - at and same(text, at, text, work.name_starts[found], stop - at):
            return found
        place = (place + 1) & mask
    return whole(-1)


@compiled
def add_name(at: int, stop: int, hashed: int, work: Work) -> None:
    """Give a name the next number, where there is one left; one that finds no place in the table is spelled again."""
    count = work.state[COUNT_NAMES]
    if count < MODULE_NAMES - 1:
        mask = len(work.name_table) - 1
        place = hashed & mask
        for _ in range(PROBES):
            if work.name_table[place] == 0:
                work.name_table[place] = count + 1
                break
            place = (place + 1) & mask
        work.name_starts[count] = at
        work.name_lengths[count] = stop - at
        work.state[COUNT_NAMES] = count + 1


@compiled
def next_string(text: Bytes, at: int, stop: int, count: int) -> bool:
    """Tell whether a name is the `count`-th of ".str", ".str.1", ".str.2" and so on."""
    if not begins(text, at, stop, STR_TEXT):
        return False
    if count == 0:
        return stop - at == 4
    return stop - at > 5 and text[at + 4] == 46 and number(text, at + 5, stop) == count


@compiled
def put_name(text: Bytes, at: int, stop: int, tables: Tables, work: Work, units: Units, flags: Bytes, out: int) -> int:
    """Write which name it is, spelled at the first mention."""
    state = work.state
    hashed = hash_bytes(text, at, stop)
    common = find(tables.names, text, at, stop, hashed)
    if common >= 0:
        state[LAST_NAME] = 1 + common
        return put(units, flags, out, FIRST_LEXEME + len(tables.lexemes.starts) - 1 + common, INSIDE)
    known = find_name(text, at, stop, hashed, work)
    if known >= 0:
        state[LAST_NAME] = 1 + len(tables.names.starts) + known
        if known < NAMES_COUNT:
            return put(units, flags, out, NAMES + known, INSIDE)
        return put_far(units, flags, out, FAR_NAME, known)
    state[LAST_NAME] = 1 + len(tables.names.starts) + state[COUNT_NAMES]
    add_name(at, stop, hashed, work)
    if next_string(text, at, stop, state[NEXT_STR]):
        state[NEXT_STR] += 1
        return put(units, flags, out, NEXT_STRING, INSIDE)
    out = put(units, flags, out, NEW_NAME, INSIDE)
    if not is_mangled(text, at, stop):
        return put_letters(text, at, stop, units, flags, out)
    state[LAST_PART] = -1
    while at < stop:
        start = at
        while at < stop and CLASSES[text[at]] != 1:
            at += 1
        out = put_letters(text, start, at, units, flags, out)
        if at == stop:
            break
        end = part_end(text, at, stop)
        if end < 0:
            return put_letters(text, at, stop, units, flags, out)
        if not is_kept(text, at, end):
            out = put_letters(text, at, end, units, flags, out)
        else:
            part = find_part(text, at, end, work.parts)
            if part >= 0 and work.parts.following[state[LAST_PART] + 1] == part:
                out = put(units, flags, out, PART_AGAIN, INSIDE)
            elif part >= 0 and end - at >= LEAST_PART:
                out = put(units, flags, out, PARTS + part, INSIDE)
            else:
                out = put_letters(text, at, end, units, flags, out)
            note_part(text, at, end, part, state, work.parts)
        at = end
    return out


@compiled
def put_letters(text: Bytes, at: int, stop: int, units: Units, flags: Bytes, out: int) -> int:
    """Spell a name or a part of one; long runs of hexadecimal digits in pairs."""
    while at < stop:
        run = at
        while run < stop and is_hex(text[run]):
            run += 1
        if run - at >= LEAST_HEX:
            while run - at >= 2:
                out = put(units, flags, out, HEX_PAIRS + 16 * hex_value(text[at]) + hex_value(text[at + 1]), INSIDE)
                at += 2
        while at < run:
            out = put(units, flags, out, NAME_BYTES + whole(text[at]), INSIDE)
            at += 1
        if at < stop:
            out = put(units, flags, out, NAME_BYTES + whole(text[at]), INSIDE)
            at += 1
    return out


@compiled
def hex_value(byte: int) -> int:
    """Return what a hexadecimal digit stands for."""
    value = whole(byte) - 48
    return value if value < 10 else value - 39


@compiled
def number_slot(value: int, slot: int, work: Work) -> None:
    """Let a number stand for a slot."""
    if value < len(work.number_slots):
        work.number_slots[value] = slot
        work.number_stamps[value] = work.state[FUNCTION_NUMBER]


@compiled
def add_slot(text: Bytes, at: int, stop: int, kind: int, ordinal: int, work: Work) -> None:
    """Give a parameter, definition or block its slot."""
    state = work.state
    slot = state[COUNT_SLOTS]
    state[COUNT_SLOTS] = slot + 1
    work.slot_kinds[slot] = kind
    work.slot_ordinals[slot] = ordinal
    work.slot_starts[slot] = at
    work.slot_lengths[slot] = stop - at
    if kind == BLOCK_SLOT:
        work.block_slots[ordinal] = slot
        work.edge_heads[ordinal] = -1
    value = number(text, at, stop)
    if value >= 0:
        number_slot(value, slot, work)
        return
    mask = len(work.slot_table) - 1
    place = hash_bytes(text, at, stop) & mask
    for _ in range(PROBES):
        if work.slot_stamps[place] != state[FUNCTION_NUMBER]:
            work.slot_stamps[place] = state[FUNCTION_NUMBER]
            work.slot_table[place] = slot
            break
        place = (place + 1) & mask


@compiled
def find_slot(text: Bytes, at: int, stop: int, work: Work) -> int:
    """Return the slot of a local name, or -1."""
    stamp = work.state[FUNCTION_NUMBER]
    value = number(text, at, stop)
    if value >= 0:
        if value < len(work.number_slots) and work.number_stamps[value] == stamp:
            return whole(work.number_slots[value])
        return whole(-1)
    mask = len(work.slot_table) - 1
    place = hash_bytes(text, at, stop) & mask
    for _ in range(PROBES):
        if work.slot_stamps[place] != stamp:
            break
        slot = work.slot_table[place]
        if work.slot_lengths[slot] == stop - at and same(text, at, text, work.slot_starts[slot], stop - at):
            return whole(slot)
        place = (place + 1) & mask
    return whole(-1)
