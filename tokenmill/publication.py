"""Publication: when every part of a plan has its receipt, list the shards, merge the statistics, write the manifest.

Nothing is visible to readers before the manifest, and the manifest is created exclusively. Publishing twice, or from
two runs at once, gives one manifest.
"""

from __future__ import annotations

import datetime
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata as distribution
from typing import Any

import numpy as np

from tokenmill import layout
from tokenmill.canonical import digest
from tokenmill.duplicates import DigestCollector, Duplicates, has_digests
from tokenmill.errors import CorruptionError, RejectedFractionError, RunError
from tokenmill.layout import ReceiptName
from tokenmill.manifests import Manifest, ManifestTable, ShardTable, read_manifest
from tokenmill.plans import Plan, PlannedTable
from tokenmill.receipts import Receipt, list_receipts, newest_names
from tokenmill.registry import parse_tokenizer
from tokenmill.sealed import seal
from tokenmill.sources.items import Cursor
from tokenmill.statistics.arrow import decode
from tokenmill.statistics.merge import MergedStatistics
from tokenmill.statistics.part import PartStatistics
from tokenmill.statistics.summary import summarize
from tokenmill.storage.outputs import Storage
from tokenmill.takedown_lists import newest_number

_READERS = 16
_SHOWN_REASONS = 5


@dataclass(frozen=True)
class TableParts:
    """The receipts of a table in reading order, complete."""

    table: PlannedTable
    receipts: Sequence[Receipt]

    @property
    def items(self) -> int:
        """Items: rows, what was rejected or lost, and what was taken down."""
        return sum(receipt.rows + receipt.rejected + receipt.taken_down for receipt in self.receipts)

    @property
    def rejected(self) -> int:
        """Items rejected or lost."""
        return sum(receipt.rejected for receipt in self.receipts)

    @property
    def taken_down(self) -> int:
        """Items left out because their keys were taken down."""
        return sum(receipt.taken_down for receipt in self.receipts)


def read_receipts(storage: Storage, names: Sequence[ReceiptName]) -> Iterator[Receipt | None]:
    """Read receipts on threads, in the order of their names; None for one that is not what was written."""

    def read(name: ReceiptName) -> Receipt | None:
        path = layout.receipt(name)
        try:
            return Receipt.from_bytes(storage.read(path), path)
        except CorruptionError:
            return None

    with ThreadPoolExecutor(_READERS) as pool:
        yield from pool.map(read, names)


def complete_parts(storage: Storage, plan: Plan, table: PlannedTable) -> TableParts:
    """Return the receipts of every part of a table; raises RunError naming the first split that is not complete."""
    names = newest_names(list(list_receipts(storage, table.name)))
    by_split: dict[int, list[Receipt | None]] = {}
    for name, receipt in zip(names, read_receipts(storage, names), strict=True):
        by_split.setdefault(name.split, []).append(receipt)
    complete: list[Receipt] = []
    for split in plan.splits_of(table):
        settled = (receipt if receipt and plan.settles(receipt) else None for receipt in by_split.get(int(split), []))
        complete += _chain(table, int(split), list(settled))
    return TableParts(table, complete)


def _chain(table: PlannedTable, split: int, receipts: Sequence[Receipt | None]) -> list[Receipt]:
    """Check that receipts cover a split from its start to its end, each part beginning where the last one ended."""
    cursor, final, chain = Cursor(), False, []
    for part, receipt in enumerate(receipts):
        if receipt is None or receipt.name.part != part or receipt.start != cursor or final:
            break
        chain.append(receipt)
        cursor, final = receipt.next, receipt.final
    if not final:
        raise RunError(
            f"split {split} of table {table.name!r} is not complete: part {len(chain)} has no valid receipt",
            fix="run the job again; it goes on from the parts that are there",
        )
    return chain


