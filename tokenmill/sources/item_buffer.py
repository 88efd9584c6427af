"""Collects the items of a file until they make a batch, for formats that find them one by one."""

from __future__ import annotations

from typing import Any

from tokenmill.sources.assemble import ItemAssembler
from tokenmill.sources.file_task import FileTask
from tokenmill.sources.items import Cursor, ItemBatch, Reject
from tokenmill.sources.limits import BATCH_BYTES, BATCH_ITEMS


class ItemBuffer:
    """Items and rejects that wait to become a batch.

    Attributes:
        ordinal: Number of the next item.
        position: The place after the last item or reject.

    Args:
        task: The file that is read.
        cursor: Where reading begins.
        has_ids: Whether `add` is given ids; else the file's path is the key.
        textual: Whether metadata values are text that has to be parsed.
        explicit_locators: Whether batches carry a locator for each item.
    """

    def __init__(
        self, task: FileTask, cursor: Cursor, *, has_ids: bool, textual: bool, explicit_locators: bool
    ) -> None:
        self.ordinal = cursor.ordinal
        self.position = cursor.position
        self._path = task.file.path
        self._columns = tuple(task.source.metadata)
        self._has_ids = has_ids
        self._explicit_locators = explicit_locators
        self._assembler = ItemAssembler(task.source, task.limits, task.file.path, textual=textual)
        self._clear()

    def _clear(self) -> None:
        self._ordinals: list[int] = []
        self._ends: list[int] = []
        self._values: list[Any] = []
        self._ids: list[Any] = []
        self._metadata: dict[str, list[Any]] = {name: [] for name in self._columns}
        self._locators: list[str] = []
        self._rejects: list[Reject] = []
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._values) + len(self._rejects)

    def is_full(self, further_bytes: int = 0) -> bool:
        """Tell whether the batch should be flushed before an item of so many bytes comes in."""
        return len(self) >= BATCH_ITEMS or (len(self) > 0 and self._bytes + further_bytes > BATCH_BYTES)

    def add(
        self, value: Any, item_id: Any, metadata: dict[str, Any], *, locator: str, end: int, size_bytes: int
    ) -> None:
        """Add an item as `ItemAssembler.batch` takes it; `end` is the position after it."""
        self._ordinals.append(self.ordinal)
        self._ends.append(end)
        self._values.append(value)
        if self._has_ids:
            self._ids.append(item_id)
        for name, values in self._metadata.items():
            values.append(metadata.get(name))
        self._locators.append(locator)
        self._bytes += size_bytes
        self.ordinal += 1
        self.position = end

    def reject(self, reason: str, message: str, *, locator: str, end: int, key: str | None = None) -> None:
        """Add a reject that the format found itself."""
        self._rejects.append(Reject(self.ordinal, key or self._path, locator, reason, message))
        self.ordinal += 1
        self.position = end

    def add_reject(self, reject: Reject) -> None:
        """Add a reject as it is; its ordinal is this buffer's."""
        self._rejects.append(reject)
        self.ordinal += 1

    def flush(self) -> ItemBatch:
        """Return what is there as a batch, and begin the next."""
        locators = self._locators
        batch = self._assembler.batch(
            self._ordinals,
            self._ends,
            self._values,
            self._ids if self._has_ids else None,
            self._metadata,
            locators.__getitem__,
            self._rejects,
            locators if self._explicit_locators else (),
        )
        self._clear()
        return batch
