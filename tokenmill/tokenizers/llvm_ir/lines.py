"""What stands within a line, from text to units: lexemes, names, operands, nodes and attribute groups. Compiled."""

from __future__ import annotations

from tokenmill.ir.compiled import compiled, whole
from tokenmill.tokenizers.llvm_ir.layout import (
    ALLOCA_SLOT,
    ALLOCAS,
    ALLOCAS_COUNT,
    AT,
    BANG,
    BLOCKS,
    BLOCKS_BACK,
    BLOCKS_COUNT,
    COUNT_BLOCKS,
    COUNT_PARAMETERS,
    COUNT_SLOTS,
    DOLLAR,
    FAR_GROUP,
    FAR_NODE,
    FAR_SLOT,
    FIRST_LEXEME,
    GROUP_AGAIN,
    GROUPS,
    GROUPS_COUNT,
    HASH,
    HIGHEST_GROUP,
    HIGHEST_NODE,
    IN_DEFINE,
    IN_FUNCTION,
    LAST_NAME,
    LINE_NAME,
    LINE_NODE,
    LINE_NUMBER,
    LINE_VALUES,
    LONGEST_LEXEME,
    NAMED_PARAMETER,
    NEAR_NODES,
    NEAR_NODES_BACK,
    NEAR_NODES_COUNT,
    NEW_GROUP,
    NEXT_LOCAL,
    NODE_AGAIN,
    NODES,
    NODES_COUNT,
    NUMBER,
    NUMBER_AGAIN,
    PARAMETER,
    PARAMETER_SLOT,
    PARAMETERS,
    PARAMETERS_COUNT,
    PERCENT,
    SLOTS,
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
    VALUES_COUNT,
    Bytes,
    Ints,
    Tables,
    Units,
)
from tokenmill.tokenizers.llvm_ir.parts import is_mangled
from tokenmill.tokenizers.llvm_ir.scanning import (
    AT_SIGN,
    BANG_SIGN,
    CLOSING,
    COMMA,
    DOLLAR_SIGN,
    HASH_SIGN,
    PERCENT_SIGN,
    QUOTE,
    SPACE,
    find,
    hash_bytes,
    name_end,
    needs_quotes,
    number,
    word_end,
)
from tokenmill.tokenizers.llvm_ir.slots import add_slot, find_slot
from tokenmill.tokenizers.llvm_ir.spelling import find_name, put_name
from tokenmill.tokenizers.llvm_ir.units import (
    INSIDE,
    LEXEME_START,
    Work,
    add_edge,
    group_place,
    memory_place,
    put,
    put_bytes,
    put_far,
    template,
)


@compiled
def put_slot(slot: int, tables: Tables, work: Work, units: Units, flags: Bytes, out: int) -> int:
    """Write an operand that is a slot of this function."""
    state = work.state
    kind = work.slot_kinds[slot]
    ordinal = whole(work.slot_ordinals[slot])
    unit = whole(-1)
    if kind == PARAMETER_SLOT:
        if ordinal < PARAMETERS_COUNT:
            unit = PARAMETERS + ordinal
    elif kind == ALLOCA_SLOT:
        if ordinal < ALLOCAS_COUNT:
            unit = ALLOCAS + ordinal
    elif kind == VALUE_SLOT:
        place = VALUES_BACK - state[LINE_VALUES] + ordinal
        if 0 <= place < VALUES_COUNT:
            unit = VALUES + place
    else:
        if out > 0 and units[out - 1] == tables.label:
            add_edge(state, work.edge_heads, work.edge_next, work.edge_sources, ordinal)
        place = BLOCKS_BACK + ordinal - state[COUNT_BLOCKS] + 1
        if 0 <= place < BLOCKS_COUNT:
            unit = BLOCKS + place
    if unit >= 0:
        return put(units, flags, out, unit, LEXEME_START)
    flags[out] = LEXEME_START
    out = put_far(units, flags, out, FAR_SLOT + kind, ordinal)
    flags[out - 4] = LEXEME_START
    return out


