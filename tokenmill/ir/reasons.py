"""Why a module of LLVM IR has no row: the fixed list of reasons that reading gives. docs/operations.md repeats it.

Readers of sources give reasons of their own before a module is looked into (`tokenmill.sources.reasons`).
"""

from __future__ import annotations

#: The file has no bytes.
EMPTY_FILE = "empty_file"
#: The file begins as no bitcode does, and no line of it is one that textual IR has outside of functions.
NOT_LLVM_IR = "not_llvm_ir"
#: The bitcode breaks off or contradicts itself, or the text does not parse. The message is the parser's.
DAMAGED_MODULE = "damaged_module"
#: The module was read, and breaks the rules of IR. The message is the verifier's.
INVALID_MODULE = "invalid_module"
#: The module cannot be read, and names a producer newer than the LLVM that reads it. The message has both versions.
NEWER_LLVM = "newer_llvm"
#: The process that read the module was killed by a signal: LLVM checks little of what bitcode says. The message names
#: the signal and the last words.
READER_CRASHED = "reader_crashed"
#: Reading took more processor time, or far more time, than allowed.
READER_TIMED_OUT = "reader_timed_out"
#: Reading wanted more memory than allowed.
READER_OUT_OF_MEMORY = "reader_out_of_memory"
#: The module's text has more bytes than allowed.
TOO_LARGE = "too_large"

REASONS = (
    EMPTY_FILE,
    NOT_LLVM_IR,
    DAMAGED_MODULE,
    INVALID_MODULE,
    NEWER_LLVM,
    READER_CRASHED,
    READER_TIMED_OUT,
    READER_OUT_OF_MEMORY,
    TOO_LARGE,
)
