"""A module as its canonical text, and what can be told of it from there: hashes, counts, opcodes, called names."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tokenmill.ir.census import Census, census
from tokenmill.ir.function_hashes import function_hashes


@dataclass(frozen=True)
class Module:
    """A module of LLVM IR.

    Attributes:
        text: The canonical text, in ASCII as far as LLVM printed it.
        stored_bytes: Size of the file that it was read from.
    """

    text: bytes
    stored_bytes: int

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return len(self.text)

    @cached_property
    def sha256(self) -> bytes:
        """SHA-256 of the text, 32 bytes: two modules that have it in common are the same."""
        return hashlib.sha256(self.text).digest()

    @cached_property
    def function_hashes(self) -> npt.NDArray[np.uint64]:
        """uint64 `[function]`, a hash of each function that is defined, in order (`tokenmill.ir.function_hashes`)."""
        return function_hashes(self.text)

    @cached_property
    def census(self) -> Census:
        """How many functions, globals, instructions and types there are, and which names are called."""
        return census(self.text)
