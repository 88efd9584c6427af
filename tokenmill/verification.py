"""Verification: whether every byte of a published dataset is the one that was published, and every item accounted for.

Checked are the seals of manifests and plans, the checksums of shard tables, statistics and lists of duplicates, each
shard's blocks, sha256 and contents, by the receipts that of each part rows and rejects are exactly its items, and that
in the newest generation the duplicates are those that the rows' digests tell, and no key was taken down.

A dataset may be copied without what readers do not need. A directory that is absent as a whole (`plans/`, or a
table's `receipts/`) is a note: its checks are left out. A single file absent from a directory is a problem.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, TypeVar

from tokenmill import layout
from tokenmill.canonical import digest
from tokenmill.duplicates import DigestCollector, Duplicates, has_digests
from tokenmill.errors import CorruptionError, DatasetError, MissingFileError
from tokenmill.layout import parse_generation
from tokenmill.manifests import Manifest, ManifestTable, ShardTable, read_duplicates, read_manifest, read_shard_table
from tokenmill.part_checks import Accounts, CheckedPart, Part, check_part, paired, read_checked
from tokenmill.plans import Plan, read_plan
from tokenmill.receipts import FileReference, list_receipts, newest_names
from tokenmill.shard_checks import Problem, explained, listed_shards
from tokenmill.statistics.merge import MergedStatistics
from tokenmill.storage.outputs import Storage
from tokenmill.takedown_lists import Takedown, read_takedown

#: Each reads one shard at a time: its small columns and one block of it are in memory.
THREADS = 4
_AHEAD = 2 * THREADS

_Work = TypeVar("_Work")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class VerificationProgress:
    """How far a verification is: shards and bytes read, of how many bytes."""

    shards: int
    bytes: int
    total_bytes: int


@dataclass
class VerificationReport:
    """What was found.

    Attributes:
        uri: The dataset.
        generation: The newest generation that can be read; None where none can.
        problems: Everything that is wrong, in the order it was found.
        notes: What could not be checked because it was not copied along.
        shards: Shards that were read.
        bytes: Bytes of shards that were read.
        rows: Rows in them.
        receipts: Receipts that were read.
    """

    uri: str
    generation: int | None = None
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    shards: int = 0
    bytes: int = 0
    rows: int = 0
    receipts: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {"ok": self.ok, **asdict(self)}


def verify(
    storage: Storage | str, *, on_progress: Callable[[VerificationProgress], None] | None = None
) -> VerificationReport:
    """Verify a published dataset, every generation of it.

    Args:
        storage: The dataset's root, or its uri.
        on_progress: Called after every shard.

    Raises:
        DatasetError: where nothing is published.
        StorageError: where the storage does not let files be read; a file that is missing is a problem instead.
    """
    opened = Storage.open(storage) if isinstance(storage, str) else storage
    return _Verification(opened, on_progress or (lambda _: None)).run()


class _Verification:
    """One verification: what is common to its steps."""

    def __init__(self, storage: Storage, on_progress: Callable[[VerificationProgress], None]) -> None:
        self._storage = storage
        self._on_progress = on_progress
        self._report = VerificationReport(storage.uri)
        self._total_bytes = 0

    def run(self) -> VerificationReport:
        takedown = self._takedown()
        plans = self._plans()
        manifests = self._manifests()
        if not manifests:
            return self._report
        self._note_takedowns(takedown, manifests)
        self._report.generation = manifests[0].generation
        self._total_bytes = sum(table.size_bytes for table in manifests[0].tables.values())
        seen: set[str] = set()
        with ThreadPoolExecutor(THREADS, "verify") as pool:
            for manifest in manifests:
                for table in manifest.tables.values():
                    shards, statistics = self._sidecars(manifest, table)
                    duplicates = self._duplicates(table)
                    if shards is None:
                        continue
                    if manifest is manifests[0]:
                        check = partial(check_part, self._storage, heeded=manifest.takedown, takedown=takedown)
                        self._table(pool, check, plans.get(manifest.generation), table, shards, statistics, duplicates)
                    else:
                        self._older_shards(pool, table, shards, seen)
                    if len(manifests) > 1:
                        seen.update(shards.table["path"].to_pylist())
        return self._report

    def _problem(self, path: str, what: str, offset: int | None = None) -> None:
        self._report.problems.append(Problem(path, what, offset))

    def _attempt(self, path: str, read: Callable[[], _Result]) -> _Result | None:
        """Read something; None, and a problem, where it is missing or not what was written."""
        try:
            return read()
        except (MissingFileError, CorruptionError, DatasetError) as error:
            problem = Problem((error.where or path).removeprefix(f"{self._storage.uri}/"), explained(error))
            if problem not in self._report.problems:  # plans name the same takedown list
                self._report.problems.append(problem)
            return None

    def _takedown(self) -> Takedown | None:
        """Check all takedown lists; returns the newest that can be read."""
        newest = None
        for number in self._generations("takedowns"):
            found = self._attempt(layout.takedown(number), partial(read_takedown, self._storage, number))
            newest = found or newest
        return newest

    def _note_takedowns(self, takedown: Takedown | None, manifests: list[Manifest]) -> None:
        """Note what cannot be checked for want of a takedown list, and which generations do not heed the newest."""
        if takedown is None:
            if manifests[0].takedown and not self._generations("takedowns"):
                self._report.notes.append("takedowns/ is absent: that no row has a key taken down is not checked")
            return
        unheeded = [manifest.generation for manifest in manifests if manifest.takedown < takedown.number]
        if manifests[0].generation in unheeded:
            self._report.notes.append(
                f"takedown {takedown.number} is recorded and not carried out: `tokenmill takedown` with its keys, or a "
                "run of the job, does it"
            )
        elif unheeded:
            shown = ", ".join(map(str, sorted(unheeded)))
            self._report.notes.append(
                f"earlier generations ({shown}) may hold keys that were taken down: `tokenmill clean "
                f"--generations-before {manifests[0].generation}` lists what can be removed"
            )

    def _plans(self) -> dict[int, Plan]:
        plans = {}
        for generation in self._generations("plans"):
            plan = self._attempt(layout.plan(generation), partial(read_plan, self._storage, generation))
            if plan is not None:
                plans[generation] = plan
        return plans

    def _manifests(self) -> list[Manifest]:
        """Return the manifests that can be read, newest first."""
        generations = self._generations("manifests")
        if not generations:
            read_manifest(self._storage)  # raises, saying what is there instead
        manifests = []
        plans = self._generations("plans")
        for generation in sorted(generations, reverse=True):
            path = layout.manifest(generation)
            manifest = self._attempt(path, partial(read_manifest, self._storage, generation))
            if manifest is None:
                continue
            manifests.append(manifest)
            if manifest.fingerprint != digest({name: table.fingerprint for name, table in manifest.tables.items()}):
                self._problem(path, "the dataset's fingerprint is not that of its tables")
            for name, table in manifest.tables.items():
                if table.tokenizer.fingerprint != digest(table.tokenizer.identity):
                    self._problem(path, f"the tokenizer's fingerprint in table {name!r} is not that of its identity")
            if plans and generation not in plans:
                self._problem(manifest.plan, "there is no such file")
        if not plans:
            self._report.notes.append("plans/ is absent: that receipts cover every split is not checked")
        return manifests

    def _generations(self, directory: str) -> list[int]:
        found = (parse_generation(entry.path) for entry in self._storage.list(f"{directory}/"))
        return sorted(number for number in found if number is not None)

    def _sidecars(self, manifest: Manifest, table: ManifestTable) -> tuple[ShardTable | None, MergedStatistics | None]:
        """Check a table's two columnar files, and what the manifest says of them; None for one that is damaged."""
        path = table.shards["path"]
        shards = self._attempt(path, partial(read_shard_table, self._storage, table))
        statistics = self._attempt(table.statistics["path"], partial(self._merged, table))
        if statistics is not None:
            counts = statistics.overall()
            said = (table.rows, table.rejected, dict(table.tokens))
            found = (counts.documents, counts.rejected_items, {n: s.tokens for n, s in counts.streams.items()})
            if said != found:
                what = f"counts {found} rows, rejects and tokens; the manifest says {said}"
                self._problem(table.statistics["path"], what)
        if shards is not None:
            tokens = {name: int(shards.column(f"tokens.{name}").sum()) for name in table.streams}
            sums = (len(shards), int(shards.column("rows").sum()), int(shards.column("size_bytes").sum()), tokens)
            says = (table.shards["count"], table.rows, table.size_bytes, dict(table.tokens))
            if sums != says:
                self._problem(path, f"lists {sums} shards, rows, bytes and tokens; the manifest says {says}")
            shas = shards.table["sha256"].to_pylist()
            if table.fingerprint != digest({"tokenizer": table.tokenizer.fingerprint, "shards": shas}):
                where = layout.manifest(manifest.generation)
                self._problem(where, f"the fingerprint of table {table.name!r} is not that of its shards")
        return shards, statistics

    def _duplicates(self, table: ManifestTable) -> Duplicates | None:
        """Check a table's list of duplicates by itself; None where it has none, or it is damaged."""
        if table.duplicates is None:
            return None
        path = table.duplicates["path"]
        duplicates = self._attempt(path, partial(read_duplicates, self._storage, table))
        if duplicates is not None and len(duplicates) != table.duplicates["count"]:
            self._problem(path, f"lists {len(duplicates)} rows; the manifest says {table.duplicates['count']}")
        return duplicates

    def _merged(self, table: ManifestTable) -> MergedStatistics:
        file = FileReference(**{name: table.statistics[name] for name in ("path", "sha256", "size_bytes")})
        return MergedStatistics.from_arrow_bytes(read_checked(self._storage, file, "its manifest"), file.path)

    def _older_shards(self, pool: ThreadPoolExecutor, table: ManifestTable, listed: ShardTable, seen: set[str]) -> None:
        """Check the shards that no newer generation lists: readers may still open theirs."""
        parts = (Part(table, shard, None) for shard in listed_shards(listed) if shard.path not in seen)
        for result in _in_order(pool, partial(check_part, self._storage), parts):
            self._take(result)

    def _table(
        self,
        pool: ThreadPoolExecutor,
        check: Callable[[Part], CheckedPart],
        plan: Plan | None,
        table: ManifestTable,
        listed: ShardTable,
        statistics: MergedStatistics | None,
        duplicates: Duplicates | None,
    ) -> None:
        """Check a table of the newest generation: its shards, its duplicates, and every item by its receipts."""
        names = newest_names(list(list_receipts(self._storage, table.name)))
        accounts = None
        if not names:
            self._report.notes.append(
                f"{table.name}/receipts/ is absent: that every item of the table is accounted for is not checked"
            )
        # An unfinished run of the next generation leaves receipts of splits that this one does not have.
        elif plan is not None:
            accounts = Accounts(plan, table)
            covered = set(accounts.splits)
            names = [name for name in names if name.split in covered]
        else:
            last = int(listed.column("split").max(initial=-1))
            names = [name for name in names if name.split <= last]
        digests = None
        if duplicates is not None and has_digests(table.streams):
            digests = DigestCollector(int(listed.column("rows").sum()))
        for result in _in_order(pool, check, paired(table, listed, names)):
            self._take(result)
            if digests is not None and result.part.shard is not None:
                digests.add(result.digests, result.part.shard.rows, result.part.shard.path)
            if accounts is not None:
                self._report.problems += accounts.add(result)
        if accounts is not None:
            self._report.problems += accounts.close()
            if None not in (statistics, accounts.statistics) and statistics != accounts.statistics:
                self._problem(table.statistics["path"], "is not what the statistics of all parts merge to")
            if accounts.statistics is not None and accounts.taken_down != table.taken_down:
                what = f"{accounts.taken_down} items were taken down; the manifest says {table.taken_down}"
                self._problem(table.shards["path"], what)
        if digests is not None and table.duplicates is not None:
            found = digests.find()
            if found is not None and found != duplicates:
                what = f"is not what the digests of the rows tell: {len(found)} repeat an earlier one"
                self._problem(table.duplicates["path"], what)

    def _take(self, result: CheckedPart) -> None:
        report = self._report
        report.problems += result.problems
        report.receipts += result.receipt is not None
        if result.part.shard is not None:
            report.shards += 1
            report.bytes += result.bytes
            report.rows += result.rows
            self._on_progress(VerificationProgress(report.shards, report.bytes, self._total_bytes))


def _in_order(pool: ThreadPoolExecutor, check: Callable[[_Work], _Result], work: Iterable[_Work]) -> Iterator[_Result]:
    """Run checks on threads and yield their results in order, a bounded number of them ahead."""
    pending: deque[Future[_Result]] = deque()
    try:
        for one in work:
            pending.append(pool.submit(check, one))
            if len(pending) == _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
