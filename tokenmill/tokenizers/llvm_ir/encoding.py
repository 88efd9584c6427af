"""From text to units: the lines of a module. Compiled; `text` is the way back."""

from __future__ import annotations

from tokenmill.ir.compiled import compiled
from tokenmill.tokenizers.llvm_ir.functions import (
    begin_block,
    begin_first_block,
    definition,
    end_function,
    label_line,
    read_ahead,
)
from tokenmill.tokenizers.llvm_ir.layout import (
    COUNT_BLOCKS,
    DEFINE,
    END_OF_FUNCTION,
    FUNCTION_NUMBER,
    IN_FUNCTION,
    INDENT_2,
    INDENT_4,
    INDENT_10,
    LABEL,
    LINE_NODE,
    NAMED,
    NAMED_ALLOCA,
    NAMED_LABEL,
    NEWLINE,
    NEXT_NODE,
    NODE,
    NUMBERED_ALLOCA,
    Bytes,
    Ints,
    Tables,
    Units,
)
from tokenmill.tokenizers.llvm_ir.lines import put_line, put_sigil
from tokenmill.tokenizers.llvm_ir.scanning import (
    BANG_SIGN,
    BRACE,
    CLASSES,
    DEFINE_TEXT,
    begins,
    label_name_end,
    line_end,
    name_end,
    number,
)
from tokenmill.tokenizers.llvm_ir.spelling import put_name
from tokenmill.tokenizers.llvm_ir.units import (
    LEXEME_START,
    LINE_START,
    Work,
    begin_function,
    begin_module,
    put,
    template,
)


@compiled
def encode(
    text: Bytes, end: int, tables: Tables, work: Work, units: Units, flags: Bytes, ends: Ints
) -> tuple[int, int]:
    """Turn a text into units.

    Args:
        text: uint8, a newline, the text and zeros.
        end: Where the zeros begin.
        tables: What the vocabulary brings.
        work: Memory; its content does not matter.
        units: uint16, as long as twice the text, at least.
        flags: uint8, as long; where tokens may begin.
        ends: int64, filled with the ends of functions in units.

    Returns:
        How many units, and how many functions.
    """
    state = work.state
    stamp = state[FUNCTION_NUMBER]
    begin_module(state, work.names.table, work.nodes, work.groups, work.parts)
    state[FUNCTION_NUMBER] = stamp
    out, at, functions = 0, 0, 0
    blank = False
    while at < end:
        start = at + 1
        if state[IN_FUNCTION]:
            label = label_line(text, at, end, work)
            if label >= 0:
                stop = label_name_end(text, label, end)
                block = state[COUNT_BLOCKS]
                at = line_end(text, label, end)
                numbered = CLASSES[text[label]] == 1
                blank = False
                begin_block(text, label, stop, numbered, False, work)
                work.label_places[block] = out
                work.label_texts[block] = stop + 1
                work.label_ends[block] = at
                out = put_sigil(LABEL if numbered else NAMED_LABEL, state, units, flags, out)
                if not numbered:
                    out = put_name(text, label, stop, tables, work, units, flags, out)
                continue
        at = line_end(text, start, end)
        flag = LEXEME_START if blank else LINE_START
        blank = start == at
        unit, skip = NEWLINE, 0
        is_define = begins(text, start, at, DEFINE_TEXT)
        if is_define or (state[IN_FUNCTION] and start < at and text[start] == BRACE):
            if state[IN_FUNCTION]:
                out = end_function(text, work, units, flags, out)
            if is_define:
                begin_function(state)
                unit, skip = DEFINE, 6
            else:
                unit, skip, flag = END_OF_FUNCTION, 1, LEXEME_START
        elif state[IN_FUNCTION]:
            if state[COUNT_BLOCKS] == 0:
                begin_first_block(False, work)
            found, stop = definition(text, start, at, False, work)
            if found >= 0:
                out = put(units, flags, out, found, flag)
                skip = stop + 2 - start
                if found >= NAMED:
                    out = put_name(text, start + 3, stop, tables, work, units, flags, out)
                if found in (NUMBERED_ALLOCA, NAMED_ALLOCA):
                    skip += 7
                out = put_line(text, start + skip, at, tables, work, units, flags, out)
                continue
        if unit == NEWLINE and start < at:
            if begins(text, start, at, (32, 32)):
                unit, skip = INDENT_2, 2
                if begins(text, start, at, (32, 32, 32, 32)):
                    unit, skip = INDENT_4, 4
                    if begins(text, start, at, (32, 32, 32, 32, 32, 32, 32, 32, 32, 32)):
                        unit, skip = INDENT_10, 10
                        if state[IN_FUNCTION]:
                            flag = LEXEME_START
            elif text[start] == BANG_SIGN:
                stop = name_end(text, start + 1, at)
                if number(text, start + 1, stop) == state[NEXT_NODE] and begins(text, stop, at, (32, 61, 32)):
                    unit, skip = NODE, stop + 2 - start
        template(state, unit)
        if unit == NODE:
            state[LINE_NODE] = state[NEXT_NODE]
            state[NEXT_NODE] += 1
        out = put(units, flags, out, unit, flag)
        out = put_line(text, start + skip, at, tables, work, units, flags, out)
        if is_define:
            read_ahead(text, at, end, work)
        elif unit == END_OF_FUNCTION:
            ends[functions] = out
            functions += 1
    if state[IN_FUNCTION]:
        out = end_function(text, work, units, flags, out)
    return out, functions
