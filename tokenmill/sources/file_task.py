"""What a format's reader is given: one file of a split, what of it to read, and from where."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from tokenmill.errors import ChangedError
from tokenmill.job_sources import Source
from tokenmill.sources import reasons
from tokenmill.sources.byte_streams import ByteStream, Tear, byte_stream
from tokenmill.sources.formats import FileFormat
from tokenmill.sources.items import Cursor, ItemBatch, Reject
from tokenmill.sources.limits import ReadLimits
from tokenmill.sources.splits import InputFile
from tokenmill.storage.inputs import join, open_input, stat_input


@dataclass(slots=True)
class Meter:
    """How far a file's reader has come: the stream that it reads, or the share of rows (Parquet) or bytes (audio)."""

    stream: ByteStream | None = None
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class FileTask:
    """One file to read.

    Attributes:
        source: The source that it belongs to.
        root: What paths are relative to.
        file: The file.
        format: Its format and compression.
        limits: What is refused.
        start: First byte or row group to read.
        stop: The byte or row group after the last; None: to the end.
        explicit_locators: Whether every item needs its locator written out (in runs of files).
        meter: How far reading has come.
        content: The file as stored, where it was fetched beforehand (small remote files).
    """

    source: Source
    root: str
    file: InputFile
    format: FileFormat
    limits: ReadLimits
    start: int = 0
    stop: int | None = None
    explicit_locators: bool = False
    meter: Meter = field(default_factory=Meter, repr=False)
    content: bytes | None = field(default=None, repr=False)

    @property
    def uri(self) -> str:
        """Where the file is."""
        return join(self.root, self.file.path)

    def open_stored(self) -> BinaryIO:
        """Open the file as stored.

        Raises:
            ChangedError: Where it is not what it was when it was planned.
            InputError: Where it cannot be opened.
        """
        if self.content is not None:
            return io.BytesIO(self.content)
        size_bytes, version = stat_input(self.uri)
        if (size_bytes, version) != (self.file.size_bytes, self.file.version):
            raise ChangedError(
                f"the input file has changed since it was planned: {self.file.size_bytes} bytes, version "
                f"{self.file.version!r} then; {size_bytes} bytes, version {version!r} now",
                where=self.uri,
                fix="put the old file back, or write to a new output",
            )
        return open_input(self.uri)

    def open(self) -> ByteStream:
        """Open the file's decompressed bytes; raises as `open_stored` does."""
        stream = byte_stream(self.open_stored(), self.file.size_bytes, self.uri, self.format.compression)
        self.meter.stream = stream
        return stream

    def share_read(self) -> float:
        """Return the share of the file, or of the range to read, that has been read: 0 … 1, by stored bytes."""
        stream = self.meter.stream
        if stream is None:
            return self.meter.share
        stop = self.file.size_bytes if self.stop is None else self.stop
        return min(1.0, max(0, stream.stored_position - self.start) / max(stop - self.start, 1))

    def tear_reject(self, tear: Tear, cursor: Cursor) -> Reject:
        """Return the reject that stands for what is lost; `cursor` is the place after the last item before the tear."""
        kept_bytes = cursor.position if self.format.compression == "none" else tear.stored_bytes
        lost_bytes = max(self.file.size_bytes - kept_bytes, 0)
        lost_items = round(cursor.ordinal / kept_bytes * lost_bytes) if kept_bytes else 0
        return Reject(
            ordinal=cursor.ordinal,
            key=self.file.path,
            locator=f"{self.file.path}:{cursor.position}",
            reason=reasons.UNREADABLE_FILE if tear.at_start else reasons.TORN_FILE,
            message=tear.message[:500],
            lost_bytes=lost_bytes,
            lost_items=max(lost_items, 1),
        )

    def rejects_only(self, rejects: list[Reject]) -> ItemBatch:
        """Return a batch without items."""
        return ItemBatch(
            _EMPTY, _EMPTY, _EMPTY, [], [], {name: [] for name in self.source.metadata}, self.file.path, (), rejects
        )


_EMPTY = np.empty(0, np.int64)
