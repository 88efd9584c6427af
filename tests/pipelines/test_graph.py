from collections import Counter
from dataclasses import replace
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.graph import build, lanes_of
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


def test_each_split_is_dealt_once_to_the_tables_that_cover_it(plan: Plan) -> None:
    lanes = lanes_of(plan, request())
    assert len(lanes) == 2
    found = {reference.split: reference.tables for lane in lanes for reference in lane}
    assert found == {n: ("framed",) if n % 2 else ("text", "framed") for n in range(10)}
    assert sum(len(lane) for lane in lanes) == 10


def test_tables_of_other_devices_are_references_of_their_own(plan: Plan) -> None:
    plan = replace(plan, tables=(plan.tables[0], replace(plan.tables[1], device="cuda:1")))
    assert plan.groups() == [("text",), ("framed",)]
    counts = Counter(reference.split for lane in lanes_of(plan, request()) for reference in lane)
    assert counts == {n: 1 if n % 2 else 2 for n in range(10)}


def test_tables_that_want_an_accelerator_carry_the_hint(plan: Plan) -> None:
    plan = replace(plan, tables=(plan.tables[0], replace(plan.tables[1], device="cuda")))
    hint = "type:nvidia-l4;count:1;install-nvidia-driver"
    found: dict[str | None, list[str]] = {}
    for accelerator in (None, hint):
        asked = request(runner="DataflowRunner", accelerator=accelerator)
        pipeline = beam.Pipeline(options=PipelineOptions([]))
        lanes = lanes_of(plan, asked)
        build(pipeline, asked, lanes)
        assert {reference.accelerated for lane in lanes for reference in lane} == {True, False}
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
    lanes = lanes_of(plan, request(first_split=2, last_split=6, skip=(3,)))
    assert sorted(reference.split for lane in lanes for reference in lane) == [2, 4, 5]
    assert lanes_of(plan, request(first_split=3, last_split=3)) == []


def test_other_runners_deal_themselves(plan: Plan) -> None:
    lanes = lanes_of(plan, request(runner="FlinkRunner"))
    assert [len(lane) for lane in lanes] == [1] * 10
    costs = [int(plan.splits.input_bytes[lane[0].split]) for lane in lanes]
    assert costs == sorted(costs, reverse=True)
