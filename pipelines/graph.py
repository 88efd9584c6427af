"""The Beam graph of a run: references → TokenizeSplits → reports. Runners differ in where the references come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import apache_beam as beam

from pipelines.requests import RunRequest
from tokenmill.devices import wants_accelerator
from tokenmill.plans import Plan
from transforms import SplitReference, TokenizeSplits


def references_of(plan: Plan, request: RunRequest) -> list[SplitReference]:
    """Return the references of a run, the most costly first."""
    covered = {table.name: set(table.sources) for table in plan.tables}
    skip = set(request.skip)
    references: list[SplitReference] = []
    for split in range(request.first_split, request.last_split):
        if split in skip:
            continue
        source = plan.splits.sources[split]
        for group in plan.groups():
            tables = tuple(name for name in group if source in covered[name])
            if tables:
                first = plan.table(tables[0])
                accelerated = wants_accelerator(first.device, first.tokenizer)
                references.append(SplitReference(split, tables, accelerated))
    return sorted(references, key=lambda reference: -int(plan.splits.input_bytes[reference.split]))


def dealt(pipeline: Any, references: Sequence[SplitReference]) -> Any:
    """Return a collection of references, for runners that deal elements out as they please."""
    return pipeline | "References" >> beam.Create(references, reshuffle=False) | "Deal" >> beam.Reshuffle()


def drawn(pipeline: Any, workers: int, draw: Callable[[], Iterable[SplitReference]]) -> Any:
    """Return the collection of references that so many workers draw, each from `draw`, as it gets through them."""
    return (
        pipeline
        | "Workers" >> beam.Create([(number, None) for number in range(workers)])
        # The embedded runner deals groups to its workers in turn: a group is a worker.
        | "Groups" >> beam.GroupByKey()
        | "Splits" >> beam.FlatMapTuple(lambda _, __: draw())
    )


def build(references: Any, request: RunRequest) -> Any:
    """Wire what follows a collection of references; returns the collection of reports."""
    tokenize = TokenizeSplits(request.output, request.generation)
    if request.accelerator is None:
        return references | "Tokenize" >> tokenize
    plain, accelerated = references | "Devices" >> beam.Partition(lambda reference, _: int(reference.accelerated), 2)
    on_accelerators = TokenizeSplits(request.output, request.generation)
    on_accelerators = on_accelerators.with_resource_hints(accelerator=request.accelerator)
    reports = (plain | "Tokenize" >> tokenize, accelerated | "TokenizeOnAccelerators" >> on_accelerators)
    return reports | "Reports" >> beam.Flatten()
