"""What a module is made of, counted in its canonical text: functions, globals, opcodes, types, and names it calls."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

_NAMES = """
    ret br switch indirectbr invoke resume unreachable cleanupret catchret catchswitch callbr
    fneg add fadd sub fsub mul fmul udiv sdiv fdiv urem srem frem shl lshr ashr and or xor
    alloca load store getelementptr fence cmpxchg atomicrmw
    trunc zext sext fptoui fptosi uitofp sitofp fptrunc fpext ptrtoint ptrtoaddr inttoptr bitcast addrspacecast
    cleanuppad catchpad icmp fcmp phi call select va_arg extractelement insertelement shufflevector
    extractvalue insertvalue landingpad freeze other
"""
#: The opcodes of LLVM, in the order of the stream `opcodes`; what none of them is counts as the last.
OPCODES = tuple(_NAMES.split())
_PLACES = {name.encode(): place for place, name in enumerate(OPCODES)}
_OTHER = len(OPCODES) - 1

_TYPE_NAMES = """
    void i1 i8 i16 i32 i64 i128 integer half bfloat float double x86_fp80 fp128 ppc_fp128 x86_amx
    ptr struct array vector label token target none
"""
#: Classes of types, in the order of the stream `types`. Each instruction counts as the type that it names first (what
#: it computes on, compares, loads, stores, converts from or returns; of a call what that returns; of `alloca` and
#: `getelementptr` what lies there; of a branch without a condition `label`), and each global value as its own type.
#: `integer` is one of another width, `struct` one with a name or without, `vector` also a scalable one, `target` a
#: target's own; `none` is what names no type, such as `unreachable` and `fence`.
TYPES = tuple(_TYPE_NAMES.split())
_BEGINNINGS = {b"%": "struct", b"{": "struct", b"<{": "struct", b"[": "array", b"<": "vector"}
_TYPE_PLACES = {name.encode(): TYPES.index(name) for name in TYPES}
_TYPE_PLACES |= {beginning: TYPES.index(name) for beginning, name in _BEGINNINGS.items()}
_INTEGER, _NONE = TYPES.index("integer"), TYPES.index("none")
#: They name no type, but go on with words and values that look like one.
_UNTYPED = frozenset((b"cleanupret", b"catchret", b"catchswitch", b"cleanuppad", b"catchpad"))
_CALLS = frozenset((b"call", b"invoke", b"callbr"))

_NAME = rb'(?:"[^"\n]*"|[-\w$.]+)'
#: Words such as `nuw`, `volatile`, `align 8` and `range(i8 0, 9)`, and how the first type in the line begins.
_UP_TO_TYPE = (
    rb"(?:(?: [a-z]\w*+(?:\([^()\n]*+(?:\([^()\n]*+\)[^()\n]*+)*+\))?+| \d++)*?"
    rb" (?:ptr\b|i\d++|%|<\{?|\{|\[|label\b|void\b|double\b|float\b|half\b|target\b|token\b|bfloat\b"
    rb"|x86_fp80\b|fp128\b|ppc_fp128\b|x86_amx\b))?"
)
#: An instruction is indented by two; cases, clauses and destinations that go on in lines of their own by more. The name
#: of what is called is the first after the type, and its arguments follow at once: so it is no argument itself. Of a
#: global value the sign after its name is found in place of an opcode. (The pattern begins with the line's break, which
#: is found faster than a line's beginning, and gives nothing back, so that it takes linear time.)
_COUNTED = re.compile(
    rb"\n(?:  (?=[%a-z])(?:%" + _NAME + rb" = )?+(?:tail |musttail |notail )?+"
    rb"|@" + _NAME + rb" (?==)|(?=define |declare ))"
    rb"((?:=|[a-z]\w*+)" + _UP_TO_TYPE + rb")"
    rb'(?:[^@"\n]*+(?:(?<=%)"[^"\n]*+"[^@"\n]*+)*+@(' + _NAME + rb")\()?+"
)
_TOP_LEVEL = (b"define", b"declare", b"=")


@dataclass(frozen=True)
class Census:
    """Counts of one module.

    Attributes:
        defined: Functions with a body.
        declared: Functions without.
        global_values: Global variables, aliases and ifuncs.
        opcodes: uint32 `[opcode]`, how many instructions of each of `OPCODES` there are.
        types: uint32 `[type]`, how many instructions and global values are of each of `TYPES`.
        function_instructions: uint32 `[function]`, how many instructions each function with a body has, in their order.
        called: How often each function is called by its name, quotation marks of names included.
    """

    defined: int
    declared: int
    global_values: int
    opcodes: npt.NDArray[np.uint32]
    types: npt.NDArray[np.uint32]
    function_instructions: npt.NDArray[np.uint32]
    called: Counter[bytes]

    @cached_property
    def instructions(self) -> int:
        """How many instructions there are."""
        return int(self.opcodes.sum())

    def most_called(self) -> list[tuple[bytes, int]]:
        """Return the names that are called and how often, the most often called first, then by name."""
        return sorted(self.called.items(), key=lambda item: (-item[1], item[0]))


def census(text: bytes) -> Census:
    """Count what is in a canonical text."""
    found: list[tuple[bytes, bytes]] = _COUNTED.findall(b"\n" + text)
    opcodes, types = np.zeros(len(OPCODES), np.uint32), np.zeros(len(TYPES), np.uint32)
    called, top = Counter[bytes](), Counter[bytes]()
    for (line, callee), count in Counter(found).items():
        first, *_, last = line.split(b" ") if b" " in line else (line, b"none")
        if first in _TOP_LEVEL:
            top[first] += count
            if first != b"=":
                continue
        else:
            opcodes[_PLACES.get(first, _OTHER)] += count
            if callee and first in _CALLS:
                called[callee] += count
        types[_NONE if first in _UNTYPED else _TYPE_PLACES.get(last, _INTEGER)] += count
    return Census(top[b"define"], top[b"declare"], top[b"="], opcodes, types, _between(found), called)


def _between(found: list[tuple[bytes, bytes]]) -> npt.NDArray[np.uint32]:
    """Return uint32 `[function]`, how much was found between each definition and what is at top level after it."""
    places = [place for place, (line, _) in enumerate(found) if line.startswith(_TOP_LEVEL)]
    spans = zip(places, [*places[1:], len(found)], strict=False)  # of a module without anything there is none
    return np.array([end - start - 1 for start, end in spans if found[start][0].startswith(b"define")], np.uint32)
