"""WebDataset tar: members that share a name up to its first dot are one sample, an item.

- `fields.text` is the extension of the member that holds the text (`txt`, `caption.txt`), or `json.<member>` for a
  member of the sample's JSON file. The default, `text`, also finds `txt`. The id and metadata columns are given alike;
  the default id is the sample's name. Extensions are compared in lower case, as webdataset does.
- Of images, `fields.image` is the extension of the member that is the image file. The default, `image`, stands for the
  first of `jpg jpeg png webp gif tif tiff` that the sample has. Of recordings, `fields.audio` is; the default, `audio`,
  stands for the first of `wav flac ogg opus oga mp3 m4a`. Of LLVM IR, `fields.llvm_ir` is; the default, `content`,
  stands for the first of `bc ll`.
- Members whose name begins with two underscores, links, sparse files and everything else that is no plain file are
  passed over, and so are members that the source does not ask for: they are never held. No member is executed, decoded
  (beyond JSON) or fetched from anywhere.
- A sample whose end lies behind a tear is lost with it: nobody can tell whether it was complete.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tokenmill.job_sources import Fields, Source
from tokenmill.sources import reasons
from tokenmill.sources.byte_streams import ByteStream, Tear
from tokenmill.sources.file_task import FileTask
from tokenmill.sources.item_buffer import ItemBuffer
from tokenmill.sources.items import Cursor, ItemBatch
from tokenmill.sources.jsonl import JsonValue, explain
from tokenmill.sources.payloads import MISSING, payload_field

#: webdataset's rule for splitting a member's name into the sample's name and the extension.
_NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
_BOOKKEEPING = re.compile(r"__[^/]*__($|/)")
#: A header (long names included) that claims to be larger is damage.
_HEADER_BYTES = 1 << 20
_JSON = "json"
#: What the default names of fields stand for.
_DEFAULTS = {
    "text": ("text", "txt"),
    "image": ("image", "jpg", "jpeg", "png", "webp", "gif", "tif", "tiff"),
    "llvm-ir": ("content", "bc", "ll"),
    "audio": ("audio", "wav", "flac", "ogg", "opus", "oga", "mp3", "m4a"),
}
_END_BLOCK = bytes(tarfile.BLOCKSIZE)


class _HeaderFile:
    """What tarfile reads headers from: forward only, and never much at once.

    tarfile takes a damaged header in the middle of an archive for its end; `ended_well` tells whether it was one.

    Attributes:
        last_start: Where the last block that was read begins.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self.last_start = stream.position
        self._last = b""
        self._first: bytes | None = None

    @property
    def is_foreign(self) -> bool:
        """Whether the first block is no header at all: this is no tar file."""
        if self._first is None or len(self._first) < tarfile.BLOCKSIZE:
            return False
        try:
            tarfile.TarInfo.frombuf(self._first, tarfile.ENCODING, "surrogateescape")
        except tarfile.HeaderError:
            return True
        return False

    @property
    def ended_well(self) -> bool:
        """Whether the last block that was read was the archive's end, or there was none."""
        return self._stream.tear is None and self._last in (b"", _END_BLOCK)

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer at the end."""
        if size > _HEADER_BYTES:
            raise tarfile.ReadError(f"a header claims to have {size} bytes")
        self.last_start = self._stream.position
        self._last = self._stream.read_exactly(size)
        if self._first is None:
            self._first = self._last
        return self._last

    def seek(self, position: int) -> None:
        """Pass over everything before `position`."""
        if position < self._stream.position:
            raise tarfile.ReadError("a header has a negative size")
        self._stream.skip_to(position)

    def tell(self) -> int:
        """Return the position in the decompressed file."""
        return self._stream.position


@dataclass(slots=True)
class _Sample:
    """Members of one sample: those that the source asks for, and what is wrong with it."""

    name: str
    offset: int
    members: dict[str, bytes] = field(default_factory=dict)
    extensions: set[str] = field(default_factory=set)
    problem: tuple[str, str] | None = None


def read_tar(task: FileTask, cursor: Cursor) -> Iterator[ItemBatch]:
    """Yield the samples of a tar file."""
    fields = _SampleFields(task.source)
    buffer = ItemBuffer(task, cursor, has_ids=True, textual=True, explicit_locators=True)
    sample: _Sample | None = None
    with task.open() as stream:
        stream.skip_to(cursor.position)
        headers = _HeaderFile(stream)
        try:
            for name, extension, member in _members(headers, stream.size_bytes):
                if sample is None or sample.name != name:
                    if sample is not None:
                        yield from _finish(task, fields, buffer, sample, member.offset)
                    sample = _Sample(name, member.offset)
                _add_member(task, fields, stream, sample, extension, member)
        except (tarfile.TarError, ValueError, EOFError) as error:
            at_start = headers.is_foreign and not cursor.position
            tear = stream.tear or Tear(f"damaged: {error}", stream.stored_position, at_start=at_start)
            buffer.add_reject(task.tear_reject(tear, Cursor(buffer.ordinal, buffer.position)))
        else:
            if sample is not None:
                yield from _finish(task, fields, buffer, sample, headers.last_start)
    if buffer:
        yield buffer.flush()


def _members(headers: _HeaderFile, size_bytes: int) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    """Yield the sample's name, the extension and the header of each plain file; raises TarError at a tear."""
    if size_bytes == 0:
        return
    archive = tarfile.TarFile(fileobj=headers, mode="r", errors="surrogateescape")  # type: ignore[arg-type]
    for member in archive:
        archive.members = []  # type: ignore[attr-defined]  # it keeps every header otherwise
        found = _NAME.match(member.name)
        if member.isreg() and not member.issparse() and found and not _BOOKKEEPING.match(member.name):
            yield found.group(1), found.group(2).lower(), member
    if not headers.ended_well:
        raise tarfile.ReadError("a member's header is damaged or cut off")


