"""Estimates: what a run would cost, measured on a sample of its input. Nothing is written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tokenmill.encoders import loaded_encoder, tokenizer_notes
from tokenmill.encoding_ahead import encode_items
from tokenmill.jobs import Job
from tokenmill.planning import PlannedRun
from tokenmill.plans import Plan, PlannedTable, newest_generation
from tokenmill.receipts import list_receipts
from tokenmill.sources.items import Cursor
from tokenmill.sources.limits import ReadLimits
from tokenmill.sources.reading import open_split
from tokenmill.storage.outputs import Storage

# Beside its values a shard holds ordinals, documents, positions, a key and offsets for every row.
_ROW_BYTES = 64


@dataclass(frozen=True)
class TableEstimate:
    """Estimates for one table: documents, tokens and bytes out over the whole plan, and what may be rejected."""

    table: str
    tokenizer: str
    fingerprint: str
    documents: int
    tokens: int
    output_bytes: int


@dataclass(frozen=True)
class Estimate:
    """What a run would do.

    Attributes:
        generation: The generation it would make or go on with.
        resumed: Whether that generation was planned before.
        splits: Splits of the plan.
        new_splits: Splits that no earlier generation had.
        finished_parts: Parts that have a receipt already.
        stored_bytes: Input as stored.
        payload_bytes: Estimated input, decompressed and parsed.
        seconds: Estimated time with the job's workers, start-up left out.
        sampled_bytes: Payload bytes that the estimates rest on.
        rejected_fraction: Rejected items in the sample.
        tables: Per table.
        notes: What a reader should know, such as engine fallbacks.
    """

    generation: int
    resumed: bool
    splits: int
    new_splits: int
    finished_parts: int
    stored_bytes: int
    payload_bytes: int
    seconds: float
    sampled_bytes: int
    rejected_fraction: float
    tables: tuple[TableEstimate, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


@dataclass
class _Sample:
    """What a sample of one source gave: counts, and the share of its stored bytes that was read."""

    stored_bytes: float = 0
    payload_bytes: int = 0
    documents: int = 0
    rejected: int = 0
    seconds: float = 0


def estimate(storage: Storage, run: PlannedRun, job: Job, *, sample_seconds: float) -> Estimate:
    """Tokenize a sample of every source, its splits at equal distances, and scale it up."""
    plan = run.plan
    stored = {source.name: 0 for source in job.sources}
    for name, size in zip(plan.splits.sources, plan.splits.input_bytes, strict=True):
        stored[name] += int(size)
    samples: dict[str, _Sample] = {}
    tokens: dict[tuple[str, str], int] = {}
    sizes: dict[tuple[str, str], int] = {}
    for source in job.sources:
        tables = [table for table in plan.tables if source.name in table.sources]
        encoders = [(table, loaded_encoder(table.tokenizer, table.device)) for table in tables]
        samples[source.name] = _sample(plan, source.name, encoders, sample_seconds / len(job.sources), tokens, sizes)
    scale = {
        name: stored[name] / sample.stored_bytes if sample.stored_bytes else 0.0 for name, sample in samples.items()
    }
    seen = sum(sample.documents + sample.rejected for sample in samples.values())
    return Estimate(
        generation=plan.generation,
        resumed=run.resumed,
        splits=len(plan.splits),
        new_splits=run.new_splits,
        finished_parts=_finished_parts(storage, plan),
        stored_bytes=sum(stored.values()),
        payload_bytes=round(sum(sample.payload_bytes * scale[name] for name, sample in samples.items())),
        seconds=round(sum(sample.seconds * scale[name] for name, sample in samples.items()) / job.runner.workers, 1),
        sampled_bytes=sum(sample.payload_bytes for sample in samples.values()),
        rejected_fraction=sum(sample.rejected for sample in samples.values()) / seen if seen else 0.0,
        tables=tuple(_table_estimate(table, samples, scale, tokens, sizes) for table in plan.tables),
        notes=(*run.notes, *tokenizer_notes(plan)),
    )


def _sample(
    plan: Plan,
    source: str,
    encoders: Sequence[tuple[PlannedTable, Any]],
    seconds: float,
    tokens: dict[tuple[str, str], int],
    sizes: dict[tuple[str, str], int],
) -> _Sample:
    """Read the beginnings of splits at equal distances until the time is up."""
    numbers = [number for number, name in enumerate(plan.splits.sources) if name == source]
    # Long samples of few splits: readers read ahead, which would count too much against short ones.
    count = max(1, round(seconds))
    chosen = [numbers[index * len(numbers) // count] for index in range(min(count, len(numbers)))]
    sample = _Sample()
    limits = ReadLimits.of(plan.job.limits)
    started = time.perf_counter()
    for position, number in enumerate(chosen):
        split = plan.splits[number]
        until = started + seconds * (position + 1) / len(chosen)
        with open_split(plan.source(source), plan.roots[source], split, limits) as reader:
            for batch in reader.batches(Cursor()):
                failed: set[int] = set()
                for table, encoder in encoders:
                    encoded = encode_items(encoder, table.tokenizer.streams, batch.payloads)
                    key = (table.name, source)
                    stream = next(iter(encoded.streams.values()))
                    tokens[key] = tokens.get(key, 0) + len(stream.values)
                    sizes[key] = sizes.get(key, 0) + sum(jagged.values.nbytes for jagged in encoded.streams.values())
                    failed.update(failure.index for failure in encoded.failures)
                sample.payload_bytes += int(batch.sizes.sum())
                sample.documents += len(batch) - len(failed)
                sample.rejected += len(batch.rejects) + len(failed)
                if time.perf_counter() > until:
                    break
            sample.stored_bytes += reader.stored_bytes_read
    sample.seconds = time.perf_counter() - started
    return sample


def _table_estimate(
    table: PlannedTable,
    samples: dict[str, _Sample],
    scale: dict[str, float],
    tokens: dict[tuple[str, str], int],
    sizes: dict[tuple[str, str], int],
) -> TableEstimate:
    documents = sum(samples[source].documents * scale[source] for source in table.sources)
    values = sum(sizes.get((table.name, source), 0) * scale[source] for source in table.sources)
    return TableEstimate(
        table=table.name,
        tokenizer=str(table.tokenizer.config["id"]),
        fingerprint=table.tokenizer.fingerprint,
        documents=round(documents),
        tokens=round(sum(tokens.get((table.name, source), 0) * scale[source] for source in table.sources)),
        output_bytes=round(values + documents * _ROW_BYTES),
    )


def _finished_parts(storage: Storage, plan: Plan) -> int:
    if newest_generation(storage, "plans") is None:
        return 0
    return sum(len({(n.split, n.part) for n in list_receipts(storage, table.name)}) for table in plan.tables)


def render_estimate(found: Estimate) -> Group:
    """Return an estimate as a terminal shows it."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("table", "tokenizer", "documents", "tokens", "bytes out"):
        table.add_column(name, justify="left" if name in ("table", "tokenizer") else "right")
    for one in found.tables:
        out = f"{one.output_bytes / 1e6:,.1f} MB"
        table.add_row(Text(one.table), Text(one.tokenizer), f"{one.documents:,}", f"{one.tokens:,}", out)
    state = "planned before" if found.resumed else f"new, {found.new_splits:,} splits to do"
    lines = [
        f"generation {found.generation} ({state}): {found.splits:,} splits, {found.finished_parts:,} parts done",
        f"input: {found.stored_bytes / 1e6:,.1f} MB stored, about {found.payload_bytes / 1e6:,.1f} MB of items; "
        f"about {found.seconds:,.0f} s with the job's workers, start-up left out",
        f"from a sample of {found.sampled_bytes / 1e6:,.1f} MB; {found.rejected_fraction:.2%} of its items rejected",
        *(f"note: {note}" for note in found.notes),
    ]
    return Group(Text("\n".join(lines)), table)
