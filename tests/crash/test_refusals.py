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


@pytest.fixture(scope="module")
def mine(small: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A copy of the small corpus that a test may change, and must restore."""
    directory = tmp_path_factory.mktemp("refusals") / "mine"
    shutil.copytree(small.directory, directory, copy_function=shutil.copy2)
    return replace(small, directory=directory)


@pytest.fixture(scope="module")
def finished(mine: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job whose output is published; nobody writes to it."""
    job = mine.job(str(tmp_path_factory.mktemp("finished") / "out"))
    execute_here(job)
    return job


@pytest.fixture(scope="module")
def begun(mine: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job that was broken off after its first split."""
    job = mine.job(str(tmp_path_factory.mktemp("begun") / "out"))
    execute_here(job, [0])
    return job


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
def test_changed_input(name: str, finished: Job, begun: Job, mine: Corpus, tmp_path: Path) -> None:
    change, difference = _INPUT_CHANGES[name]
    file = mine.directory / "web" / "cut.jsonl"
    kept = shutil.copy2(file, tmp_path)
    change(file)
    try:
        _refused(finished, f"{file}: {difference}")
        _refused(begun, f"{file}: {difference}")
    finally:
        shutil.copy2(kept, file)


def _changed(job: Job, **changes: Any) -> Job:
    return Job.model_validate({**job.model_dump(mode="json"), **changes})


def _member(job: Job, name: str) -> Any:
    return job.model_dump(mode="json")[name]


def _source(job: Job, **changes: Any) -> Job:
    first, *others = _member(job, "sources")
    return _changed(job, sources=[{**first, **changes}, *others])


_JOB_CHANGES: dict[str, tuple[Callable[[Job], Job], str]] = {
    "tokenizer": (
        lambda job: _changed(
            job, tables=[{"name": "text", "tokenizer": {"id": "bytes", "eos": True}}, _member(job, "tables")[1]]
        ),
        "tokenizer of table 'text' has changed: config.eos was None, is now True",
    ),
    "splitting": (
        lambda job: _changed(job, splitting={"part_bytes": 12345}),
        "splitting was .* is now .*12345",
    ),
    "text field": (lambda job: _source(job, fields={"text": "body", "id": "id"}), "source 'web': fields was .*body"),
    "id field": (lambda job: _source(job, fields={"text": "text"}), "source 'web': fields was "),
    "metadata": (lambda job: _source(job, metadata={}), "source 'web': metadata was .*language"),
    "format": (lambda job: _source(job, format="jsonl"), "source 'web': format was 'auto', is now 'jsonl'"),
    "item limit": (
        lambda job: _changed(job, limits={"max_item_bytes": 77}),
        "limits.max_item_bytes was 256000000, is now 77",
    ),
    "table removed": (
        lambda job: _changed(job, tables=_member(job, "tables")[:1]),
        r"has tables \['framed'\], which the job no longer names",
    ),
    "source removed": (
        lambda job: _changed(job, sources=_member(job, "sources")[:1]),
        r"has sources \['notes'\], which the job no longer names",
    ),
}


@pytest.mark.parametrize("name", _JOB_CHANGES)
def test_changed_job(name: str, finished: Job, begun: Job) -> None:
    change, difference = _JOB_CHANGES[name]
    _refused(change(finished), difference)
    _refused(change(begun), difference)


def test_changed_name_workers_and_tolerance_are_no_contradiction(finished: Job, mine: Corpus) -> None:
    limits = {"max_rejected_fraction": 0.9}
    other = mine.job(finished.output, name="renamed", runner={"workers": 7}, limits=limits)
    assert execute_here(other)["made"] == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_input_changed_after_planning(workers: int, tmp_path: Path, mine: Corpus, launcher: WarmLauncher) -> None:
    """The worker that opens the file refuses it; its error reaches the owner as it was raised, every time."""
    job = mine.job(str(tmp_path / "out"))
    plan = make_plan(Storage.open(job.output), job).plan
    file = mine.directory / "web" / "cut.jsonl"
    times = file.stat()
    for _ in range(2):
        os.utime(file, ns=(1, 1))
        with pytest.raises(ChangedError, match="changed since it was planned"):
            list(launcher.get().run(RunRequest(job.output, 1, 0, len(plan.splits), workers=workers)))
        assert launcher.get().alive
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    launcher.run(job, 3 - workers)
    published(job.output, mine.keys)
