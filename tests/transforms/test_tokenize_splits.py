import json
import pickle
import traceback
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from tests.datasets import job_of, write_jsonl
from tokenmill.errors import AssetError, StorageError, TokenmillError
from tokenmill.planning import make_plan
from tokenmill.storage.outputs import Storage
from transforms import PipelineFailure, SplitReference, TokenizeSplits

ERRORS = [
    StorageError("No space left on device", where="/a b/c}>", fix="free <space> {now}>"),
    AssetError('it is "broken"\nover two lines \\n', where=None),
    StorageError("Файл\N{SNOWMAN}"),
]


@pytest.mark.parametrize("error", ERRORS)
def test_errors_are_found_in_whatever_a_runner_makes_of_them(error: TokenmillError) -> None:
    failure = PipelineFailure.of(error)
    assert str(error) in str(failure)
    text = "".join(traceback.format_exception(failure))
    for seen in (
        text,
        repr(text),
        json.dumps({"error": text}),
        f"{text}\nduring handling:\n{text}",
        text.replace("\n", "\\n"),
    ):
        found = PipelineFailure.find(f"RuntimeError: bundle failed: {seen} [while running 'Tokenize']")
        assert type(found) is type(error)
        assert found.to_json() == error.to_json()


def test_failures_cross_processes() -> None:
    failure = PipelineFailure.of(ERRORS[0])
    found = PipelineFailure.find(str(pickle.loads(pickle.dumps(failure))))
    assert found is not None
    assert found.to_json() == ERRORS[0].to_json()


def test_other_texts_hold_no_error() -> None:
    assert PipelineFailure.find("ValueError: <tokenmill-error >") is None


def test_splits_become_receipts_and_reports(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in" / "a.jsonl", [*({"id": f"{n}", "text": "x" * 100} for n in range(100)), "bad"])
    job = job_of(str(tmp_path / "out"), tmp_path / "in")
    storage = Storage.open(job.output)
    plan = make_plan(storage, job).plan
    for made in (True, False):
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            reports = (
                pipeline
                | beam.Create([SplitReference(0, ("text",))])
                | TokenizeSplits(job.output, plan.generation)
                | beam.Map(lambda report: (report["split"], report["rows"], report["rejected"], report["made"] > 0))
            )
            assert_that(reports, equal_to([(0, 100, 1, made)]))
    counters = pipeline.result.metrics().query()["counters"]
    values = {
        counter.key.metric.name: counter.committed
        for counter in counters
        if counter.key.metric.namespace == "tokenmill"
    }
    assert values == {"rows": 100, "tokens": 10_000, "input-bytes": 10_000, "rejected-items": 1}
