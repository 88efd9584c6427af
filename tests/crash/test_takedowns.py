"""Takedowns that are killed, that meet each other, runs, old workers and damage: the keys are gone, and stay away."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.datasets import build_dataset, run_splits, write_jsonl
from tests.takedown_cases import (
    KEYS,
    corpus,
    dataset,
    files,
    job_on,
    keys_of,
    records,
    shards_of,
    whole,
)
from tests.test_parts import FAST
from tokenmill import layout
from tokenmill.errors import CorruptionError, RunError
from tokenmill.jobs import Job
from tokenmill.manifests import read_manifest, read_shard_table
from tokenmill.parts import process_split
from tokenmill.planning import make_plan
from tokenmill.plans import newest_generation, read_plan
from tokenmill.publication import publish
from tokenmill.receipts import latest_receipt
from tokenmill.storage.local import LocalStorage
from tokenmill.storage.outputs import Storage
from tokenmill.takedown_lists import newest_number
from tokenmill.takedowns import TakedownReport, take_down
from tokenmill.verification import verify


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return dataset(str(tmp_path / "out"), tmp_path / "in")


@pytest.fixture
def any_job(any_root: str, tmp_path: Path) -> Job:
    return dataset(any_root, tmp_path / "in")


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


def kill_at(patch: pytest.MonkeyPatch, moment: int, after: bool) -> Callable[[], int]:
    """Kill this process's writing at its n-th file, before or after it; returns how many files were written."""
    lock, count = threading.Lock(), 0

    def wrap(name: str) -> None:
        original = getattr(LocalStorage, name)

        def wrapped(storage: LocalStorage, *arguments: Any) -> Any:
            nonlocal count
            with lock:
                count += 1
                mine = count
            if mine > moment or (mine == moment and not after):
                raise Killed
            result = original(storage, *arguments)
            if mine == moment:
                raise Killed
            return result

        patch.setattr(LocalStorage, name, wrapped)

    wrap("put")
    wrap("create")
    return lambda: count


@pytest.fixture
def fast() -> Iterator[Path]:
    """A directory in memory, where there is one: syncing to disk is most of such a test's time."""
    with tempfile.TemporaryDirectory(dir=FAST) as directory:
        yield Path(directory)


@pytest.mark.parametrize(("again", "after"), [("takedown", False), ("run", True)])
def test_killed_anywhere(fast: Path, again: str, after: bool) -> None:
    """Whatever was written before it was killed: readers see one generation or the other, and a second try ends it."""
    lines = [*records("a", 14), {"id": "bad", "text": None}, {"id": "other", "text": None}]
    expected = dataset(str(fast / "expected"), fast / "in", {"a.jsonl": lines})
    shutil.copytree(expected.output, fast / "before")
    before = keys_of(expected.output)["text"]
    keys = ["a3", "a9", "bad"]
    storage = Storage.open(expected.output)
    take_down(storage, keys)
    shards = shards_of(storage, read_manifest(storage))
    moment, finished = 0, False
    while not finished:
        moment += 1
        root = str(fast / f"{moment}")
        shutil.copytree(fast / "before", root)
        job = job_on(root, fast / "in")
        storage = Storage.open(root)
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, moment, after)
            try:
                take_down(storage, keys)
                finished = True
            except Killed:
                pass
        taken = [key for key in before if key not in keys]
        published = newest_generation(storage, "manifests")
        assert keys_of(root)["text"] == (before if published == 1 else taken)
        report = verify(root)
        recorded = newest_number(storage)
        unheeded = published == 1 and recorded == 1
        assert {problem.what.partition(" keys")[0] for problem in report.problems} <= (
            {"holds 1"} if unheeded else set()
        ), report.problems
        assert unheeded == any("not carried out" in note for note in report.notes)
        if again == "run" and recorded:
            build_dataset(job)
        else:
            take_down(storage, keys)
        manifest = read_manifest(storage)
        assert shards_of(storage, manifest) == shards
        assert manifest.takedown == 1
        assert manifest.tables["text"].taken_down == 3
        whole(root)
        assert take_down(storage, keys).published is False
        shutil.rmtree(root)
    assert moment > 25


