"""Blocks of a table's shards, fetched and checked: from the cache on disk where they are there, else from storage.

A server that is away is waited for, much longer than anything but training would. A block that does not match its
checksum is fetched once more before it is called damaged. Which blocks are wanted when, and what is held in memory, is
not decided here.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from tokenmill.errors import CorruptionError, MissingFileError, StorageError, UnavailableError
from tokenmill.loader.block_cache import BlockCache
from tokenmill.manifests import ShardTable
from tokenmill.shards import BLOCK_BYTES, block_checksums
from tokenmill.storage.outputs import Storage
from tokenmill.storage.uris import join

#: Most blocks that one request fetches. Requests begin and end at multiples of it, so that processes that share a
#: cache ask for the same ones.
REQUEST_BLOCKS = 8
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 15.0
#: Failures further apart are not of one absence: a request that finds no server fails within 60 s.
_FORGOTTEN_SECONDS = 120.0
_FIX = "`tokenmill verify` lists all damage; running the job again makes damaged parts anew"

_log = logging.getLogger("tokenmill.loader")


class BlockFetcher:
    """Fetches blocks of shards, whole and checked. May be used from several threads, and pickles as its arguments.

    Args:
        storage: Where the shards are.
        shards: The table's shards.
        cache: Where fetched blocks are kept; None: nowhere.
        patience_seconds: How long to wait for a server that is away, from the first request that did not reach it on.
    """

    def __init__(
        self, storage: Storage, shards: ShardTable, *, cache: BlockCache | None = None, patience_seconds: float = 600.0
    ) -> None:
        self.storage = storage
        self.shards = shards
        self.cache = cache
        self.patience_seconds = patience_seconds
        self._sizes = shards.column("size_bytes")
        self._absence = _Absence(patience_seconds)

    def where(self, shard: int) -> str:
        """Return a shard's uri."""
        return join(self.storage.uri, self.shards.path(shard))

    def content(self, shard: int) -> str:
        """Return what names a shard's content in the cache."""
        return str(self.shards.table["sha256"][shard].as_py())

    def block_bytes(self, shard: int, block: int) -> int:
        """Return the size of a block; a shard's last one may be smaller than others."""
        return min(BLOCK_BYTES, int(self._sizes[shard]) - block * BLOCK_BYTES)

    def fetch(
        self, shard: int, first: int, buffers: Sequence[memoryview], stopped: threading.Event | None = None
    ) -> None:
        """Fill buffers, each as long as its block, with blocks `first` on; neighbours that are missing in one request.

        Args:
            shard: Number of the shard.
            first: Number of its first block to fetch.
            buffers: One for each block, `REQUEST_BLOCKS` or fewer.
            stopped: Ends all waiting.

        Raises:
            CorruptionError: where a block is not what was published, or the shard is too short.
            MissingFileError: where there is no such shard any more.
            UnavailableError: where the server was away for longer than the patience.
            StorageError: anything else.
        """
        stopped = stopped or threading.Event()
        missing = self._from_cache(shard, first, buffers, range(len(buffers)))
        if not missing:
            return
        if self.cache is None:
            self._from_storage(shard, first, buffers, missing, stopped)
            return
        content = self.content(shard)
        with self.cache.claim(content, first // REQUEST_BLOCKS, stopped):
            missing = self._from_cache(shard, first, buffers, missing)  # whoever had the claim may have brought them
            self._from_storage(shard, first, buffers, missing, stopped)
            for index in missing:
                self.cache.put(content, first + index, buffers[index])

    def read_checked(self, shard: int, block: int, start: int, buffer: memoryview) -> bool:
        """Read bytes of a block from the cache, from `start` in it on; tell whether they were there. Not checked."""
        return self.cache is not None and self.cache.get_part(self.content(shard), block, start, buffer)

    def _from_cache(self, shard: int, first: int, buffers: Sequence[memoryview], among: Sequence[int]) -> list[int]:
        """Fill those buffers whose blocks are in the cache as they should be; return the others."""
        if self.cache is None:
            return list(among)
        content = self.content(shard)
        missing = [index for index in among if not self.cache.get(content, first + index, buffers[index])]
        found = [index for index in among if index not in missing]
        torn = self._damaged(shard, first, buffers, found)
        for index in torn:
            self.cache.drop(content, first + index)
        return sorted(missing + torn)

    def _from_storage(
        self, shard: int, first: int, buffers: Sequence[memoryview], missing: Sequence[int], stopped: threading.Event
    ) -> None:
        for run in _runs(missing):
            self._request(shard, first + run[0], [buffers[index] for index in run], stopped)
        for index in self._damaged(shard, first, buffers, missing):
            self._request(shard, first + index, [buffers[index]], stopped)
            if self._damaged(shard, first, buffers, [index]):
                raise CorruptionError(
                    f"the block at byte {(first + index) * BLOCK_BYTES} does not match its checksum",
                    where=self.where(shard),
                    fix=_FIX,
                )

    def _damaged(self, shard: int, first: int, buffers: Sequence[memoryview], among: Sequence[int]) -> list[int]:
        """Return which blocks do not match their checksums."""
        if not among:
            return []
        checksums = self.shards.blocks(shard)[first : first + len(buffers)]
        return [index for index in among if block_checksums([buffers[index]])[0] != checksums[index]]

    def _request(self, shard: int, first: int, buffers: Sequence[memoryview], stopped: threading.Event) -> None:
        """Make one request, again and again while the server is away."""
        where, path = self.where(shard), self.shards.path(shard)
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                found = self.storage.read_into(path, first * BLOCK_BYTES, buffers, retry_seconds=0)
                break
            except UnavailableError as error:
                left = self._absence.failed(where, error.__cause__ or error) + self.patience_seconds - time.monotonic()
                if left <= 0:
                    raise UnavailableError(
                        f"the server was away for {self.patience_seconds:.0f} s: {error.__cause__ or error.what}",
                        where=where,
                        fix="check that it runs and can be reached; training goes on from the loader's last state",
                    ) from error
                if stopped.wait(min(pause * random.uniform(0.5, 1.0), left)):  # noqa: S311 - spreads processes out
                    raise StorageError("was closed while the server was waited for", where=where) from error
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            except MissingFileError as error:
                raise MissingFileError(
                    "the shard is no longer there",
                    where=where,
                    fix="restore it from a copy, or open the newest generation, if another one was published",
                ) from error
        self._absence.over()
        if found != sum(len(buffer) for buffer in buffers):
            raise CorruptionError(
                f"ends at byte {first * BLOCK_BYTES + found} of {self._sizes[shard]}", where=where, fix=_FIX
            )

    def __reduce__(self) -> tuple[Any, ...]:
        options: dict[str, Any] = {"cache": self.cache, "patience_seconds": self.patience_seconds}
        return (partial(BlockFetcher, **options), (self.storage, self.shards))


class _Absence:
    """Since when the server has been away, as far as all threads together know."""

    def __init__(self, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        #: Empty, or one number.
        self._began: dict[bool, float] = {}
        self._last_failure = 0.0

    def failed(self, where: str, error: BaseException) -> float:
        """Take note of a failure, and return when the first one was; the first one is logged."""
        now = time.monotonic()
        if now - self._last_failure > _FORGOTTEN_SECONDS:
            self._began.clear()
        self._last_failure = now
        # Atomic, and no lock that a fork might find held: only one of all threads gets back its own number.
        since = self._began.setdefault(True, now)
        if since is now:
            _log.warning("%s: %s; waiting up to %.0f s for the server", where, error, self._patience_seconds)
        return since

    def over(self) -> None:
        """Take note that the server has answered."""
        self._began.clear()


def _runs(numbers: Sequence[int]) -> list[list[int]]:
    """Cut ascending numbers where one is left out."""
    if not numbers:
        return []
    array = np.array(numbers)
    return [run.tolist() for run in np.split(array, np.flatnonzero(np.diff(array) > 1) + 1)]
