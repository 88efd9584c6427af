"""The values of one stream of a table, shard by shard: what windows are copied from. Local shards are mapped.

A mapped shard's blocks are checked against their checksums when one of their values is first read; a shard that has
been checked whole costs no more than a slice. Object storage is read by `remote_values`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.manifests import ShardTable
from tokenmill.shard_files import MappedBytes, ShardBytes
from tokenmill.storage.outputs import Storage

#: Shards mapped at once. Linux gives a process 65,530 mappings, and other libraries need some.
MAPPED_SHARDS = 40_000


class ShardValues(ABC):
    """The values of one stream of a table, shard by shard, checked against their block checksums when first read."""

    @abstractmethod
    def read(self, shard: int, start: int, stop: int) -> npt.NDArray[Any]:
        """Return values start … stop - 1 of a shard's stream, `[value]`, read-only, in the stream's dtype.

        Raises:
            CorruptionError: where a block does not match its checksum, naming the shard.
            StorageError: where the shard cannot be read.
        """

    @abstractmethod
    def shard_bytes(self, shard: int) -> ShardBytes:
        """Return a shard's bytes, to open its columns from."""

    def prefetch(self, pieces: Iterable[tuple[int, int, int]]) -> None:  # noqa: B027 - mapped files need none
        """Take note of pieces (shard, start, stop) that will be read soon, in the order of need; never blocks."""

    def close(self) -> None:  # noqa: B027
        """Let go of what is held; reading opens it again."""


class LocalValues(ShardValues):
    """Values of local shards: views of mapped files, which hold no memory of their own and no file descriptor.

    Args:
        storage: Where the shards are; local.
        shards: The table's shards.
        stream: Name of the stream.
        dtype: Its dtype.
        check: Whether to compare blocks with their checksums when they are first read.
        mapped_shards: How many to keep mapped; the one mapped first goes first.
    """

    def __init__(
        self,
        storage: Storage,
        shards: ShardTable,
        stream: str,
        dtype: str,
        *,
        check: bool = True,
        mapped_shards: int = MAPPED_SHARDS,
    ) -> None:
        self._storage = storage
        self._shards = shards
        self._dtype = np.dtype(dtype)
        self._counts = shards.column(f"tokens.{stream}")
        self._offsets = shards.column(f"value_offset.{stream}")
        self._sizes = shards.column("size_bytes")
        self._check = check
        self._limit = mapped_shards
        # The mapping is named as long as some of its blocks are unchecked.
        self._mapped: dict[int, tuple[npt.NDArray[Any], MappedBytes | None]] = {}

    def read(self, shard: int, start: int, stop: int) -> npt.NDArray[Any]:
        """Return a view of a mapped shard's values."""
        found = self._mapped.get(shard)
        values, unchecked = found if found is not None else self._map(shard)
        if unchecked is not None and stop > start:
            first, width = int(self._offsets[shard]), self._dtype.itemsize
            unchecked.require(first + start * width, first + stop * width)
            if unchecked.whole:
                self._mapped[shard] = (values, None)
        return values[start:stop]

    def shard_bytes(self, shard: int) -> MappedBytes:
        """Map a shard."""
        path = self._storage.local_path(self._shards.path(shard))
        return MappedBytes(str(path), int(self._sizes[shard]), self._shards.blocks(shard))

    def close(self) -> None:
        """Unmap all shards."""
        self._mapped.clear()

    def _map(self, shard: int) -> tuple[npt.NDArray[Any], MappedBytes | None]:
        data = self.shard_bytes(shard)
        values = np.frombuffer(data.buffer, self._dtype, int(self._counts[shard]), int(self._offsets[shard]))
        if len(self._mapped) >= self._limit:
            self._mapped.pop(next(iter(self._mapped)), None)
        self._mapped[shard] = entry = (values, data if self._check else None)
        return entry