@pytest.mark.parametrize("same", [True, False])
def test_two_at_once(any_job: Job, same: bool) -> None:
    lists = [["a3", "twice"], ["a3", "twice"] if same else ["a4", "b39"], ["a3", "twice"] if same else ["b1", "a4"]]
    reports: list[TakedownReport] = []
    failures: list[BaseException] = []

    def one(keys: list[str]) -> None:
        try:
            reports.append(take_down(Storage.open(any_job.output), keys))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=one, args=(keys,)) for keys in lists]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(reports) == 3
    gone = {key for keys in lists for key in keys}
    assert not gone & set(keys_of(any_job.output)["framed"])
    assert set(keys_of(any_job.output)["text"]) | gone == set(keys_of(any_job.output, generation=1)["text"])
    whole(any_job.output)
    for keys in lists:
        assert not take_down(Storage.open(any_job.output), keys).published


def test_while_a_run_goes_on(any_job: Job, tmp_path: Path) -> None:
    """A newer generation is planned and half made: it is left out, refused, and made anew without the keys."""
    root, storage = any_job.output, Storage.open(any_job.output)
    added = [*records("c", 30), {"id": "a3", "text": "again"}, *records("d", 10)]
    write_jsonl(tmp_path / "in/c.jsonl", added)
    write_jsonl(tmp_path / "in/d.jsonl", [*records("e", 10), {"id": "twice", "text": "again"}])
    plan = make_plan(storage, any_job).plan
    first, last = len(read_plan(storage, 1).splits), len(plan.splits)
    process_split(storage, plan, first, ["text", "framed"])
    report = take_down(storage, KEYS)
    assert (report.generation, plan.generation) == (3, 2)
    assert any("unfinished run" in note for note in report.notes)
    assert not set(KEYS) & set(keys_of(root)["text"])
    assert "c1" not in keys_of(root)["text"]
    whole(root)
    for split in range(first + 1, last):  # it has not heard of the takedown
        process_split(storage, plan, split, ["text", "framed"])
    with pytest.raises(RunError, match="keys were taken down") as refused:
        publish(storage, plan, max_rejected_fraction=1.0)
    assert "run the job again" in str(refused.value)
    made = {path for path in files(storage) if f"/shards/{first:06d}" in path}
    manifest = build_dataset(any_job)
    assert (manifest.generation, manifest.takedown) == (4, 1)
    keys = keys_of(root)
    assert not set(KEYS) & set(keys["text"])
    assert {"c1", "d9", "e9"} <= set(keys["framed"])
    assert made == {path for path in files(storage) if f"/shards/{first:06d}" in path}, "they were looked through"
    whole(root)


def test_a_worker_that_heard_nothing_brings_no_key_back(any_job: Job) -> None:
    """A run from before the takedown finds a shard lost, and makes it again as its own plan says: with the keys."""
    root, storage = any_job.output, Storage.open(any_job.output)
    old = read_plan(storage, 1)
    take_down(storage, KEYS)
    manifest = read_manifest(storage)
    lost = [row["path"] for row in read_shard_table(storage, manifest.tables["text"]).rows()]
    saved = {path: storage.read(path) for path in lost}
    storage.delete(lost)
    for split in range(len(old.splits)):
        process_split(storage, old, split, ["text", "framed"])
    latest = latest_receipt(storage, "text", 0, 0)
    assert latest is not None
    assert latest.receipt is not None
    assert latest.receipt.takedown == 0
    with pytest.raises(RunError):
        publish(storage, old, max_rejected_fraction=1.0)
    with pytest.raises(RunError, match="no valid receipt"):
        publish(storage, read_plan(storage, 2), max_rejected_fraction=1.0)
    assert build_dataset(any_job) == manifest
    assert {path: storage.read(path) for path in lost} == saved
    assert not set(KEYS) & set(keys_of(root)["text"])
    whole(root)


