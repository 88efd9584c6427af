"""A function's text as it is hashed: without what depends on the module around it. Compiled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenmill.ir.compiled import compiled, whole

Bytes = npt.NDArray[np.uint8]

#: What stands for a name or number of the module: bytes of a hash of its meaning, behind the sigil.
MEANING_BYTES = 8
#: The text as it is hashed is no longer than so many times the function's.
GROWTH = 5
_NEWLINE, _SPACE, _BANG, _QUOTE, _HASH, _PERCENT, _COMMA = 10, 32, 33, 34, 35, 37, 44
_DOT, _SEMICOLON, _AT, _BRACE = 46, 59, 64, 125
_DEBUG_RECORD = tuple(b"#dbg_")
_DEBUG_ATTACHMENT = tuple(b", !dbg !")
_IN_NAME = np.array([(chr(byte).isalnum() and byte < 128) or byte in b"-_$." for byte in range(256)])
_IS_DIGIT = np.array([byte in b"0123456789" for byte in range(256)])


class Meanings(NamedTuple):
    """What names and numbers of a module stand for.

    Attributes:
        buckets: int64 `[bucket]`, open addressing, a power of two: the number of a name, or -1.
        names: uint8, all names with their sigils, laid end to end.
        starts: int64 `[name + 1]`, where each begins in `names`.
        values: uint8 `[name, byte=8]`, what stands for each.
        types: Whether there are types among them.
    """

    buckets: npt.NDArray[np.int64]
    names: Bytes
    starts: npt.NDArray[np.int64]
    values: Bytes
    types: bool


def meanings(values: Mapping[bytes, bytes]) -> Meanings:
    """Lay out names with their sigils and what stands for them, `MEANING_BYTES` each."""
    size = 16
    while size < 2 * len(values):
        size *= 2
    starts = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(name) for name in values], out=starts[1:])
    names = np.frombuffer(b"".join(values), np.uint8)
    found = np.frombuffer(b"".join(values.values()), np.uint8).reshape(-1, MEANING_BYTES)
    buckets = np.full(size, -1, np.int64)
    _fill(buckets, names, starts)
    return Meanings(buckets, names, starts, found, any(name.startswith(b"%") for name in values))


@compiled
def _place(text: Bytes, start: int, stop: int) -> int:
    """Return where the search for a name begins."""
    place = 2166136261
    for at in range(start, stop):
        place = ((place ^ whole(text[at])) * 16777619) & 0xFFFFFFFF
    return place ^ place >> 15


@compiled
def _fill(buckets: npt.NDArray[np.int64], names: Bytes, starts: npt.NDArray[np.int64]) -> None:
    for number in range(len(starts) - 1):
        place = _place(names, starts[number], starts[number + 1]) & (len(buckets) - 1)
        while buckets[place] >= 0:
            place = (place + 1) & (len(buckets) - 1)
        buckets[place] = number


@compiled
def _same(text: Bytes, start: int, stop: int, other: Bytes, at: int) -> bool:
    """Tell whether a piece of text is that of as many bytes elsewhere."""
    for offset in range(stop - start):  # noqa: SIM110  compiled
        if text[start + offset] != other[at + offset]:
            return False
    return True


@compiled
def _number(text: Bytes, start: int, stop: int, held: Meanings) -> int:
    """Return the number of a name, or -1 where it stands for itself."""
    place = _place(text, start, stop) & (len(held.buckets) - 1)
    while held.buckets[place] >= 0:
        number = held.buckets[place]
        begin = held.starts[number]
        if held.starts[number + 1] - begin == stop - start and _same(text, start, stop, held.names, begin):
            return whole(number)
        place = (place + 1) & (len(held.buckets) - 1)
    return -1


@compiled
def _begins(text: Bytes, at: int, what: tuple[int, ...]) -> bool:
    if at + len(what) > len(text):
        return False
    for offset in range(len(what)):  # noqa: SIM110  compiled
        if text[at + offset] != what[offset]:
            return False
    return True


@compiled
def _after_name(text: Bytes, at: int) -> int:
    """Return the end of a name that may be in quotation marks."""
    if at < len(text) and text[at] == _QUOTE:
        return _after_string(text, at)
    while at < len(text) and _IN_NAME[text[at]]:
        at += 1
    return at


@compiled
def _after_string(text: Bytes, at: int) -> int:
    at += 1
    while at < len(text) and text[at] != _QUOTE:
        at += 1
    return min(at + 1, len(text))


@compiled
def _after_digits(text: Bytes, at: int) -> int:
    while at < len(text) and _IS_DIGIT[text[at]]:
        at += 1
    return at


@compiled
def _after_line(text: Bytes, at: int) -> int:
    while at < len(text) and text[at] != _NEWLINE:
        at += 1
    return at


@compiled
def _numbered(text: Bytes, start: int, stop: int) -> bool:
    """Tell whether a name ends with a full stop and digits, its quotation mark apart."""
    at = stop - 1
    if text[at] == _QUOTE:
        at -= 1
    digits = at
    while at > start and _IS_DIGIT[text[at]]:
        at -= 1
    return bool(at < digits and text[at] == _DOT)


@compiled
def normalise(text: Bytes, at: int, held: Meanings, out: Bytes) -> tuple[int, int]:
    """Write a function's text as it is hashed.

    Args:
        text: uint8, canonical text.
        at: Where its `define` is.
        held: What the module's names and numbers stand for.
        out: uint8, filled; `GROWTH` times as long as the function, at least.

    Returns:
        How much of `out` was filled, and where the function ends in `text`.
    """
    size = 0
    own, own_bytes = 0, 0
    in_header = True
    while at < len(text):
        byte = text[at]
        stop = at + 1
        sigil, number = False, whole(-1)
        if byte == _NEWLINE:
            if stop < len(text) and text[stop] == _BRACE:
                return size, stop + 1
            in_header = False
            first = stop
            while first < len(text) and text[first] == _SPACE:
                first += 1
            if first > stop and _begins(text, first, _DEBUG_RECORD):
                at = _after_line(text, first)
                continue
        elif byte == _AT:
            stop = _after_name(text, stop)
            if own_bytes == 0:
                own, own_bytes = at, stop - at
            sigil = stop - at == own_bytes and _same(text, at, stop, text, own)
            if not sigil:
                number = _number(text, at, stop, held)
        elif byte == _HASH:
            stop = _after_digits(text, stop)
            number = _number(text, at, stop, held)
        elif byte == _PERCENT:
            stop = _after_name(text, stop)
            if held.types and _numbered(text, at, stop):
                number = _number(text, at, stop, held)
        elif byte == _BANG:
            stop = _after_digits(text, stop)
            sigil = True
        elif byte == _QUOTE:
            stop = _after_string(text, at)
        elif byte == _SEMICOLON:
            while size > 0 and out[size - 1] == _SPACE:
                size -= 1
            at = _after_line(text, at)
            continue
        elif byte == _COMMA or (byte == _SPACE and in_header):
            debug = at + 8 if byte == _COMMA and _begins(text, at, _DEBUG_ATTACHMENT) else at
            if byte == _SPACE and _begins(text, at, _DEBUG_ATTACHMENT[1:]):
                debug = at + 7
            if debug > at:
                at = _after_digits(text, debug)
                continue
        if sigil or number >= 0:
            out[size] = byte
            size += 1
            if number >= 0:
                for offset in range(MEANING_BYTES):
                    out[size + offset] = held.values[number, offset]
                size += MEANING_BYTES
        else:
            for place in range(at, stop):
                out[size] = text[place]
                size += 1
        at = stop
    return size, len(text)
