"""What every tokenizer of LLVM IR has: choices of what counts, streams about the module, items read by threads."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenmill.contract import Tokenizer
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.ir_file import IrFile
from tokenmill.ir.module import Module
from tokenmill.ir.readers import shared_readers
from tokenmill.ir.streams import (
    CALLED_COUNTS,
    CALLED_NAMES,
    FUNCTION_HASHES,
    INSTRUCTIONS,
    MODULE,
    MODULE_STREAMS,
    OPCODE_COUNTS,
    SHA256,
    TYPE_COUNTS,
)
from tokenmill.streams import StreamSpec


class IrTokenizer(Tokenizer):
    """Base of the configs of tokenizers of LLVM IR."""

    modality: ClassVar[str] = "llvm-ir"
    libraries: ClassVar[tuple[str, ...]] = ("llvmlite",)

    canonical: Canonical = Canonical()
    """What of a module is tokenized, and counts in its hashes."""

    def streams(self) -> dict[str, StreamSpec]:
        """Return the tokens' streams, and those that tell of the module: hashes and counts."""
        return {**self.token_streams(), **MODULE_STREAMS}

    def token_streams(self) -> dict[str, StreamSpec]:
        """Return the streams that hold what the text became."""
        raise NotImplementedError

    def notes(self) -> list[str]:
        """Return which LLVM reads modules: their text is as it prints it."""
        return [f"modules are read and printed by LLVM {'.'.join(map(str, shared_readers().llvm_version))}"]


class IrPreparation:
    """Mixin of encoders of LLVM IR: reads a module, on any thread, in a process of its own.

    Args:
        canonical: The tokenizer's.
    """

    #: How many modules an encoder gets at once.
    batch_items = 8

    def __init__(self, canonical: Canonical) -> None:
        self._canonical = canonical

    def prepare(self, payload: Any) -> Module:
        """Read an IrFile; raises ItemError where it cannot be read."""
        if not isinstance(payload, IrFile):
            raise TypeError(f"a tokenizer of LLVM IR takes IrFile; given {type(payload).__name__}")
        module = payload.module(self._canonical)
        _ = module.sha256, module.function_hashes, module.census  # here, where several threads are at it
        return module


def module_row(module: Module) -> dict[str, npt.NDArray[Any]]:
    """Return a module's row of the streams `MODULE_STREAMS`."""
    counted = module.census
    numbers = (module.stored_bytes, len(module.text), counted.defined, counted.declared, counted.global_values)
    called = counted.most_called()
    return {
        SHA256: np.frombuffer(module.sha256, np.uint8),
        FUNCTION_HASHES: module.function_hashes,
        OPCODE_COUNTS: counted.opcodes,
        MODULE: np.array(numbers, np.int64),
        TYPE_COUNTS: counted.types,
        INSTRUCTIONS: counted.function_instructions,
        CALLED_NAMES: np.frombuffer(b"".join(name + b"\n" for name, _ in called), np.uint8),
        CALLED_COUNTS: np.array([count for _, count in called], np.uint32),
    }
