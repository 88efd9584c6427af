"""Values of shards on object storage: read ahead in whole blocks, several requests at a time, and held in memory.

The mirror of `values.LocalValues`, for shards that cannot be mapped. Turns values into blocks; fetching and holding
those is the business of `fetching` and `block_memory`.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.errors import LoaderError
from tokenmill.loader.block_cache import BlockCache
from tokenmill.loader.block_memory import BlockMemory
from tokenmill.loader.fetching import REQUEST_BLOCKS, BlockFetcher
from tokenmill.loader.values import ShardValues
from tokenmill.manifests import ShardTable
from tokenmill.shard_files import FetchedBytes
from tokenmill.shards import BLOCK_BYTES
from tokenmill.storage.outputs import Storage

MEMORY_BYTES = 512 << 20
THREADS = 8
PATIENCE_SECONDS = 600.0
#: Half of it is for reading ahead, and one request should fit there.
LEAST_MEMORY_BYTES = 2 * REQUEST_BLOCKS * BLOCK_BYTES
#: How far a long read runs ahead of itself.
_AHEAD_BLOCKS = 4 * REQUEST_BLOCKS
#: Copied at a time, in which threads have to wait.
_GATHERED_ROWS = 64
#: Shorter pieces of blocks that are in the cache, and were checked, are read from there as they are.
_SHORT_BYTES = BLOCK_BYTES // 4

_all: weakref.WeakSet[RemoteValues] = weakref.WeakSet()


class RemoteValues(ShardValues):
    """Values of shards that are fetched. May be used from several threads; pickles as its arguments.

    Every process that reads has its own memory and threads, which begin with its first read: also one that was forked
    off after that. Blocks are let go of by least use. For reads inside long ranges (`prefetch` of whole ranges, then
    windows in them), memory must hold the ranges in use and, in its other half, those that come next.

    Args:
        storage: Where the shards are.
        shards: The table's shards.
        stream: Name of the stream.
        dtype: Its dtype.
        cache: Where blocks are kept on disk, for all processes of the machine; None: nowhere.
        memory_bytes: What blocks may take in memory. Read-ahead fills half of it.
        threads: Requests at a time.
        patience_seconds: How long to wait for a server that is away.

    Raises:
        LoaderError: for less memory than `LEAST_MEMORY_BYTES`, or no threads.
    """

    def __init__(
        self,
        storage: Storage,
        shards: ShardTable,
        stream: str,
        dtype: str,
        *,
        cache: BlockCache | None = None,
        memory_bytes: int = MEMORY_BYTES,
        threads: int = THREADS,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        if memory_bytes < LEAST_MEMORY_BYTES or threads < 1:
            raise LoaderError(
                f"{memory_bytes} bytes of memory and {threads} threads are too little to read from object storage",
                where=storage.uri,
                fix=f"give {LEAST_MEMORY_BYTES} bytes and 1 thread, or more",
            )
        self._fetcher = BlockFetcher(storage, shards, cache=cache, patience_seconds=patience_seconds)
        self._storage = storage
        self._shards = shards
        self._arguments = (storage, shards, stream, dtype)
        self._options: dict[str, Any] = {
            "cache": cache,
            "memory_bytes": memory_bytes,
            "threads": threads,
            "patience_seconds": patience_seconds,
        }
        self._slots = memory_bytes // BLOCK_BYTES
        self._threads = threads
        self._dtype = np.dtype(dtype)
        self._width = self._dtype.itemsize
        self._sizes = shards.column("size_bytes")
        self._begins = shards.column(f"value_offset.{stream}")
        # Views: taking one number from them costs a third of what it costs to take it from an array.
        self._begin = self._begins.data
        self._count = shards.column(f"tokens.{stream}").data
        self._blocks = _Blocks(self._fetcher, self._sizes)
        #: Whether columns are read at all, and of which shards they were.
        self._opens_shards = False
        self._opened = np.zeros(len(shards), np.bool_)
        self._memory: BlockMemory | None = None
        self._opening = threading.Lock()
        _all.add(self)

    def read(self, shard: int, start: int, stop: int) -> npt.NDArray[Any]:
        """Return a copy of a shard's values, waiting for what is not there yet."""
        if not 0 <= start <= stop <= self._count[shard]:
            raise IndexError(f"values {start} … {stop} of shard {shard}, which has {self._count[shard]}")
        values = np.empty(stop - start, self._dtype)
        if stop > start:
            self._fill(shard, self._begin[shard] + start * self._width, values.view(np.uint8))
        values.flags.writeable = False
        return values

    def gather(self, shards: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> None:
        """Copy values from blocks that are there all at once, from others one by one."""
        memory = self._memory or self._live()
        count = out.shape[1]
        for first in range(0, len(shards), _GATHERED_ROWS):
            rows = slice(first, first + _GATHERED_ROWS)
            begins = self._begins[shards[rows]] + starts[rows] * self._width
            blocks = begins // BLOCK_BYTES
            across = (begins + count * self._width - 1) // BLOCK_BYTES != blocks
            numbers = np.where(across, -1, self._blocks.firsts[shards[rows]] + blocks)  # no block has the number -1
            there = memory.gather(numbers, begins % BLOCK_BYTES // self._width, self._dtype, out[rows])
            for row in (first + np.flatnonzero(~there)).tolist():
                out[row] = self.read(int(shards[row]), int(starts[row]), int(starts[row]) + count)

    def prefetch(self, pieces: Iterable[tuple[int, int, int]]) -> None:
        """Take note of pieces that will be read soon, and fetch them ahead in this order as far as memory allows.

        What was announced before and not read keeps its place; pieces that are there or under way cost little.
        """
        rows = pieces if isinstance(pieces, np.ndarray) else list(pieces)
        shards, starts, stops = np.array(rows, np.int64).reshape(-1, 3).T
        some = stops > starts
        if not some.all():
            shards, starts, stops = shards[some], starts[some], stops[some]
        begins = self._begins[shards] + starts * self._width
        ends = self._begins[shards] + stops * self._width
        firsts = self._blocks.firsts[shards] + begins // BLOCK_BYTES
        counts = self._blocks.firsts[shards] + (ends - 1) // BLOCK_BYTES + 1 - firsts
        short = ends - begins < _SHORT_BYTES
        if self._opens_shards:
            firsts, counts, short = self._with_columns(shards, firsts, counts, short)
        skipped = np.cumsum(counts) - counts
        blocks = np.arange(int(counts.sum())) + np.repeat(firsts - skipped, counts)
        if self._fetcher.cache is not None:
            blocks = blocks[~(np.repeat(short, counts) & self._blocks.checked[blocks])]
        if len(blocks):
            self._live().announce(dict.fromkeys(blocks.tolist()))

    def shard_bytes(self, shard: int) -> FetchedBytes:
        """Return a shard's bytes, which come by way of the same memory. From now on, columns are fetched ahead, too."""
        self._opens_shards = True
        self._opened[shard] = True
        return FetchedBytes(
            self._storage,
            self._shards.path(shard),
            int(self._sizes[shard]),
            self._shards.blocks(shard),
            fetch=partial(self._fill_blocks, shard),
        )

    def close(self) -> None:
        """End the threads and let go of the memory; reading begins anew."""
        with self._opening:
            memory, self._memory = self._memory, None
        if memory is not None:
            self._finalizer.detach()
            memory.close(wait_seconds=1.0)

    def _with_columns(
        self,
        shards: npt.NDArray[np.int64],
        firsts: npt.NDArray[np.int64],
        counts: npt.NDArray[np.int64],
        short: npt.NDArray[np.bool_],
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Put before the first piece of each shard that was not opened yet the blocks of its columns and its footer."""
        unopened, where = np.unique(shards, return_index=True)
        where = where[~self._opened[unopened]]
        unopened = shards[where]
        heads = self._begins[unopened] // BLOCK_BYTES + 1
        order = np.concatenate([where, where, np.arange(len(shards))]).argsort(kind="stable")
        firsts = np.concatenate([self._blocks.firsts[unopened], self._blocks.firsts[unopened + 1] - 1, firsts])
        counts = np.concatenate([heads, np.ones(len(where), np.int64), counts])
        short = np.concatenate([np.zeros(2 * len(where), np.bool_), short])
        return firsts[order], counts[order], short[order]

    def _fill_blocks(self, shard: int, first: int, buffers: Sequence[memoryview]) -> None:
        """Copy whole blocks of a shard; its last block, where the footer is, is taken to be needed with any."""
        memory = self._memory or self._live()
        number = self._blocks.first[shard] + first
        also = [*range(number, number + len(buffers)), self._blocks.first[shard + 1] - 1]
        for index, buffer in enumerate(buffers):
            memory.copy(number + index, 0, np.frombuffer(buffer, np.uint8), also=also[index + 1 :])

    def _fill(self, shard: int, begin: int, out: npt.NDArray[np.uint8]) -> None:
        """Copy bytes of a shard from `begin` on."""
        memory = self._memory or self._live()
        base = self._blocks.first[shard]
        end = begin + len(out)
        first, last = begin // BLOCK_BYTES, (end - 1) // BLOCK_BYTES + 1
        if last == first + 1:
            self._fill_piece(memory, shard, base, first, begin - first * BLOCK_BYTES, out, range(0))
            return
        for block in range(first, last):
            offset = block * BLOCK_BYTES
            low, high = max(begin, offset), min(end, offset + BLOCK_BYTES)
            also = range(base + block + 1, base + min(last, block + _AHEAD_BLOCKS))
            self._fill_piece(memory, shard, base, block, low - offset, out[low - begin : high - begin], also)

    def _fill_piece(
        self,
        memory: BlockMemory,
        shard: int,
        base: int,
        block: int,
        start: int,
        out: npt.NDArray[np.uint8],
        also: Iterable[int],
    ) -> None:
        """Copy bytes of one block of a shard, whose first block has the number `base`, from `start` in it on."""
        number = base + block
        if self._blocks.is_checked[number] and len(out) < _SHORT_BYTES and not memory.holds(number):
            if self._fetcher.read_checked(shard, block, start, out.data):
                return
            self._blocks.is_checked[number] = False
        memory.copy(number, start, out, also=also)

    def _live(self) -> BlockMemory:
        """Return the memory and threads of this process."""
        with self._opening:
            if self._memory is None:
                blocks = self._blocks
                self._memory = BlockMemory(
                    self._slots, self._threads, sizes=blocks.size, bounds=blocks.bounds, fetch=blocks.fetch
                )
                self._finalizer = weakref.finalize(self, self._memory.close)
            return self._memory

    def _after_fork(self) -> None:
        """Let go of what belongs to the parent process."""
        self._opening = threading.Lock()
        if self._memory is not None:
            self._finalizer.detach()
            self._memory.forget()
            self._memory = None

    def __reduce__(self) -> tuple[Any, ...]:
        return (partial(RemoteValues, **self._options), self._arguments)


class _Blocks:
    """The blocks of all shards, numbered through. What the threads know, so that they keep no reader alive.

    Attributes:
        firsts: int64 `[shard + 1]`, number of each shard's first block; the last is how many there are.
        checked: bool `[block]`, whether it is in the cache on disk, and this process has checked it.
        first: A view of `firsts`, and
        is_checked: one of `checked`, for taking single numbers.
    """

    def __init__(self, fetcher: BlockFetcher, sizes: npt.NDArray[np.int64]) -> None:
        self._fetcher = fetcher
        self._cached = fetcher.cache is not None
        self.firsts = np.zeros(len(sizes) + 1, np.int64)
        np.cumsum(-(-sizes // BLOCK_BYTES), out=self.firsts[1:])
        self.checked = np.zeros(int(self.firsts[-1]), np.bool_)
        self.first = self.firsts.data
        self.is_checked = self.checked.data

    def size(self, block: int) -> int:
        """Return a block's size in bytes."""
        shard = self._shard(block)
        return self._fetcher.block_bytes(shard, block - int(self.firsts[shard]))

    def bounds(self, block: int) -> tuple[int, int]:
        """Return the first and the last + 1 of the blocks that one request may fetch with it."""
        shard = self._shard(block)
        first, end = int(self.firsts[shard]), int(self.firsts[shard + 1])
        lowest = block - (block - first) % REQUEST_BLOCKS
        return lowest, min(lowest + REQUEST_BLOCKS, end)

    def fetch(self, block: int, buffers: Sequence[memoryview], stopped: threading.Event) -> None:
        """Fetch neighbouring blocks of one shard."""
        shard = self._shard(block)
        self._fetcher.fetch(shard, block - int(self.firsts[shard]), buffers, stopped)
        self.checked[block : block + len(buffers)] = self._cached

    def _shard(self, block: int) -> int:
        return int(self.firsts.searchsorted(block, "right")) - 1


def _after_fork() -> None:
    for values in list(_all):
        values._after_fork()


os.register_at_fork(after_in_child=_after_fork)