def check_rejected(storage: Storage, plan: Plan, parts: Sequence[TableParts], max_rejected_fraction: float) -> None:
    """Raise RejectedFractionError if a table lost more of its items than the job allows, naming the reasons."""
    for table in parts:
        if table.items and table.rejected / table.items > max_rejected_fraction:
            first = next((receipt.rejects.path for receipt in table.receipts if receipt.rejects), "rejects/")
            raise RejectedFractionError(
                f"table {table.table.name!r}: {table.rejected} of {table.items} items were rejected "
                f"({table.rejected / table.items:.2%}; the job allows {max_rejected_fraction:.2%}): "
                f"{_commonest_reasons(storage, table.receipts)}",
                where=plan.job.output,
                fix=f"see which and why in {first} and its like; mend the input and write to a new output, or raise "
                "limits.max_rejected_fraction and run again",
            )


def _commonest_reasons(storage: Storage, receipts: Sequence[Receipt]) -> str:
    """Return the reasons for which items were rejected, commonest first."""
    counts: Counter[str] = Counter()
    with_rejects = [receipt for receipt in receipts if receipt.rejected]
    for statistics, _ in _statistics_files(storage, with_rejects):
        counts.update({reason: rejected.items for reason, rejected in statistics.rejected.items()})
    shown = [f"{reason} {count}" for reason, count in counts.most_common(_SHOWN_REASONS)]
    rest = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {rest} other reasons" if rest else "")


def publish(
    storage: Storage,
    plan: Plan,
    *,
    max_rejected_fraction: float,
    on_progress: Callable[[str], None] | None = None,
) -> Manifest:
    """Publish a plan whose parts are all done; returns the manifest, an earlier one if it was published before.

    Memory: the merged statistics of a table, and where its rows have digests about 30 bytes a row (`duplicates`).

    Raises:
        RunError: a part is missing, or keys were taken down since the plan was made.
        RejectedFractionError: too many items were rejected.
        CorruptionError: an earlier manifest of this generation holds other shards.
    """
    say = on_progress or (lambda _: None)
    say("reading receipts")
    parts = [complete_parts(storage, plan, table) for table in plan.tables]
    check_rejected(storage, plan, parts, max_rejected_fraction)
    tables = {}
    for table in parts:
        say(f"merging statistics of {table.table.name}")
        tables[table.table.name] = _publish_table(storage, plan, table)
    manifest = Manifest(
        generation=plan.generation,
        job=plan.job.name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        fingerprint=digest({name: table.fingerprint for name, table in tables.items()}),
        tables=tables,
        plan=layout.plan(plan.generation),
        tokenmill=distribution.version("tokenmill"),
        takedown=plan.takedown_number,
    )
    storage.flush()  # what the manifest names must outlast a power failure before the manifest exists
    _check_takedown(storage, plan)
    if storage.create(layout.manifest(plan.generation), seal(manifest.to_json())):
        return manifest
    published = read_manifest(storage, plan.generation)
    if published.fingerprint != manifest.fingerprint:
        raise CorruptionError(
            f"is published with other shards (dataset fingerprint {published.fingerprint[:16]}…, these parts give "
            f"{manifest.fingerprint[:16]}…)",
            where=f"{storage.uri}/{layout.manifest(plan.generation)}",
            fix="`tokenmill verify` tells which shards differ; restore them, or give the job a new output",
        )
    return published


def _check_takedown(storage: Storage, plan: Plan) -> None:
    """Raise RunError where keys were taken down after a plan was made: its parts may hold them."""
    newest = newest_number(storage)
    if newest > plan.takedown_number:
        raise RunError(
            f"keys were taken down (list {newest}) since generation {plan.generation} was planned, so it is not "
            "published",
            where=storage.uri,
            fix="run the job again: it plans a generation without them, and keeps the parts that they do not concern",
        )


