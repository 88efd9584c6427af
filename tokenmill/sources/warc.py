"""WARC and WET: a text record an item.

Items are `conversion` records (WET) and `resource` records of type text/plain, and `response` records whose HTTP
payload is text/plain, decoded in the character set that it names, else UTF-8. All other records are passed over and
have no ordinal: extracting text from HTML is not a reader's business. The default id is WARC-Record-ID; `fields.id` and
metadata columns name WARC headers (`WARC-Target-URI`); `fields.text` has no meaning here.

Records are told apart here, so that positions, limits and tears are exact; fastwarc takes headers and HTTP apart.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from typing import Any

from fastwarc.warc import HeaderMap, WarcRecord

from tokenmill.sources import reasons
from tokenmill.sources.byte_streams import ByteStream, Tear
from tokenmill.sources.file_task import FileTask
from tokenmill.sources.item_buffer import ItemBuffer
from tokenmill.sources.items import Cursor, ItemBatch
from tokenmill.sources.limits import CHUNK_BYTES
from tokenmill.sources.payloads import MISSING

_TEXT = b"text/plain"
#: Of a response this much is read to find out its type; a WARC header that is longer is damage.
_HEAD_BYTES = 64 << 10
_VERSION = b"WARC/"
_HEADER_END = b"\r\n\r\n"


class _TornError(Exception):
    """A record is cut off, or what should be a header is none (`foreign`)."""

    def __init__(self, message: str, *, foreign: bool = False) -> None:
        super().__init__(message)
        self.foreign = foreign


class _Records:
    """Walks from record to record.

    Attributes:
        start: Where the current record starts, in the decompressed file.
        length: Size of its body in bytes.
        at_start: Whether no record was found yet.
        position: Where reading is.
    """

    def __init__(self, stream: ByteStream, position: int) -> None:
        stream.skip_to(position)
        self.start = self.position = stream.position
        self.length = 0
        self.at_start = position == 0
        self._body_end = self.position
        self._stream = stream
        self._buffer = b""

    def next_header(self) -> Any | None:
        """Pass over the rest of the current record; return the next one's headers, None at the file's end.

        Raises _TornError.
        """
        while self.position < self._body_end:
            self.read(min(self._body_end - self.position, _HEAD_BYTES))
        while not (stripped := self._buffer.lstrip(b"\r\n")):
            self.position += len(self._buffer)
            self._buffer = self._stream.read(_HEAD_BYTES)
            if not self._buffer:
                return None
        self.position += len(self._buffer) - len(stripped)
        self._buffer = stripped
        while (end := self._buffer.find(_HEADER_END)) < 0:
            more = self._stream.read(_HEAD_BYTES) if len(self._buffer) < _HEAD_BYTES else b""
            if not more:
                foreign = not self._buffer.startswith(_VERSION) and len(self._buffer) > len(_VERSION)
                raise _TornError("a record's header is cut off or damaged", foreign=foreign)
            self._buffer += more
        self.start = self.position
        headers = HeaderMap()
        try:
            headers.parse(io.BytesIO(self.read(end + len(_HEADER_END))))
        except (OSError, ValueError) as error:
            raise _TornError(f"a record's header is damaged: {error}") from error
        length = (headers.get_bytes(b"Content-Length") or b"").strip()
        if not (headers.status_line_bytes or b"").startswith(_VERSION) or not length.isdigit() or len(length) > 18:
            raise _TornError("what should be a record's header is none", foreign=True)
        self.length = int(length)
        self.at_start = False
        self._body_end = self.position + self.length
        return headers

    def read(self, size: int) -> bytes:
        """Return `size` bytes; raises _TornError where the file ends before."""
        pieces = [self._buffer[:size]]
        missing = size - len(pieces[0])
        self._buffer = self._buffer[size:]
        while missing:
            piece = self._stream.read(min(max(missing, _HEAD_BYTES), CHUNK_BYTES))
            if not piece:
                raise _TornError(f"the file ends inside of a record, {missing} bytes too early")
            pieces.append(piece[:missing])
            self._buffer = piece[missing:]
            missing -= len(pieces[-1])
        self.position += size
        return b"".join(pieces)


def read_warc(task: FileTask, cursor: Cursor) -> Iterator[ItemBatch]:
    """Yield the text records of a WARC or WET file."""
    buffer = ItemBuffer(task, cursor, has_ids=True, textual=True, explicit_locators=True)
    with task.open() as stream:
        records = _Records(stream, cursor.position)
        tear: Tear | None = None
        try:
            while (headers := records.next_header()) is not None:
                if buffer.is_full(records.length):
                    yield buffer.flush()
                _read_record(task, buffer, records, headers)
        except _TornError as error:
            tear = Tear(str(error), stream.stored_position, at_start=error.foreign and records.at_start)
        if tear := stream.tear or tear:
            buffer.add_reject(task.tear_reject(tear, Cursor(buffer.ordinal, buffer.position)))
    if buffer:
        yield buffer.flush()


def _read_record(task: FileTask, buffer: ItemBuffer, records: _Records, headers: Any) -> None:
    """Add a record to the buffer if it is one of text; raises _TornError where the file ends inside of it."""
    kind = (headers.get_bytes(b"WARC-Type") or b"").strip().lower()
    media_type = _media_type(headers.get_bytes(b"Content-Type") or _TEXT)
    limit = task.limits.max_item_bytes
    body = b""
    if kind == b"response" and media_type == b"application/http":
        body = records.read(min(records.length, _HEAD_BYTES))
        if _payload_type(body) != _TEXT:
            return
    elif kind not in (b"conversion", b"resource") or media_type != _TEXT:
        return
    key = _header(headers, task.source.fields.id or "WARC-Record-ID")
    locator = f"{task.file.path}:{records.start}"
    end = records.position - len(body) + records.length
    text: Any = ""
    problem: tuple[str, str] | None = None
    if records.length > limit:
        problem = (reasons.ITEM_TOO_LARGE, f"the record has {records.length} bytes; max_item_bytes is {limit}")
    else:
        body += records.read(records.length - len(body))
        if kind == b"response":
            text, problem = _payload(body, limit)
        else:
            text = _decoded(body, "utf-8")
    if problem is not None:
        buffer.reject(*problem, locator=locator, end=end, key=key if isinstance(key, str) else None)
    else:
        metadata = {name: _header(headers, name) for name in task.source.metadata}
        buffer.add(text, key, metadata, locator=locator, end=end, size_bytes=len(body))


def _media_type(value: bytes) -> bytes:
    return value.split(b";")[0].strip().lower()


def _header(headers: Any, name: str) -> Any:
    value = headers.get_bytes(name.encode())
    return MISSING if value is None else _decoded(value, "utf-8")


def _http_record(message: bytes, *, decode: bool) -> Any:
    """Return an HTTP response taken apart; raises OSError where it is malformed."""
    record = WarcRecord()
    record.set_bytes_content(message)
    record.is_http = True
    record.parse_http(auto_decode="all" if decode else "none")
    return record


def _payload_type(beginning: bytes) -> bytes:
    try:
        return _media_type((_http_record(beginning, decode=False).http_content_type or "").encode())
    except (OSError, ValueError):
        return b""


def _payload(message: bytes, limit: int) -> tuple[Any, tuple[str, str] | None]:
    """Return the payload of an HTTP response as text (bytes where it does not decode), or why there is none."""
    try:
        record = _http_record(message, decode=True)
        pieces = []
        room = limit + 1
        while room and (piece := record.reader.read(room)):
            pieces.append(piece)
            room -= len(piece)
        charset = record.http_charset
    except (OSError, ValueError) as error:
        return "", (reasons.INVALID_HTTP, f"the HTTP response is malformed: {error}"[:500])
    if not room:
        return "", (reasons.ITEM_TOO_LARGE, f"the payload decompresses to more than {limit} bytes")
    return _decoded(b"".join(pieces), charset or "utf-8"), None


def _decoded(data: bytes, encoding: str) -> str | bytes:
    try:
        codecs.lookup(encoding)
    except LookupError:
        encoding = "utf-8"
    try:
        return data.decode(encoding)
    except (UnicodeError, LookupError):  # a codec that is not one of text is no encoding
        return data
