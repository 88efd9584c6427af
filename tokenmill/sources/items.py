"""What a source gives: batches of items, and the items that it had to reject.

Readers make these; the part loop consumes them. No file format and no storage belongs here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where reading of a split (re)starts.

    Attributes:
        ordinal: Number, within the split, of the next item (rejected items count).
        position: Where that item starts, in the format's own unit: byte offset in the decompressed file for line
            files, tar and WARC; row number in the split for Parquet; in runs of small files
            `file number << 40 | position in that file`.
    """

    ordinal: int = 0
    position: int = 0


@dataclass(frozen=True, slots=True)
class Reject:
    """An item that has no row, and why.

    Attributes:
        ordinal: The item's number in its split.
        key: Its key as far as known (else the path of its file).
        locator: Where to find it again: `<path>:<byte offset>`, `<path>#row=<n>`, `<path>!<member>`.
        reason: A short snake_case word from a fixed list (docs/operations.md): `invalid_json`, `missing_field` …
        message: What exactly was wrong; never more than 500 characters of the input.
        lost_bytes: For `torn_file`: the bytes of the file that could not be read, as stored.
        lost_items: For `torn_file`: an estimate of the items lost, at least 1. Otherwise 1.
        lost_seconds: Of a recording: how many seconds have no row, as far as known.
    """

    ordinal: int
    key: str
    locator: str
    reason: str
    message: str
    lost_bytes: int = 0
    lost_items: int = 1
    lost_seconds: float = 0.0


@dataclass(slots=True)
class ItemBatch:
    """A run of items of one split, in order. n items that were read, and the rejects found among them.

    Attributes:
        ordinals: int64 `[n]`, strictly increasing; gaps are rejects.
        ends: int64 `[n]`, the `Cursor.position` just after each item (where reading would resume); -1 where it cannot
            resume there, as between the pieces of a recording. The last item of what cannot be parted has an end, and
            no reject that is found with it comes after.
        sizes: int64 `[n]`, input bytes of each item (payload, decompressed).
        keys: `[n]`; the id field, else the path relative to the source's root. Duplicates are allowed.
        payloads: `[n]`; for text a `str`, for other modalities a handle that opens as a stream.
        metadata: column name → `[n]` values, already of the declared type (or None).
        path: Path of the file that the items come from, relative to the source's root.
        locators: `[n]`, as in Reject; empty where `<path>#item=<ordinal>` says enough (line files on the hot path).
        rejects: Items between the first of this batch and the first of the next that have no payload.
        documents: int64 `[n]` or None: the number of the document an item is part of; None where every item is a
            document (then document = ordinal and the position within it is 0).
        document_positions: int64 `[n]` or None: the item's place within its document.
    """

    ordinals: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    keys: list[str]
    payloads: list[Any]
    metadata: dict[str, list[Any]] = field(default_factory=dict)
    path: str = ""
    locators: Sequence[str] = ()
    rejects: list[Reject] = field(default_factory=list)
    documents: npt.NDArray[np.int64] | None = None
    document_positions: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.payloads)

    def kept(self, kept: npt.NDArray[np.bool_]) -> ItemBatch:
        """Return the items where bool `[n]` is true, without the rejects."""
        chosen = np.flatnonzero(kept)
        return ItemBatch(
            self.ordinals[kept],
            self.ends[kept],
            self.sizes[kept],
            [self.keys[index] for index in chosen],
            [self.payloads[index] for index in chosen],
            {name: [values[index] for index in chosen] for name, values in self.metadata.items()},
            self.path,
            [self.locators[index] for index in chosen] if self.locators else (),
            [],
            None if self.documents is None else self.documents[kept],
            None if self.document_positions is None else self.document_positions[kept],
        )

    def slice(self, start: int, stop: int) -> ItemBatch:
        """Return items start … stop - 1 without the rejects (the caller deals those out by ordinal)."""
        part = slice(start, stop)
        return ItemBatch(
            self.ordinals[part],
            self.ends[part],
            self.sizes[part],
            self.keys[part],
            self.payloads[part],
            {name: values[part] for name, values in self.metadata.items()},
            self.path,
            self.locators[part],
            [],
            None if self.documents is None else self.documents[part],
            None if self.document_positions is None else self.document_positions[part],
        )


def joined(batches: Sequence[ItemBatch]) -> ItemBatch:
    """Return batches, at least one, one after another as one; all of them have locators, or none."""
    if len(batches) == 1:
        return batches[0]
    first = batches[0]
    paths = {batch.path for batch in batches}
    return ItemBatch(
        np.concatenate([batch.ordinals for batch in batches]),
        np.concatenate([batch.ends for batch in batches]),
        np.concatenate([batch.sizes for batch in batches]),
        [key for batch in batches for key in batch.keys],
        [payload for batch in batches for payload in batch.payloads],
        {name: [value for batch in batches for value in batch.metadata[name]] for name in first.metadata},
        first.path if len(paths) == 1 else "",
        [locator for batch in batches for locator in batch.locators],
        [reject for batch in batches for reject in batch.rejects],
        _joined_arrays([batch.documents for batch in batches]),
        _joined_arrays([batch.document_positions for batch in batches]),
    )


def _joined_arrays(arrays: Sequence[npt.NDArray[np.int64] | None]) -> npt.NDArray[np.int64] | None:
    present = [array for array in arrays if array is not None]
    return np.concatenate(present) if present else None
