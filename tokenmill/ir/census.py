"""What a module is made of, counted in its canonical text: functions, globals, opcodes, and the names that it calls."""

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

_NAME = rb'(?:"[^"\n]*"|[-\w$.]+)'
#: An instruction is indented by two; cases, clauses and destinations that go on in lines of their own by more. The name
#: of what is called is the first after the opcode, and its arguments follow at once: so it is no argument itself.
#: (All patterns begin with the line's break, which is found faster than a line's beginning.)
_INSTRUCTION = re.compile(
    rb"\n  (?:%" + _NAME + rb" = )?(?:tail |musttail |notail )?([a-z]\w*)"
    rb'(?:(?<=call|voke|llbr) (?:[^@"\n]|%"[^"\n]*")*@(' + _NAME + rb")\()?"
)
_TOP_LEVEL = re.compile(rb"\n(?:(define|declare) |@" + _NAME + rb" = )")


@dataclass(frozen=True)
class Census:
    """Counts of one module.

    Attributes:
        defined: Functions with a body.
        declared: Functions without.
        global_values: Global variables, aliases and ifuncs.
        opcodes: uint32 `[opcode]`, how many instructions of each of `OPCODES` there are.
        called: How often each function is called by its name, quotation marks of names included.
    """

    defined: int
    declared: int
    global_values: int
    opcodes: npt.NDArray[np.uint32]
    called: Counter[bytes]

    @cached_property
    def instructions(self) -> int:
        """How many instructions there are."""
        return int(self.opcodes.sum())


def census(text: bytes) -> Census:
    """Count what is in a canonical text."""
    text = b"\n" + text
    opcodes, called = np.zeros(len(OPCODES), np.uint32), Counter[bytes]()
    for (name, callee), count in Counter(_INSTRUCTION.findall(text)).items():
        opcodes[_PLACES.get(name, _OTHER)] += count
        if callee:
            called[callee] += count
    top = Counter(_TOP_LEVEL.findall(text))
    return Census(top[b"define"], top[b"declare"], top[b""], opcodes, called)
