"""From units to text. Compiled; the way back of `encoding`.

What is only known at a function's end (operands defined later, the comments on predecessors) is noted with its place
and put in then.
"""

from __future__ import annotations

import numpy as np

from tokenmill.tokenizers.llvm_ir.compiled import compiled, whole
from tokenmill.tokenizers.llvm_ir.layout import (
    ALLOCA_SLOT,
    ALLOCAS,
    AT,
    BLOCK_SLOT,
    BLOCKS,
    BLOCKS_BACK,
    CLEARED_BLOCKS,
    COUNT_BLOCKS,
    COUNT_EDGES,
    COUNT_PARAMETERS,
    DEFINE,
    END_OF_FUNCTION,
    FAR_GROUP,
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
    LABEL_RAW,
    LAST_LINE_START,
    LAST_NAME,
    LINE_NAME,
    LINE_NODE,
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
    NUMBERED_ALLOCA,
    PARAMETER,
    PARAMETER_SLOT,
    PARAMETERS,
    PERCENT,
    SPACE_BANG,
    SPACE_HASH,
    SPACE_STRING_NAME,
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
    add_edge,
    begin_function,
    begin_module,
    group_place,
    memory_place,
    template,
)
from tokenmill.tokenizers.llvm_ir.writing import (
    LABEL_FIX,
    Reading,
    close_function,
    far,
    name_slot,
    read_name,
    room,
    write,
    write_name,
    write_number,
    write_value,
)

_STARTS = (
    tuple(b"\n"),
    tuple(b"\n  "),
    tuple(b"\n    "),
    tuple(b"\n          "),
    tuple(b"\ndefine"),
    tuple(b"\n}"),
)
SPACE_ALLOCA = tuple(b" alloca")


