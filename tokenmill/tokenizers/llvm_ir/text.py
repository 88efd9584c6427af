"""From units to text. Compiled; the way back of `encoding`.

What is only known at a function's end (operands defined later, the comments on predecessors) is noted with its place
and put in then.
"""

from __future__ import annotations

import numpy as np

from tokenmill.ir.compiled import compiled, whole
from tokenmill.tokenizers.llvm_ir.layout import (
    ALLOCA_SLOT,
    ALLOCAS,
    AT,
    BLOCK_SLOT,
    BLOCKS,
    BLOCKS_BACK,
    COUNT_BLOCKS,
    COUNT_PARAMETERS,
    DEFINE,
    END_OF_FUNCTION,
    FAR_GROUP,
    FAR_LIMIT,
    FAR_NODE,
    FAR_SLOT,
    FIRST_LEXEME,
    GROUP_AGAIN,
    GROUPS,
    GROUPS_COUNT,
    HIGHEST_GROUP,
    HIGHEST_NODE,
    IN_FUNCTION,
    INDENT_2,
    INDENT_4,
    INDENT_10,
    LABEL,
    LAST_LINE_START,
    LAST_NAME,
    LINE_NAME,
    LINE_NODE,
    LINE_NUMBER,
    LINE_VALUES,
    NAMED,
    NAMED_ALLOCA,
    NAMED_LABEL,
    NAMED_LABEL_RAW,
    NAMED_PARAMETER,
    NEAR_NODES,
    NEAR_NODES_BACK,
    NEAR_NODES_COUNT,
    NEW_GROUP,
    NEWLINE,
    NEXT_LOCAL,
    NEXT_NODE,
    NODE,
    NODE_AGAIN,
    NODES,
    NODES_COUNT,
    NUMBER,
    NUMBER_AGAIN,
    NUMBERED_ALLOCA,
    PARAMETER_SLOT,
    PARAMETERS,
    PERCENT,
    RAW_HEX_PAIRS,
    SPACE_BANG,
    SPACE_HASH,
    SPACE_STRING_NAME,
    STEP_NODES,
    STEP_NODES_BACK,
    STEP_NODES_COUNT,
    STEP_NUMBERS,
    STEP_NUMBERS_BACK,
    STEP_NUMBERS_COUNT,
    STRING_NAME,
    VALUE_SLOT,
    VALUES,
    VALUES_BACK,
    Bytes,
    Tables,
    Units,
)
from tokenmill.tokenizers.llvm_ir.units import (
    COMMENT_COLUMN,
    begin_function,
    begin_module,
    group_place,
    memory_place,
    template,
)
from tokenmill.tokenizers.llvm_ir.writing import (
    LABEL_FIX,
    NO_TEXT,
    TOO_LARGE,
    Reading,
    branch,
    close_function,
    far,
    name_slot,
    note_fix,
    read_name,
    room,
    write,
    write_hex,
    write_name,
    write_number,
    write_value,
)

NEWLINE_TEXT = tuple(b"\n")
INDENT_2_TEXT = tuple(b"\n  ")
INDENT_4_TEXT = tuple(b"\n    ")
INDENT_10_TEXT = tuple(b"\n          ")
DEFINE_LINE_TEXT = tuple(b"\ndefine")
END_TEXT = tuple(b"\n}")
NODE_TEXT = tuple(b"\n!")
LOCAL_TEXT = tuple(b"\n  %")
EQUALS_TEXT = tuple(b" =")
SPACE_ALLOCA_TEXT = tuple(b" alloca")
#: Digits of a number, at most.
LONGEST_NUMBER = 7


