"""The Beam graph of a run: references in lanes → TokenizeSplits → reports. The same graph on every runner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apache_beam as beam

from pipelines.dealing import deal
from pipelines.requests import RunRequest
from tokenmill.devices import wants_accelerator
from tokenmill.plans import Plan
from transforms import SplitReference, TokenizeSplits


def lanes_of(plan: Plan, request: RunRequest) -> list[list[SplitReference]]:
    """Return the references of a run, dealt to lanes: one a worker where the runner deals statically, else one each."""
    covered = {table.name: set(table.sources) for table in plan.tables}
    skip = set(request.skip)
    references: list[SplitReference] = []
    costs: list[int] = []
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
                costs.append(int(plan.splits.input_bytes[split]))
    lanes = request.workers if request.runner == "embedded" else len(references)
    return [[references[index] for index in lane] for lane in deal(costs, lanes)] if references else []


def build(pipeline: Any, request: RunRequest, lanes: Sequence[Sequence[SplitReference]]) -> Any:
    """Wire the graph into a pipeline; returns the collection of reports."""
    numbered = [(lane, reference) for lane, references in enumerate(lanes) for reference in references]
    references = (
        pipeline
        | "References" >> beam.Create(numbered)
        # The embedded runner deals groups to its workers in turn: a lane is a group, so a lane is a worker.
        | "Lanes" >> beam.GroupByKey()
        | "Splits" >> beam.FlatMapTuple(lambda _, references: references)
    )
    tokenize = TokenizeSplits(request.output, request.generation)
    if request.accelerator is None:
        return references | "Tokenize" >> tokenize
    plain, accelerated = references | "Devices" >> beam.Partition(lambda reference, _: int(reference.accelerated), 2)
    on_accelerators = TokenizeSplits(request.output, request.generation)
    on_accelerators = on_accelerators.with_resource_hints(accelerator=request.accelerator)
    reports = (plain | "Tokenize" >> tokenize, accelerated | "TokenizeOnAccelerators" >> on_accelerators)
    return reports | "Reports" >> beam.Flatten()
