"""Shards opened for reading: a file's bytes, mapped or fetched block by block and checked, and its rows as arrays.

A local shard is mapped into memory. A shard on object storage gets an area of memory of its size, which costs nothing
until blocks are fetched into it; Arrow then sees both alike. Which shards a dataset has is not known here.
"""

from __future__ import annotations

import mmap
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.errors import CorruptionError, MissingFileError, StorageError
from tokenmill.shards import BLOCK_BYTES, ShardHeader, block_checksums, parse_header
from tokenmill.storage.outputs import Storage
from tokenmill.storage.uris import join

#: Most that one request fetches.
_REQUEST_BYTES = 8 << 20
_FOOTER_TAIL_BYTES = 10
_FIX = "`tokenmill verify` lists all damage; running the job again makes damaged parts anew"


class ShardBytes(ABC):
    """The bytes of one shard, in a buffer of which only what was required is there and checked.

    Attributes:
        where: The shard's uri, for messages.
        size_bytes: Its size.
        buffer: All of it.
        held_bytes: Memory that it takes.
        private: Whether `buffer` is memory of this process alone: rows are then copied out of it.
    """

    private: bool
    buffer: Any
    held_bytes: int

    def __init__(self, where: str, size_bytes: int, checksums: npt.NDArray[np.uint32]) -> None:
        self.where = where
        self.size_bytes = size_bytes
        self._checksums = checksums
        self._present = np.zeros(-(-size_bytes // BLOCK_BYTES), np.bool_)
        if len(checksums) != len(self._present):
            raise CorruptionError(
                f"has {len(checksums)} block checksums for {size_bytes} bytes in the manifest's table of shards",
                where=where,
                fix=_FIX,
            )
        self._lock = threading.Lock()

    def require(self, start: int, stop: int) -> None:
        """Make bytes start … stop - 1 be there, with all blocks that they lie in checked; raises CorruptionError."""
        for first, last in self._missing(start, stop):
            self._load(first, last)
            with self._lock:
                self._present[first:last] = True

    def require_values(self, start: int, stop: int) -> None:
        """Make bytes of a stream's values be there; they are checked unless they are mapped and checking is off."""
        self.require(start, stop)

    @property
    def whole(self) -> bool:
        """Whether all blocks are there and checked."""
        return bool(self._present.all())

    @abstractmethod
    def _load(self, first: int, last: int) -> None:
        """Bring blocks first … last - 1 in and check them."""

    def _missing(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the runs of blocks that cover a range and are not there yet."""
        if stop <= start:
            return []
        first, last = start // BLOCK_BYTES, min(-(-stop // BLOCK_BYTES), len(self._present))
        with self._lock:
            absent = np.flatnonzero(~self._present[first:last]) + first
        if not len(absent):
            return []
        runs = np.split(absent, np.flatnonzero(np.diff(absent) > 1) + 1)
        most = _REQUEST_BYTES // BLOCK_BYTES
        return [
            (begin, min(begin + most, int(run[-1]) + 1))
            for run in runs
            for begin in range(int(run[0]), int(run[-1]) + 1, most)
        ]

    def _check(self, first: int, data: memoryview) -> None:
        """Compare the checksums of whole blocks from `first` on; raises CorruptionError naming the first bad one."""
        found = block_checksums([data])
        bad = np.flatnonzero(found != self._checksums[first : first + len(found)])
        if len(bad):
            raise CorruptionError(
                f"the block at byte {(first + int(bad[0])) * BLOCK_BYTES} does not match its checksum",
                where=self.where,
                fix=_FIX,
            )


class MappedBytes(ShardBytes):
    """A local file, mapped. Everything but values is checked when it is first needed, values only if asked to."""

    private = False
    #: A mapping's bytes are the page cache's; this stands for the objects around it.
    held_bytes = 256 << 10

    def __init__(
        self, path: str, size_bytes: int, checksums: npt.NDArray[np.uint32], *, check_values: bool = False
    ) -> None:
        super().__init__(path, size_bytes, checksums)
        self._check_values = check_values
        try:
            found_bytes = Path(path).stat().st_size
            if found_bytes != size_bytes:
                raise CorruptionError(f"has {found_bytes} bytes in place of {size_bytes}", where=path, fix=_FIX)
            with pa.memory_map(path) as file:
                self.buffer = file.read_buffer()
        except FileNotFoundError as error:
            raise MissingFileError("there is no such shard", where=path, fix=_FIX) from error
        except OSError as error:
            raise StorageError(f"cannot be mapped: {error.strerror or error}", where=path) from error
        self._view = memoryview(self.buffer)

    def require_values(self, start: int, stop: int) -> None:
        """Check the blocks of a range if values are to be checked."""
        if self._check_values:
            self.require(start, stop)

    def _load(self, first: int, last: int) -> None:
        self._check(first, self._view[first * BLOCK_BYTES : last * BLOCK_BYTES])


class FetchedBytes(ShardBytes):
    """A file on object storage, fetched in whole blocks as they are needed, and always checked."""

    private = True

    def __init__(
        self,
        storage: Storage,
        path: str,
        size_bytes: int,
        checksums: npt.NDArray[np.uint32],
        *,
        fetch: Callable[[int, Sequence[memoryview]], None] | None = None,
    ) -> None:
        """Take note of a file; nothing is fetched yet.

        Args:
            storage: Where it is.
            path: Its path there.
            size_bytes: Its size.
            checksums: uint32 `[block]`.
            fetch: Fills buffers with neighbouring blocks from a number on, checked; default by a range read.
        """
        super().__init__(join(storage.uri, path), size_bytes, checksums)
        self._storage = storage
        self._path = path
        self._fetch = fetch
        # Private: pages that are never written to take no memory.
        memory = mmap.mmap(-1, max(size_bytes, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._view = memoryview(memory)[:size_bytes]
        self.buffer = pa.py_buffer(self._view)
        self.held_bytes = 0

    def _load(self, first: int, last: int) -> None:
        start, stop = first * BLOCK_BYTES, min(last * BLOCK_BYTES, self.size_bytes)
        data: bytes | bytearray
        if self._fetch is None:
            data = self._storage.read_range(self._path, start, stop)
            if len(data) != stop - start:
                raise CorruptionError(
                    f"ends at byte {start + len(data)} of {self.size_bytes}", where=self.where, fix=_FIX
                )
            self._check(first, memoryview(data))
        else:
            # Not into place: it is checked only then, and another thread may be reading the same block.
            data = bytearray(stop - start)
            whole = memoryview(data)
            self._fetch(first, [whole[begin : begin + BLOCK_BYTES] for begin in range(0, len(data), BLOCK_BYTES)])
        # Two threads may fetch the same block: both write the same bytes.
        self._view[start:stop] = data
        with self._lock:
            self.held_bytes += len(data)


def open_bytes(
    storage: Storage, path: str, size_bytes: int, checksums: npt.NDArray[np.uint32], *, check_values: bool
) -> ShardBytes:
    """Return a shard's bytes, mapped where the storage is local."""
    local = storage.local_path(path)
    if local is not None:
        return MappedBytes(str(local), size_bytes, checksums, check_values=check_values)
    return FetchedBytes(storage, path, size_bytes, checksums)


class OpenShard:
    """One shard's rows. Its columns but for the values of streams are fetched and checked when it is opened.

    Attributes:
        data: Its bytes.
        header: What it says of itself.
        batch: Its one record batch; the values of streams in it may not be there yet.
        ordinals: int64 `[row]`.
        documents: int64 `[row]`.
        positions: int32 `[row]`.
        streams: Name → the stream.
    """

    def __init__(self, data: ShardBytes, value_offsets: Mapping[str, int]) -> None:
        """Open a shard.

        Args:
            data: Its bytes.
            value_offsets: Stream → byte offset of its first value, 0 where it has none (`ShardTable`).

        Raises:
            CorruptionError: where it is not a shard, or a block does not match its checksum.
        """
        self.data = data
        # All columns lie before the first stream's values; the footer, which Arrow reads first, at the end.
        begun = [offset for offset in value_offsets.values() if offset > 0]
        data.require(0, min(begun, default=data.size_bytes))
        data.require(max(data.size_bytes - _FOOTER_TAIL_BYTES, 0), data.size_bytes)
        try:
            self.header, self.batch = self._open()
            columns = dict(zip(self.batch.schema.names, self.batch.columns, strict=True))
            self.ordinals: npt.NDArray[np.int64] = columns["ordinal"].to_numpy()
            self.documents: npt.NDArray[np.int64] = columns["document"].to_numpy()
            self.positions: npt.NDArray[np.int32] = columns["position"].to_numpy()
            self._keys = _Texts(columns["key"])
            self._metadata = {
                name: _Texts(column) if kind == "string" else column
                for name, kind in self.header.metadata.items()
                for column in [columns[f"metadata.{name}"]]
            }
            self.streams = {
                name: OpenStream(data, columns[name], columns.get(f"{name}.shape"), len(spec.dims))
                for name, spec in self.header.streams.items()
            }
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorruptionError(f"does not open as a shard: {error}", where=data.where, fix=_FIX) from error

    def _open(self) -> tuple[ShardHeader, Any]:
        data = self.data
        tail = bytes(memoryview(data.buffer)[-_FOOTER_TAIL_BYTES:])
        footer_bytes = int.from_bytes(tail[:4], "little", signed=True)
        if tail[4:] != b"ARROW1" or not 0 < footer_bytes < data.size_bytes:
            raise ValueError("it does not end as an Arrow file does")
        data.require(data.size_bytes - _FOOTER_TAIL_BYTES - footer_bytes, data.size_bytes)
        options = pa.ipc.IpcReadOptions(use_threads=False)
        reader = pa.ipc.open_file(pa.BufferReader(data.buffer), options=options)
        header = parse_header(reader.schema, data.where)
        if reader.num_record_batches != 1:
            raise ValueError(f"it has {reader.num_record_batches} record batches in place of 1")
        return header, reader.get_batch(0)

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    def key(self, row: int) -> str:
        """Return a row's key."""
        return self._keys[row] or ""

    def metadata(self, row: int) -> dict[str, Any]:
        """Return a row's metadata by name."""
        return {
            name: column[row] if isinstance(column, _Texts) else column[row].as_py()
            for name, column in self._metadata.items()
        }


class OpenStream:
    """One stream of an opened shard.

    Attributes:
        offsets: int64 `[row + 1]`, where each row's values begin.
        shapes: int32 `[row, dim]`, or None where the stream has one dimension.
        values: `[value]`, those of all rows; only what `require` was asked for is there.
        start: Byte offset of the first value in the file; 0 where there are no values.
    """

    def __init__(self, data: ShardBytes, column: Any, shape: Any, dims: int) -> None:
        self._data = data
        base, size = data.buffer.address, data.buffer.size
        # Of a second stream, shapes and offsets lie behind the first one's values.
        pieces = [column.buffers()[1], *([] if shape is None else [shape.values.buffers()[1]])]
        for piece in pieces:
            if not piece.size:  # of no rows; where it would lie is not said
                continue
            if not 0 <= piece.address - base <= size - piece.size:
                raise ValueError("a column lies outside the file")
            data.require(piece.address - base, piece.address - base + piece.size)
        self.offsets: npt.NDArray[np.int64] = column.offsets.to_numpy()
        self.shapes: npt.NDArray[np.int32] | None = None if shape is None else shape.values.to_numpy().reshape(-1, dims)
        self.values: npt.NDArray[Any] = column.values.to_numpy()
        self.start = column.values.buffers()[1].address - base if len(self.values) else 0

    def require(self, first: int, last: int) -> None:
        """Make the values of rows first … last - 1 be there."""
        width = self.values.itemsize
        start, stop = int(self.offsets[first]), int(self.offsets[last])
        if stop > start:
            self._data.require_values(self.start + start * width, self.start + stop * width)

    def row(self, row: int) -> npt.NDArray[Any]:
        """Return a row's array in its shape, read-only: a view of a mapped file, a copy of fetched memory."""
        self.require(row, row + 1)
        values = self.values[self.offsets[row] : self.offsets[row + 1]]
        if self._data.private:
            values = values.copy()
            values.flags.writeable = False
        if self.shapes is None:
            return values
        try:
            return values.reshape(self.shapes[row])
        except ValueError as error:
            raise CorruptionError(
                f"row {row} has {len(values)} values and the shape {self.shapes[row].tolist()}",
                where=self._data.where,
                fix=_FIX,
            ) from error


class _Texts:
    """A column of strings: read without Arrow's scalars, which cost ten times as much."""

    def __init__(self, column: Any) -> None:
        validity, offsets, data = column.buffers()
        self._column = column if validity is not None and column.null_count else None
        self._offsets = np.frombuffer(offsets, np.int64)
        self._data = memoryview(data) if data is not None else memoryview(b"")

    def __getitem__(self, row: int) -> str | None:
        if self._column is not None and not self._column[row].is_valid:
            return None
        return str(self._data[self._offsets[row] : self._offsets[row + 1]], "utf-8")