@compiled
def decode(units: Units, tables: Tables, memory: Reading, out: Bytes) -> tuple[Bytes, int]:
    """Turn units into text.

    Args:
        units: uint16 `[unit]`.
        tables: What the vocabulary brings.
        memory: What `reading` made for these units.
        out: uint8, a first buffer.

    Returns:
        The buffer with a newline and the text, and its size: -1 for units that no text has.
    """
    state = memory.state
    begin_module(state, np.zeros(1, np.int32), memory.nodes, memory.groups)
    count = len(units)
    lexemes = len(tables.lexemes.starts) - 1
    at, size, total, fixes, begun = 0, whole(0), 0, 0, whole(0)
    bad = whole(-1)
    while at < count:
        unit = whole(units[at])
        at += 1
        out = room(out, size, 256)
        if unit < 256:
            out[size] = unit
            size += 1
            template(state, unit)
        elif FIRST_LEXEME <= unit < FIRST_LEXEME + lexemes:
            for place in range(
                tables.lexemes.starts[unit - FIRST_LEXEME], tables.lexemes.starts[unit - FIRST_LEXEME + 1]
            ):
                out[size] = tables.lexemes.data[place]
                size += 1
            template(state, unit)
        elif unit <= LAST_LINE_START:
            if LABEL <= unit <= NAMED_LABEL_RAW:
                if not state[IN_FUNCTION]:
                    return out, bad
                raw = unit in (LABEL_RAW, NAMED_LABEL_RAW)
                numbered = unit <= LABEL_RAW
                template(state, LABEL if numbered else NAMED_LABEL)
                if state[COUNT_BLOCKS]:
                    out[size] = 10
                    size += 1
                out[size] = 10
                size += 1
                start = size
                value = state[NEXT_LOCAL]
                if not numbered:
                    name, at, total = read_name(units, at, count, total, tables, memory)
                    if name < 0:
                        return out, bad
                    value = -1 - name
                else:
                    state[NEXT_LOCAL] += 1
                name_slot(BLOCK_SLOT, value, memory)
                out, size = write_value(out, size, value, tables, memory)
                out[size] = 58
                size += 1
                if not raw and state[COUNT_BLOCKS] > 1:
                    for _ in range(max(COMMENT_COLUMN - (size - start), 1)):
                        out[size] = 32
                        size += 1
                    memory.fixes[fixes, 0] = size
                    memory.fixes[fixes, 1] = LABEL_FIX
                    memory.fixes[fixes, 2] = state[COUNT_BLOCKS] - 1
                    fixes += 1
                continue
            if unit in (DEFINE, END_OF_FUNCTION):
                if state[IN_FUNCTION]:
                    out, size = close_function(out, size, begun, fixes, tables, memory)
                    if size < 0:
                        return out, bad
                    fixes = 0
                    out = room(out, size, 256)
                if unit == DEFINE:
                    begin_function(state)
                    state[CLEARED_BLOCKS] = 0
                    begun = size
            elif state[IN_FUNCTION] and state[COUNT_BLOCKS] == 0:
                name_slot(BLOCK_SLOT, state[NEXT_LOCAL], memory)
                state[NEXT_LOCAL] += 1
            template(state, unit)
            if unit <= INDENT_2:
                size = write(out, size, _STARTS[0]) if unit == NEWLINE else write(out, size, _STARTS[1])
            elif unit == INDENT_4:
                size = write(out, size, _STARTS[2])
            elif unit == INDENT_10:
                size = write(out, size, _STARTS[3])
            elif unit == DEFINE:
                size = write(out, size, _STARTS[4])
            elif unit == END_OF_FUNCTION:
                size = write(out, size, _STARTS[5])
            elif unit == NODE:
                out[size] = 10
                out[size + 1] = 33
                state[LINE_NODE] = state[NEXT_NODE]
                size = write_number(out, size + 2, state[NEXT_NODE])
                state[NEXT_NODE] += 1
                out[size] = 32
                out[size + 1] = 61
                size += 2
            else:
                if not state[IN_FUNCTION]:
                    return out, bad
                out[size] = 10
                out[size + 1] = 32
                out[size + 2] = 32
                out[size + 3] = 37
                value = state[NEXT_LOCAL]
                if unit >= NAMED:
                    name, at, total = read_name(units, at, count, total, tables, memory)
                    if name < 0:
                        return out, bad
                    value = -1 - name
                else:
                    state[NEXT_LOCAL] += 1
                out, size = write_value(out, size + 4, value, tables, memory)
                out[size] = 32
                out[size + 1] = 61
                size += 2
                alloca = unit in (NUMBERED_ALLOCA, NAMED_ALLOCA)
                name_slot(ALLOCA_SLOT if alloca else VALUE_SLOT, value, memory)
                if alloca:
                    size = write(out, size, SPACE_ALLOCA)
        elif unit in (PARAMETER, NAMED_PARAMETER):
            if not state[IN_FUNCTION]:
                return out, bad
            template(state, unit)
            out[size] = 32
            out[size + 1] = 37
            value = state[NEXT_LOCAL]
            if unit == NAMED_PARAMETER:
                name, at, total = read_name(units, at, count, total, tables, memory)
                if name < 0:
                    return out, bad
                value = -1 - name
            else:
                state[NEXT_LOCAL] += 1
            name_slot(PARAMETER_SLOT, value, memory)
            out, size = write_value(out, size + 2, value, tables, memory)
        elif unit <= SPACE_STRING_NAME:
            template(state, unit)
            offset = (unit - AT) & 1
            sigil = unit - offset
            if offset:
                out[size] = 32
                size += 1
            name, at, total = read_name(units, at, count, total, tables, memory)
            if name < 0:
                return out, bad
            if sigil == STRING_NAME:
                out[size] = 34
                out, size = write_name(out, size + 1, name, False, tables, memory)
                out[size] = 34
                size += 1
            else:
                out[size] = 64 if sigil == AT else 37 if sigil == PERCENT else 36
                out, size = write_name(out, size + 1, name, True, tables, memory)
                if sigil == AT and state[LINE_NAME] == 0:
                    state[LINE_NAME] = state[LAST_NAME]
        elif unit <= SPACE_HASH:
            template(state, unit)
            if at >= count:
                return out, bad
            if unit in (SPACE_BANG, SPACE_HASH):
                out[size] = 32
                size += 1
            out[size] = 33 if unit <= SPACE_BANG else 35
            size += 1
            follows = whole(units[at])
            at += 1
            value = whole(-1)
            if unit <= SPACE_BANG:
                place = memory_place(state)
                base = state[LINE_NODE] if state[LINE_NODE] >= 0 else state[HIGHEST_NODE]
                if follows == NODE_AGAIN:
                    value = memory.nodes[place]
                elif NEAR_NODES <= follows < NEAR_NODES + NEAR_NODES_COUNT:
                    value = base + follows - NEAR_NODES - NEAR_NODES_BACK
                elif NODES <= follows < NODES + NODES_COUNT:
                    value = follows - NODES
                elif follows == FAR_NODE:
                    value = far(units, at, count)
                    at += 3
                memory.nodes[place] = value
                if state[LINE_NODE] < 0:
                    state[HIGHEST_NODE] = max(state[HIGHEST_NODE], value)
            else:
                place = group_place(state)
                if follows == GROUP_AGAIN:
                    value = memory.groups[place]
                elif follows == NEW_GROUP:
                    value = state[HIGHEST_GROUP] + 1
                elif GROUPS <= follows < GROUPS + GROUPS_COUNT:
                    value = follows - GROUPS
                elif follows == FAR_GROUP:
                    value = far(units, at, count)
                    at += 3
                memory.groups[place] = value
                if value == state[HIGHEST_GROUP] + 1:
                    state[HIGHEST_GROUP] = value
            if value < 0:
                return out, bad
            size = write_number(out, size, value)
        else:
            kind, ordinal = -1, whole(-1)
            if FAR_SLOT <= unit < FAR_SLOT + 4:
                kind = unit - FAR_SLOT
                ordinal = far(units, at, count)
                at += 3
            elif PARAMETERS <= unit < ALLOCAS:
                kind, ordinal = PARAMETER_SLOT, unit - PARAMETERS
            elif ALLOCAS <= unit < VALUES:
                kind, ordinal = ALLOCA_SLOT, unit - ALLOCAS
            elif VALUES <= unit < BLOCKS:
                kind, ordinal = VALUE_SLOT, unit - VALUES - VALUES_BACK + state[LINE_VALUES]
            elif BLOCKS <= unit < FIRST_LEXEME:
                kind, ordinal = BLOCK_SLOT, unit - BLOCKS - BLOCKS_BACK + state[COUNT_BLOCKS] - 1
            if ordinal < 0 or not state[IN_FUNCTION]:
                return out, bad
            out[size] = 32
            out[size + 1] = 37
            size += 2
            if kind == BLOCK_SLOT:
                before = units[at - 5] if unit == FAR_SLOT + BLOCK_SLOT and at >= 5 else units[max(at - 2, 0)]
                if before == tables.label and ordinal < len(memory.edge_heads):
                    while state[CLEARED_BLOCKS] <= ordinal:
                        memory.edge_heads[state[CLEARED_BLOCKS]] = -1
                        state[CLEARED_BLOCKS] += 1
                    if state[COUNT_EDGES] < len(memory.edge_next):
                        add_edge(state, memory.edge_heads, memory.edge_next, memory.edge_sources, ordinal)
            if ordinal < state[COUNT_PARAMETERS + kind]:
                out, size = write_value(out, size, memory.kind_values[kind, ordinal], tables, memory)
            else:
                memory.fixes[fixes, 0] = size
                memory.fixes[fixes, 1] = kind
                memory.fixes[fixes, 2] = ordinal
                fixes += 1
    if state[IN_FUNCTION]:
        out, size = close_function(out, size, begun, fixes, tables, memory)
    return out, size
