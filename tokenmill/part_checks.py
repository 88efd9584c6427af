"""The check of one part: its shard, and by its receipt that every item has a row or a reject, exactly once.

Items whose keys were taken down have neither, and no row or reject may have such a key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from tokenmill import layout
from tokenmill.errors import CorruptionError, DatasetError, MissingFileError
from tokenmill.layout import ReceiptName
from tokenmill.manifests import ManifestTable, ShardTable
from tokenmill.plans import Plan
from tokenmill.receipts import FileReference, Receipt
from tokenmill.shard_checks import ListedShard, Problem, check_shard, explained, listed_shards
from tokenmill.sources.items import Cursor
from tokenmill.statistics.merge import MergedStatistics
from tokenmill.statistics.part import PartStatistics
from tokenmill.storage.outputs import Storage
from tokenmill.takedown_lists import Takedown

#: What receipts and the manifest's table of shards both say of a shard.
_NAMED = attrgetter("path", "sha256", "size_bytes", "rows", "tokens", "value_offsets")


@dataclass(frozen=True)
class Part:
    """What is checked at once: a shard, the receipt that names it, or both."""

    table: ManifestTable
    shard: ListedShard | None
    receipt: ReceiptName | None


@dataclass
class CheckedPart:
    """What the check of a part found.

    Attributes:
        part: What was checked.
        problems: What is wrong.
        receipt: The part's receipt; None where there is none, or it is damaged.
        statistics: The part's statistics, in the same manner.
        bytes: Bytes of its shard that were read.
        rows: Rows in its shard.
        digests: uint8 `[row * DIGEST_BYTES]`, those of its rows; None where they have none, or the shard is damaged.
    """

    part: Part
    problems: list[Problem] = field(default_factory=list)
    receipt: Receipt | None = None
    statistics: PartStatistics | None = None
    bytes: int = 0
    rows: int = 0
    digests: npt.NDArray[np.uint8] | None = None

    def problem(self, path: str, what: str, offset: int | None = None) -> None:
        """Take note of a problem."""
        self.problems.append(Problem(path, what, offset))


def paired(table: ManifestTable, listed: ShardTable, names: Sequence[ReceiptName]) -> Iterator[Part]:
    """Pair a table's shards with receipts, both in order of (split, part); either may be absent."""
    shards = listed_shards(listed)
    shard = next(shards, None)
    for name in names:
        while shard is not None and (shard.split, shard.part) < (name.split, name.part):
            yield Part(table, shard, None)
            shard = next(shards, None)
        if shard is not None and (shard.split, shard.part) == (name.split, name.part):
            yield Part(table, shard, name)
            shard = next(shards, None)
        else:
            yield Part(table, None, name)
    while shard is not None:
        yield Part(table, shard, None)
        shard = next(shards, None)


def check_part(storage: Storage, part: Part, heeded: int = 0, takedown: Takedown | None = None) -> CheckedPart:
    """Read everything that belongs to one part.

    Args:
        storage: The dataset's root.
        part: The part.
        heeded: Number of the takedown list that its generation heeds.
        takedown: The list whose keys no row and no reject may have; None: any.

    Raises:
        StorageError: where the storage fails.
    """
    result = CheckedPart(part)
    ordinals: npt.NDArray[np.int64] | None = np.empty(0, np.int64)
    if part.shard is not None:
        checked = check_shard(storage, part.table, part.shard)
        result.problems += checked.problems
        result.bytes, result.rows, ordinals = checked.bytes, checked.rows, checked.ordinals
        result.digests = checked.digests
        if takedown is not None and checked.opened is not None:
            keys = [checked.opened.key(row) for row in range(len(checked.opened))]
            _check_keys(part.shard.path, keys, takedown, result)
    if part.receipt is None:
        return result
    receipt = _read_receipt(storage, part.receipt, heeded, result)
    if receipt is None:
        return result
    path = layout.receipt(receipt.name)
    result.receipt = receipt
    _check_receipt(path, part, receipt, result)
    rejected = _rejected(storage, receipt, takedown, result)
    if ordinals is not None and rejected is not None:
        what = _unaccounted(receipt, ordinals, rejected)
        if what is not None:
            result.problem(path, what)
    result.statistics = _statistics(storage, receipt, result)
    return result


