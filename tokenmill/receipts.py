"""Receipts: the small sealed files that say which parts are done, and what each part left behind.

A receipt is created exclusively: the first attempt at a part wins. A receipt whose shard turns out bad is superseded
by one with the next attempt number. Receipts are what progress, resume and publication are counted from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from tokenmill import layout
from tokenmill.errors import CorruptionError, MissingFileError
from tokenmill.layout import ReceiptName
from tokenmill.sealed import seal, unseal
from tokenmill.sources.items import Cursor
from tokenmill.storage.outputs import Storage

#: Receipts of parts that were made when nothing was taken down are of format 1: they lack the last two members.
FORMAT = 2


@dataclass(frozen=True)
class FileReference:
    """A file that a receipt names: its path in the dataset, checksum, size and (object storage) version."""

    path: str
    sha256: str
    size_bytes: int
    version: str | None = None


@dataclass(frozen=True)
class ShardReference(FileReference):
    """A shard that a receipt names, with its number of rows, and per stream its values and where they begin."""

    rows: int = 0
    tokens: Mapping[str, int] | None = None
    value_offsets: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Receipt:
    """What one attempt at one part did.

    Attributes:
        name: Table, split, part and attempt.
        fingerprint: Of the tokenizer.
        start: Where the part starts in its split.
        next: Where the next part starts.
        final: Whether the split ends with this part.
        shards: One shard, or none where no item has a row.
        statistics: The part's statistics file.
        rejects: The part's rejected items, or None where there are none.
        items: Items seen, rejected ones included.
        rejected: Items rejected, and items estimated lost in torn files.
        input_bytes: Payload bytes of the rows.
        environment: Versions and device kind (`environment.describe_environment`).
        seconds: Wall time that the part took.
        attempt_id: A random id, which tells attempts apart.
        takedown: Number of the takedown list that was heeded; 0: none.
        taken_down: Items left out because their keys are on the list: they have neither row nor reject.
    """

    name: ReceiptName
    fingerprint: str
    start: Cursor
    next: Cursor
    final: bool
    shards: tuple[ShardReference, ...]
    statistics: FileReference
    rejects: FileReference | None
    items: int
    rejected: int
    input_bytes: int
    environment: Mapping[str, str]
    seconds: float
    attempt_id: str
    takedown: int = 0
    taken_down: int = 0

    @property
    def rows(self) -> int:
        """Rows in all shards of the part."""
        return sum(shard.rows for shard in self.shards)

    @property
    def tokens(self) -> int:
        """Values in the part's first stream."""
        return sum(next(iter((shard.tokens or {}).values()), 0) for shard in self.shards)

    @property
    def files(self) -> tuple[FileReference, ...]:
        """All files that the receipt names."""
        return (*self.shards, self.statistics, *((self.rejects,) if self.rejects else ()))

    def to_bytes(self) -> bytes:
        """Return the sealed file."""
        value = {"format": FORMAT, **asdict(self)}
        if not self.takedown:
            value["format"] = 1
            del value["takedown"], value["taken_down"]
        return seal(value)

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Receipt:
        """Read a sealed file; raises CorruptionError."""
        value = unseal(data, where)
        if value.pop("format") > FORMAT:
            raise CorruptionError("was written by a newer tokenmill", where=where, fix="install a newer tokenmill")
        return cls(
            **{
                **value,
                "name": ReceiptName(**value["name"]),
                "start": Cursor(**value["start"]),
                "next": Cursor(**value["next"]),
                "shards": tuple(ShardReference(**shard) for shard in value["shards"]),
                "statistics": FileReference(**value["statistics"]),
                "rejects": FileReference(**value["rejects"]) if value["rejects"] else None,
            }
        )


@dataclass(frozen=True)
class LatestReceipt:
    """The newest attempt at a part: its number, and the receipt, or None where the file is not what was written."""

    attempt: int
    receipt: Receipt | None


def latest_receipt(storage: Storage, table: str, split: int, part: int) -> LatestReceipt | None:
    """Find the newest attempt at a part by asking for one name after another; None where there is none.

    No listing: a split's worker costs the storage one request a part, however many receipts there are.
    """
    found: LatestReceipt | None = None
    attempt = 0
    while True:
        path = layout.receipt(ReceiptName(table, split, part, attempt))
        try:
            data = storage.read(path)
        except MissingFileError:
            return found
        try:
            found = LatestReceipt(attempt, Receipt.from_bytes(data, path))
        except CorruptionError:
            found = LatestReceipt(attempt, None)
        attempt += 1


def newest_names(names: Sequence[ReceiptName]) -> list[ReceiptName]:
    """Return the newest attempt at each part, in order of (table, split, part)."""
    newest: dict[tuple[str, int, int], ReceiptName] = {}
    for name in names:
        place = (name.table, name.split, name.part)
        if place not in newest or newest[place].attempt < name.attempt:
            newest[place] = name
    return [newest[place] for place in sorted(newest)]


def list_receipts(storage: Storage, table: str) -> Iterator[ReceiptName]:
    """List the receipts of a table, in no order."""
    for entry in storage.list(f"{table}/receipts/"):
        name = layout.parse_receipt(entry.path)
        if name is not None:
            yield name


def file_intact(storage: Storage, file: FileReference, *, rehash: bool) -> bool:
    """Say whether a file is there as its receipt says: by size and version, or (local) by its checksum."""
    entry = storage.stat(file.path)
    if entry is None or entry.size_bytes != file.size_bytes:
        return False
    if rehash:
        return sha256_of(storage, file.path) == file.sha256
    return file.version is None or entry.version == file.version


def sha256_of(storage: Storage, path: str) -> str:
    """Return the sha256 of a stored file, read in bounded pieces."""
    hasher = hashlib.sha256()
    with storage.open_file(path) as file:
        while piece := file.read(1 << 22):
            hasher.update(piece)
    return hasher.hexdigest()
