"""Splits taken in turn: each worker of this machine takes the next one when it is done with the last.

Beam's embedded runner deals elements to its workers beforehand, so that one of them ends first by as much as costs were
guessed wrong. Here its elements are the workers themselves, and each draws references until there are no more, the
largest first: list scheduling (Graham, 1969), which needs no guess but the order.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
_COUNTER_BYTES = 8


class Turns:
    """A counter that this process and those forked from it take numbers from, each number once."""

    def __init__(self) -> None:
        self._file = os.memfd_create("tokenmill-turns")

    def take(self) -> int:
        """Return the next number, from 0 on."""
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            number = int.from_bytes(os.pread(self._file, _COUNTER_BYTES, 0), "little")
            os.pwrite(self._file, (number + 1).to_bytes(_COUNTER_BYTES, "little"), 0)
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
        return number

    def draw(self, items: Sequence[T]) -> Iterator[T]:
        """Yield the items whose turn comes here; the same sequence must be given everywhere."""
        while (number := self.take()) < len(items):
            yield items[number]
