"""Writing one part anew without the rows and rejects whose keys were taken down, from the files that it has.

Nothing is tokenized: kept rows are copied, and since a shard's bytes depend on its rows alone, the new shard is the one
that the part loop would make of the source. What holds none of the keys stays the file that it is.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.errors import CorruptionError
from tokenmill.part_checks import read_checked
from tokenmill.part_files import create_receipt, put_rejects, put_shard, put_statistics
from tokenmill.plans import Plan
from tokenmill.receipts import FileReference, Receipt, ShardReference
from tokenmill.row_sizes import row_sizes
from tokenmill.shard_files import OpenShard, open_bytes
from tokenmill.shards import ShardRows
from tokenmill.statistics.arrow import decode
from tokenmill.statistics.part import PartStatistics, RejectCounts
from tokenmill.statistics.sound import microseconds
from tokenmill.storage.outputs import Storage
from tokenmill.streams import Jagged
from tokenmill.takedown_lists import Takedown


@dataclass(frozen=True)
class Rewritten:
    """A part without what was taken down.

    Attributes:
        receipt: Its receipt.
        exact: Whether its statistics of input bytes are exact, or estimated (`row_sizes`).
    """

    receipt: Receipt
    exact: bool


def rewrite_part(storage: Storage, plan: Plan, receipt: Receipt) -> Rewritten:
    """Bring a part to a receipt that heeds the plan's takedown list, under the next attempt number.

    Args:
        storage: The dataset's root.
        plan: A plan with a takedown list that has the part's split and table.
        receipt: The newest receipt of the part.

    Raises:
        CorruptionError: where a file of the part is missing or not what was written.
    """
    assert plan.takedown is not None
    return _Rewriting(storage, plan, plan.takedown, receipt).run()


class _Rewriting:
    """The rewriting of one part."""

    def __init__(self, storage: Storage, plan: Plan, takedown: Takedown, receipt: Receipt) -> None:
        self._storage = storage
        self._plan = plan
        self._takedown = takedown
        self._receipt = receipt
        self._exact = True
        self._started = time.perf_counter()
        path = receipt.statistics.path
        decoded = decode(read_checked(storage, receipt.statistics, "its receipt"), path)
        self._statistics = PartStatistics.from_decoded(decoded, path)
        self._extra = decoded.extra

    def run(self) -> Rewritten:
        receipt, storage, name = self._receipt, self._storage, self._receipt.name
        shards, rows_gone = self._without_rows()
        rejects, rejects_gone = self._without_rejects()
        statistics = receipt.statistics
        if rows_gone or rejects_gone:
            statistics = put_statistics(storage, name, self._statistics.to_arrow_bytes(self._extra))
        mine = replace(
            receipt,
            shards=shards,
            statistics=statistics,
            rejects=rejects,
            rejected=self._statistics.rejected_items,
            input_bytes=self._statistics.input_bytes,
            seconds=round(time.perf_counter() - self._started, 3),
            attempt_id=uuid.uuid4().hex,
            takedown=self._takedown.number,
            taken_down=receipt.taken_down + rows_gone + rejects_gone,
        )
        return Rewritten(create_receipt(storage, mine, name.attempt + 1, self._plan.settles), self._exact)

    def _without_rows(self) -> tuple[tuple[ShardReference, ...], int]:
        """Return the part's shards without the rows that go, and how many those are; statistics are made to fit."""
        if not self._receipt.shards:
            return (), 0
        (reference,) = self._receipt.shards
        shard = self._open(reference)
        taken = self._takedown.taken([shard.key(row) for row in range(len(shard))])
        if not taken.any():
            return self._receipt.shards, 0
        kept = ~taken
        statistics = PartStatistics.start(self._statistics.specs)
        statistics.rejected = self._statistics.rejected
        shards: tuple[ShardReference, ...] = ()
        extra: Mapping[str, bytes] = {}
        if kept.any():
            for stream in shard.streams.values():
                stream.require(0, len(shard))
            sizes, self._exact = row_sizes(self._plan, self._receipt, shard, self._statistics)
            rows = _rows_of(shard, kept)
            statistics.add_rows(sizes[kept], rows.streams)
            made, extra = put_shard(self._storage, shard.header, rows)
            shards = (made,)
        self._statistics, self._extra = statistics, extra
        return shards, int(taken.sum())

    def _open(self, reference: ShardReference) -> OpenShard:
        checksums = np.frombuffer(self._extra.get("blocks", b""), "<u4")
        data = open_bytes(self._storage, reference.path, reference.size_bytes, checksums, check_values=True)
        shard = OpenShard(data, reference.value_offsets or {})
        if len(shard) != reference.rows or shard.header.fingerprint != self._receipt.fingerprint:
            raise CorruptionError(
                "is another shard than its receipt says: its tokenizer or its number of rows differs",
                where=data.where,
                fix="`tokenmill verify` lists all damage; running the job again makes damaged parts anew",
            )
        return shard

    def _without_rejects(self) -> tuple[FileReference | None, int]:
        """Return the part's file of rejects without those that go, and how many those are."""
        reference = self._receipt.rejects
        if reference is None:
            return None, 0
        lines = read_checked(self._storage, reference, "its receipt").splitlines(keepends=True)
        rejects = [json.loads(line) for line in lines]
        taken = self._takedown.taken([reject["key"] for reject in rejects])
        if not taken.any():
            return reference, 0
        self._statistics.rejected = _counts([reject for reject, gone in zip(rejects, taken, strict=True) if not gone])
        data = b"".join(line for line, gone in zip(lines, taken, strict=True) if not gone)
        name = self._receipt.name
        kept = put_rejects(self._storage, name, data, hashlib.sha256(data).hexdigest()) if data else None
        return kept, int(taken.sum())


def _rows_of(shard: OpenShard, kept: npt.NDArray[np.bool_]) -> ShardRows:
    """Return the rows of a shard where bool `[row]` is true, as the part loop gives them."""
    chosen = np.flatnonzero(kept)
    columns = dict(zip(shard.batch.schema.names, shard.batch.columns, strict=True))
    streams = {}
    for name, stream in shard.streams.items():
        lengths = np.diff(stream.offsets)
        shapes = lengths.reshape(-1, 1) if stream.shapes is None else stream.shapes.astype(np.int64)
        streams[name] = Jagged(stream.values[np.repeat(kept, lengths)], shapes[kept])
    return ShardRows(
        ordinals=shard.ordinals[kept],
        documents=shard.documents[kept],
        positions=shard.positions[kept],
        keys=[shard.key(row) for row in chosen],
        metadata={
            name: [values[row] for row in chosen]
            for name in shard.header.metadata
            for values in [columns[f"metadata.{name}"].to_pylist()]
        },
        streams=streams,
    )


def _counts(rejects: list[dict[str, Any]]) -> dict[str, RejectCounts]:
    counts: dict[str, RejectCounts] = {}
    for reject in rejects:
        counted = counts.setdefault(reject["reason"], RejectCounts())
        counted.rejects += 1
        counted.items += reject["lost_items"]
        counted.lost_bytes += reject["lost_bytes"]
        counted.lost_microseconds += microseconds(reject.get("lost_seconds", 0.0))
    return counts
