"""Reading canonical LLVM IR text: words, names, numbers, and finding them in tables. Compiled.

Texts are uint8 arrays that begin with a newline of their own and end with zeros beyond their `end`.
"""

from __future__ import annotations

import numpy as np

from tokenmill.ir.compiled import compiled, whole
from tokenmill.tokenizers.llvm_ir.layout import FAR_LIMIT, Bytes, Strings

NEWLINE_BYTE, SPACE, QUOTE, HASH_SIGN, DOLLAR_SIGN, PERCENT_SIGN = 10, 32, 34, 35, 36, 37
CLOSING, COMMA, COLON, EQUALS, AT_SIGN, BANG_SIGN, BRACE = 41, 44, 58, 61, 64, 33, 125
DEFINE_TEXT = tuple(b"define ")
ALLOCA_TEXT = tuple(b"alloca ")
PREDS_TEXT = tuple(b"; preds = ")
NO_PREDS_TEXT = tuple(b"; No predecessors!")
STR_TEXT = tuple(b".str")
# Classes of bytes: 1 digits, 2 the other bytes of names printed without quotes, 4 the other bytes of words.
_CLASSES = np.zeros(256, np.uint8)
_CLASSES[ord("0") : ord("9") + 1] = 1
for _byte in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_.-":
    _CLASSES[_byte] = 2
for _byte in b"$+":
    _CLASSES[_byte] = 4
CLASSES = _CLASSES


@compiled
def line_end(text: Bytes, at: int, end: int) -> int:
    """Return where the line ends that `at` lies in."""
    while at < end and text[at] != NEWLINE_BYTE:
        at += 1
    return at


@compiled
def name_end(text: Bytes, at: int, end: int) -> int:
    """Return where the run of bytes of names ends."""
    while at < end and CLASSES[text[at]] & 3:
        at += 1
    return at


@compiled
def word_end(text: Bytes, at: int, end: int) -> int:
    """Return where the word ends."""
    while at < end and CLASSES[text[at]]:
        at += 1
    return at


@compiled
def number(text: Bytes, at: int, stop: int) -> int:
    """Return the number that the bytes spell as printed (no leading zero, below FAR_LIMIT), or -1."""
    if stop <= at or stop - at > 7 or (text[at] == 48 and stop - at > 1):
        return -1
    value = 0
    while at < stop:
        if CLASSES[text[at]] != 1:
            return -1
        value = value * 10 + whole(text[at]) - 48
        at += 1
    return value if value < FAR_LIMIT else -1


@compiled
def is_hex(byte: int) -> bool:
    """Tell whether a byte is a hexadecimal digit, in small letters."""
    return 48 <= byte <= 57 or 97 <= byte <= 102


@compiled
def hex_end(data: Bytes, at: int, stop: int) -> int:
    """Return where the run of hexadecimal digits ends."""
    while at < stop and is_hex(data[at]):
        at += 1
    return at


@compiled
def hex_value(byte: int) -> int:
    """Return what a hexadecimal digit stands for."""
    value = whole(byte) - 48
    return value if value < 10 else value - 39


@compiled
def needs_quotes(text: Bytes, at: int, stop: int) -> bool:
    """Tell whether a name is printed in quotes."""
    if at == stop or CLASSES[text[at]] == 1:
        return True
    while at < stop:
        if not CLASSES[text[at]] & 3:
            return True
        at += 1
    return False


@compiled
def same(text: Bytes, at: int, other: Bytes, start: int, length: int) -> bool:
    """Tell whether two runs of bytes are the same."""
    for offset in range(length):  # noqa: SIM110 (the compiler knows no generators)
        if text[at + offset] != other[start + offset]:
            return False
    return True


@compiled
def begins(text: Bytes, at: int, end: int, word: tuple[int, ...]) -> bool:
    """Tell whether the text goes on with `word`, a tuple of bytes."""
    if end - at < len(word):
        return False
    for offset in range(len(word)):  # noqa: SIM110 (the compiler knows no generators)
        if text[at + offset] != word[offset]:
            return False
    return True


@compiled
def hash_bytes(text: Bytes, at: int, stop: int) -> int:
    """Return the hash of a run of bytes: the one of `layout.string_hash`."""
    value = np.uint32(2166136261)
    while at < stop:
        value = np.uint32((value ^ np.uint32(text[at])) * np.uint32(16777619))
        at += 1
    return whole(value ^ (value >> np.uint32(15)))


@compiled
def find(strings: Strings, text: Bytes, at: int, stop: int, hashed: int) -> int:
    """Return the number of a string of a table, or -1."""
    mask = len(strings.table) - 1
    place = hashed & mask
    while strings.table[place]:
        found = strings.table[place] - 1
        start = strings.starts[found]
        if strings.starts[found + 1] - start == stop - at and same(text, at, strings.data, start, stop - at):
            return whole(found)
        place = (place + 1) & mask
    return whole(-1)


@compiled
def label_name_end(text: Bytes, at: int, end: int) -> int:
    """Return where the name of a label's line ends, or -1 where the line is none."""
    stop = name_end(text, at, end)
    if stop == at or stop >= end or text[stop] != COLON:
        return -1
    if stop + 1 < end and text[stop + 1] != SPACE and text[stop + 1] != NEWLINE_BYTE:
        return -1
    return stop


@compiled
def defined_name_end(text: Bytes, at: int, end: int) -> int:
    """Return where the name ends that a line `  %name = …` defines, or -1 where it defines none; `at`: the line."""
    if end - at < 7 or text[at] != SPACE or text[at + 1] != SPACE or text[at + 2] != PERCENT_SIGN:
        return -1
    stop = name_end(text, at + 3, end)
    if stop == at + 3 or end - stop < 3:
        return -1
    if text[stop] != SPACE or text[stop + 1] != EQUALS or text[stop + 2] != SPACE:
        return -1
    return stop
