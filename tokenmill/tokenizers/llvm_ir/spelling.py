"""From names to units: spelled at the first mention, by parts where they are mangled, and by number from then on.

Compiled; `writing` holds the way back.
"""

from __future__ import annotations

from tokenmill.ir.compiled import compiled, whole
from tokenmill.tokenizers.llvm_ir.layout import (
    COUNT_NAMES,
    FAR_NAME,
    FIRST_LEXEME,
    HEX_PAIRS,
    LAST_NAME,
    LAST_PART,
    MODULE_NAMES,
    NAME_BYTES,
    NAMES,
    NAMES_COUNT,
    NEW_NAME,
    NEXT_STR,
    NEXT_STRING,
    PART_AGAIN,
    PARTS,
    Bytes,
    Tables,
    Units,
)
from tokenmill.tokenizers.llvm_ir.parts import find_part, is_kept, is_mangled, note_part, part_end
from tokenmill.tokenizers.llvm_ir.scanning import (
    CLASSES,
    STR_TEXT,
    begins,
    find,
    hash_bytes,
    hex_end,
    hex_value,
    number,
)
from tokenmill.tokenizers.llvm_ir.seen import add_seen, find_seen
from tokenmill.tokenizers.llvm_ir.units import INSIDE, Work, put, put_far

#: Hexadecimal digits of a name that are written in pairs, where they are so many in a row.
LEAST_HEX = 8
#: Bytes of a part of a name that is told by its number: shorter ones are tokens of their own.
LEAST_PART = 8


@compiled
def find_name(text: Bytes, at: int, stop: int, hashed: int, work: Work) -> int:
    """Return a name's number in the module, or -1."""
    return find_seen(text, at, stop, hashed, work.names)


@compiled
def add_name(at: int, stop: int, hashed: int, work: Work) -> None:
    """Give a name the next number, where there is one left; one that finds no place in the table is spelled again."""
    count = work.state[COUNT_NAMES]
    if count < MODULE_NAMES - 1:
        add_seen(at, stop, hashed, count, work.names)
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
        run = hex_end(text, at, stop)
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