@compiled
def decode(units: Units, tables: Tables, memory: Reading, out: Bytes, limit: int) -> tuple[Bytes, int]:
    """Turn units into text.

    Args:
        units: uint16 `[unit]`.
        tables: What the vocabulary brings.
        memory: What `reading` made for these units.
        out: uint8, a first buffer.
        limit: Most bytes of the text: units can stand for names of any length, and for them again and again.

    Returns:
        The buffer with a newline and the text, and its size: NO_TEXT for units that no text has, TOO_LARGE.
    """
    state = memory.state
    begin_module(state, np.zeros(1, np.int32), memory.nodes, memory.groups, memory.parts)
    count = len(units)
    first_name = FIRST_LEXEME + len(tables.lexemes.starts) - 1
    at, size, begun = 0, whole(0), whole(0)
    while at < count:
        unit = whole(units[at])
        at += 1
        out = room(out, size, 256)
        if unit < 256:
            out[size] = unit
            size += 1
            template(state, unit)
        elif FIRST_LEXEME <= unit < first_name:
            lexeme = unit - FIRST_LEXEME
            for place in range(tables.lexemes.starts[lexeme], tables.lexemes.starts[lexeme + 1]):
                out[size] = tables.lexemes.data[place]
                size += 1
            template(state, unit)
        elif LABEL <= unit <= NAMED_LABEL_RAW:
            out, size, at = put_label(unit, units, at, tables, memory, out, size)
        elif unit <= LAST_LINE_START:
            if unit in (DEFINE, END_OF_FUNCTION) and state[IN_FUNCTION]:
                out, size = close_function(out, size, begun, limit, tables, memory)
                if size < 0:
                    return out, size
                out = room(out, size, 256)
            if unit == DEFINE:
                begin_function(state)
                begun = size
            out, size, at = put_line_start(unit, units, at, tables, memory, out, size)
        elif unit <= NAMED_PARAMETER:
            out, size, at = put_parameter(unit, units, at, tables, memory, out, size)
        elif unit <= SPACE_STRING_NAME:
            out, size, at = put_named(unit, units, at, tables, memory, out, size)
        elif unit <= SPACE_HASH:
            size, at = put_reference(unit, units, at, memory, out, size)
        elif RAW_HEX_PAIRS <= unit < RAW_HEX_PAIRS + 256:
            size = write_hex(out, size, unit - RAW_HEX_PAIRS)
            template(state, unit)
        elif STEP_NUMBERS <= unit < STEP_NUMBERS + STEP_NUMBERS_COUNT or NUMBER <= unit <= NUMBER_AGAIN:
            size, at = put_number(unit, units, at, memory, out, size)
        else:
            out, size, at = put_operand(unit, units, at, tables, memory, out, size)
        if size < 0:
            return out, size
        if size > limit:
            return out, TOO_LARGE
    if state[IN_FUNCTION]:
        out, size = close_function(out, size, begun, limit, tables, memory)
    return out, size


@compiled
def put_local(
    named: bool, kind: int, units: Units, at: int, tables: Tables, memory: Reading, out: Bytes, size: int
) -> tuple[Bytes, int, int]:
    """Write what is defined here, by its name or by the next number, and note it as a slot."""
    state = memory.state
    value = state[NEXT_LOCAL]
    if named:
        name, at = read_name(units, at, tables, memory)
        if name < 0:
            return out, NO_TEXT, at
        value = -1 - name
    else:
        state[NEXT_LOCAL] += 1
    name_slot(kind, value, memory)
    out, size = write_value(out, size, value, tables, memory)
    return out, size, at


@compiled
def put_label(
    unit: int, units: Units, at: int, tables: Tables, memory: Reading, out: Bytes, size: int
) -> tuple[Bytes, int, int]:
    """Write a label's line, but for its comment, which is noted for later."""
    state = memory.state
    if not state[IN_FUNCTION]:
        return out, NO_TEXT, at
    named = unit >= NAMED_LABEL
    template(state, NAMED_LABEL if named else LABEL)
    if state[COUNT_BLOCKS]:
        out[size] = 10
        size += 1
    out[size] = 10
    size += 1
    start = size
    out, size, at = put_local(named, BLOCK_SLOT, units, at, tables, memory, out, size)
    if size < 0:
        return out, size, at
    out[size] = 58
    size += 1
    if unit in (LABEL, NAMED_LABEL) and state[COUNT_BLOCKS] > 1:
        for _ in range(max(COMMENT_COLUMN - (size - start), 1)):
            out[size] = 32
            size += 1
        note_fix(size, LABEL_FIX, state[COUNT_BLOCKS] - 1, memory)
    return out, size, at