def _read_receipt(storage: Storage, name: ReceiptName, heeded: int, result: CheckedPart) -> Receipt | None:
    """Return the newest receipt of a part that a generation can have been published from; None where it is damaged.

    A takedown that was not carried through leaves newer ones.
    """
    while True:
        path = layout.receipt(name)
        try:
            receipt = Receipt.from_bytes(storage.read(path), path)
        except (MissingFileError, CorruptionError) as error:
            result.problem(path, explained(error))
            return None
        if receipt.name != name:
            result.problem(path, "is the receipt of another part")
        if receipt.takedown <= heeded or not name.attempt:
            return receipt
        name = replace(name, attempt=name.attempt - 1)


def _check_keys(path: str, keys: Sequence[str], takedown: Takedown, result: CheckedPart) -> None:
    """Check that none of the keys in a file was taken down."""
    found = int(takedown.taken(keys).sum())
    if found:
        result.problem(path, f"holds {found} keys that were taken down (list {takedown.number})")


def _statistics(storage: Storage, receipt: Receipt, result: CheckedPart) -> PartStatistics | None:
    """Return a part's statistics; None, and a problem, where they are not what its receipt says."""
    path = receipt.statistics.path
    try:
        found = PartStatistics.from_arrow_bytes(read_checked(storage, receipt.statistics, "its receipt"), path)
    except (MissingFileError, CorruptionError, DatasetError) as error:
        result.problem(path, explained(error))
        return None
    counted = (found.documents, found.rejected_items)
    if counted != (receipt.rows, receipt.rejected):
        said = (receipt.rows, receipt.rejected)
        result.problem(path, f"counts {counted} rows and rejects; its receipt says {said}")
    if found.specs != dict(result.part.table.streams):
        result.problem(path, "is of other streams than its table")
        return None
    return found


def _rejected(
    storage: Storage, receipt: Receipt, takedown: Takedown | None, result: CheckedPart
) -> npt.NDArray[np.int64] | None:
    """Return int64 `[reject]`, the ordinals of a part's rejects; None where they cannot be read."""
    if receipt.rejects is None:
        return np.empty(0, np.int64)
    try:
        lines = read_checked(storage, receipt.rejects, "its receipt").splitlines()
    except (MissingFileError, CorruptionError) as error:
        result.problem(receipt.rejects.path, explained(error))
        return None
    rejects = [json.loads(line) for line in lines]
    if takedown is not None:
        _check_keys(receipt.rejects.path, [reject["key"] for reject in rejects], takedown, result)
    return np.array([reject["ordinal"] for reject in rejects], np.int64)


