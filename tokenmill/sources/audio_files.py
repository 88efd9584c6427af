"""Audio files: a file a recording, as it is stored. It is not held, but opened and read as a stream to be decoded.

Nothing of it is looked at here; an empty file is a recording, too: one that is damaged. A compressed file is held.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from tokenmill.audio.audio_file import AudioFile
from tokenmill.errors import ChangedError, StorageError
from tokenmill.sources import reasons
from tokenmill.sources.file_task import FileTask
from tokenmill.sources.items import Cursor, ItemBatch, Reject
from tokenmill.sources.payloads import audio_options
from tokenmill.sources.whole_files import read_whole_file

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: Decoders read 32 KiB at once; so many bytes cost one call instead of eight.
_BUFFER_BYTES = 256 << 10


class StoredRecording:
    """The content of a file that is one recording; each `open` reads it anew from where it is stored.

    Args:
        task: The file.
    """

    def __init__(self, task: FileTask) -> None:
        self._task = task

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""
        return self._task.file.size_bytes

    def open(self) -> BinaryIO:
        """Open the file for reading and seeking; raises as `FileTask.open_stored` does."""
        return io.BufferedReader(_StoredFile(self._task), _BUFFER_BYTES)


class _StoredFile(io.RawIOBase):
    """The file as it was when it was planned: of that size, whatever is appended to it."""

    def __init__(self, task: FileTask) -> None:
        super().__init__()
        self._task = task
        self._size = task.file.size_bytes
        self._file = task.open_stored()
        self._position = self._file_position = 0

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
        self._position = base + offset  # wherever a damaged header sends it; the file is asked for what it has
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        target = memoryview(buffer).cast("B")[: max(self._size - self._position, 0)]
        if not target:
            return 0
        try:
            if self._file_position != self._position:
                self._file.seek(self._position)
            data = self._file.read(len(target))
        except OSError as error:
            raise StorageError(f"cannot be read: {error.strerror or error}", where=self._task.uri) from error
        if not data:
            raise ChangedError(
                f"the input file became shorter while it was read: {self._position} bytes of {self._size}",
                where=self._task.uri,
                fix="put the old file back, or write to a new output",
            )
        target[: len(data)] = data
        self._position += len(data)
        self._file_position = self._position
        self._task.meter.share = min(self._task.meter.share + len(data) / self._size, 1.0)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def read_audio(task: FileTask, cursor: Cursor) -> Iterator[ItemBatch]:
    """Yield the one recording of a file."""
    if task.format.compression != "none":
        yield from read_whole_file(task, cursor)
        return
    if cursor.position:
        return
    path, size_bytes, limit = task.file.path, task.file.size_bytes, task.limits.max_audio_bytes
    locator = f"{path}:0"
    if size_bytes > limit:
        message = f"the file has {size_bytes} bytes; max_audio_bytes is {limit}"
        yield task.rejects_only([Reject(cursor.ordinal, path, locator, reasons.ITEM_TOO_LARGE, message)])
        return
    yield ItemBatch(
        np.array([cursor.ordinal], np.int64),
        np.array([max(size_bytes, 1)], np.int64),  # behind an empty file, too
        np.array([size_bytes], np.int64),
        [path],
        [AudioFile(StoredRecording(task), audio_options(task.source, task.limits))],
        {name: [None] for name in task.source.metadata},
        path,
        [locator],
    )