@compiled
def put_line_start(
    unit: int, units: Units, at: int, tables: Tables, memory: Reading, out: Bytes, size: int
) -> tuple[Bytes, int, int]:
    """Write what begins a line that is no label."""
    state = memory.state
    if unit not in (DEFINE, END_OF_FUNCTION) and state[IN_FUNCTION] and state[COUNT_BLOCKS] == 0:
        name_slot(BLOCK_SLOT, state[NEXT_LOCAL], memory)
        state[NEXT_LOCAL] += 1
    template(state, unit)
    if unit == NEWLINE:
        return out, write(out, size, NEWLINE_TEXT), at
    if unit == INDENT_2:
        return out, write(out, size, INDENT_2_TEXT), at
    if unit == INDENT_4:
        return out, write(out, size, INDENT_4_TEXT), at
    if unit == INDENT_10:
        return out, write(out, size, INDENT_10_TEXT), at
    if unit == DEFINE:
        return out, write(out, size, DEFINE_LINE_TEXT), at
    if unit == END_OF_FUNCTION:
        return out, write(out, size, END_TEXT), at
    if unit == NODE:
        state[LINE_NODE] = state[NEXT_NODE]
        size = write_number(out, write(out, size, NODE_TEXT), state[NEXT_NODE])
        state[NEXT_NODE] += 1
        return out, write(out, size, EQUALS_TEXT), at
    if not state[IN_FUNCTION]:
        return out, NO_TEXT, at
    size = write(out, size, LOCAL_TEXT)
    alloca = unit in (NUMBERED_ALLOCA, NAMED_ALLOCA)
    kind = ALLOCA_SLOT if alloca else VALUE_SLOT
    out, size, at = put_local(unit >= NAMED, kind, units, at, tables, memory, out, size)
    if size < 0:
        return out, size, at
    size = write(out, size, EQUALS_TEXT)
    return out, write(out, size, SPACE_ALLOCA_TEXT) if alloca else size, at


@compiled
def put_parameter(
    unit: int, units: Units, at: int, tables: Tables, memory: Reading, out: Bytes, size: int
) -> tuple[Bytes, int, int]:
    """Write a parameter where it is defined."""
    if not memory.state[IN_FUNCTION]:
        return out, NO_TEXT, at
    template(memory.state, unit)
    out[size] = 32
    out[size + 1] = 37
    return put_local(unit == NAMED_PARAMETER, PARAMETER_SLOT, units, at, tables, memory, out, size + 2)


@compiled
def put_named(
    unit: int, units: Units, at: int, tables: Tables, memory: Reading, out: Bytes, size: int
) -> tuple[Bytes, int, int]:
    """Write a sigil and a name, or a name in quotes."""
    state = memory.state
    template(state, unit)
    offset = (unit - AT) & 1
    sigil = unit - offset
    if offset:
        out[size] = 32
        size += 1
    name, at = read_name(units, at, tables, memory)
    if name < 0:
        return out, NO_TEXT, at
    if sigil == STRING_NAME:
        out[size] = 34
        out, size = write_name(out, size + 1, name, False, tables, memory)
        out[size] = 34
        return out, size + 1, at
    out[size] = 64 if sigil == AT else 37 if sigil == PERCENT else 36
    out, size = write_name(out, size + 1, name, True, tables, memory)
    if sigil == AT and state[LINE_NAME] == 0:
        state[LINE_NAME] = state[LAST_NAME]
    return out, size, at


@compiled
def put_reference(unit: int, units: Units, at: int, memory: Reading, out: Bytes, size: int) -> tuple[int, int]:
    """Write `!` or `#` and a number."""
    template(memory.state, unit)
    if at >= len(units):
        return NO_TEXT, at
    if unit in (SPACE_BANG, SPACE_HASH):
        out[size] = 32
        size += 1
    out[size] = 33 if unit <= SPACE_BANG else 35
    follows = whole(units[at])
    at += 1
    value = whole(-1)
    if follows in (FAR_NODE, FAR_GROUP):
        value = far(units, at)
        at += 3
    value = read_node(follows, value, memory) if unit <= SPACE_BANG else read_group(follows, value, memory)
    if value < 0:
        return NO_TEXT, at
    return write_number(out, size + 1, value), at


