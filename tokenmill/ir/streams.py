"""The streams that every table of LLVM IR has beside its tokens. What reads tables does not need llvmlite for them."""

from __future__ import annotations

from tokenmill.ir.census import OPCODES
from tokenmill.streams import StreamSpec

#: SHA-256 of the canonical text: modules that have it in common are the same.
SHA256 = "sha256"
#: A hash of each function that is defined, in order; the same function has the same in every module.
FUNCTION_HASHES = "function_hashes"
#: How many instructions of each of `OPCODES` there are.
OPCODE_COUNTS = "opcodes"
#: Bytes as stored, bytes of the canonical text, functions defined, functions declared, and global variables.
MODULE = "module"

MODULE_STREAMS = {
    SHA256: StreamSpec("uint8", dims=("byte",), shape=(32,)),
    FUNCTION_HASHES: StreamSpec("uint64", dims=("function",)),
    OPCODE_COUNTS: StreamSpec("uint32", dims=("opcode",), shape=(len(OPCODES),)),
    MODULE: StreamSpec("int64", dims=("value",), shape=(5,)),
}
