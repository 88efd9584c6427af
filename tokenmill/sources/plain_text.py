"""Plain text: a file a document (`text`), or a line a document (`lines`).

A byte order mark at the file's start is dropped. Of `lines`, neither line feed nor carriage return belong to the text,
and an empty line is an empty document, for line numbers would mean nothing else; of `text`, every byte belongs to it.
An empty file holds no document.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from tokenmill.errors import InputError
from tokenmill.job_sources import Source
from tokenmill.sources import reasons
from tokenmill.sources.assemble import ItemAssembler
from tokenmill.sources.file_task import FileTask
from tokenmill.sources.item_buffer import ItemBuffer
from tokenmill.sources.items import Cursor, ItemBatch, Reject
from tokenmill.sources.line_scan import lines_of, scan_lines

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
    buffer = ItemBuffer(task, cursor, has_ids=False, textual=True, explicit_locators=task.explicit_locators)
    start = max(task.start, cursor.position)
    path, limit, encoding = task.file.path, task.limits.max_item_bytes, task.source.encoding
    with task.open() as stream:
        for block in scan_lines(stream, start, task.stop, limit, exact=cursor.position > task.start):
            for position, line, end in lines_of(block):
                if buffer.is_full(end - position):
                    yield buffer.flush()
                locator = f"{path}:{position}"
                if line is None or len(line) > limit:
                    message = f"the line has {end - position} bytes; max_item_bytes is {limit}"
                    buffer.reject(reasons.ITEM_TOO_LARGE, message, locator=locator, end=end)
                    continue
                try:
                    text = (line if position else strip_mark(line, encoding)).removesuffix(b"\r").decode(encoding)
                except UnicodeError as error:
                    message = f"not {encoding}: {str(error)[:200]}: {reasons.quote(line)}"
                    buffer.reject(reasons.INVALID_UTF8, message, locator=locator, end=end)
                    continue
                buffer.add(text, None, {}, locator=locator, end=end, size_bytes=end - position)
        if stream.tear is not None:
            buffer.add_reject(task.tear_reject(stream.tear, Cursor(buffer.ordinal, buffer.position)))
    if buffer:
        yield buffer.flush()
