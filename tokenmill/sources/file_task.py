"""What a format's reader is given: one file of a split, what of it to read, and from where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokenmill.jobs import Source
from tokenmill.sources import reasons
from tokenmill.sources.byte_streams import ByteStream, Tear, open_stream
from tokenmill.sources.formats import FileFormat
from tokenmill.sources.items import Cursor, ItemBatch, Reject
from tokenmill.sources.limits import ReadLimits
from tokenmill.sources.splits import InputFile


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
    """

    source: Source
    root: str
    file: InputFile
    format: FileFormat
    limits: ReadLimits
    start: int = 0
    stop: int | None = None
    explicit_locators: bool = False

    def open(self) -> ByteStream:
        """Open the file's decompressed bytes; raises ChangedError, or InputError where it cannot be opened."""
        return open_stream(self.root, self.file, self.format.compression)

    def tear_reject(self, tear: Tear, cursor: Cursor) -> Reject:
        """Return the reject that stands for what is lost behind a tear; `cursor` is where reading stopped."""
        lost_bytes = max(self.file.size_bytes - tear.stored_bytes, 0)
        lost_items = round(cursor.ordinal / tear.stored_bytes * lost_bytes) if tear.stored_bytes else 0
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
