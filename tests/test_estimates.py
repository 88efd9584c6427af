from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.datasets import build_dataset, job_of, write_jsonl
from tokenmill.estimates import Estimate, estimate, render_estimate
from tokenmill.jobs import Job
from tokenmill.planning import draft_plan
from tokenmill.storage.outputs import Storage

TABLES = [
    {"name": "text", "tokenizer": {"id": "bytes"}},
    {"name": "framed", "tokenizer": {"id": "bytes", "bos": True, "eos": True}, "sources": ["docs"]},
]


def job_over(tmp_path: Path, **changes: Any) -> Job:
    for number in range(12):
        records: list[Any] = [{"id": f"{number}-{n}", "text": "x" * (100 + n % 7)} for n in range(1010)]
        records[50::100] = ["bad"] * 10
        write_jsonl(tmp_path / "in" / f"{number}.jsonl", records)
    splitting = {"split_bytes": 50_000, "part_bytes": 20_000}
    return job_of(str(tmp_path / "out"), tmp_path / "in", splitting=splitting, tables=TABLES, **changes)


def estimated(job: Job, sample_seconds: float = 5.0) -> Estimate:
    storage = Storage.open(job.output)
    return estimate(storage, draft_plan(storage, job), job, sample_seconds=sample_seconds)


def test_a_sample_of_everything_is_near_the_truth(tmp_path: Path) -> None:
    job = job_over(tmp_path)
    found = estimated(job)
    assert not Path(job.output).exists()
    manifest = build_dataset(job)
    for one in found.tables:
        table = manifest.tables[one.table]
        assert one.documents == pytest.approx(table.rows, rel=0.1)
        assert one.tokens == pytest.approx(table.tokens["ids"], rel=0.1)
        assert one.output_bytes == pytest.approx(table.size_bytes, rel=0.5)
        assert one.fingerprint == table.tokenizer.fingerprint
    assert found.payload_bytes == pytest.approx(manifest.tables["text"].tokens["ids"], rel=0.1)
    assert found.rejected_fraction == pytest.approx(10 / 1010, rel=0.3)
    assert found.stored_bytes == sum(path.stat().st_size for path in (tmp_path / "in").iterdir())
    assert (found.generation, found.resumed, found.finished_parts) == (1, False, 0)
    assert found.splits == found.new_splits > 12


def test_a_short_sample_is_scaled_up(tmp_path: Path) -> None:
    job = job_over(tmp_path)
    found = estimated(job, sample_seconds=0.001)
    assert 0 < found.sampled_bytes < found.stored_bytes
    assert found.tables[0].documents == pytest.approx(12_000, rel=0.3)


def test_what_is_done_already_is_told(tmp_path: Path) -> None:
    job = job_over(tmp_path)
    build_dataset(job)
    found = estimated(job)
    assert (found.generation, found.resumed, found.new_splits) == (1, True, 0)
    assert found.finished_parts > 24


def test_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").touch()
    found = estimated(job_of(str(tmp_path / "out"), tmp_path / "in"))
    assert (found.tables[0].documents, found.rejected_fraction, found.payload_bytes) == (0, 0, 0)


def test_a_file_whose_items_are_all_bad(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in" / "a.jsonl", ["bad"] * 50)
    found = estimated(job_of(str(tmp_path / "out"), tmp_path / "in"))
    assert (found.tables[0].documents, found.rejected_fraction) == (0, 1)


def test_a_terminal_shows_it(tmp_path: Path) -> None:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(render_estimate(estimated(job_over(tmp_path))))
    text = console.export_text()
    assert "generation 1 (new, " in text
    assert "framed" in text
    assert "rejected" in text
