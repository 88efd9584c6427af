"""Opens a split and reads it from any item on, with the reader of each file's format."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Self

from tokenmill.job_sources import Source
from tokenmill.sources.audio_files import read_audio
from tokenmill.sources.delimited import read_delimited
from tokenmill.sources.file_task import FileTask
from tokenmill.sources.formats import Format, file_format
from tokenmill.sources.items import Cursor, ItemBatch
from tokenmill.sources.jsonl import read_jsonl
from tokenmill.sources.limits import ReadLimits
from tokenmill.sources.parquet import read_parquet
from tokenmill.sources.plain_text import read_lines, read_text
from tokenmill.sources.recordings import cut_recordings
from tokenmill.sources.runs import read_run
from tokenmill.sources.splits import InputFile, Split
from tokenmill.sources.tar import read_tar
from tokenmill.sources.whole_files import read_whole_file


def _read_warc(task: FileTask, cursor: Cursor) -> Iterator[ItemBatch]:
    from tokenmill.sources.warc import read_warc  # fastwarc is in the extra

    return read_warc(task, cursor)


_READERS: dict[Format, Callable[[FileTask, Cursor], Iterator[ItemBatch]]] = {
    "jsonl": read_jsonl,
    "parquet": read_parquet,
    "text": read_text,
    "lines": read_lines,
    "csv": read_delimited,
    "tsv": read_delimited,
    "tar": read_tar,
    "warc": _read_warc,
    "image": read_whole_file,
    "audio": read_audio,
    "llvm-ir": read_whole_file,
}


class SplitReader:
    """Reads one split. Close it, or use it as a context manager; nothing is open before `batches` is consumed."""

    def __init__(self, source: Source, root: str, split: Split, limits: ReadLimits) -> None:
        self._source = source
        self._root = root
        self._split = split
        self._limits = limits
        self._active: list[Generator[ItemBatch, None, None]] = []
        self._tasks: list[FileTask] = []

    def batches(self, start: Cursor = Cursor()) -> Iterator[ItemBatch]:  # noqa: B008
        """Yield batches of about 1 MiB or 1024 items; a larger item is a batch of its own.

        Args:
            start: The split's start, or `Cursor(ordinal + 1, end)` of any item that was read and has an end: the
                items from there on are exactly those of an unbroken read.

        Raises:
            ChangedError: Where a file is not what it was when it was planned.
            InputError: Where a file is missing or may not be read.
            StorageError: Where the storage fails. Damage inside a file never raises: it becomes a reject.
        """
        reading = self._read(start)
        self._active.append(reading)
        return reading

    @property
    def stored_bytes_read(self) -> int:
        """About how many of the split's stored bytes have been read; for estimates."""
        shares = sum(task.share_read() * task.file.size_bytes for task in self._tasks)
        whole = sum(file.size_bytes for file in self._split.files)
        return round(self._split.input_bytes * shares / max(whole, 1))

    def close(self) -> None:
        """Close the files; iterators that were handed out end."""
        for reading in self._active:
            reading.close()
        self._active.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, start: Cursor) -> Generator[ItemBatch, None, None]:
        items = self._items(start)
        yield from cut_recordings(items, self._source, start) if self._source.cuts_recordings else items

    def _items(self, start: Cursor) -> Iterator[ItemBatch]:
        split = self._split
        if split.kind == "files":
            yield from read_run([self._task(file, explicit_locators=True) for file in split.files], start, read_file)
        elif split.kind == "file":
            yield from read_file(self._task(split.files[0]), start)
        else:
            yield from read_file(self._task(split.files[0], split.start, split.stop), start)

    def _task(
        self, file: InputFile, start: int = 0, stop: int | None = None, *, explicit_locators: bool = False
    ) -> FileTask:
        kind = file_format(self._source, file.path)
        task = FileTask(self._source, self._root, file, kind, self._limits, start, stop, explicit_locators)
        self._tasks.append(task)
        return task


def read_file(task: FileTask, cursor: Cursor) -> Iterator[ItemBatch]:
    """Yield the items of one file, or of the range of it that the task names."""
    return _READERS[task.format.format](task, cursor)


def open_split(source: Source, root: str, split: Split, limits: ReadLimits) -> SplitReader:
    """Return a reader of a split.

    Args:
        source: The source that the split was planned from.
        root: What the split's paths are relative to.
        split: The split.
        limits: What is refused.
    """
    return SplitReader(source, root, split, limits)