def test_keys_of_parts_made_later_stay_away_too(job: Job, tmp_path: Path) -> None:
    """A key that a run left out of a new part, which a second takedown has then searched, does not come in either."""
    storage = Storage.open(job.output)
    take_down(storage, ["later"])
    write_jsonl(tmp_path / "in/c.jsonl", [{"id": "later", "text": "x"}, *records("c", 5)])
    heedless = make_plan(storage, job).plan
    build_dataset(job)
    take_down(storage, ["c3"])
    heedless = replace(heedless, takedown=None)
    storage.delete([row["path"] for row in read_shard_table(storage, read_manifest(storage).tables["text"]).rows()])
    for split in range(len(heedless.splits)):
        process_split(storage, heedless, split, ["text", "framed"])
    build_dataset(job)
    assert not {"later", "c3"} & set(keys_of(job.output)["text"])
    whole(job.output)


def test_before_anything_is_published(any_root: str, tmp_path: Path) -> None:
    for name, lines in corpus().items():
        write_jsonl(tmp_path / "in" / name, lines)
    job = job_on(any_root, tmp_path / "in")
    storage = Storage.open(any_root)
    plan = make_plan(storage, job).plan
    process_split(storage, plan, 0, ["text", "framed"])
    report = take_down(storage, KEYS)
    assert (report.generation, report.published, report.tables) == (None, False, {})
    assert any("nothing is published" in note for note in report.notes)
    for split in range(1, len(plan.splits)):
        process_split(storage, plan, split, ["text", "framed"])
    with pytest.raises(RunError, match="keys were taken down"):
        publish(storage, plan, max_rejected_fraction=1.0)
    manifest = build_dataset(job)
    assert (manifest.generation, manifest.tables["text"].taken_down) == (2, 6)
    assert not set(KEYS) & set(keys_of(any_root)["framed"])
    whole(any_root)
    assert not take_down(storage, KEYS).published


def test_a_damaged_shard_stops_it_before_anything_is_written(job: Job) -> None:
    storage = Storage.open(job.output)
    path = Path(job.output) / read_shard_table(storage, read_manifest(storage).tables["text"]).path(1)
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)
    there = files(storage)
    with pytest.raises(CorruptionError, match=path.name):
        take_down(storage, KEYS)
    assert files(storage) == there
    build_dataset(job)
    assert take_down(storage, KEYS).published


def test_a_shard_that_is_lost_in_between_is_made_by_the_next_run(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.open(job.output)
    original = Storage.open(job.output).create
    manifest = read_manifest(storage)

    def create(path: str, data: bytes) -> bool:
        if path == layout.takedown(1):
            storage.delete([row["path"] for row in read_shard_table(storage, manifest.tables["text"]).rows()])
        return original(path, data)

    monkeypatch.setattr(storage, "create", create)
    with pytest.raises(Exception, match="there is no such shard"):
        take_down(storage, KEYS)
    monkeypatch.undo()
    assert build_dataset(job).tables["text"].taken_down == 6
    assert not set(KEYS) & set(keys_of(job.output)["text"])
    (shards,) = (one["text"] for one in [shards_of(storage, read_manifest(storage))])
    listed = {layout.shard("text", *shard) for shard in shards}
    assert not listed & {problem.path for problem in verify(storage).problems}, "those of generation 1 are lost"
    assert not take_down(storage, KEYS).published


def test_damage_in_an_unfinished_run_is_left_to_that_run(job: Job, tmp_path: Path) -> None:
    storage = Storage.open(job.output)
    first = len(read_plan(storage, 1).splits)
    write_jsonl(tmp_path / "in/c.jsonl", records("c", 10))
    run_splits(job)
    storage.delete([path for path in files(storage) if f"text/shards/{first:06d}" in path])
    assert take_down(storage, KEYS).published
    build_dataset(job)
    assert "c9" in keys_of(job.output)["text"]
    whole(job.output)