@compiled
def put_node(value: int, work: Work, units: Units, flags: Bytes, out: int) -> int:
    """Write which node it is."""
    state = work.state
    place = memory_place(state)
    last = work.nodes[place]
    again = last == value
    work.nodes[place] = value
    base = state[HIGHEST_NODE]
    if state[LINE_NODE] >= 0:
        base = state[LINE_NODE]
    elif value > base:
        state[HIGHEST_NODE] = value
    if again:
        return put(units, flags, out, NODE_AGAIN, INSIDE)
    near = NEAR_NODES_BACK + value - base
    if 0 <= near < NEAR_NODES_COUNT:
        return put(units, flags, out, NEAR_NODES + near, INSIDE)
    step = STEP_NODES_BACK + value - last
    if last >= 0 and 0 <= step < STEP_NODES_COUNT:
        return put(units, flags, out, STEP_NODES + step, INSIDE)
    if value < NODES_COUNT:
        return put(units, flags, out, NODES + value, INSIDE)
    return put_far(units, flags, out, FAR_NODE, value)


@compiled
def put_number(value: int, text: Bytes, at: int, stop: int, work: Work, units: Units, flags: Bytes, out: int) -> int:
    """Write a space and a number of a node's definition."""
    state = work.state
    template(state, NUMBER)
    place = memory_place(state)
    step = STEP_NUMBERS_BACK + value - work.nodes[place]
    known = work.nodes[place] >= 0
    same = state[LINE_NUMBER] == value
    work.nodes[place] = value
    state[LINE_NUMBER] = value
    if known and 0 <= step < STEP_NUMBERS_COUNT:
        return put(units, flags, out, STEP_NUMBERS + step, LEXEME_START)
    if same:
        return put(units, flags, out, NUMBER_AGAIN, LEXEME_START)
    out = put(units, flags, out, NUMBER, LEXEME_START)
    while at < stop:
        out = put(units, flags, out, whole(text[at]), INSIDE)
        at += 1
    return out


@compiled
def put_group(value: int, work: Work, units: Units, flags: Bytes, out: int) -> int:
    """Write which attribute group it is."""
    state = work.state
    place = group_place(state)
    again = work.groups[place] == value
    work.groups[place] = value
    new = value == state[HIGHEST_GROUP] + 1
    if new:
        state[HIGHEST_GROUP] = value
    if again:
        return put(units, flags, out, GROUP_AGAIN, INSIDE)
    if new:
        return put(units, flags, out, NEW_GROUP, INSIDE)
    if value < GROUPS_COUNT:
        return put(units, flags, out, GROUPS + value, INSIDE)
    return put_far(units, flags, out, FAR_GROUP, value)


@compiled
def put_sigil(unit: int, state: Ints, units: Units, flags: Bytes, out: int) -> int:
    """Write the unit that says what follows, a lexeme's first."""
    template(state, unit)
    return put(units, flags, out, unit, LEXEME_START)


@compiled
def put_lexeme(
    text: Bytes, at: int, stop: int, tables: Tables, work: Work, units: Units, flags: Bytes, out: int
) -> int:
    """Write a lexeme, as one unit where it is frequent."""
    if stop - at <= LONGEST_LEXEME:
        found = find(tables.lexemes, text, at, stop, hash_bytes(text, at, stop))
        if found >= 0:
            return put_sigil(FIRST_LEXEME + found, work.state, units, flags, out)
    return put_bytes(text, at, stop, work.state, units, flags, out, LEXEME_START)


