"""A module of LLVM IR as it is stored: the payload of items of IR. Reading is put off until a tokenizer wants it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenmill.ir.canonical import Canonical
    from tokenmill.ir.module import Module


@dataclass(frozen=True, slots=True)
class IrOptions:
    """What reading a module may take.

    Attributes:
        max_text_bytes: A module whose canonical text is longer is refused.
        memory_bytes: Memory of the process that reads. LLVM takes about 30 bytes for one of bitcode, and 4 for one of
            text that it prints.
        cpu_seconds: Processor time for one module, to within a second. Of time on the clock it may take ten times as
            much.
    """

    max_text_bytes: int = 256_000_000
    memory_bytes: int = 4_000_000_000
    cpu_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class IrFile:
    """The bytes of a module, and how to read them.

    What was read is kept with the file, so that the tables of a job, which are given the same one, read it once.

    Attributes:
        data: The file as stored: bitcode, bare or in a wrapper, or textual IR.
        options: How to read it.
    """

    data: bytes
    options: IrOptions = IrOptions()
    _read: dict[Canonical, Module] = field(default_factory=dict, init=False, repr=False, compare=False)
    _reading: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return len(self.data)

    def module(self, canonical: Canonical) -> Module:
        """Read the module, in a process of its own; raises ItemError with a reason."""
        from tokenmill.ir.reading import read_module

        with self._reading:
            if canonical not in self._read:
                self._read[canonical] = read_module(self, canonical)
            return self._read[canonical]