def _publish_table(storage: Storage, plan: Plan, parts: TableParts) -> ManifestTable:
    table = parts.table
    merged = MergedStatistics.start(table.tokenizer.streams)
    rows: list[dict[str, Any]] = []
    digests = None
    if has_digests(table.tokenizer.streams):
        digests = DigestCollector(sum(receipt.rows for receipt in parts.receipts))
    files = _statistics_files(storage, parts.receipts)
    for receipt, (statistics, extra) in zip(parts.receipts, files, strict=True):
        merged.add(plan.splits.sources[receipt.name.split], statistics)
        if digests is not None:
            kept = np.frombuffer(extra["digests"], np.uint8) if "digests" in extra else None
            digests.add(kept, receipt.rows, receipt.statistics.path)
        for shard in receipt.shards:
            row = {
                "split": receipt.name.split,
                "part": receipt.name.part,
                "path": shard.path,
                "sha256": shard.sha256,
                "size_bytes": shard.size_bytes,
                "rows": shard.rows,
                "blocks": extra.get("blocks", b""),
            }
            for stream in table.tokenizer.streams:
                row[f"tokens.{stream}"] = (shard.tokens or {})[stream]
                row[f"value_offset.{stream}"] = (shard.value_offsets or {})[stream]
            rows.append(row)
    shards = ShardTable.from_rows(rows, list(table.tokenizer.streams))
    tokenizer = parse_tokenizer(table.tokenizer.config)
    summary = summarize(merged, tokenizer.token_classes(), tokenizer.token_text)
    return ManifestTable(
        name=table.name,
        tokenizer=table.tokenizer,
        sources=table.sources,
        metadata=plan.metadata_columns(table),
        fingerprint=digest({"tokenizer": table.tokenizer.fingerprint, "shards": [row["sha256"] for row in rows]}),
        rows=int(np.sum(shards.column("rows"))),
        tokens={name: int(np.sum(shards.column(f"tokens.{name}"))) for name in table.tokenizer.streams},
        size_bytes=int(np.sum(shards.column("size_bytes"))),
        shards=_put(storage, plan.generation, table.name, layout.manifest_shards, shards.to_bytes(), len(rows)),
        statistics=_put(
            storage,
            plan.generation,
            table.name,
            layout.manifest_statistics,
            merged.to_arrow_bytes(),
            len(parts.receipts),
        ),
        rejected=parts.rejected,
        summary=summary,
        taken_down=parts.taken_down,
        duplicates=None if digests is None else _put_duplicates(storage, plan.generation, table.name, digests.find()),
    )


def _put_duplicates(
    storage: Storage, generation: int, table: str, duplicates: Duplicates | None
) -> Mapping[str, Any] | None:
    if duplicates is None:
        return None
    data = duplicates.to_bytes()
    return _put(storage, generation, table, layout.manifest_duplicates, data, len(duplicates))


_StatisticsFile = tuple[PartStatistics, Mapping[str, bytes]]


def _statistics_files(storage: Storage, receipts: Sequence[Receipt]) -> Iterator[_StatisticsFile]:
    """Read parts' statistics, and what else these files keep, on threads, in order, a bounded number ahead."""

    def read(receipt: Receipt) -> _StatisticsFile:
        file = receipt.statistics
        data = storage.read(file.path)
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise CorruptionError(
                "does not match the checksum in its receipt", where=file.path, fix="run the job again to make it anew"
            )
        decoded = decode(data, file.path)
        return PartStatistics.from_decoded(decoded, file.path), decoded.extra

    with ThreadPoolExecutor(_READERS) as pool:
        for start in range(0, len(receipts), _READERS):
            yield from pool.map(read, receipts[start : start + _READERS])


def _put(
    storage: Storage,
    generation: int,
    table: str,
    name: Callable[[int, str, str], str],
    data: bytes,
    count: int,
) -> Mapping[str, Any]:
    sha256 = hashlib.sha256(data).hexdigest()
    path = name(generation, table, sha256)
    storage.put(path, [data])
    return {"path": path, "sha256": sha256, "size_bytes": len(data), "count": count}
