"""Functions, from text to units: blocks, definitions, reading ahead, and the comments on predecessors. Compiled."""

from __future__ import annotations

from tokenmill.ir.compiled import compiled, whole
from tokenmill.tokenizers.llvm_ir.layout import (
    ALLOCA_SLOT,
    BLOCK_SLOT,
    COUNT_ALLOCAS,
    COUNT_BLOCKS,
    COUNT_SLOTS,
    COUNT_VALUES,
    IN_FUNCTION,
    NAMED,
    NEXT_LOCAL,
    NUMBERED,
    SLOTS,
    VALUE_SLOT,
    Bytes,
    Units,
)
from tokenmill.tokenizers.llvm_ir.scanning import (
    ALLOCA_TEXT,
    BRACE,
    CLASSES,
    COMMA,
    DEFINE_TEXT,
    NEWLINE_BYTE,
    NO_PREDS_TEXT,
    PERCENT_SIGN,
    PREDS_TEXT,
    SPACE,
    begins,
    defined_name_end,
    label_name_end,
    line_end,
    name_end,
    number,
    same,
)
from tokenmill.tokenizers.llvm_ir.slots import add_slot, number_slot
from tokenmill.tokenizers.llvm_ir.units import COMMENT_COLUMN, INSIDE, LEXEME_START, Work, template


@compiled
def label_line(text: Bytes, at: int, end: int, work: Work) -> int:
    """Return where the line of the label begins that comes with the newline at `at`, or -1."""
    state = work.state
    start = at + 1
    if state[COUNT_BLOCKS]:
        if start >= end or text[start] != NEWLINE_BYTE:
            return -1
        start += 1
    stop = label_name_end(text, start, end)
    if stop < 0 or state[COUNT_SLOTS] >= SLOTS:
        return -1
    if CLASSES[text[start]] == 1:
        return start if number(text, start, stop) == state[NEXT_LOCAL] else -1
    return start


@compiled
def begin_block(text: Bytes, start: int, stop: int, numbered: bool, reading: bool, work: Work) -> None:
    """Count a block with a label, and give it its slot while reading ahead."""
    state = work.state
    ordinal = state[COUNT_BLOCKS]
    if reading:
        add_slot(text, start, stop, BLOCK_SLOT, ordinal, work)
    else:
        state[COUNT_SLOTS] += 1
    state[COUNT_BLOCKS] = ordinal + 1
    if numbered:
        state[NEXT_LOCAL] += 1


@compiled
def begin_first_block(reading: bool, work: Work) -> None:
    """Count a function's first block where it has no label: it takes a number silently."""
    state = work.state
    if reading:
        slot = state[COUNT_SLOTS]
        work.slot_kinds[slot] = BLOCK_SLOT
        work.slot_ordinals[slot] = 0
        work.slot_starts[slot] = -1
        work.slot_lengths[slot] = state[NEXT_LOCAL]
        work.block_slots[0] = slot
        work.edge_heads[0] = -1
        number_slot(state[NEXT_LOCAL], slot, work)
    else:
        work.label_places[0] = -1
    state[COUNT_SLOTS] += 1
    state[COUNT_BLOCKS] = 1
    state[NEXT_LOCAL] += 1


@compiled
def definition(text: Bytes, start: int, end: int, reading: bool, work: Work) -> tuple[int, int]:
    """Count what the line defines; returns its unit (or -1) and where the name ends."""
    state = work.state
    stop = defined_name_end(text, start, end)
    if stop < 0 or state[COUNT_SLOTS] >= SLOTS:
        return whole(-1), stop
    numbered = CLASSES[text[start + 3]] == 1
    if numbered and number(text, start + 3, stop) != state[NEXT_LOCAL]:
        return whole(-1), stop
    alloca = begins(text, stop + 3, end, ALLOCA_TEXT)
    kind, field = VALUE_SLOT, COUNT_VALUES
    if alloca:
        kind, field = ALLOCA_SLOT, COUNT_ALLOCAS
    unit = (NUMBERED if numbered else NAMED) + whole(alloca)
    if reading:
        add_slot(text, start + 3, stop, kind, state[field], work)
    else:
        template(state, unit)
        state[COUNT_SLOTS] += 1
    state[field] += 1
    if numbered:
        state[NEXT_LOCAL] += 1
    return unit, stop


