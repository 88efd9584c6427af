"""WARC and WET: a text record an item.

Items are `conversion` records (WET) and `resource` records of type text/plain, and `response` records whose HTTP payload
is text/plain, decoded in the character set that it names, else UTF-8. All other records are passed over and have no
ordinal: extracting text from HTML is not a reader's business. The default id is WARC-Record-ID; `fields.id` and metadata
columns name WARC headers (`WARC-Target-URI`); `fields.text` has no meaning here.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from tokenmill.sources import reasons
from tokenmill.sources.assemble import MISSING
from tokenmill.sources.byte_streams import ByteStream, Tear
from tokenmill.sources.file_task import FileTask
from tokenmill.sources.item_buffer import ItemBuffer
from tokenmill.sources.items import Cursor, ItemBatch
from tokenmill.sources.limits import CHUNK_BYTES

_TEXT = "text/plain"
#: Of a response this much is read to find out its type.
_HEAD_BYTES = 64 << 10


class _TornError(Exception):
    """A record is cut off, or its header lacks what every header has."""


@dataclass(slots=True)
class _Found:
    """A text record that was read: its text (or bytes that do not decode), or why it is rejected."""

    key: Any
    metadata: dict[str, Any]
    locator: str
    text: Any = ""
    size_bytes: int = 0
    problem: tuple[str, str] | None = None


class _Source:
    """The stream as fastwarc takes it."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream

    def read(self, size: int = CHUNK_BYTES) -> bytes:
        """Return at most `size` bytes."""
        return self._stream.read(min(size, CHUNK_BYTES))


def read_warc(task: FileTask, cursor: Cursor) -> Iterator[ItemBatch]:
    """Yield the text records of a WARC or WET file."""
    buffer = ItemBuffer(task, cursor, has_ids=True, textual=True, explicit_locators=True)
    found: _Found | None = None
    seen_any = cursor.position > 0
    with task.open() as stream:
        stream.skip_to(cursor.position)
        try:
            records = ArchiveIterator(_Source(stream), parse_http=False, stream_detect=False)
            for record in records:
                start = cursor.position + record.stream_pos
                if found is not None:
                    if buffer.is_full(found.size_bytes):
                        yield buffer.flush()
                    _add(buffer, found, start)
                found = None  # should the next one be cut off
                found = _read_record(task, record, start)
                seen_any = True
        except (OSError, ValueError, _TornError) as error:
            tear = stream.tear or Tear(f"damaged: {error}", stream.stored_position, at_start=not seen_any)
        else:
            tear = stream.tear
        if found is not None:
            _add(buffer, found, stream.position)
        if tear is not None:
            buffer.add_reject(task.tear_reject(tear, Cursor(buffer.ordinal, buffer.position)))
    if buffer:
        yield buffer.flush()


def _add(buffer: ItemBuffer, found: _Found, end: int) -> None:
    if found.problem is not None:
        key = found.key if isinstance(found.key, str) else None
        buffer.reject(*found.problem, locator=found.locator, end=end, key=key)
    else:
        buffer.add(found.text, found.key, found.metadata, locator=found.locator, end=end, size_bytes=found.size_bytes)


def _read_record(task: FileTask, record: Any, start: int) -> _Found | None:
    """Return a text record, None for any other; raises _TornError where the file ends inside of it."""
    headers = record.headers
    if headers.get_bytes("Content-Length") is None or headers.get_bytes("WARC-Type") is None:
        raise _TornError("a record's header is cut off or damaged")
    length = record.content_length
    kind = record.record_type
    found = _Found(
        _header(record, task.source.fields.id or "WARC-Record-ID"),
        {name: _header(record, name) for name in task.source.metadata},
        f"{task.file.path}:{start}",
    )
    media_type = (headers.get_bytes("Content-Type") or _TEXT.encode()).split(b";")[0].strip().lower()
    read = 0
    result: _Found | None = None
    if kind in (WarcRecordType.conversion, WarcRecordType.resource) and media_type == _TEXT.encode():
        result = found
        if length <= task.limits.max_item_bytes:
            body = _read_exactly(record.reader, length)
            read = found.size_bytes = len(body)
            found.text = _decoded(body, "utf-8")
    elif kind == WarcRecordType.response and media_type == b"application/http":
        body = _read_exactly(record.reader, min(length, _HEAD_BYTES))
        read = len(body)
        if _http(body, decode=False)[0] == _TEXT:
            result = found
            if length <= task.limits.max_item_bytes:
                body += _read_exactly(record.reader, length - read)
                read = found.size_bytes = len(body)
                if read == length:
                    _add_payload(task, found, body)
    if result is not None and length > task.limits.max_item_bytes:
        message = f"the record has {length} bytes; max_item_bytes is {task.limits.max_item_bytes}"
        result.problem = (reasons.ITEM_TOO_LARGE, message)
    while read < length and (skipped := record.reader.consume(min(length - read, CHUNK_BYTES))):
        read += skipped
    if read < length:
        raise _TornError(f"the file ends inside of a record: {read} of its {length} bytes are there")
    return result


def _header(record: Any, name: str) -> Any:
    value = record.headers.get_bytes(name)
    return MISSING if value is None else _decoded(value, "utf-8")


def _read_exactly(reader: Any, size: int) -> bytes:
    pieces = []
    while size and (piece := reader.read(min(size, CHUNK_BYTES))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _http(message: bytes, *, decode: bool) -> tuple[str | None, str | None, Any]:
    """Return media type, character set and payload reader of an HTTP response; raises OSError where it is malformed."""
    record = WarcRecord()
    record.set_bytes_content(message)
    record.is_http = True
    record.parse_http(auto_decode="all" if decode else "none")
    media_type = record.http_content_type
    return (media_type.lower() if media_type else None), record.http_charset, record


def _add_payload(task: FileTask, found: _Found, message: bytes) -> None:
    limit = task.limits.max_item_bytes
    try:
        _, charset, record = _http(message, decode=True)
        payload = _read_exactly(record.reader, limit + 1)
    except (OSError, ValueError) as error:
        found.problem = (reasons.INVALID_HTTP, f"the HTTP response is malformed: {error}"[:500])
        return
    if len(payload) > limit:
        found.problem = (reasons.ITEM_TOO_LARGE, f"the payload decompresses to more than {limit} bytes")
        return
    found.text = _decoded(payload, charset or "utf-8")


def _decoded(data: bytes, encoding: str) -> str | bytes:
    try:
        codecs.lookup(encoding)
    except LookupError:
        encoding = "utf-8"
    try:
        return data.decode(encoding)
    except (UnicodeError, LookupError):  # a codec that is not one of text is no encoding
        return data