@compiled
def read_node(follows: int, distant: int, memory: Reading) -> int:
    """Return which node it is, or -1; `distant`: what the digits behind FAR_NODE spell."""
    state = memory.state
    place = memory_place(state)
    last = memory.nodes[place]
    base = state[LINE_NODE] if state[LINE_NODE] >= 0 else state[HIGHEST_NODE]
    value = whole(-1)
    if follows == NODE_AGAIN:
        value = last
    elif NEAR_NODES <= follows < NEAR_NODES + NEAR_NODES_COUNT:
        value = base + follows - NEAR_NODES - NEAR_NODES_BACK
    elif STEP_NODES <= follows < STEP_NODES + STEP_NODES_COUNT and last >= 0:
        value = last + follows - STEP_NODES - STEP_NODES_BACK
    elif NODES <= follows < NODES + NODES_COUNT:
        value = follows - NODES
    elif follows == FAR_NODE:
        value = distant
    memory.nodes[place] = value
    if state[LINE_NODE] < 0:
        state[HIGHEST_NODE] = max(state[HIGHEST_NODE], value)
    return value


@compiled
def read_group(follows: int, distant: int, memory: Reading) -> int:
    """Return which attribute group it is, or -1; `distant`: what the digits behind FAR_GROUP spell."""
    state = memory.state
    place = group_place(state)
    value = whole(-1)
    if follows == GROUP_AGAIN:
        value = memory.groups[place]
    elif follows == NEW_GROUP:
        value = state[HIGHEST_GROUP] + 1
    elif GROUPS <= follows < GROUPS + GROUPS_COUNT:
        value = follows - GROUPS
    elif follows == FAR_GROUP:
        value = distant
    memory.groups[place] = value
    if value == state[HIGHEST_GROUP] + 1:
        state[HIGHEST_GROUP] = value
    return value


@compiled
def put_number(unit: int, units: Units, at: int, memory: Reading, out: Bytes, size: int) -> tuple[int, int]:
    """Write a space and a number of a node's definition."""
    state = memory.state
    if state[LINE_NODE] < 0:
        return NO_TEXT, at
    template(state, NUMBER)
    place = memory_place(state)
    value = whole(-1)
    if unit == NUMBER_AGAIN:
        value = state[LINE_NUMBER]
    elif unit != NUMBER:
        if memory.nodes[place] >= 0:
            value = memory.nodes[place] + unit - STEP_NUMBERS - STEP_NUMBERS_BACK
    else:
        digits = at
        while at < len(units) and at - digits < LONGEST_NUMBER and 48 <= units[at] <= 57:
            value = 10 * max(value, 0) + whole(units[at]) - 48
            at += 1
    if value < 0 or value >= FAR_LIMIT:
        return NO_TEXT, at
    memory.nodes[place] = value
    state[LINE_NUMBER] = value
    out[size] = 32
    return write_number(out, size + 1, value), at


@compiled
def put_operand(
    unit: int, units: Units, at: int, tables: Tables, memory: Reading, out: Bytes, size: int
) -> tuple[Bytes, int, int]:
    """Write an operand that is a slot of this function; one that is defined later is noted for then."""
    state = memory.state
    before = whole(units[at - 2]) if at >= 2 else whole(0)
    kind, ordinal = whole(-1), whole(-1)
    if FAR_SLOT <= unit < FAR_SLOT + 4:
        kind = unit - FAR_SLOT
        ordinal = far(units, at)
        at += 3
    elif PARAMETERS <= unit < ALLOCAS:
        kind, ordinal = whole(PARAMETER_SLOT), unit - PARAMETERS
    elif ALLOCAS <= unit < VALUES:
        kind, ordinal = whole(ALLOCA_SLOT), unit - ALLOCAS
    elif VALUES <= unit < BLOCKS:
        kind, ordinal = whole(VALUE_SLOT), unit - VALUES - VALUES_BACK + state[LINE_VALUES]
    elif BLOCKS <= unit < FIRST_LEXEME:
        kind, ordinal = whole(BLOCK_SLOT), unit - BLOCKS - BLOCKS_BACK + state[COUNT_BLOCKS] - 1
    # No slot is told by its number before the first block: only parameters are known there.
    if ordinal < 0 or not state[IN_FUNCTION] or (state[COUNT_BLOCKS] == 0 and kind != PARAMETER_SLOT):
        return out, NO_TEXT, at
    out[size] = 32
    out[size + 1] = 37
    size += 2
    if kind == BLOCK_SLOT and before == tables.label:
        branch(ordinal, memory)
    if ordinal < state[COUNT_PARAMETERS + kind]:
        out, size = write_value(out, size, memory.kind_values[kind, ordinal], tables, memory)
    else:
        note_fix(size, kind, ordinal, memory)
    return out, size, at
