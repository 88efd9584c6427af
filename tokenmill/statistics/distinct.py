"""How many different things there are among many, known by 64-bit hashes: exact while few, a sample of them beyond.

Kept are the hashes, and how often each came, whose lowest `level` bits are 0: at level 0 all, and the level is the
lowest at which `LARGEST_KEPT` suffice (the adaptive sampling of Wegman: Flajolet, "On adaptive sampling", Computing
1990). Level and hashes depend on the union of what was added alone, so that a merge is associative and commutative bit
for bit. From a level above 0 on, the standard error of the estimate is 1 / sqrt(kept), at most 0.56 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

#: No more hashes are kept: 1 MiB with their counts.
LARGEST_KEPT = 1 << 16


class Distinct:
    """How often each of a sample of hashes came.

    Attributes:
        total: How many hashes were added, those that are not kept included.
    """

    __slots__ = ("_counts", "_keys", "_level", "_pending", "_pending_size", "total")

    def __init__(self) -> None:
        self.total = 0
        self._level = 0
        self._keys: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self._counts: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._pending: list[npt.NDArray[np.uint64]] = []  # sorting what is kept at each addition takes long
        self._pending_size = 0

    @property
    def level(self) -> int:
        """Binary logarithm of how many hashes each that is kept stands for; 0 where all are."""
        self._settle()
        return self._level

    def add(self, hashes: npt.NDArray[np.uint64]) -> None:
        """Count hashes `[n]`."""
        self.total += len(hashes)
        if self._level:
            hashes = hashes[self._sampled(hashes)]
        self._pending.append(hashes.copy())
        self._pending_size += len(hashes)
        if self._pending_size > LARGEST_KEPT:
            self._settle()

    def merge(self, other: Distinct) -> None:
        """Add what another counted."""
        keys, counts = other.sparse()
        self._settle()
        self.total += other.total
        self._level = max(self._level, other.level)
        self._take(keys, counts)

    def sparse(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """Return the hashes that are kept, increasing, and how often each came."""
        self._settle()
        return self._keys, self._counts

    def ends(self) -> dict[str, int]:
        """Return total and level: with `sparse`, all there is."""
        return {"total": self.total, "level": self.level}

    def fill(self, keys: npt.NDArray[np.uint64], counts: npt.NDArray[np.int64], ends: Mapping[str, Any]) -> None:
        """Take over what `sparse` and `ends` returned, in place of all there was; raises ValueError for what cannot be.

        Raises KeyError where a member of `ends` is absent.
        """
        self.total, self._level = int(ends["total"]), int(ends["level"])
        self._keys, self._counts, self._pending, self._pending_size = keys, counts, [], 0
        if not 0 <= self._level < 64 or len(keys) > LARGEST_KEPT or not self._sampled(keys).all():
            raise ValueError(f"{len(keys)} hashes are not those of level {self._level}")

    def estimate(self) -> int:
        """Return how many different hashes came: at level 0 exactly, else about."""
        return min(len(self.sparse()[0]) << self._level, self.total)

    def _settle(self) -> None:
        if self._pending:
            keys, counts = np.unique(np.concatenate(self._pending), return_counts=True)
            self._pending, self._pending_size = [], 0
            self._take(keys, counts.astype(np.int64))

    def _take(self, keys: npt.NDArray[np.uint64], counts: npt.NDArray[np.int64]) -> None:
        """Add counts, each key once, to those that are kept; the level rises as far as it must."""
        self._keys, places = np.unique(np.concatenate((self._keys, keys)), return_inverse=True)
        summed = np.zeros(len(self._keys), np.int64)
        np.add.at(summed, places, np.concatenate((self._counts, counts)))
        self._counts = summed
        while True:
            sampled = self._sampled(self._keys)
            if int(sampled.sum()) <= LARGEST_KEPT:
                break
            self._level += 1
        self._keys, self._counts = self._keys[sampled], self._counts[sampled]

    def _sampled(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        sampled: npt.NDArray[np.bool_] = (hashes & np.uint64((1 << self._level) - 1)) == 0
        return sampled

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Distinct):
            return NotImplemented
        (keys, counts), (other_keys, other_counts) = self.sparse(), other.sparse()
        return (
            (self.total, self._level) == (other.total, other._level)
            and np.array_equal(keys, other_keys)
            and np.array_equal(counts, other_counts)
        )

    __hash__ = None  # type: ignore[assignment]  # it changes
