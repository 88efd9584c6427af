"""What a file is by its content, and which LLVM wrote it, by the identification that bitcode begins with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_BITCODE = b"BC\xc0\xde"
_WRAPPER = b"\xde\xc0\x17\x0b"
#: Bytes of the bitcode's beginning in which the identification block is looked for.
_IDENTIFICATION_BYTES = 4096
_IDENTIFICATION_BLOCK = 13
_STRING_RECORD = 1
#: A line that a text of IR has outside of functions. Of a text without any nothing would be read.
_TOP_LEVEL = re.compile(
    rb"^[ \t]*(?:define|declare|target (?:triple|datalayout)|source_filename|module asm|attributes #"
    rb"|[%@$][^ \t=]+[ \t]*=|![\w.]+[ \t]*=|\^\d+[ \t]*=)",
    re.MULTILINE,
)
_IDENT_IN_TEXT = re.compile(rb'!\{!"([^"\n]*(?:clang|rustc|LLVM|flang)[^"\n]*)"\}')
_VERSION = re.compile(r"^LLVM ?(\d+)(?:\.\d+)*")
_CLANG_VERSION = re.compile(r"\b(?:clang|flang|LLVM) (?:version )?(\d+)\.\d")


@dataclass(frozen=True, slots=True)
class Producer:
    """What a module says wrote it.

    Attributes:
        name: As it stands in the module: `LLVM19.1.7`, `clang version 19.1.7`.
        major: The major version of that LLVM; None where it does not show.
    """

    name: str
    major: int | None


def content_kind(data: bytes) -> Literal["bitcode", "text"] | None:
    """Tell what a file holds; None for neither."""
    if data.startswith((_BITCODE, _WRAPPER)):
        return "bitcode"
    if b"\0" not in data and _TOP_LEVEL.search(data):
        return "text"
    return None


def producer(data: bytes) -> Producer | None:
    """Return what wrote a module, as far as it says so."""
    if data.startswith(_WRAPPER):
        offset = int.from_bytes(data[8:12], "little")
        data = data[offset : offset + _IDENTIFICATION_BYTES]
    if data.startswith(_BITCODE):
        try:
            name = _identification(data[4:_IDENTIFICATION_BYTES])
        except (IndexError, ValueError):
            return None
        found = _VERSION.match(name)
        return Producer(name, int(found[1]) if found else None)
    ident = _IDENT_IN_TEXT.search(data)
    if ident is None:
        return None
    name = ident[1].decode("utf-8", "replace")[:200]
    version = _CLANG_VERSION.search(name)
    return Producer(name, int(version[1]) if version else None)


def _identification(data: bytes) -> str:
    """Return the string of the identification block that bitcode since LLVM 3.9 begins with.

    Raises ValueError where there is none, and IndexError where the data ends before it does.
    """
    bits = _Bits(data)
    if bits.fixed(2) != 1 or bits.variable(8) != _IDENTIFICATION_BLOCK:  # enter a block
        raise ValueError("bitcode begins with another block")
    width = bits.variable(4)
    if not 2 <= width <= 8:
        raise ValueError("abbreviations are too wide")
    bits.align()
    bits.fixed(32)  # the block's length in words
    abbreviations: list[list[tuple[str, int]]] = []
    while True:
        kind = bits.fixed(width)
        if kind == 0:  # the block's end
            raise ValueError("the block has no string")
        if kind == 2:
            abbreviations.append(_abbreviation(bits))
            continue
        if kind == 3:
            record = [bits.variable(6)]
            record += [bits.variable(6) for _ in range(bits.variable(6))]
        elif kind >= 4:
            record = _abbreviated(bits, abbreviations[kind - 4])
        else:
            raise ValueError("a block lies within")
        if record[0] == _STRING_RECORD:
            return "".join(chr(code) for code in record[1:200] if 32 <= code < 127)


def _abbreviation(bits: _Bits) -> list[tuple[str, int]]:
    operands: list[tuple[str, int]] = []
    for _ in range(bits.variable(5)):
        if bits.fixed(1):
            operands.append(("literal", bits.variable(8)))
            continue
        encoding = bits.fixed(3)
        names = {1: "fixed", 2: "variable", 3: "array", 4: "char6"}
        if encoding not in names:
            raise ValueError("an encoding is unknown")
        operands.append((names[encoding], bits.variable(5) if encoding in (1, 2) else 0))
    return operands


def _abbreviated(bits: _Bits, operands: list[tuple[str, int]]) -> list[int]:
    record: list[int] = []
    for place, operand in enumerate(operands):
        if operand[0] == "array":
            record += [_scalar(bits, operands[place + 1]) for _ in range(bits.variable(6))]
            break
        record.append(_scalar(bits, operand))
    return record


def _scalar(bits: _Bits, operand: tuple[str, int]) -> int:
    kind, value = operand
    if kind == "literal":
        return value
    if kind == "fixed":
        return bits.fixed(value)
    if kind == "variable":
        return bits.variable(value)
    return ord("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._"[bits.fixed(6)])


class _Bits:
    """Reads a bitstream from its lowest bit on; raises IndexError at its end."""

    def __init__(self, data: bytes) -> None:
        self._number = int.from_bytes(data, "little")
        self._size = 8 * len(data)
        self._at = 0

    def fixed(self, width: int) -> int:
        self._at += width
        if self._at > self._size or width > 64:
            raise IndexError("the data ends")
        return self._number >> (self._at - width) & ((1 << width) - 1)

    def variable(self, width: int) -> int:
        if width < 2:
            raise ValueError("a variable width needs two bits")
        value = shift = 0
        while True:
            piece = self.fixed(width)
            value |= (piece & ((1 << (width - 1)) - 1)) << shift
            if not piece >> (width - 1):
                return value
            shift += width - 1

    def align(self) -> None:
        self._at = (self._at + 31) // 32 * 32