class Accounts:
    """Whether a table's receipts, taken in order, cover every split of the plan from its start to its end.

    Attributes:
        splits: The splits of the table.
        statistics: Those of all parts, merged; None where some cannot be read.
        taken_down: Items left out of all parts because their keys were taken down.
    """

    def __init__(self, plan: Plan, table: ManifestTable) -> None:
        planned = plan.table(table.name)
        self.splits = [int(split) for split in plan.splits_of(planned)]
        self.statistics: MergedStatistics | None = MergedStatistics.start(table.streams)
        self.taken_down = 0
        self._sources = plan.splits.sources
        self._table = table.name
        self._waiting = iter(self.splits)
        self._split: int | None = next(self._waiting, None)
        self._cursor, self._part, self._final = Cursor(), 0, False

    def add(self, result: CheckedPart) -> list[Problem]:
        """Take the next part; returns what is wrong."""
        name = result.part.receipt
        if name is None:
            shard = result.part.shard
            self.statistics = None
            return [] if shard is None else [Problem(shard.path, "no receipt names this shard")]
        problems: list[Problem] = []
        while self._split is not None and self._split < name.split:
            problems += self._close_split()
        path = layout.receipt(name)
        receipt = result.receipt
        if receipt is None:  # a problem of its own; go on behind it
            self._part, self._cursor, self._final, self.statistics = name.part + 1, Cursor(-1), True, None
            return problems
        self.taken_down += receipt.taken_down
        if result.statistics is None:
            self.statistics = None
        elif self.statistics is not None:
            self.statistics.add(self._sources[name.split], result.statistics)
        if name.part != self._part:
            missing = layout.receipt(ReceiptName(self._table, name.split, self._part, 0))
            problems.append(Problem(missing, "there is no such file, and a later part of its split has a receipt"))
        elif self._cursor.ordinal >= 0 and (self._final or receipt.start != self._cursor):
            problems.append(Problem(path, "its part does not begin where the one before it ends"))
        self._part, self._cursor, self._final = name.part + 1, receipt.next, receipt.final
        return problems

    def close(self) -> list[Problem]:
        """Return what is missing behind the last part."""
        problems: list[Problem] = []
        while self._split is not None:
            problems += self._close_split()
        return problems

    def _close_split(self) -> list[Problem]:
        """Go on to the next split; what is left of this one is missing."""
        problems = []
        if not self._final:
            name = ReceiptName(self._table, self._split or 0, self._part, 0)
            problems.append(Problem(layout.receipt(name), "there is no such file, and its split is not complete"))
            self.statistics = None
        self._split = next(self._waiting, None)
        self._cursor, self._part, self._final = Cursor(), 0, False
        return problems


def _check_receipt(path: str, part: Part, receipt: Receipt, result: CheckedPart) -> None:
    """Check what a receipt says of itself, and that the manifest lists its shard."""
    if receipt.fingerprint != part.table.tokenizer.fingerprint:
        result.problem(path, "is of another tokenizer than its table")
    if receipt.items != receipt.next.ordinal - receipt.start.ordinal:
        result.problem(path, f"says {receipt.items} items from {receipt.start.ordinal} to {receipt.next.ordinal}")
    named = [_NAMED(shard) for shard in receipt.shards]
    listed = [] if part.shard is None else [_NAMED(part.shard)]
    if named != listed:
        result.problem(path, "names another shard than the manifest lists")


def _unaccounted(receipt: Receipt, rows: npt.NDArray[np.int64], rejected: npt.NDArray[np.int64]) -> str | None:
    """Say which item of a part does not have exactly one row or reject; None where all have."""
    first, last = receipt.start.ordinal, receipt.next.ordinal
    ordinals = np.concatenate([rows, rejected])
    outside = ordinals[(ordinals < first) | (ordinals >= last)]
    if len(outside):
        return f"item {outside[0]} has a row or reject; the part has items {first} … {last - 1}"
    counts = np.bincount(ordinals - first, minlength=last - first)
    accounted = int((counts == 0).sum()) == receipt.taken_down
    wrong = np.flatnonzero(counts > 1 if accounted else counts != 1)
    if not len(wrong):
        return None if accounted else f"says that {receipt.taken_down} items were taken down; all of them are here"
    how = "neither a row nor a reject" if counts[wrong[0]] == 0 else "more than one row or reject"
    but = f"; {receipt.taken_down} were taken down" if receipt.taken_down else ""
    return f"item {first + wrong[0]} of its split has {how} ({len(wrong)} such items{but})"


def read_checked(storage: Storage, file: FileReference, namer: str) -> bytes:
    """Read a small file that something names; raises CorruptionError where it is not the one."""
    data = storage.read(file.path)
    if len(data) != file.size_bytes or hashlib.sha256(data).hexdigest() != file.sha256:
        raise CorruptionError(f"does not match the checksum in {namer}", where=file.path)
    return data
