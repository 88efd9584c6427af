"""The streams that every table of LLVM IR has beside its tokens. What reads tables does not need llvmlite for them."""

from __future__ import annotations

from tokenmill.ir.census import OPCODES, TYPES
from tokenmill.streams import StreamSpec

#: SHA-256 of the canonical text: modules that have it in common are the same.
SHA256 = "sha256"
#: A hash of each function that is defined, in order; the same function has the same in every module.
FUNCTION_HASHES = "function_hashes"
#: How many instructions of each of `OPCODES` there are.
OPCODE_COUNTS = "opcodes"
#: Bytes as stored, bytes of the canonical text, functions defined, functions declared, and global variables.
MODULE = "module"
#: How many instructions and global values are of each of `TYPES`.
TYPE_COUNTS = "types"
#: How many instructions each function that is defined has, in order.
INSTRUCTIONS = "instructions"
#: The names that are called, the most often called first, then by name, each with a line's end behind it; and how often
#: each is called.
CALLED_NAMES = "called_names"
CALLED_COUNTS = "called_counts"

MODULE_STREAMS = {
    SHA256: StreamSpec("uint8", dims=("byte",), shape=(32,)),
    FUNCTION_HASHES: StreamSpec("uint64", dims=("function",)),
    OPCODE_COUNTS: StreamSpec("uint32", dims=("opcode",), shape=(len(OPCODES),)),
    MODULE: StreamSpec("int64", dims=("value",), shape=(5,)),
    TYPE_COUNTS: StreamSpec("uint32", dims=("type",), shape=(len(TYPES),)),
    INSTRUCTIONS: StreamSpec("uint32", dims=("function",)),
    CALLED_NAMES: StreamSpec("uint8", dims=("byte",)),
    CALLED_COUNTS: StreamSpec("uint32", dims=("name",)),
}
