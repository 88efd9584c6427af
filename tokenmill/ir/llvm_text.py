"""Bitcode or textual IR → canonical text, and text → bitcode, by LLVM itself.

Hostile input may bring down the process that does this: only those made for it import it (`tokenmill.ir.zygote`). Every
module gets a context of its own: in a shared one, names of types would depend on the modules read before.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from llvmlite import binding
from llvmlite.binding import ffi

from tokenmill.ir import canonical_text, reasons
from tokenmill.ir.local_names import drop_local_names

#: Version of the LLVM that reads, such as (22, 1, 0).
LLVM_VERSION: tuple[int, ...] = tuple(binding.llvm_version_info)
#: Characters of what LLVM says of a module that are kept.
_MESSAGE_CHARACTERS = 400


class Refused(Exception):
    """A module cannot be read: one of `tokenmill.ir.reasons`, and LLVM's message."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        self.message = message
        super().__init__(reason, message)


def read_text(data: bytes, *, bitcode: bool, options: Mapping[str, Any]) -> bytes:
    """Return a module's canonical text.

    Args:
        data: The module as stored.
        bitcode: Whether it is bitcode; else it is text.
        options: The fields of `tokenmill.ir.canonical.Canonical`.

    Raises:
        Refused: It does not parse, or breaks the rules of IR.
    """
    text = _through_llvm(data, bitcode, options)
    changed = _changed(text, options)
    if changed != text:
        text = _through_llvm(changed, False, options)
    text = canonical_text.with_ordered_predecessors(text)
    if not options["comments"]:
        text = canonical_text.without_comments(text)
    if not options["source_paths"]:
        text = canonical_text.without_source(text)
    return text


def write_bitcode(text: bytes) -> bytes:
    """Return the bitcode of textual IR; raises Refused where it does not parse, or breaks the rules of IR."""
    with _module(text, False) as module:
        written: bytes = module.as_bitcode()
        return written


def _changed(text: bytes, options: Mapping[str, Any]) -> bytes:
    """Return the text without what numbers of other things depend on, which LLVM has yet to give anew.

    Dropping debug information is LLVM's own business: it drops what has no version flag. Attribute groups and files
    that are alike without what is dropped become one.
    """
    if not options["debug"]:
        text = canonical_text.without_debug_version(text)
    elif not options["source_paths"]:
        text = canonical_text.without_paths(text)
    if not options["target_attributes"]:
        text = canonical_text.without_target_attributes(text)
    return text


def _through_llvm(data: bytes, bitcode: bool, options: Mapping[str, Any]) -> bytes:
    """Parse, verify and print a module, in a context of its own."""
    with _module(data, bitcode) as module:
        if not options["local_names"]:
            drop_local_names(module)
        with ffi.OutputString() as text:
            ffi.lib.LLVMPY_PrintModuleToString(module, text)
            return canonical_text.without_module_id(text.bytes)


@contextmanager
def _module(data: bytes, bitcode: bool) -> Iterator[Any]:
    """Give a verified module in a context of its own, and that back with all that it holds."""
    context = binding.create_context()
    try:
        with _parsed(data, bitcode, context) as module:
            _verify(module)
            yield module
    finally:
        context.close()


def _parsed(data: bytes, bitcode: bool, context: Any) -> Any:
    if not bitcode and b"\0" in data:  # LLVM would take the text up to there for all of it
        raise Refused(reasons.DAMAGED_MODULE, f"the text has a byte of 0 at {data.index(0)}")
    with ffi.OutputString() as message:
        if bitcode:
            pointer = ffi.lib.LLVMPY_ParseBitcode(context, ctypes.c_char_p(data), len(data), message)
        else:
            pointer = ffi.lib.LLVMPY_ParseAssembly(context, ctypes.c_char_p(data), message)
        if message:
            raise Refused(reasons.DAMAGED_MODULE, _readable(message.bytes))
    return binding.ModuleRef(pointer, context)


def _verify(module: Any) -> None:
    with ffi.OutputString() as message:
        if ffi.lib.LLVMPY_VerifyModule(module, message):
            raise Refused(reasons.INVALID_MODULE, _readable(message.bytes))


def _readable(message: bytes) -> str:
    """Return a message in one line; what it quotes of the module need not be UTF-8."""
    lines = [line.strip() for line in message.decode("utf-8", "backslashreplace").splitlines()]
    return " ".join(filter(None, lines))[:_MESSAGE_CHARACTERS]