@compiled
def put_named(
    text: Bytes,
    at: int,
    sign: int,
    end: int,
    named: bool,
    tables: Tables,
    work: Work,
    units: Units,
    flags: Bytes,
    out: int,
) -> tuple[int, int]:
    """Write a lexeme that begins with the sigil at `sign`; returns where the text and the units go on."""
    state = work.state
    spaced = sign - at
    byte = text[sign]
    start = sign + 1
    if start < end and text[start] == QUOTE:
        stop = start + 1
        while stop < end and text[stop] != QUOTE:
            stop += 1
        if stop == end or not needs_quotes(text, start + 1, stop):
            return sign + 1, put_lexeme(text, at, sign + 1, tables, work, units, flags, out)
        after = stop + 1
        start += 1
    else:
        stop = name_end(text, start, end)
        after = stop
        if byte == PERCENT_SIGN and spaced and stop > start and state[IN_FUNCTION]:
            if named and state[COUNT_SLOTS] < SLOTS - 1:
                ordinal = state[COUNT_PARAMETERS]
                if number(text, start, stop) == state[NEXT_LOCAL]:
                    state[NEXT_LOCAL] += 1
                    state[COUNT_PARAMETERS] += 1
                    add_slot(text, start, stop, PARAMETER_SLOT, ordinal, work)
                    return after, put_sigil(PARAMETER, state, units, flags, out)
                if (
                    not needs_quotes(text, start, stop)
                    and stop < end
                    and (text[stop] == COMMA or text[stop] == CLOSING)
                ):
                    state[COUNT_PARAMETERS] += 1
                    add_slot(text, start, stop, PARAMETER_SLOT, ordinal, work)
                    out = put_sigil(NAMED_PARAMETER, state, units, flags, out)
                    return after, put_name(text, start, stop, tables, work, units, flags, out)
            slot = find_slot(text, start, stop, work)
            if slot >= 0:
                return after, put_slot(slot, tables, work, units, flags, out)
        if needs_quotes(text, start, stop):
            return stop, put_lexeme(text, at, stop, tables, work, units, flags, out)
    unit = AT
    if byte == PERCENT_SIGN:
        unit = PERCENT
    elif byte == DOLLAR_SIGN:
        unit = DOLLAR
    out = put_sigil(unit + spaced, state, units, flags, out)
    out = put_name(text, start, stop, tables, work, units, flags, out)
    if unit == AT and state[LINE_NAME] == 0:
        state[LINE_NAME] = state[LAST_NAME]
    return after, out


@compiled
def is_name(text: Bytes, at: int, stop: int, work: Work) -> bool:
    """Tell whether what stands in quotes is a name: one of the module, or mangled."""
    return is_mangled(text, at, stop) or find_name(text, at, stop, hash_bytes(text, at, stop), work) >= 0


@compiled
def put_line(text: Bytes, at: int, end: int, tables: Tables, work: Work, units: Units, flags: Bytes, out: int) -> int:
    """Write the rest of a line; returns where the units go on."""
    state = work.state
    named = False
    while at < end:
        sign = at
        if text[at] == SPACE and at + 1 < end:
            sign = at + 1
        spaced = sign - at
        byte = text[sign]
        if byte in (PERCENT_SIGN, AT_SIGN, DOLLAR_SIGN):
            at, out = put_named(text, at, sign, end, named, tables, work, units, flags, out)
            if byte == AT_SIGN and state[IN_DEFINE]:
                named = True
        elif byte in (BANG_SIGN, HASH_SIGN):
            stop = word_end(text, sign + 1, end)
            value = number(text, sign + 1, stop)
            if value < 0:
                out = put_lexeme(text, at, stop, tables, work, units, flags, out)
            elif byte == BANG_SIGN:
                out = put_sigil(BANG + spaced, state, units, flags, out)
                out = put_node(value, work, units, flags, out)
            else:
                out = put_sigil(HASH + spaced, state, units, flags, out)
                out = put_group(value, work, units, flags, out)
            at = stop
        elif byte == QUOTE:
            stop = sign + 1
            while stop < end and text[stop] != QUOTE:
                stop += 1
            if stop < end:
                if stop - sign > 3 and is_name(text, sign + 1, stop, work):
                    out = put_sigil(STRING_NAME + spaced, state, units, flags, out)
                    out = put_name(text, sign + 1, stop, tables, work, units, flags, out)
                else:
                    out = put_lexeme(text, at, stop + 1, tables, work, units, flags, out)
                at = stop + 1
            else:
                out = put_lexeme(text, at, sign + 1, tables, work, units, flags, out)
                at = sign + 1
        else:
            stop = word_end(text, sign, end)
            if stop == sign:
                stop = sign + 1
            value = whole(-1)
            if spaced and state[LINE_NODE] >= 0:
                value = number(text, sign, stop)
            if value >= 0:
                out = put_number(value, text, sign, stop, work, units, flags, out)
            else:
                out = put_lexeme(text, at, stop, tables, work, units, flags, out)
            at = stop
    return out
