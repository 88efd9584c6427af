"""A stream over one object: reads ahead in blocks where it is read in order, fetches just what is asked where not."""

from __future__ import annotations

import io
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from tokenmill.errors import StorageError
from tokenmill.storage import s3_client

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: Requests of this size cost little more than their bytes; at most three blocks are in memory at once.
BLOCK_BYTES = 8 << 20
_BLOCKS_AHEAD = 2
#: What is fetched after a seek; doubles with every block that is read in order after it.
_FIRST_BYTES = 256 << 10
_BUFFER_BYTES = 64 << 10


def open_object(bucket: str, key: str, size_bytes: int, version: str, where: str) -> io.BufferedReader:
    """Open one version of an object; an object replaced meanwhile raises StorageError from `read`."""
    return io.BufferedReader(_ObjectReader(bucket, key, size_bytes, version, where), _BUFFER_BYTES)


class _ObjectReader(io.RawIOBase):
    def __init__(self, bucket: str, key: str, size_bytes: int, version: str, where: str) -> None:
        super().__init__()
        self._bucket = bucket
        self._key = key
        self._size = size_bytes
        self._version = version
        self._where = where
        self._position = 0
        self._start = 0
        self._block = b""
        self._next_bytes = _FIRST_BYTES
        self._ahead: deque[tuple[int, int, Future[bytes]]] = deque()
        self._threads: ThreadPoolExecutor | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"cannot seek to {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        target = memoryview(buffer).cast("B")
        if self._position >= self._size or not target:
            return 0
        offset = self._position - self._start
        if not 0 <= offset < len(self._block):
            self._advance(len(target))
            offset = 0
        count = min(len(target), len(self._block) - offset)
        target[:count] = memoryview(self._block)[offset : offset + count]
        self._position += count
        return count

    def readall(self) -> bytes:
        rest = bytearray(max(self._size - self._position, 0))
        filled = 0
        while filled < len(rest):
            filled += self.readinto(memoryview(rest)[filled:])
        return bytes(rest)

    def close(self) -> None:
        if not self.closed and self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        self._ahead.clear()
        self._block = b""
        super().close()

    def _advance(self, wanted_bytes: int) -> None:
        """Make the block that starts at the position the current one."""
        position = self._position
        in_order = position == self._start + len(self._block)
        self._block = b""
        while self._ahead and self._ahead[0][0] != position:
            self._ahead.popleft()[2].cancel()
        if self._ahead:
            block = self._ahead.popleft()[2].result()
        else:
            self._next_bytes = min(self._next_bytes * 2, BLOCK_BYTES) if in_order else _FIRST_BYTES
            block = self._fetch(
                position, min(position + max(self._next_bytes, min(wanted_bytes, BLOCK_BYTES)), self._size)
            )
        self._start, self._block = position, block
        if in_order and self._next_bytes == BLOCK_BYTES:
            self._fetch_ahead()

    def _fetch_ahead(self) -> None:
        start = self._ahead[-1][1] if self._ahead else self._start + len(self._block)
        while start < self._size and len(self._ahead) < _BLOCKS_AHEAD:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_BLOCKS_AHEAD, "read-ahead")
            stop = min(start + BLOCK_BYTES, self._size)
            self._ahead.append((start, stop, self._threads.submit(self._fetch, start, stop)))
            start = stop

    def _fetch(self, start: int, stop: int) -> bytes:
        try:
            block = s3_client.fetch(self._bucket, self._key, start, stop, version=self._version, where=self._where)
        except s3_client.ConditionFailedError as error:
            raise StorageError(
                "the object was replaced while it was read",
                where=self._where,
                fix="let writers finish, and start again",
            ) from error
        if len(block) != stop - start:
            raise StorageError(f"{len(block)} bytes came of {stop - start} at byte {start}", where=self._where)
        return block
