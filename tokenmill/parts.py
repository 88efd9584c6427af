"""The part loop: read a split once, tokenize it for several tables, and publish it part by part.

This is the work that a pipeline's workers do; it knows storage, sources, encoders and shards, but no Beam. Parts end
at an item's boundary after `part_bytes` of items (of a recording that was cut, after its last item), the same for all
tables, whatever was done before: so that a shard's bytes depend neither on the number of workers nor on where an
earlier run broke off.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tokenmill import layout
from tokenmill.contract import Encoded, Failure
from tokenmill.devices import table_environment
from tokenmill.encoders import loaded_encoder
from tokenmill.encoding_ahead import EncodingAhead, preparation_threads, without_failed
from tokenmill.errors import CorruptionError
from tokenmill.layout import ReceiptName
from tokenmill.part_files import create_receipt, put_rejects, put_shard, put_statistics
from tokenmill.plans import Plan, PlannedTable
from tokenmill.receipts import Receipt, ShardReference, file_intact, latest_receipt
from tokenmill.rejects import RejectLines
from tokenmill.shards import ShardHeader, ShardRows
from tokenmill.sources.items import Cursor, ItemBatch, Reject
from tokenmill.sources.limits import ReadLimits
from tokenmill.sources.reading import open_split
from tokenmill.statistics.part import PartStatistics
from tokenmill.storage.outputs import Storage
from tokenmill.stream_buffers import GrowingStream

#: What a row takes beside its payload: it counts towards `part_bytes`, so that tiny documents fill parts too.
ROW_BYTES = 64


@dataclass(frozen=True)
class SplitReport:
    """What a worker did with one split: parts made and parts found intact, and what they hold, over its tables."""

    split: int
    made: int
    kept: int
    rows: int
    tokens: int
    input_bytes: int
    rejected: int
    seconds: float


def process_split(
    storage: Storage,
    plan: Plan,
    split: int,
    tables: Sequence[str],
    *,
    on_part: Callable[[Receipt], None] | None = None,
) -> SplitReport:
    """Bring every part of a split to a valid receipt in every given table, keeping those that have one.

    Args:
        storage: The dataset's root.
        plan: The generation's plan.
        split: Number of the split.
        tables: Names of tables that cover the split's source and share a reading of it.
        on_part: Called with each receipt, made or kept.

    Raises:
        StorageError: where writing fails. What was published before stays; running again goes on from there.
    """
    started = time.perf_counter()
    work = _SplitWork(storage, plan, split, [plan.table(name) for name in tables])
    made = kept = rows = tokens = input_bytes = rejected = 0
    cursor, part, final = Cursor(), 0, False
    with ExitStack() as stack:
        reading: _Reading | None = None
        while not final:
            found = {table.name: work.intact_receipt(table, part, cursor) for table in work.tables}
            missing = [table for table in work.tables if found[table.name] is None]
            receipts = [receipt for receipt in found.values() if receipt is not None]
            kept += len(receipts)
            if missing:
                if reading is None or reading.cursor != cursor:
                    stack.close()  # what is open stands before parts that were found intact
                    reading = stack.enter_context(_Reading(work, cursor))
                new = work.make_part(reading, part, cursor, missing)
                made += len(new)
                receipts += new
            for receipt in receipts:
                rows += receipt.rows
                tokens += receipt.tokens
                rejected += receipt.rejected
                input_bytes += receipt.input_bytes
                if on_part is not None:
                    on_part(receipt)
            cursor, final = _agreed(receipts)
            part += 1
    return SplitReport(split, made, kept, rows, tokens, input_bytes, rejected, time.perf_counter() - started)


def _agreed(receipts: Sequence[Receipt]) -> tuple[Cursor, bool]:
    """Return where the next part starts and whether there is none; all tables must say the same."""
    ends = {(receipt.next, receipt.final) for receipt in receipts}
    if len(ends) > 1:
        raise CorruptionError(
            f"the tables' receipts disagree on where part {receipts[0].name.part} of split {receipts[0].name.split} "
            f"ends: {sorted((end.ordinal, final) for end, final in ends)}",
            fix="an input may have changed unnoticed; give the job a new output",
        )
    return ends.pop()


class _Reading:
    """An open reading of a split: batches in order, cut at part boundaries, with what was read too far pushed back."""

    def __init__(self, work: _SplitWork, start: Cursor) -> None:
        self.cursor = start
        self._reader = open_split(
            work.plan.source(work.split.source), work.plan.roots[work.split.source], work.split, work.limits
        )
        self._batches: Iterator[ItemBatch] = self._reader.batches(start)
        self._waiting: ItemBatch | None = None

    def __enter__(self) -> _Reading:
        return self

    def __exit__(self, *exception: object) -> None:
        self._reader.close()

    def part(self, part_bytes: int) -> Iterator[tuple[ItemBatch, list[Reject]]]:
        """Yield the items and rejects of one part; afterwards `cursor` is where the next one starts."""
        room = part_bytes
        resumable = True
        while (room > 0 or not resumable) and self._fill():
            batch = self._waiting
            assert batch is not None
            filled = np.cumsum(batch.sizes + ROW_BYTES)
            ending = np.flatnonzero((filled >= room) & (batch.ends >= 0))
            count = int(ending[0]) + 1 if len(ending) else len(batch)
            if not len(ending):
                self._waiting = None
                items, rejects = batch, batch.rejects
            else:
                last = int(batch.ordinals[count - 1])
                items = batch.slice(0, count)
                rejects = [reject for reject in batch.rejects if reject.ordinal <= last]
                rest = batch.slice(count, len(batch))
                rest.rejects = [reject for reject in batch.rejects if reject.ordinal > last]
                self._waiting = rest if len(rest) or rest.rejects else None
            if count:
                room -= int(filled[count - 1])
                resumable = bool(batch.ends[count - 1] >= 0)
            self._advance(items, rejects)
            yield items, rejects

    def _advance(self, items: ItemBatch, rejects: Sequence[Reject]) -> None:
        ordinals = [int(items.ordinals[-1])] if len(items) else []
        ordinals += [reject.ordinal for reject in rejects]
        position = int(items.ends[-1]) if len(items) else self.cursor.position
        self.cursor = Cursor(max(ordinals, default=self.cursor.ordinal - 1) + 1, position)

    @property
    def exhausted(self) -> bool:
        """Whether nothing, neither item nor reject, is left."""
        return not self._fill()

    def _fill(self) -> bool:
        while self._waiting is None:
            batch = next(self._batches, None)
            if batch is None:
                return False
            if len(batch) or batch.rejects:
                self._waiting = batch
        return True


class _SplitWork:
    """What all parts of one split share."""

    def __init__(self, storage: Storage, plan: Plan, split: int, tables: Sequence[PlannedTable]) -> None:
        self.storage = storage
        self.plan = plan
        self.number = split
        self.split = plan.splits[split]
        self.tables = tables
        self.limits = ReadLimits.of(plan.job.limits)
        self.part_bytes = int(plan.job.splitting.part_bytes)
        self._attempts: dict[tuple[str, int], int] = {}

    def intact_receipt(self, table: PlannedTable, part: int, start: Cursor) -> Receipt | None:
        """Return the part's receipt if it and all files that it names are as they were written."""
        latest = latest_receipt(self.storage, table.name, self.number, part)
        if latest is None:
            return None
        self._attempts[table.name, part] = latest.attempt + 1
        receipt = latest.receipt
        if receipt is None or receipt.start != start or receipt.fingerprint != table.tokenizer.fingerprint:
            return None
        if not self.plan.settles(receipt):
            return None
        local = self.storage.local_path(layout.plan(self.plan.generation)) is not None
        if all(file_intact(self.storage, file, rehash=local) for file in receipt.files):
            return receipt
        return None

    def make_part(self, reading: _Reading, part: int, start: Cursor, tables: Sequence[PlannedTable]) -> list[Receipt]:
        """Tokenize and publish one part for the tables that lack it."""
        started = time.perf_counter()
        with ExitStack() as stack:
            builders = [stack.enter_context(_PartBuilder(self, table, part)) for table in tables]
            taken_down = 0
            for batch, rejects in reading.part(self.part_bytes):
                if self.plan.takedown is not None:
                    batch, rejects, count = self.plan.takedown.without(batch, rejects)
                    taken_down += count
                for builder in builders:
                    builder.add(batch, rejects)
            final = reading.exhausted
            return [
                self._claim(builder.publish(start, reading.cursor, final, taken_down, started)) for builder in builders
            ]

    def _claim(self, receipt: Receipt) -> Receipt:
        """Create the receipt exclusively; where another run was first, its receipt is the one."""
        attempt = self._attempts.get((receipt.name.table, receipt.name.part), 0)
        return create_receipt(self.storage, receipt, attempt, self.plan.settles)


