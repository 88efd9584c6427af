"""Takedowns: from a list of keys to a new generation in which no row has one of them.

1. The published generation is searched for the keys, and the list is created exclusively, under the next number. From
   then on every plan heeds it, so that nothing brings the keys back, whatever becomes of this process.
2. Every part that may hold one of them is written anew from its own rows (`part_rewriting`).
3. A generation is planned over the same splits, and published. The other shards are in it as they are.

Each step finds what an earlier attempt, or another process, has done of it. Earlier generations are left to `cleaning`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np

from tokenmill.errors import ConfigurationError, CorruptionError, DatasetError, MissingFileError, RunError
from tokenmill.layout import parse_generation
from tokenmill.manifests import Manifest, ManifestTable, read_manifest, read_shard_table
from tokenmill.part_rewriting import rewrite_part
from tokenmill.plans import Plan, newest_generation, read_plan, write_plan
from tokenmill.publication import publish, read_receipts
from tokenmill.receipts import Receipt, list_receipts, newest_names
from tokenmill.storage.inputs import open_input
from tokenmill.storage.outputs import Storage
from tokenmill.takedown_lists import Takedown, key_digests, newest_number, newest_takedown, write_takedown
from tokenmill.takedown_search import Found, search

#: Parts that are written anew at once; each takes a few times its size of memory.
_WRITERS = 4
_SHOWN_KEYS = 10


@dataclass(frozen=True)
class TakenFromTable:
    """What was taken from one table: items (rows and rejects), and shards that held such rows."""

    items: int
    shards: int


@dataclass(frozen=True)
class TakedownReport:
    """What a takedown did, or would do.

    Attributes:
        uri: The dataset.
        takedown: Number of the list that holds the keys; in a dry run, of the one that would.
        generation: The newest published generation, without the keys; None where nothing is published, or in a dry run.
        published: Whether this call published it.
        keys: Different keys that were given.
        new_keys: Those that no list had before.
        unmatched_keys: Of the new keys, those that no row and no reject has.
        unmatched: The first few of these.
        tables: Name → what was, or would be, taken from the table.
        dry_run: Whether this call only looked.
        notes: What operators should know.
    """

    uri: str
    takedown: int
    generation: int | None
    published: bool
    keys: int
    new_keys: int
    unmatched_keys: int
    unmatched: tuple[str, ...]
    tables: Mapping[str, TakenFromTable]
    dry_run: bool
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)


def read_keys(uri: str) -> list[str]:
    """Read keys, one a line, from a text file anywhere that inputs can be; empty lines are passed over.

    Raises:
        InputError: where the file is missing or cannot be read.
        ConfigurationError: where it is not UTF-8.
    """
    with open_input(uri) as file:
        data = file.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"line {line} of the keys is not UTF-8", where=uri, fix="save it as UTF-8") from error
    # Not splitlines(): that breaks at characters, too, which a key may have.
    return [key for line in text.split("\n") if (key := line.removesuffix("\r"))]


def take_down(
    storage: Storage,
    keys: Iterable[str],
    *,
    dry_run: bool = False,
    on_progress: Callable[[str], None] | None = None,
) -> TakedownReport:
    """Take keys down: record them for good, and publish a generation in which no row has one of them.

    Calling it again, after a crash or from two processes at once, gives the same dataset. Keys that were taken down
    before are no error, nor are keys that no row has: they will not come in later.

    Args:
        storage: The dataset's root.
        keys: The keys.
        dry_run: Only look; nothing is written.
        on_progress: Called with a line for each step.

    Raises:
        ConfigurationError: where no key is given.
        DatasetError: where there is no plan, so no dataset, or a copy without what writing to it needs.
        CorruptionError: where a file that must be searched or written anew is missing or damaged.
        RunError: where a part of the published generation has lost its receipt.
    """
    given = list(dict.fromkeys(keys))
    if not given:
        raise ConfigurationError("the list of keys is empty", fix="give at least one key; a file has one a line")
    if newest_generation(storage, "plans") is None:
        raise DatasetError("holds no dataset, or a copy of one without its plans", where=storage.uri)
    return _TakingDown(storage, given, dry_run, on_progress or (lambda _: None)).run()


@dataclass(frozen=True)
class _Look:
    """What was found before a list is made: the list, and what it takes."""

    takedown: Takedown
    found: Found
    new_keys: Sequence[str]

    def unmatched(self) -> list[str]:
        """Return the new keys that were not found."""
        digests = key_digests(self.takedown.salt, self.new_keys).tolist()
        return [key for key, digest in zip(self.new_keys, digests, strict=True) if digest not in self.found.digests]


class _TakingDown:
    """One call: what is common to its steps."""

    def __init__(self, storage: Storage, keys: Sequence[str], dry_run: bool, say: Callable[[str], None]) -> None:
        self._storage = storage
        self._keys = keys
        self._dry_run = dry_run
        self._say = say
        self._first: _Look | None = None
        self._estimated = 0

    def run(self) -> TakedownReport:
        storage = self._storage
        before = _published(storage)
        while True:
            known, manifest = newest_takedown(storage), _published(storage)
            plan = None if manifest is None else read_plan(storage, manifest.generation)
            look = self._look(known, manifest, plan)
            self._first = self._first or look
            if self._dry_run:
                return self._report(look.takedown if look else known, before, manifest)
            if look is not None:
                self._say(f"recording takedown list {look.takedown.number}")
                write_takedown(storage, look.takedown)
                continue  # whether this list or another's came first: see what is to be done now
            assert known is not None
            if manifest is not None and manifest.takedown == known.number:
                return self._report(known, before, manifest)
            self._rewrite(known)
            if plan is None:
                return self._report(known, before, manifest)
            self._publish(known, plan)

    def _look(self, known: Takedown | None, manifest: Manifest | None, plan: Plan | None) -> _Look | None:
        """Search for the keys; None where the newest list has all of them (in a dry run: and is carried out)."""
        salt = secrets.token_bytes(16) if known is None else known.salt
        digests = key_digests(salt, self._keys)
        new = np.ones(len(digests), np.bool_) if known is None else ~known.holds(digests)
        if known is not None and not new.any():
            carried_out = manifest is None or manifest.takedown == known.number
            if carried_out or not self._dry_run:
                return None
        wanted = Takedown(
            number=1 if known is None else known.number + 1,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            salt=salt,
            digests=np.unique(digests if known is None else np.concatenate([known.digests, digests])),
            splits=0 if plan is None else plan.reach,
            tables={} if plan is None else {table.name: table.sources for table in plan.tables},
            parts={} if known is None else known.parts,
        )
        found = Found()
        if manifest is not None and plan is not None:
            self._say(f"searching generation {manifest.generation}")
            found = search(self._storage, manifest, plan, wanted, known)
        wanted = replace(wanted, parts={**wanted.parts, **found.parts})
        return _Look(wanted, found, [key for key, is_new in zip(self._keys, new, strict=True) if is_new])

    def _rewrite(self, takedown: Takedown) -> None:
        """Bring every part that may hold a key to a receipt that heeds the list."""
        newest = newest_generation(self._storage, "plans")
        assert newest is not None
        plan = replace(read_plan(self._storage, newest), takedown=takedown)
        for table in plan.tables:
            receipts = self._unsettled(plan, takedown, table.name)
            if receipts:
                self._say(f"table {table.name}: writing {len(receipts)} parts anew")
            with ThreadPoolExecutor(_WRITERS) as pool:
                self._estimated += sum(pool.map(partial(self._rewrite_one, plan, takedown), receipts))

    def _rewrite_one(self, plan: Plan, takedown: Takedown, receipt: Receipt) -> bool:
        """Write one part anew; says whether its statistics had to be estimated."""
        name = receipt.name
        try:
            return not rewrite_part(self._storage, plan, receipt).exact
        except (CorruptionError, MissingFileError):
            if takedown.searched(name.table, name.split, plan.splits.sources[name.split]):
                raise
            return False  # of an unfinished run, which makes damaged parts anew, and heeds the list by then

    def _unsettled(self, plan: Plan, takedown: Takedown, table: str) -> list[Receipt]:
        """Return the newest receipts of a table's parts that may name a key: found by the list, or never searched."""
        sources = plan.splits.sources
        names = [
            name
            for name in newest_names(list(list_receipts(self._storage, table)))
            if name.split < len(sources)
            and not takedown.settles((table, name.split, name.part), sources[name.split], made_under=0)
        ]
        receipts = read_receipts(self._storage, names)
        return [receipt for receipt in receipts if receipt is not None and not plan.settles(receipt)]

    def _publish(self, takedown: Takedown, published: Plan) -> None:
        """Plan a generation over the splits and tables that are published, and publish it."""
        plan = self._plan(takedown, published)
        try:
            # What may be rejected was decided when these items were published.
            publish(self._storage, plan, max_rejected_fraction=1.0, on_progress=self._say)
        except RunError:
            if newest_number(self._storage) == takedown.number:
                raise  # otherwise another takedown came in between, which includes this one

    def _plan(self, takedown: Takedown, published: Plan) -> Plan:
        storage = self._storage
        while True:
            number = newest_generation(storage, "plans")
            assert number is not None
            newest = read_plan(storage, number)
            tables = {table.name: table for table in published.tables}
            plan = replace(
                newest,
                generation=number + 1,
                tables=tuple(
                    replace(table, sources=tables[table.name].sources)
                    for table in newest.tables
                    if table.name in tables
                ),
                takedown=takedown,
                withheld_from=published.reach if published.reach < len(newest.splits) else None,
            )
            if _covers(newest) == _covers(plan):
                return newest
            self._say(f"planning generation {plan.generation}")
            if write_plan(storage, plan):
                return read_plan(storage, plan.generation)

    def _report(self, takedown: Takedown | None, before: Manifest | None, now: Manifest | None) -> TakedownReport:
        first = self._first
        unmatched = first.unmatched() if first else []
        return TakedownReport(
            uri=self._storage.uri,
            takedown=takedown.number if takedown else 0,
            generation=now.generation if now else None,
            published=now is not None and before is not None and now.generation != before.generation,
            keys=len(self._keys),
            new_keys=len(first.new_keys) if first else 0,
            unmatched_keys=len(unmatched),
            unmatched=tuple(unmatched[:_SHOWN_KEYS]),
            tables=self._taken(before, now),
            dry_run=self._dry_run,
            notes=tuple(self._notes(before, now)),
        )

    def _taken(self, before: Manifest | None, now: Manifest | None) -> dict[str, TakenFromTable]:
        if before is None or now is None:
            return {}
        if self._dry_run:
            found = self._first.found if self._first else Found()
            return {name: TakenFromTable(found.items[name], found.shards[name]) for name in before.tables}
        taken = {}
        for name, table in before.tables.items():
            later = now.tables[name]
            gone = set[str]()
            if later.shards != table.shards:
                gone = _paths(self._storage, table) - _paths(self._storage, later)
            taken[name] = TakenFromTable(later.taken_down - table.taken_down, len(gone))
        return taken

    def _notes(self, before: Manifest | None, now: Manifest | None) -> Iterator[str]:
        storage = self._storage
        if now is None:
            yield "nothing is published yet: the next run of the job leaves these keys out"
        if self._dry_run or now is None or before is None or now.generation == before.generation:
            return
        listed = (parse_generation(entry.path) for entry in storage.list("manifests/"))
        earlier = sorted(number for number in listed if number is not None and number < now.generation)
        remove = f"tokenmill clean {storage.uri} --generations-before {now.generation}"
        shown = ", ".join(map(str, earlier))
        yield f"earlier generations ({shown}) still hold what was taken down: `{remove}` lists what can be removed"
        if read_plan(storage, now.generation).withheld_from is not None:
            yield "what an unfinished run was adding is left out of this generation: run the job to add it"
        if self._estimated:
            yield (
                f"in {self._estimated} parts the statistics of input bytes are estimates: the tokenizer cannot give "
                "the texts back, and the source is not there as it was"
            )
        if not storage.supports_exclusive_create():
            yield "this storage ignores exclusive creation: run nothing else on this dataset at the same time"


def _published(storage: Storage) -> Manifest | None:
    """Return the newest manifest; None where nothing is published."""
    return None if newest_generation(storage, "manifests") is None else read_manifest(storage)


def _covers(plan: Plan) -> tuple[Any, ...]:
    """Return what a plan covers and leaves out, in a form that can be compared."""
    return (plan.takedown_number, plan.reach, [(table.name, table.sources) for table in plan.tables])


def _paths(storage: Storage, table: ManifestTable) -> set[str]:
    return set(read_shard_table(storage, table).table["path"].to_pylist())
