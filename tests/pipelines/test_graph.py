from collections import Counter
from dataclasses import replace
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.graph import build, dealt, references_of
from pipelines.requests import RunRequest
from tests.test_parts import made_up_plan
from tokenmill.plans import Plan, SplitTable
from tokenmill.sources.splits import InputFile, Split


@pytest.fixture
def plan() -> Plan:
    """Ten splits, the odd ones of another source, which only the second table covers."""
    made = made_up_plan()
    splits = [
        Split("more" if n % 2 else "docs", "file", (InputFile(f"f{n}", 100 * n, "v"),), 0, 100 * n, 100 * n)
        for n in range(10)
    ]
    text, framed = made.tables
    tables = (text, replace(framed, sources=("docs", "more")))
    return replace(made, splits=SplitTable.from_splits(splits), tables=tables)


def request(**changes: Any) -> RunRequest:
    return RunRequest(**{"output": "x", "generation": 1, "first_split": 0, "last_split": 10, "workers": 2, **changes})


def test_requests_survive_json() -> None:
    asked = request(options=("--a", "--b=1"), skip=(3,), runner="FlinkRunner")
    assert RunRequest.from_json(asked.to_json()) == asked


def test_each_split_comes_once_with_the_tables_that_cover_it(plan: Plan) -> None:
    references = references_of(plan, request())
    found = {reference.split: reference.tables for reference in references}
    assert found == {n: ("framed",) if n % 2 else ("text", "framed") for n in range(10)}
    assert len(references) == 10


def test_the_largest_splits_come_first(plan: Plan) -> None:
    assert [reference.split for reference in references_of(plan, request())] == list(range(9, -1, -1))


def test_tables_of_other_devices_are_references_of_their_own(plan: Plan) -> None:
    plan = replace(plan, tables=(plan.tables[0], replace(plan.tables[1], device="cuda:1")))
    assert plan.groups() == [("text",), ("framed",)]
    counts = Counter(reference.split for reference in references_of(plan, request()))
    assert counts == {n: 1 if n % 2 else 2 for n in range(10)}


def test_tables_that_want_an_accelerator_carry_the_hint(plan: Plan) -> None:
    plan = replace(plan, tables=(plan.tables[0], replace(plan.tables[1], device="cuda")))
    hint = "type:nvidia-l4;count:1;install-nvidia-driver"
    found: dict[str | None, list[str]] = {}
    for accelerator in (None, hint):
        asked = request(runner="DataflowRunner", accelerator=accelerator)
        pipeline = beam.Pipeline(options=PipelineOptions([]))
        references = references_of(plan, asked)
        build(dealt(pipeline, references), asked)
        assert {reference.accelerated for reference in references} == {True, False}
        proto = pipeline.to_runner_api()
        hinted = {
            transform.unique_name
            for transform in proto.components.transforms.values()
            if hint.encode() in proto.components.environments[transform.environment_id].resource_hints.values()
        }
        found[accelerator] = sorted(name.partition("/")[0] for name in hinted)
    assert found[None] == []
    assert set(found[hint]) == {"TokenizeOnAccelerators"}


def test_a_partition_and_what_is_skipped(plan: Plan) -> None:
    references = references_of(plan, request(first_split=2, last_split=6, skip=(3,)))
    assert sorted(reference.split for reference in references) == [2, 4, 5]
    assert references_of(plan, request(first_split=3, last_split=3)) == []