class _PartBuilder:
    """Collects the rows of one part of one table, then publishes shard, statistics, rejects and receipt."""

    def __init__(self, work: _SplitWork, table: PlannedTable, part: int) -> None:
        self._work = work
        self._table = table
        self._part = part
        self._specs = table.tokenizer.streams
        encoder = loaded_encoder(table.tokenizer, table.device)
        self._encoding = EncodingAhead(encoder, self._specs, preparation_threads(work.plan.job.runner.workers))
        self._columns = work.plan.metadata_columns(table)
        self._ordinals: list[npt.NDArray[np.int64]] = []
        self._sizes: list[npt.NDArray[np.int64]] = []
        self._documents: list[npt.NDArray[np.int64]] = []
        self._positions: list[npt.NDArray[np.int32]] = []
        self._keys: list[str] = []
        self._metadata: dict[str, list[Any]] = {name: [] for name in self._columns}
        self._streams = {name: GrowingStream(spec) for name, spec in self._specs.items()}
        self._rejects = RejectLines(table.name, work.number, work.split.source)
        self._held_rejects: deque[Reject] = deque()
        self._statistics = PartStatistics.start(self._specs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._encoding.close()
        self._rejects.close()
        for stream in self._streams.values():
            stream.release()

    def add(self, batch: ItemBatch, rejects: Sequence[Reject]) -> None:
        """Take a batch to be tokenized, and the rejects among and after its items."""
        self._held_rejects.extend(rejects)
        if len(batch):
            for items, encoded in self._encoding.add(batch):
                self._keep(items, encoded)
        if self._encoding.idle:
            self._reject(self._held_rejects)
            self._held_rejects.clear()

    def _keep(self, items: ItemBatch, encoded: Encoded) -> None:
        """Keep the rows of encoded items; write down the rejects up to the last of them."""
        rejects = [self._failed(items, failure) for failure in encoded.failures]
        last = int(items.ordinals[-1])
        while self._held_rejects and self._held_rejects[0].ordinal <= last:
            rejects.append(self._held_rejects.popleft())
        self._reject(rejects)
        rows = without_failed(items, encoded.failures)
        ordinals, positions = rows.ordinals, rows.document_positions
        self._ordinals.append(ordinals)
        self._sizes.append(rows.sizes)
        self._documents.append(ordinals if rows.documents is None else rows.documents)
        self._positions.append(np.zeros(len(rows), np.int32) if positions is None else positions.astype(np.int32))
        self._keys += rows.keys
        for name, values in self._metadata.items():
            values.extend(rows.metadata.get(name) or [None] * len(rows))
        for name, stream in self._streams.items():
            stream.extend(encoded.streams[name])

    def publish(self, start: Cursor, stop: Cursor, final: bool, taken_down: int, started: float) -> Receipt:
        """Store what the part left and return its receipt, not yet created."""
        for items, encoded in self._encoding.finish():
            self._keep(items, encoded)
        self._reject(self._held_rejects)
        work, table = self._work, self._table
        part = ReceiptName(table.name, work.number, self._part, 0)
        rows = ShardRows(
            _concatenate(self._ordinals, np.int64),
            _concatenate(self._documents, np.int64),
            _concatenate(self._positions, np.int32),
            self._keys,
            self._metadata,
            {name: stream.jagged() for name, stream in self._streams.items()},
        )
        # Once for the part: a batch at a time costs more.
        self._statistics.add_rows(_concatenate(self._sizes, np.int64), rows.streams)
        shards: tuple[ShardReference, ...] = ()
        extra: dict[str, bytes] = {}
        if len(rows):
            shard, extra = put_shard(work.storage, self._header(), rows)
            shards = (shard,)
        statistics = put_statistics(work.storage, part, self._statistics.to_arrow_bytes(extra))
        rejects = None
        if self._rejects.lost_items:
            rejects = put_rejects(work.storage, part, self._rejects.content(), self._rejects.sha256)
        return Receipt(
            name=part,
            fingerprint=table.tokenizer.fingerprint,
            start=start,
            next=stop,
            final=final,
            shards=shards,
            statistics=statistics,
            rejects=rejects,
            items=stop.ordinal - start.ordinal,
            rejected=self._rejects.lost_items,
            input_bytes=self._statistics.input_bytes,
            environment=table_environment(table.device, table.tokenizer),
            seconds=round(time.perf_counter() - started, 3),
            attempt_id=uuid.uuid4().hex,
            takedown=work.plan.takedown_number,
            taken_down=taken_down,
        )

    def _header(self) -> ShardHeader:
        table = self._table
        return ShardHeader(
            table=table.name,
            split=self._work.number,
            part=self._part,
            streams=self._specs,
            metadata=self._columns,
            tokenizer=table.tokenizer.identity,
            fingerprint=table.tokenizer.fingerprint,
        )

    def _reject(self, rejects: Collection[Reject]) -> None:
        self._rejects.add(rejects)
        self._statistics.add_rejects(rejects)

    def _failed(self, batch: ItemBatch, failure: Failure) -> Reject:
        ordinal = int(batch.ordinals[failure.index])
        locator = batch.locators[failure.index] if batch.locators else f"{batch.path}#item={ordinal}"
        return Reject(
            ordinal,
            batch.keys[failure.index],
            locator,
            failure.reason,
            failure.message,
            lost_seconds=failure.lost_seconds,
        )


def _concatenate(arrays: Sequence[npt.NDArray[Any]], dtype: Any) -> npt.NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.empty(0, dtype)
