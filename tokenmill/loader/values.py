"""The values of one stream of a table, shard by shard: what samples are copied from. Local shards are mapped.

A mapped shard's blocks are checked against their checksums when one of their values is first read; a shard whose
values have all been checked costs no more than the copy. Object storage is read by `remote_values`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.errors import CorruptionError
from tokenmill.loader.address_range import AddressRange
from tokenmill.manifests import ShardTable
from tokenmill.shard_files import MappedBytes, ShardBytes
from tokenmill.shards import BLOCK_BYTES
from tokenmill.storage.outputs import Storage
from tokenmill.storage.uris import join

#: Shards mapped at once. Linux gives a process 65,530 mappings, and other libraries need some.
MAPPED_SHARDS = 40_000


class ShardValues(ABC):
    """The values of one stream of a table, shard by shard, checked against their block checksums when first read."""

    @abstractmethod
    def read(self, shard: int, start: int, stop: int) -> npt.NDArray[Any]:
        """Return values start … stop - 1 of a shard's stream, `[value]`, read-only, in the stream's dtype.

        They are to be copied before the next call: a view of a mapped file stands only so long.

        Raises:
            CorruptionError: where a block does not match its checksum, naming the shard.
            StorageError: where the shard cannot be read.
        """

    def gather(self, shards: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> None:
        """Copy equally many values from each of some starts, `[sample]`, each in its shard, to `out` `[sample, value]`.

        `out` may be of any dtype that the values fit.

        Raises:
            CorruptionError, StorageError: as `read` does.
        """
        count = out.shape[1]
        for row, (shard, start) in enumerate(zip(shards.tolist(), starts.tolist(), strict=True)):
            out[row] = self.read(shard, start, start + count)

    @abstractmethod
    def shard_bytes(self, shard: int) -> ShardBytes:
        """Return a shard's bytes, to open its columns from."""

    def prefetch(self, pieces: Iterable[tuple[int, int, int]]) -> None:  # noqa: B027 - mapped files need none
        """Take note of pieces (shard, start, stop) that will be read soon, in the order of need; never blocks."""

    def close(self) -> None:  # noqa: B027
        """Let go of what is held; reading opens it again."""


class LocalValues(ShardValues):
    """Values of local shards: files mapped side by side, which hold no memory of their own and no file descriptor.

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
        self._offsets = shards.column(f"value_offset.{stream}")
        self._lengths = shards.column(f"tokens.{stream}") * self._dtype.itemsize
        self._sizes = shards.column("size_bytes")
        self._check = check
        self._limit = mapped_shards
        # Mapped shards; those that have unchecked blocks with what checks them.
        self._mapped: dict[int, _MappedBlocks | None] = {}
        self._ready = np.zeros(len(shards), np.bool_)
        self._unready = len(shards)
        self._windows = lru_cache(2)(self._view_windows)

    def read(self, shard: int, start: int, stop: int) -> npt.NDArray[Any]:
        """Return a view of a mapped shard's values."""
        if not self._ready[shard]:
            self._prepare(shard, start, stop)
        origin = int(self._origins[shard])
        return self._values[origin + start : origin + stop]

    def gather(self, shards: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> None:
        """Copy values from mapped shards, all at once where nothing is left to map or to check."""
        if self._unready == 0 or self._ready[shards].all():
            out[...] = self._windows(out.shape[1])[self._origins[shards] + starts]
        else:
            super().gather(shards, starts, out)

    def shard_bytes(self, shard: int) -> MappedBytes:
        """Map a shard by itself."""
        return MappedBytes(self._path(shard), int(self._sizes[shard]), self._shards.blocks(shard))

    def close(self) -> None:
        """Unmap all shards."""
        for shard in list(self._mapped):
            self._unmap(shard)

    @cached_property
    def _range(self) -> AddressRange:
        return AddressRange(self._sizes)

    @cached_property
    def _values(self) -> npt.NDArray[Any]:
        """All addresses as values: those of a shard begin at its origin."""
        misplaced = np.flatnonzero(self._offsets % self._dtype.itemsize)
        if len(misplaced):
            shard = int(misplaced[0])
            raise CorruptionError(
                f"the list of shards says that its values begin at byte {self._offsets[shard]}, which is not a "
                f"multiple of their {self._dtype.itemsize} bytes",
                where=self._path(shard),
                fix="`tokenmill verify` lists all damage",
            )
        return self._range.bytes.view(self._dtype)

    @cached_property
    def _origins(self) -> npt.NDArray[np.int64]:
        origins: npt.NDArray[np.int64] = (self._range.offsets + self._offsets) // self._dtype.itemsize
        return origins

    def _view_windows(self, count: int) -> npt.NDArray[Any]:
        """Return `[place, value]`: the `count` values from every place on, without copying any."""
        values = self._values
        shape = (len(values) - count + 1, count)
        return np.lib.stride_tricks.as_strided(values, shape, (values.itemsize, values.itemsize), writeable=False)

    def _prepare(self, shard: int, start: int, stop: int) -> None:
        """Map a shard, and check the blocks of values start … stop - 1."""
        if shard not in self._mapped:
            if len(self._mapped) >= self._limit:
                self._unmap(next(iter(self._mapped)))
            self._mapped[shard] = self._map(shard)
        blocks = self._mapped[shard]
        if self._check and blocks is not None and stop > start:
            first, width = int(self._offsets[shard]), self._dtype.itemsize
            blocks.require(first + start * width, first + stop * width)
        if blocks is None or blocks.checked or not self._check:
            self._mapped[shard] = None
            self._ready[shard] = True
            self._unready -= 1

    def _map(self, shard: int) -> _MappedBlocks:
        self._range.map(shard, self._path(shard))
        first = int(self._range.offsets[shard])
        data = self._range.bytes[first : first + int(self._sizes[shard])]
        begin = int(self._offsets[shard])
        wanted = slice(begin // BLOCK_BYTES, -(-(begin + int(self._lengths[shard])) // BLOCK_BYTES))
        where = join(self._storage.uri, self._shards.path(shard))
        return _MappedBlocks(where, data, self._shards.blocks(shard), wanted)

    def _unmap(self, shard: int) -> None:
        self._unready += bool(self._ready[shard])
        self._ready[shard] = False
        del self._mapped[shard]
        self._range.unmap(shard)

    def _path(self, shard: int) -> str:
        return str(self._storage.local_path(self._shards.path(shard)))


class _MappedBlocks(ShardBytes):
    """A shard that is mapped, of whose blocks with values, those of the slice `wanted`, some are not checked yet."""

    private = False
    held_bytes = 0

    def __init__(
        self, where: str, data: npt.NDArray[np.uint8], checksums: npt.NDArray[np.uint32], wanted: slice
    ) -> None:
        super().__init__(where, len(data), checksums)
        self._data = data.data
        self._wanted = wanted

    @property
    def checked(self) -> bool:
        """Whether all blocks with values are; other streams lie in blocks that are never read."""
        return bool(self._present[self._wanted].all())

    def _load(self, first: int, last: int) -> None:
        self._check(first, self._data[first * BLOCK_BYTES : last * BLOCK_BYTES])