def _add_member(
    task: FileTask, fields: _SampleFields, stream: ByteStream, sample: _Sample, extension: str, member: tarfile.TarInfo
) -> None:
    if extension in sample.extensions:
        message = f"the sample has two members {extension!r}"
        sample.problem = sample.problem or (reasons.DUPLICATE_MEMBER, message)
    sample.extensions.add(extension)
    stream.skip_to(member.offset_data)
    if extension not in fields.extensions:
        return
    if member.size > task.limits.max_item_bytes:
        message = f"{member.name[:200]!r} has {member.size} bytes; max_item_bytes is {task.limits.max_item_bytes}"
        sample.problem = sample.problem or (reasons.ITEM_TOO_LARGE, message)
        return
    data = stream.read_exactly(member.size)
    if len(data) < member.size:
        raise tarfile.ReadError(f"the file ends inside of {member.name[:200]!r}")
    sample.members[extension] = data


def _finish(
    task: FileTask, fields: _SampleFields, buffer: ItemBuffer, sample: _Sample, end: int
) -> Iterator[ItemBatch]:
    """Add a sample whose members are complete; yields a batch where one has become full."""
    size_bytes = sum(map(len, sample.members.values()))
    if buffer.is_full(size_bytes):
        yield buffer.flush()
    name = sample.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    locator = f"{task.file.path}!{name}"
    problem = sample.problem
    if problem is None:
        try:
            document = fields.parse_json(sample.members)
        except _JsonError as error:
            problem = error.problem
    if problem is not None:
        buffer.reject(*problem, locator=locator, end=end, key=name)
        return
    item_id = name if fields.id is None else fields.id.value(sample.members, document)
    metadata = {column: path.value(sample.members, document) for column, path in fields.metadata.items()}
    value = fields.payload.value(sample.members, document)
    buffer.add(value, item_id, metadata, locator=locator, end=end, size_bytes=size_bytes)


@dataclass(frozen=True, slots=True)
class _Path:
    """Where in a sample a value is: the first of some members that is there, or a place in the JSON member.

    Members are decoded, but where there is no `encoding`.
    """

    extensions: tuple[str, ...]
    steps: tuple[str, ...]
    encoding: str | None

    @classmethod
    def parse(cls, name: str, encoding: str | None) -> _Path:
        first, *steps = name.split(".")
        if first.lower() == _JSON and steps:
            return cls((_JSON,), tuple(steps), encoding)
        return cls(_DEFAULTS.get(name, (name.lower(),)), (), encoding)

    def value(self, members: dict[str, bytes], document: Any) -> Any:
        """Return the value; MISSING where it is absent, bytes where it does not decode."""
        if self.steps:
            for step in self.steps:
                document = document.get(step, MISSING) if isinstance(document, dict) else MISSING
            return document
        data = next((members[extension] for extension in self.extensions if extension in members), None)
        if data is None:
            return MISSING
        if self.encoding is None:
            return data
        try:
            return data.decode(self.encoding)
        except UnicodeError:
            return data


class _SampleFields:
    """Which members a source needs, and where in them its values are."""

    def __init__(self, source: Source) -> None:
        payload = payload_field(source)
        if source.modality == "llvm-ir" and payload == Fields().llvm_ir:
            payload = source.modality  # `content` itself may name a member of other sources
        self.payload = _Path.parse(payload, source.encoding if source.modality == "text" else None)
        self.id = None if source.fields.id is None else _Path.parse(source.fields.id, source.encoding)
        self.metadata = {name: _Path.parse(name, source.encoding) for name in source.metadata}
        paths = [self.payload, *([self.id] if self.id else []), *self.metadata.values()]
        self.extensions = {extension for path in paths for extension in path.extensions}
        self._needs_json = any(path.steps for path in paths)

    def parse_json(self, members: dict[str, bytes]) -> Any:
        """Return the sample's JSON member, MISSING where it is not there; raises _JsonError."""
        if not self._needs_json or _JSON not in members:
            return MISSING
        data = members[_JSON]
        try:
            return _decode_json(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _JsonError(*explain(data, error)) from error


class _JsonError(Exception):
    """A sample's JSON member does not parse: reason and message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.problem = (reason, message)


_decode_json = msgspec.json.Decoder(JsonValue).decode
