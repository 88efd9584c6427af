"""CSV and TSV: a record an item, after a header line that names the columns. Quoted fields may hold line feeds.

Files are read whole (a line feed in quotes looks like any other), from the start. A quote that is never closed makes
one `item_too_large` reject of what follows it, up to the quote that closes it. Empty lines are passed over and have no
ordinal. A byte order mark at the file's start is dropped. Empty values of metadata columns that are no strings are
null.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from typing import Any

from tokenmill.errors import InputError
from tokenmill.job_sources import Source
from tokenmill.sources import reasons
from tokenmill.sources.byte_streams import ByteStream
from tokenmill.sources.file_task import FileTask
from tokenmill.sources.item_buffer import ItemBuffer
from tokenmill.sources.items import Cursor, ItemBatch
from tokenmill.sources.line_scan import lines_of, scan_lines
from tokenmill.sources.payloads import MISSING
from tokenmill.sources.plain_text import strip_mark

_DELIMITERS = {"csv": ",", "tsv": "\t"}


class _RecordError(Exception):
    """A record cannot be read: reason and message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message


class _Lines:
    """Feeds a csv reader with decoded lines, and knows where in the file each record begins and ends.

    The csv module takes whole lines and asks for another only inside of quotes; so a record ends where the last line
    that it asked for ends, and `exhausted` tells that it asked for more than there is.
    """

    def __init__(self, task: FileTask, stream: ByteStream, start: int) -> None:
        self.end = start
        self.begin = start
        self.exhausted = False
        self._limit = task.limits.max_item_bytes
        self._encoding = task.source.encoding
        self._open_quotes = 0
        self._stream = stream
        blocks = scan_lines(stream, start, None, self._limit, exact=True)
        self._lines = (line for block in blocks for line in lines_of(block))

    @property
    def torn(self) -> bool:
        """Whether the file broke off."""
        return self._stream.tear is not None

    def begin_record(self) -> None:
        """Forget the record before."""
        self.begin = self.end
        self._open_quotes = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        found = next(self._lines, None)
        if found is None:
            self.exhausted = True
            raise StopIteration
        start, line, self.end = found
        if line is None or self.end - self.begin > self._limit:
            self._count_quotes(line)
            raise _RecordError(
                reasons.ITEM_TOO_LARGE, f"the record has more than {self._limit} bytes, which is max_item_bytes"
            )
        self._count_quotes(line)
        try:
            text = (line if start else strip_mark(line, self._encoding)).decode(self._encoding)
        except UnicodeError as error:
            raise _RecordError(
                reasons.INVALID_UTF8, f"not {self._encoding}: {str(error)[:200]}: {reasons.quote(line)}"
            ) from error
        return text + "\n"

    def _count_quotes(self, line: bytes | None) -> None:
        self._open_quotes = 0 if line is None else (self._open_quotes + line.count(b'"')) % 2

    def skip_record(self) -> None:
        """Pass over the rest of a record that is given up."""
        while self._open_quotes:
            found = next(self._lines, None)
            if found is None:
                return
            self.end = found[2]
            self._count_quotes(found[1])


def read_header(task: FileTask) -> list[str] | None:
    """Return the names of the columns; None where the file is empty, or damaged before they end.

    Raises:
        InputError: Where the file cannot be opened, or the source's columns are not there.
    """
    csv.field_size_limit(sys.maxsize)  # process-wide; `_Lines` is what bounds a record
    with task.open() as stream:
        lines = _Lines(task, stream, 0)
        try:
            names = next((row for row in _reader(task, lines) if row), None)
        except (_RecordError, csv.Error) as error:
            raise InputError(
                f"source {task.source.name!r}: the header line cannot be read: {error.args[-1]}",
                where=task.uri,
                fix="check the file's `format` and `encoding`",
            ) from error
    if names is not None:
        _check_columns(task.source, names, task.uri)
    return names


def _reader(task: FileTask, lines: _Lines) -> Any:
    return csv.reader(lines, delimiter=_DELIMITERS[task.format.format])


def _check_columns(source: Source, names: list[str], uri: str) -> None:
    fields = source.fields
    for field, name in (("text", fields.text), ("id", fields.id)):
        if name is not None and names.count(name) != 1:
            shown = ", ".join(repr(column[:100]) for column in names[:40])
            found = "no column" if name not in names else "more than one column"
            raise InputError(
                f"source {source.name!r}: the header line names {found} {name!r}; it has {shown}",
                where=uri,
                fix=f"set `fields.{field}` to one of them; a file without a header line cannot be read as CSV or TSV",
            )


def read_delimited(task: FileTask, cursor: Cursor) -> Iterator[ItemBatch]:
    """Yield the records of a CSV or TSV file."""
    names = read_header(task)
    fields = task.source.fields
    buffer = ItemBuffer(
        task, cursor, has_ids=fields.id is not None, textual=True, explicit_locators=task.explicit_locators
    )
    with task.open() as stream:
        lines = _Lines(task, stream, cursor.position)
        yield from _records(task, lines, buffer, names or [], skip_header=not cursor.position)
        if stream.tear is not None:
            buffer.add_reject(task.tear_reject(stream.tear, Cursor(buffer.ordinal, buffer.position)))
    if buffer:
        yield buffer.flush()


def _records(
    task: FileTask, lines: _Lines, buffer: ItemBuffer, names: list[str], *, skip_header: bool
) -> Iterator[ItemBatch]:
    fields = task.source.fields
    columns = {name: number for number, name in enumerate(names)}
    reader = _reader(task, lines)
    while True:
        if buffer.is_full():
            yield buffer.flush()
        lines.begin_record()
        locator = f"{task.file.path}:{lines.begin}"
        try:
            row = next(reader)
        except StopIteration:
            return
        except (_RecordError, csv.Error) as error:
            reason = error.reason if isinstance(error, _RecordError) else reasons.INVALID_CSV
            lines.skip_record()
            buffer.reject(reason, str(error.args[-1]), locator=locator, end=lines.end)
            continue
        if not row:
            continue
        if skip_header:
            skip_header = False
            continue
        if lines.exhausted:  # in quotes, or it would have had no reason to ask for another line
            if not lines.torn:
                message = f"a quote is never closed: {reasons.quote(row)}"
                buffer.reject(reasons.INVALID_CSV, message, locator=locator, end=lines.end)
            return
        size_bytes = lines.end - lines.begin
        if buffer.is_full(size_bytes):
            yield buffer.flush()
        if len(row) != len(names):
            message = f"the record has {len(row)} values, the header line {len(names)}: {reasons.quote(row)}"
            buffer.reject(reasons.WRONG_COLUMN_COUNT, message, locator=locator, end=lines.end)
            continue
        metadata = {name: row[columns[name]] if name in columns else MISSING for name in task.source.metadata}
        item_id = row[columns[fields.id]] if fields.id is not None else None
        buffer.add(row[columns[fields.text]], item_id, metadata, locator=locator, end=lines.end, size_bytes=size_bytes)
