"""Cleaning: the files that killed or superseded attempts left behind, and how they are removed without harm.

Garbage are products (shards, statistics, rejects) that no receipt names, columnar files beside plans and manifests
that no plan or manifest names, temporary files, and multipart uploads that nobody will complete. What any receipt,
plan or manifest of any generation names is never garbage, nor is anything where that cannot be told: an unreadable
receipt keeps all products of its part, and an unreadable plan or manifest stops the cleaning.

Who asks for earlier generations to go makes garbage of their plans and manifests, of what only those name, and of what
only superseded receipts name: such as the shards that held keys before a takedown.

A run that goes on at the same time may make a file anew that an earlier one left, of the same name and content, and
only then name it. So nothing young is touched: an hour by default, a day while the newest plan is not published. And
`remove` looks again at each file's age and its part's receipts just before it deletes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from tokenmill import layout
from tokenmill.errors import ConfigurationError, CorruptionError, DatasetError, MissingFileError
from tokenmill.layout import ProductName, ReceiptName, parse_generation, parse_product
from tokenmill.manifests import Manifest, read_manifest, read_shard_table
from tokenmill.plans import newest_generation
from tokenmill.receipts import Receipt, list_receipts
from tokenmill.sealed import unseal
from tokenmill.storage.outputs import Entry, Storage, Upload
from tokenmill.takedown_lists import takedown_files

#: What is younger is never touched by default: somebody may be about to name it.
DEFAULT_AGE = timedelta(hours=1)
#: The same while the newest plan is not published, whatever is asked for: its run may be going on.
UNPUBLISHED_AGE = timedelta(days=1)

_SIDECAR = re.compile(
    r"^(?:plans/\d{6,}-[0-9a-f]{16}\.splits|manifests/\d{6,}-[^/]+-[0-9a-f]{16}\.(?:shards|statistics|duplicates)"
    r"|takedowns/\d{6,}-[0-9a-f]{16}\.(?:keys|parts))\.arrow$"
)


@dataclass(frozen=True)
class Garbage:
    """What can be removed.

    Attributes:
        older_than: Everything in it is older.
        generations_before: The oldest generation that stays, where earlier ones were asked to go; otherwise None.
        generations: Manifests and plans of the generations that go.
        orphans: Products that no receipt names; where generations go, none that the other generations need.
        sidecars: Columnar files that no plan, manifest or takedown list names.
        temporaries: Temporary files.
        uploads: Multipart uploads that were never completed.
        notes: What was left alone, and why.
    """

    older_than: timedelta
    generations_before: int | None
    generations: tuple[Entry, ...]
    orphans: tuple[Entry, ...]
    sidecars: tuple[Entry, ...]
    temporaries: tuple[Entry, ...]
    uploads: tuple[Upload, ...]
    notes: tuple[str, ...]

    @property
    def files(self) -> tuple[Entry, ...]:
        """All files in it."""
        return (*self.generations, *self.orphans, *self.sidecars, *self.temporaries)

    @property
    def size_bytes(self) -> int:
        """What its files take; the size of uploads is not known."""
        return sum(entry.size_bytes for entry in self.files)

    def __len__(self) -> int:
        return len(self.files) + len(self.uploads)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        kinds = (
            ("generation", self.generations),
            ("orphan", self.orphans),
            ("sidecar", self.sidecars),
            ("temporary", self.temporaries),
        )
        return {
            "older_than_seconds": int(self.older_than.total_seconds()),
            "generations_before": self.generations_before,
            "files": [
                {"path": e.path, "kind": kind, "size_bytes": e.size_bytes, "modified": e.modified.isoformat()}
                for kind, entries in kinds
                for e in entries
            ],
            "uploads": [
                {"path": u.path, "upload_id": u.upload_id, "initiated": u.initiated.isoformat()} for u in self.uploads
            ],
            "size_bytes": self.size_bytes,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Removed:
    """What was removed: files, their bytes, and uploads; `kept` became young or was named since it was found."""

    files: int
    size_bytes: int
    uploads: int
    kept: int


def find_garbage(
    storage: Storage, older_than: timedelta = DEFAULT_AGE, *, generations_before: int | None = None
) -> Garbage:
    """Find what can be removed; removes nothing.

    Costs listings, and the receipts of parts that have more files than one attempt leaves. A part with one receipt
    and at most one shard and one statistics file, but no rejects, is taken to be what its receipt says.

    Args:
        storage: The dataset's root.
        older_than: Leave alone what is younger; at least a day while the newest plan is not published.
        generations_before: Have the generations below this number go, and what was superseded.

    Raises:
        ConfigurationError: where that would take the newest published generation, which is the dataset.
        DatasetError: where there is no plan and no manifest, so that nothing says that this is a dataset.
        CorruptionError: where a plan or manifest is damaged, so that what it names is not known.
    """
    newest_plan, newest_manifest = newest_generation(storage, "plans"), newest_generation(storage, "manifests")
    if newest_plan is None and newest_manifest is None:
        raise DatasetError("holds no dataset", where=storage.uri, fix="check the uri")
    if newest_plan is not None and (newest_manifest is None or newest_manifest < newest_plan):
        older_than = max(older_than, UNPUBLISHED_AGE)
    if generations_before is not None and generations_before > (newest_manifest or 0):
        raise ConfigurationError(
            f"the newest published generation is {newest_manifest or 'none'}: it would go with those before "
            f"{generations_before}",
            where=storage.uri,
            fix="give the number of the oldest generation to keep",
        )
    return _Search(storage, older_than, generations_before).run()


def remove(storage: Storage, garbage: Garbage) -> Removed:
    """Remove what was found, but for files that were written again or came to be named meanwhile."""
    limit = datetime.now(UTC) - garbage.older_than
    products = {entry.path: part for entry in garbage.orphans if (part := parse_product(entry.path)) is not None}
    attempts = {table: _attempts(storage, table) for table in {part.table for part in products.values()}}
    going = frozenset(entry.path for entry in garbage.generations)
    asked = garbage.generations_before is not None
    references = _References.read(storage, going) if asked or garbage.sidecars else None
    named = _Named(storage, attempts, references.heeded if references and asked else None)
    sidecars = references.sidecars if references else frozenset()
    removed = size_bytes = 0
    # One after another: between a file's last check and its deletion lie milliseconds, not the time of a batch.
    for entry in garbage.files:
        now = storage.stat(entry.path)
        if now is None or now.modified > limit or now.version != entry.version or entry.path in sidecars:
            continue
        if entry.path in products and named.keeps(entry.path, products[entry.path]):
            continue
        storage.delete([entry.path])
        removed += 1
        size_bytes += entry.size_bytes
    for upload in garbage.uploads:
        storage.abort_upload(upload)
    return Removed(removed, size_bytes, len(garbage.uploads), len(garbage.files) - removed)


@dataclass(frozen=True)
class _References:
    """What takedown lists, and plans and manifests of all generations that stay, name."""

    tables: frozenset[str]
    sidecars: frozenset[str]
    manifests: tuple[Manifest, ...]

    @classmethod
    def read(cls, storage: Storage, going: Collection[str] = ()) -> _References:
        """Read them all, but for plans and manifests that go; raises CorruptionError where one is damaged."""
        tables: set[str] = set()
        sidecars: set[str] = set()
        for path in _numbered(storage, "takedowns"):
            sidecars.update(takedown_files(storage, parse_generation(path) or 0))
        for path in _numbered(storage, "plans", going):
            plan = unseal(storage.read(path), path)
            tables.update(table["name"] for table in plan["tables"])
            sidecars.add(plan["splits"]["path"])
        manifests = tuple(
            read_manifest(storage, parse_generation(path)) for path in _numbered(storage, "manifests", going)
        )
        for manifest in manifests:
            tables.update(manifest.tables)
            for table in manifest.tables.values():
                named = (table.shards, table.statistics, table.duplicates)
                sidecars.update(file["path"] for file in named if file is not None)
        return cls(frozenset(tables), frozenset(sidecars), manifests)

    @property
    def heeded(self) -> frozenset[int]:
        """The takedown lists that the manifests heed; 0 for none."""
        return frozenset(manifest.takedown for manifest in self.manifests)

    def shards_among(self, storage: Storage, paths: Collection[str]) -> set[str]:
        """Return those of some paths that manifests list as shards."""
        import pyarrow.compute as pc  # a tenth of a second, which a run that only probes need not pay

        wanted = pa.array(sorted(paths), pa.string())
        found: set[str] = set()
        for manifest in self.manifests if paths else ():
            for table in manifest.tables.values():
                listed = read_shard_table(storage, table).table["path"]
                found.update(listed.filter(pc.is_in(listed, value_set=wanted)).to_pylist())
        return found


class _Search:
    """One search: what is listed first can only be named by receipts that are listed after it."""

    def __init__(self, storage: Storage, older_than: timedelta, generations_before: int | None) -> None:
        self._storage = storage
        self._older_than = older_than
        self._generations_before = generations_before
        self._limit = datetime.now(UTC) - older_than
        self._notes: list[str] = []
        self._heeded: frozenset[int] | None = None

    def run(self) -> Garbage:
        storage = self._storage
        sidecars = [*storage.list("plans/"), *storage.list("manifests/"), *storage.list("takedowns/")]
        generations = self._going(sidecars)
        references = _References.read(storage, {entry.path for entry in generations})
        self._heeded = None if self._generations_before is None else references.heeded
        rejects = self._products(storage.list("rejects/"))
        published = {name for manifest in references.manifests for name in manifest.tables}
        orphans: list[Entry] = []
        for table in sorted(references.tables):
            orphans += self._orphans(table, rejects, table in published)
        listed = references.shards_among(storage, {entry.path for entry in orphans})
        return Garbage(
            older_than=self._older_than,
            generations_before=self._generations_before,
            generations=generations,
            orphans=tuple(entry for entry in orphans if entry.path not in listed),
            sidecars=tuple(
                entry
                for entry in sidecars
                if entry.modified < self._limit and _SIDECAR.match(entry.path) and entry.path not in references.sidecars
            ),
            temporaries=tuple(storage.stale_temporaries(self._older_than)),
            # Uploads are listed by prefix: other datasets, and strangers, may lie below it.
            uploads=tuple(
                upload
                for upload in storage.stale_uploads(self._older_than)
                if parse_product(upload.path) is not None or _SIDECAR.match(upload.path)
            ),
            notes=tuple(self._notes),
        )

    def _going(self, entries: Iterable[Entry]) -> tuple[Entry, ...]:
        """Return the manifests, and then the plans, of generations that go: those with nothing young."""
        files: dict[int, list[Entry]] = {}
        for entry in entries:
            number = None if entry.path.startswith("takedowns/") else parse_generation(entry.path)
            if number is not None and number < (self._generations_before or 0):
                files.setdefault(number, []).append(entry)
        old = [made for made in files.values() if all(entry.modified < self._limit for entry in made)]
        return tuple(sorted((entry for made in old for entry in made), key=lambda entry: entry.path))

    def _products(self, entries: Iterable[Entry]) -> dict[ProductName, list[Entry]]:
        """Return the products among some files, by part."""
        found: dict[ProductName, list[Entry]] = {}
        for entry in entries:
            if (part := parse_product(entry.path)) is not None:
                found.setdefault(part, []).append(entry)
        return found

    def _orphans(self, table: str, rejects: Mapping[ProductName, list[Entry]], published: bool) -> list[Entry]:
        storage = self._storage
        shards = self._products(storage.list(f"{table}/shards/"))
        statistics = self._products(storage.list(f"{table}/statistics/"))
        attempts = _attempts(storage, table)
        if published and not attempts:
            self._notes.append(f"table {table!r} has no receipts (a copy without them?): nothing of it is removed")
            return []
        named = _Named(storage, {table: attempts}, self._heeded)
        orphans: list[Entry] = []
        rejecting = {part for part in rejects if part.table == table}
        for part in sorted(shards.keys() | statistics.keys() | rejecting):
            made = [shards.get(part, []), statistics.get(part, []), rejects.get(part, [])]
            plain = len(made[0]) <= 1 and len(made[1]) <= 1 and not made[2] and len(attempts.get(part, ())) == 1
            if not plain:
                old = [entry for entries in made for entry in entries if entry.modified < self._limit]
                orphans += [entry for entry in old if not named.keeps(entry.path, part)]
        self._notes += named.notes
        return orphans


class _Named:
    """What receipts name, part after part; of a part with a damaged receipt everything is kept.

    Superseded receipts count where `heeded` is None. Otherwise a generation needs the newest receipt of each part that
    was made under its takedown list or an earlier one, and `heeded` are the lists of all generations that stay.
    """

    def __init__(
        self,
        storage: Storage,
        attempts: Mapping[str, Mapping[ProductName, set[int]]],
        heeded: frozenset[int] | None,
    ) -> None:
        self._storage = storage
        self._attempts = attempts
        self._heeded = heeded
        self._part: ProductName | None = None
        self._paths: set[str] | None = None
        self.notes: list[str] = []

    def keeps(self, path: str, part: ProductName) -> bool:
        """Say whether a product must stay; asked for the files of one part after another, receipts are read once."""
        if part != self._part:
            self._part, self._paths = part, self._read(part)
        return self._paths is None or path in self._paths

    def _read(self, part: ProductName) -> set[str] | None:
        """Return what attempts at a part name: those that were listed, and those made since."""
        listed = self._attempts[part.table].get(part, set())
        receipts: list[Receipt] = []
        attempt = 0
        while True:
            path = layout.receipt(ReceiptName(part.table, part.split, part.part, attempt))
            try:
                receipts.append(Receipt.from_bytes(self._storage.read(path), path))
            except MissingFileError:
                if attempt > max(listed, default=-1):
                    return {file.path for receipt in self._needed(receipts) for file in receipt.files}
            except CorruptionError:
                self.notes.append(f"{path} is damaged: everything of its part is kept")
                return None
            attempt += 1

    def _needed(self, receipts: Sequence[Receipt]) -> Sequence[Receipt]:
        """Return those of a part's receipts, oldest first, whose files must stay."""
        if self._heeded is None:
            return receipts
        needed = list(receipts[-1:])
        for number in self._heeded:
            needed += [receipt for receipt in receipts if receipt.takedown <= number][-1:]
        return needed


def _attempts(storage: Storage, table: str) -> dict[ProductName, set[int]]:
    """Return the attempts at every part of a table that has a receipt."""
    found: dict[ProductName, set[int]] = {}
    for name in list_receipts(storage, table):
        found.setdefault(ProductName(name.table, name.split, name.part), set()).add(name.attempt)
    return found


def _numbered(storage: Storage, directory: str, going: Collection[str] = ()) -> list[str]:
    paths = (entry.path for entry in storage.list(f"{directory}/"))
    return sorted(path for path in paths if parse_generation(path) is not None and path not in going)
