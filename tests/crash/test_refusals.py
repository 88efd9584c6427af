"""What contradicts an output is refused with the difference named, and nothing is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines import RunRequest
from tests.crash.compare import published
from tests.crash.conftest import WarmLauncher
from tests.crash.corpus import Corpus
from tests.crash.run_job import execute_here
from tokenmill.errors import ChangedError
from tokenmill.jobs import Job
from tokenmill.planning import make_plan
from tokenmill.storage.outputs import Storage


@pytest.fixture
def mine(small: Corpus, tmp_path: Path) -> Corpus:
    """A copy of the small corpus that a test may change."""
    directory = tmp_path / "mine"
    shutil.copytree(small.directory, directory, copy_function=shutil.copy2)
    return replace(small, directory=directory)


def _append(path: Path) -> None:
    times = path.stat()
    with open(path, "ab") as file:
        file.write(b"\n")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


_INPUT_CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "size": (_append, "has changed: was .* bytes"),
    "content": (_alter, "has changed: was .* bytes, mtime:"),
    "time": (lambda path: os.utime(path, ns=(1, 1)), "has changed: was .*; is now .* bytes, mtime:1"),
    "removed": (lambda path: path.unlink(), "was tokenized into this output and is gone"),
}


def _refused(job: Job, difference: str) -> None:
    """Run a job that must be refused before anything is written."""
    storage = Storage.open(job.output)
    before = {entry.path: (entry.version, entry.modified) for entry in storage.list()}
    with pytest.raises(ChangedError, match=difference):
        make_plan(storage, job)
    assert {entry.path: (entry.version, entry.modified) for entry in storage.list()} == before


@pytest.mark.parametrize("name", _INPUT_CHANGES)
@pytest.mark.parametrize("finished", [True, False], ids=["finished", "begun"])
def test_changed_input(name: str, finished: bool, root: str, mine: Corpus) -> None:
    job = mine.job(root)
    execute_here(job, None if finished else [0])
    change, difference = _INPUT_CHANGES[name]
    file = mine.directory / "web" / "cut.jsonl"
    change(file)
    _refused(job, f"{file}: {difference}")


def _source(job: Job, **changes: Any) -> Job:
    value = job.model_dump(mode="json")
    value["sources"][0].update(changes)
    return Job.model_validate(value)


_JOB_CHANGES: dict[str, tuple[Callable[[Job], Job], str]] = {
    "tokenizer": (
        lambda job: Job.model_validate(
            {**job.model_dump(mode="json"), "tables": [{"name": "text", "tokenizer": {"id": "bytes", "eos": True}}]}
            | {"tables": [{"name": "text", "tokenizer": {"id": "bytes", "eos": True}}, _table(job, 1)]}
        ),
        "tokenizer of table 'text' has changed: config.eos was .*False.*True",
    ),
    "splitting": (
        lambda job: Job.model_validate({**job.model_dump(mode="json"), "splitting": {"part_bytes": 12345}}),
        "splitting was .* is now .*12345",
    ),
    "text field": (lambda job: _source(job, fields={"text": "body", "id": "id"}), "source 'web': fields was .*body"),
    "id field": (lambda job: _source(job, fields={"text": "text"}), "source 'web': fields was "),
    "metadata": (lambda job: _source(job, metadata={}), "source 'web': metadata was .*language"),
    "format": (lambda job: _source(job, format="jsonl"), "source 'web': format was 'auto', is now 'jsonl'"),
    "item limit": (
        lambda job: Job.model_validate({**job.model_dump(mode="json"), "limits": {"max_item_bytes": 77}}),
        "limits.max_item_bytes was 256000000, is now 77",
    ),
    "table removed": (
        lambda job: Job.model_validate({**job.model_dump(mode="json"), "tables": [_table(job, 0)]}),
        r"has tables \['framed'\], which the job no longer names",
    ),
    "source removed": (
        lambda job: Job.model_validate(
            {**job.model_dump(mode="json"), "sources": job.model_dump(mode="json")["sources"][:1]}
        ),
        r"has sources \['notes'\]|no longer",
    ),
}


def _table(job: Job, index: int) -> Any:
    return job.model_dump(mode="json")["tables"][index]


@pytest.mark.parametrize("name", _JOB_CHANGES)
def test_changed_job(name: str, root: str, mine: Corpus) -> None:
    job = mine.job(root)
    execute_here(job)
    change, difference = _JOB_CHANGES[name]
    _refused(change(job), difference)
    assert execute_here(job)["made"] == 0


def test_changed_name_workers_and_tolerance_are_no_contradiction(root: str, mine: Corpus) -> None:
    job = mine.job(root)
    execute_here(job)
    other = mine.job(root, name="renamed", runner={"workers": 7}, limits={"max_rejected_fraction": 0.9})
    assert execute_here(other)["made"] == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_input_changed_after_planning(workers: int, tmp_path: Path, mine: Corpus, launcher: WarmLauncher) -> None:
    """The worker that opens the file refuses it; its error reaches the owner as it was raised, every time."""
    job = mine.job(str(tmp_path / "out"))
    plan = make_plan(Storage.open(job.output), job).plan
    file = mine.directory / "web" / "cut.jsonl"
    times = file.stat()
    for _ in range(3):
        os.utime(file, ns=(1, 1))
        with pytest.raises(ChangedError, match="changed since it was planned"):
            list(launcher.get().run(RunRequest(job.output, 1, 0, len(plan.splits), workers=workers)))
        assert launcher.get().alive
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    launcher.run(job, 3 - workers)
    published(job.output, mine.keys)
