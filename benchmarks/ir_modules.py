"""Modules of LLVM IR that speed and memory are measured on: picked out of the corpus of `build_ir.py`, by language."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.ir_sets import LANGUAGES, module_files


class StoredModule(NamedTuple):
    """A module of the corpus: where it lies, what it was compiled from (a key of `LANGUAGES`), and its size."""

    path: Path
    language: str
    stored_bytes: int


def stored_modules(corpus: Path) -> list[StoredModule]:
    """Return all modules below a folder that lie in `<language>/<package>/`, in random order, the same each time."""
    found = [
        StoredModule(path, path.parent.parent.name, path.stat().st_size)
        for path in module_files(corpus)
        if path.parent.parent.name in LANGUAGES
    ]
    random.Random(1).shuffle(found)
    return found


def picked(modules: Sequence[StoredModule], stored_bytes: int, largest_bytes: int) -> Iterator[StoredModule]:
    """Yield modules of no more than `largest_bytes` each, in all as much as is asked for, or all that there are."""
    for module in modules:
        if module.stored_bytes <= largest_bytes:
            yield module
            stored_bytes -= module.stored_bytes
            if stored_bytes <= 0:
                return
