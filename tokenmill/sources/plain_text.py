"""Plain text: a file a document (`text`), or a line a document (`lines`).

A byte order mark at the file's start is dropped. Of `lines`, neither line feed nor carriage return belong to the text,
and an empty line is an empty document, for line numbers would mean nothing else; of `text`, every byte belongs to it.
An empty file holds no document.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from tokenmill.errors import InputError
from tokenmill.jobs import Source
from tokenmill.sources import reasons
from tokenmill.sources.assemble import ItemAssembler
from tokenmill.sources.file_task import FileTask
from tokenmill.sources.items import Cursor, ItemBatch, Reject
from tokenmill.sources.limits import BATCH_BYTES, BATCH_ITEMS
from tokenmill.sources.line_scan import LineBlock, LongLine, scan_lines

_MARKS = {"utf-8": codecs.BOM_UTF8}


def check_encoding(source: Source, *, by_line: bool) -> None:
    """Raise InputError where a source's encoding is unknown, or has line feeds that are not the byte 10.

    Args:
        source: The source.
        by_line: Whether the format finds lines in the undecoded bytes.
    """
    try:
        codec = codecs.lookup(source.encoding)
        plain = 'a,\t"\r\n'.encode(codec.name) == b'a,\t"\r\n'
    except LookupError as error:
        raise InputError(
            f"source {source.name!r}: there is no character encoding {source.encoding!r}",
            fix="give the `encoding` as Python names it: utf-8, latin-1, cp1252, shift_jis …",
        ) from error
    if by_line and not plain:
        raise InputError(
            f"source {source.name!r}: lines cannot be found in files that are encoded in {codec.name}",
            fix="convert them to UTF-8, or read each file as one document (`format: text`)",
        )


def strip_mark(data: bytes, encoding: str) -> bytes:
    """Return the start of a file without a byte order mark; UTF-16 and UTF-32 take care of theirs when they decode."""
    mark = _MARKS.get(codecs.lookup(encoding).name)
    return data[len(mark) :] if mark and data.startswith(mark) else data


def read_text(task: FileTask, cursor: Cursor) -> Iterator[ItemBatch]:
    """Yield the one document of a text file."""
    if cursor.position:
        return
    path = task.file.path
    limit = task.limits.max_item_bytes
    problem: tuple[str, str] | None = None
    text = ""
    with task.open() as stream:
        data = stream.read_exactly(limit + 1)
        end = stream.position
        if stream.tear is not None:
            yield task.rejects_only([task.tear_reject(stream.tear, cursor)])
            return
    if not data:
        return
    if len(data) > limit:
        problem = (reasons.ITEM_TOO_LARGE, f"the file has more than {limit} bytes, which is max_item_bytes")
    else:
        try:
            text = strip_mark(data, task.source.encoding).decode(task.source.encoding)
        except UnicodeError as error:
            problem = (reasons.INVALID_UTF8, f"not {task.source.encoding}: {error}"[:500])
    if problem is not None:
        yield task.rejects_only([Reject(cursor.ordinal, path, f"{path}:0", *problem)])
        return
    metadata = {name: [None] for name in task.source.metadata}
    yield ItemAssembler(task.source, task.limits, path).batch(
        [cursor.ordinal], [end], [text], None, metadata, lambda _: f"{path}:0", (), [f"{path}:0"]
    )


def read_lines(task: FileTask, cursor: Cursor) -> Iterator[ItemBatch]:
    """Yield the lines of a text file, or of a byte range of it."""
    pending = _Pending(task, cursor)
    start = max(task.start, cursor.position)
    with task.open() as stream:
        for block in scan_lines(
            stream, start, task.stop, task.limits.max_item_bytes, exact=cursor.position > task.start
        ):
            if isinstance(block, LongLine):
                pending.add_long_line(block.offset, block.stop)
            else:
                yield from pending.add_block(block)
        if stream.tear is not None:
            pending.rejects.append(task.tear_reject(stream.tear, Cursor(pending.ordinal, pending.position)))
    if pending.texts or pending.rejects:
        yield pending.flush()


class _Pending:
    """Lines that wait to become a batch."""

    def __init__(self, task: FileTask, cursor: Cursor) -> None:
        self.ordinal = cursor.ordinal
        self.position = cursor.position
        self.texts: list[str] = []
        self.rejects: list[Reject] = []
        self._ordinals: list[int] = []
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._bytes = 0
        self._task = task
        self._path = task.file.path
        self._assembler = ItemAssembler(task.source, task.limits, task.file.path)

    def add_block(self, block: LineBlock) -> Iterator[ItemBatch]:
        """Decode the lines of a block; yields batches as they fill."""
        encoding = self._task.source.encoding
        limit = self._task.limits.max_item_bytes
        position = block.offset
        lines = block.data[block.begin : block.end].split(b"\n")
        if not lines[-1]:
            lines.pop()
        for line in lines:
            end = min(position + len(line) + 1, block.offset + block.end - block.begin)
            if self._bytes and (self._bytes + len(line) > BATCH_BYTES or self._waiting >= BATCH_ITEMS):
                yield self.flush()
            if len(line) > limit:
                self.add_long_line(position, end)
            else:
                self._add_line(line if position else strip_mark(line, encoding), position, end)
            self._bytes += len(line) + 1
            self.position = position = end

    @property
    def _waiting(self) -> int:
        return len(self.texts) + len(self.rejects)

    def _add_line(self, line: bytes, start: int, end: int) -> None:
        try:
            text = line.removesuffix(b"\r").decode(self._task.source.encoding)
        except UnicodeError as error:
            message = f"not {self._task.source.encoding}: {error}: {reasons.quote(line)}"
            self.rejects.append(
                Reject(self.ordinal, self._path, f"{self._path}:{start}", reasons.INVALID_UTF8, message)
            )
        else:
            self.texts.append(text)
            self._ordinals.append(self.ordinal)
            self._starts.append(start)
            self._ends.append(end)
        self.ordinal += 1

    def add_long_line(self, offset: int, stop: int) -> None:
        """Note a line that is too long."""
        limit = self._task.limits.max_item_bytes
        message = f"the line has {stop - offset} bytes; max_item_bytes is {limit}"
        self.rejects.append(Reject(self.ordinal, self._path, f"{self._path}:{offset}", reasons.ITEM_TOO_LARGE, message))
        self.ordinal += 1
        self.position = stop

    def flush(self) -> ItemBatch:
        """Return what is pending as a batch."""
        starts = self._starts
        batch = self._assembler.batch(
            self._ordinals,
            self._ends,
            list(self.texts),
            None,
            {name: [None] * len(self.texts) for name in self._task.source.metadata},
            lambda index: f"{self._path}:{starts[index]}",
            self.rejects,
            [f"{self._path}:{start}" for start in starts] if self._task.explicit_locators else (),
        )
        self.texts, self._ordinals, self._starts, self._ends, self.rejects = [], [], [], [], []
        self._bytes = 0
        return batch