@compiled
def read_ahead(text: Bytes, at: int, end: int, work: Work) -> None:
    """Give the slots of a function's blocks and definitions; `at`: the newline behind the first line."""
    state = work.state
    kept = state.copy()
    while at < end:
        start = label_line(text, at, end, work)
        if start >= 0:
            stop = label_name_end(text, start, end)
            begin_block(text, start, stop, CLASSES[text[start]] == 1, True, work)
            at = line_end(text, start, end)
            continue
        start = at + 1
        if (start < end and text[start] == BRACE) or begins(text, start, end, DEFINE_TEXT):
            break
        if state[COUNT_BLOCKS] == 0:
            begin_first_block(True, work)
        at = line_end(text, start, end)
        definition(text, start, at, True, work)
    state[:] = kept


@compiled
def label_matches(text: Bytes, block: int, work: Work) -> bool:
    """Tell whether a label's comment is what the branches say."""
    at: int = work.label_texts[block]
    end: int = work.label_ends[block]
    if block == 0:
        return at == end
    slot = work.block_slots[block]
    column = work.slot_lengths[slot] + 1
    for _ in range(max(COMMENT_COLUMN - column, 1)):
        if at >= end or text[at] != SPACE:
            return False
        at += 1
    edge = work.edge_heads[block]
    if edge < 0:
        return end - at == len(NO_PREDS_TEXT) and begins(text, at, end, NO_PREDS_TEXT)
    if not begins(text, at, end, PREDS_TEXT):
        return False
    at += len(PREDS_TEXT)
    while edge >= 0:
        if at >= end or text[at] != PERCENT_SIGN:
            return False
        at += 1
        source = work.block_slots[work.edge_sources[edge]]
        if work.slot_starts[source] < 0:
            stop = name_end(text, at, end)
            if number(text, at, stop) != work.slot_lengths[source]:
                return False
            at = stop
        else:
            length = work.slot_lengths[source]
            if end - at < length or not same(text, at, text, work.slot_starts[source], length):
                return False
            at += length
        edge = work.edge_next[edge]
        if edge >= 0:
            if end - at < 2 or text[at] != COMMA or text[at + 1] != SPACE:
                return False
            at += 2
    return at == end


@compiled
def end_function(text: Bytes, work: Work, units: Units, flags: Bytes, out: int) -> int:
    """Write out the labels whose comments differ from what is derived; returns where the units go on."""
    state = work.state
    state[IN_FUNCTION] = 0
    more = 0
    for block in range(state[COUNT_BLOCKS]):
        if work.label_places[block] >= 0 and label_matches(text, block, work):
            work.label_places[block] = -1
        elif work.label_places[block] >= 0:
            more += work.label_ends[block] - work.label_texts[block]
    # From the end backwards, so that nothing is written over before it has moved.
    source, target = out - 1, out - 1 + more
    for block in range(state[COUNT_BLOCKS] - 1, -1, -1):
        place = work.label_places[block]
        if place < 0:
            continue
        # The name of a label stands between its unit and the comment.
        after = place + 1
        while after <= source and flags[after] == INSIDE:
            after += 1
        while source >= after:
            units[target] = units[source]
            flags[target] = flags[source]
            source -= 1
            target -= 1
        for at in range(work.label_ends[block] - 1, work.label_texts[block] - 1, -1):
            units[target] = text[at]
            flags[target] = LEXEME_START if at == work.label_texts[block] else INSIDE
            target -= 1
        while source >= place:
            units[target] = units[source]
            flags[target] = flags[source]
            source -= 1
            target -= 1
        units[target + 1] += 1
    return out + more
