"""Progress of a run, counted from receipts: the same on any runner, and true after any crash."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tokenmill.layout import ReceiptName
from tokenmill.plans import Plan
from tokenmill.publication import read_receipts
from tokenmill.receipts import list_receipts
from tokenmill.storage.outputs import Storage


@dataclass(frozen=True)
class Progress:
    """How far a run is, over all its tables.

    Attributes:
        fraction: Share of the input, 0 … 1.
        documents: Rows, in every table.
        tokens: Tokens, in every table.
        input_bytes: Payload bytes of those rows.
        rejected: Items rejected or lost.
        bytes_per_second: Payload bytes a second since the run began, what an earlier run had done left out.
        tokens_per_second: The same for tokens.
        remaining_seconds: Estimate; None while unknown.
    """

    fraction: float
    documents: int
    tokens: int
    input_bytes: int
    rejected: int
    bytes_per_second: float
    tokens_per_second: float
    remaining_seconds: float | None


@dataclass
class _Split:
    payload_bytes: int = 0
    final: bool = False


@dataclass
class ProgressCounter:
    """Counts receipts as they appear; each is read once."""

    storage: Storage
    plan: Plan
    _seen: set[ReceiptName] = field(default_factory=set)
    _parts: set[tuple[str, int, int]] = field(default_factory=set)
    _splits: dict[tuple[str, int], _Split] = field(default_factory=dict)
    _documents: int = 0
    _tokens: int = 0
    _input_bytes: int = 0
    _rejected: int = 0
    _start: tuple[float, float, int, int] | None = None

    def update(self) -> Progress:
        """Read the receipts that are new and return where the run stands."""
        names = [name for table in self.plan.tables for name in list_receipts(self.storage, table.name)]
        new = sorted(name for name in names if name not in self._seen)
        for name, receipt in zip(new, read_receipts(self.storage, new), strict=True):
            self._seen.add(name)
            place = (name.table, name.split, name.part)
            if receipt is None or place in self._parts:  # a part made again is counted once
                continue
            self._parts.add(place)
            self._documents += receipt.rows
            self._tokens += receipt.tokens
            self._input_bytes += receipt.input_bytes
            self._rejected += receipt.rejected
            split = self._splits.setdefault((name.table, name.split), _Split())
            split.payload_bytes += receipt.input_bytes
            split.final = split.final or receipt.final
        return self._progress()

    def _progress(self) -> Progress:
        now = time.monotonic()
        fraction = self._fraction()
        if self._start is None:
            self._start = (now, fraction, self._input_bytes, self._tokens)
        began, first_fraction, first_bytes, first_tokens = self._start
        seconds = max(now - began, 1e-9)
        gained = fraction - first_fraction
        return Progress(
            fraction=fraction,
            documents=self._documents,
            tokens=self._tokens,
            input_bytes=self._input_bytes,
            rejected=self._rejected,
            bytes_per_second=(self._input_bytes - first_bytes) / seconds,
            tokens_per_second=(self._tokens - first_tokens) / seconds,
            remaining_seconds=seconds * (1 - fraction) / gained if gained > 0 else None,
        )

    def _fraction(self) -> float:
        """Return the share of stored input that is done: finished splits wholly, begun ones by their payload."""
        stored = self.plan.splits.input_bytes
        total = sum(int(stored[self.plan.splits_of(table)].sum()) for table in self.plan.tables)
        if not total:
            return 1.0
        finished = {place: split for place, split in self._splits.items() if split.final}
        done = sum(int(stored[number]) for _, number in finished)
        payload = sum(split.payload_bytes for split in finished.values())
        ratio = payload / done if done and payload else 4.0  # text compresses to about a quarter
        for (_, number), split in self._splits.items():
            if not split.final:
                done += min(int(stored[number]), int(split.payload_bytes / ratio))
        return min(1.0, done / total)
