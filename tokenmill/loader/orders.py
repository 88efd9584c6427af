"""Which sample comes when: orders of an epoch, each a pure function of (key, epoch) in constant memory.

An epoch is a sequence of groups, a group a sequence of samples; what is open at a time is a group. The key names the
data and the seed. Nothing here knows of ranks, batches or storage.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tokenmill.loader.permutation import KeyedPermutation


class Order(ABC):
    """The order of the samples of each epoch.

    Attributes:
        in_blocks: Whether a group is small enough to be read as a whole.
    """

    in_blocks = False

    @abstractmethod
    def groups(self, epoch: int) -> int:
        """Return the number of groups of an epoch."""

    @abstractmethod
    def size(self, epoch: int, group: int) -> int:
        """Return the number of samples of a group."""

    @abstractmethod
    def numbers(self, epoch: int, group: int, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return int64 `[place]`: the numbers of the samples at these places of a group."""

    def spans(self, epoch: int, group: int) -> list[tuple[int, int]]:
        """Return the runs of sample numbers (first, last + 1) that a group consists of."""
        return [(0, self.size(epoch, group))]


class NaturalOrder(Order):
    """The order of the source, every epoch alike.

    Args:
        count: Number of samples.
    """

    def __init__(self, count: int) -> None:
        self._count = count

    def groups(self, epoch: int) -> int:
        """Return 1."""
        return 1

    def size(self, epoch: int, group: int) -> int:
        """Return the number of samples."""
        return self._count

    def numbers(self, epoch: int, group: int, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the places."""
        return places


class GlobalOrder(NaturalOrder):
    """All samples shuffled over the whole corpus.

    Args:
        count: Number of samples.
        key: Names the data and the seed.
    """

    def __init__(self, count: int, key: str) -> None:
        super().__init__(count)
        self._permutation = lru_cache(4)(lambda epoch: KeyedPermutation(count, f"{key}/{epoch}"))

    def numbers(self, epoch: int, group: int, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return what the epoch's permutation has at these places."""
        return self._permutation(epoch)(places)


class BlockOrder(Order):
    """Blocks of neighbouring samples shuffled, and samples shuffled over the few blocks that are open at a time.

    Reads of object storage are then sequential within a block, and every block is read once an epoch.

    Args:
        count: Number of samples.
        block: Samples of a block; the last one may have fewer.
        open_blocks: Blocks that are open, and shuffled with each other, at a time.
        key: Names the data and the seed.
    """

    in_blocks = True

    def __init__(self, count: int, block: int, open_blocks: int, key: str) -> None:
        self._count = count
        self._block = block
        self._open = open_blocks
        self._blocks = -(-count // block)
        self._key = key
        self._groups = lru_cache(8)(self._draw_group)

    def groups(self, epoch: int) -> int:
        """Return how many times `open_blocks` blocks there are."""
        return -(-self._blocks // self._open)

    def size(self, epoch: int, group: int) -> int:
        """Return the samples of the blocks of a group."""
        return int(self._groups(epoch, group)[1][-1])

    def numbers(self, epoch: int, group: int, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the samples at these places of a group."""
        blocks, ends = self._groups(epoch, group)
        shuffled = KeyedPermutation(int(ends[-1]), f"{self._key}/{epoch}/group {group}")(places)
        which = ends.searchsorted(shuffled, "right")
        begins = np.concatenate([[0], ends[:-1]])
        numbers: npt.NDArray[np.int64] = blocks[which] * self._block + shuffled - begins[which]
        return numbers

    def spans(self, epoch: int, group: int) -> list[tuple[int, int]]:
        """Return the runs of sample numbers of a group's blocks."""
        blocks, _ = self._groups(epoch, group)
        return [(block * self._block, min((block + 1) * self._block, self._count)) for block in blocks.tolist()]

    def _draw_group(self, epoch: int, group: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return int64 `[block]` each: a group's blocks, and the ends of their samples laid end to end."""
        places = np.arange(group * self._open, min((group + 1) * self._open, self._blocks))
        blocks = KeyedPermutation(self._blocks, f"{self._key}/{epoch}/blocks")(places)
        sizes = np.minimum(self._block, self._count - blocks * self._block)
        return blocks, np.cumsum(sizes)
