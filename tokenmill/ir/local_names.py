"""Dropping the names of a module's local values, through llvmlite's own library, hundreds of thousands in a second.

llvmlite's objects would do, but take ten times as long: they make an object a value.
"""

from __future__ import annotations

import ctypes
from functools import partial
from typing import Any

from llvmlite.binding import ffi

_library = ctypes.CDLL(ffi.lib._name, handle=ffi.lib._handle)


def _function(name: str, arguments: int = 1) -> Any:
    """Return a function of the library that takes pointers and returns one, or nothing that is looked at."""
    prototype = ctypes.CFUNCTYPE(ctypes.c_void_p, *[ctypes.c_void_p] * arguments)
    return prototype((name, _library))


_set_name = _function("LLVMPY_SetValueName", 2)
#: Of what a function or block holds: how to begin, to go on, and to end.
_ARGUMENTS = tuple(
    map(_function, ("LLVMPY_FunctionArgumentsIter", "LLVMPY_ArgumentsIterNext", "LLVMPY_DisposeArgumentsIter"))
)
_BLOCKS = tuple(map(_function, ("LLVMPY_FunctionBlocksIter", "LLVMPY_BlocksIterNext", "LLVMPY_DisposeBlocksIter")))
_INSTRUCTIONS = tuple(
    map(_function, ("LLVMPY_BlockInstructionsIter", "LLVMPY_InstructionsIterNext", "LLVMPY_DisposeInstructionsIter"))
)


def drop_local_names(module: Any) -> None:
    """Let arguments, blocks and instructions of an llvmlite module be numbered."""
    nameless = ctypes.create_string_buffer(1)
    for function in module.functions:
        _without_names(function, _ARGUMENTS, nameless)
        for block in _without_names(function, _BLOCKS, nameless):
            _without_names(block, _INSTRUCTIONS, nameless)


def _without_names(owner: Any, steps: tuple[Any, ...], nameless: Any) -> list[int]:
    """Take the names of what a function or block holds, and return its values."""
    begin, following, end = steps
    iterator = begin(owner)
    values = list(iter(partial(following, iterator), None))
    end(iterator)
    for value in values:
        _set_name(value, nameless)
    return values
