"""Earlier generations that are asked to go: what held keys before a takedown is erased, and nothing else is touched."""

from collections.abc import Iterable
from pathlib import Path

import pytest

import tokenmill
from tests.datasets import build_dataset, job_of, run_splits, write_jsonl
from tests.hashed_text import hashed_dataset, register, repeats_of
from tests.test_cleaning import FAKE, NOW, age, names, settle
from tokenmill import layout
from tokenmill.cleaning import find_garbage, remove
from tokenmill.errors import ConfigurationError, DatasetError
from tokenmill.jobs import Job
from tokenmill.storage.outputs import Storage
from tokenmill.takedown_lists import takedown_files
from tokenmill.takedowns import take_down
from tokenmill.verification import verify


@pytest.fixture
def local(tmp_path: Path) -> Job:
    write_jsonl(tmp_path / "in/a.jsonl", ["broken", *({"id": str(i), "text": f"{i} " * 300} for i in range(30))])
    return job_of(str(tmp_path / "out"), tmp_path / "in")


def text_of(storage: Storage, *texts: bytes) -> dict[bytes, set[str]]:
    """Return which files hold some texts; shards of byte ids hold them as they are."""
    content = {entry.path: storage.read(entry.path) for entry in storage.list()}
    return {text: {path.split("/")[-2] for path, data in content.items() if text in data} for text in texts}


def take_down_and_settle(job: Job, storage: Storage) -> None:
    """Take down the texts of two items, one of which is rejected for its number, and a third that nobody has."""
    assert take_down(storage, ["17", "reject-me", "nobody"]).published
    settle(storage)


@pytest.fixture
def secretive(any_root: str, tmp_path: Path) -> Job:
    """A dataset whose texts, keys and rejects can be told apart anywhere."""
    records = [{"id": str(i), "text": f"<{i}> " * 300, "n": i} for i in range(30)]
    records.append({"id": "reject-me", "text": "x", "n": "REJECTED-NUMBER"})
    records.append({"id": "other", "text": "x", "n": "another"})
    write_jsonl(tmp_path / "in/a.jsonl", records)
    job = job_of(any_root, tmp_path / "in", source={"metadata": {"n": "int64"}})
    build_dataset(job)
    return job


def test_a_takedown_really_erases(secretive: Job) -> None:
    storage = Storage.open(secretive.output)
    wanted = (b"<17> <17>", b"reject-me", b"REJECTED-NUMBER")
    take_down_and_settle(secretive, storage)
    first = {entry.path for entry in storage.list("manifests/") if "000001" in entry.path}
    assert all(text_of(storage, *wanted).values()), "earlier generations are kept until somebody asks"
    assert len(find_garbage(storage, NOW)) == 0
    garbage = find_garbage(storage, NOW, generations_before=2)
    assert {entry.path for entry in garbage.generations} == {layout.manifest(1), layout.plan(1)}
    assert first < {entry.path for entry in garbage.files}
    kinds = [entry.path.split("/")[-2] for entry in garbage.orphans]
    assert sorted(kinds) == ["rejects", "shards", "statistics", "statistics"]
    removed = remove(storage, garbage)
    assert removed.kept == 0
    assert not any(text_of(storage, *wanted).values())
    report = verify(storage)
    assert (report.problems, report.notes) == ([], [])
    assert not [path for path in names(storage) if "000001" in path and path.startswith(("manifests", "plans"))]
    assert len(find_garbage(storage, NOW, generations_before=2)) == 0
    assert len(find_garbage(storage, NOW)) == 0
    assert build_dataset(secretive).generation == 2, "the next run finds all there is to know"
    assert not any(text_of(storage, *wanted).values())


def test_a_removal_that_was_killed_is_ended_by_the_next(secretive: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.open(secretive.output)
    take_down_and_settle(secretive, storage)
    doomed = {entry.path for entry in find_garbage(storage, NOW, generations_before=2).files}
    original = storage.delete
    for most in range(0, len(doomed), 2):
        left = iter(range(most))

        def delete(paths: Iterable[str], left: Iterable[int] = left) -> None:
            next(left)  # type: ignore[call-overload]
            original(paths)

        with monkeypatch.context() as patch:
            patch.setattr(storage, "delete", delete)
            garbage = find_garbage(storage, NOW, generations_before=2)
            if len(garbage) > most:
                with pytest.raises(StopIteration):
                    remove(storage, garbage)
        assert verify(storage).problems == []
    remove(storage, find_garbage(storage, NOW, generations_before=2))
    assert not doomed & names(storage)


def test_generations_that_stay_keep_what_they_need(local: Job, tmp_path: Path) -> None:
    """Of four generations the first goes: the second and third, by other takedown lists, stay whole."""
    storage = Storage.open(local.output)
    build_dataset(local)
    take_down(storage, ["3"])
    take_down(storage, ["3", "4", "25"])
    write_jsonl(tmp_path / "in/b.jsonl", [{"id": "new", "text": "new"}])
    build_dataset(local)
    remove(storage, find_garbage(storage, NOW, generations_before=2))
    report = verify(storage)
    assert report.problems == []
    assert report.shards > 0
    assert tokenmill.open(local.output, generation=2)["text"][3].key == "4"
    with pytest.raises(DatasetError, match=r"has no generation 1; it has \[2, 3, 4\]"):
        tokenmill.open(local.output, generation=1)
    remove(storage, find_garbage(storage, NOW, generations_before=4))
    assert verify(storage).problems == []
    assert {layout.parse_generation(path) for path in names(storage) if path.startswith("manifests/")} == {4, None}


def test_a_takedown_that_is_not_carried_out_loses_nothing(local: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.open(local.output)
    build_dataset(local)
    monkeypatch.setattr("tokenmill.takedowns.publish", lambda *_, **__: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        take_down(storage, ["3", "4"])
    monkeypatch.undo()
    storage.delete([layout.plan(2)])
    age(local.output, names(storage), 30)
    garbage = find_garbage(storage, NOW, generations_before=1)
    assert garbage.orphans == ()
    remove(storage, garbage)
    assert take_down(storage, ["3", "4"]).published
    assert verify(storage).problems == []


def test_the_dataset_itself_never_goes(local: Job) -> None:
    storage = Storage.open(local.output)
    run_splits(local)
    with pytest.raises(ConfigurationError, match="newest published generation is none"):
        find_garbage(storage, NOW, generations_before=1)
    build_dataset(local)
    with pytest.raises(ConfigurationError, match="newest published generation is 1"):
        find_garbage(storage, NOW, generations_before=2)


def test_a_young_generation_stays_whole(local: Job) -> None:
    storage = Storage.open(local.output)
    build_dataset(local)
    take_down(storage, ["3"])
    age(local.output, names(storage) - {layout.manifest(1)}, 30)
    garbage = find_garbage(storage, generations_before=2)
    assert len(garbage) == 0, "its manifest is young, so its plan and what it names stays, too"
    age(local.output, [layout.manifest(1)], 30)
    assert {entry.path for entry in find_garbage(storage, generations_before=2).generations} == {
        layout.manifest(1),
        layout.plan(1),
    }


def test_columnar_files_of_lists_that_never_came_to_be(local: Job) -> None:
    storage = Storage.open(local.output)
    build_dataset(local)
    take_down(storage, ["3"])
    orphans = {layout.takedown_keys(2, FAKE), layout.takedown_parts(2, FAKE)}
    for path in orphans:
        storage.put(path, [b"of a process that was killed"])
    garbage = find_garbage(storage, NOW)
    assert {entry.path for entry in garbage.files} == orphans
    remove(storage, garbage)
    assert {layout.takedown(1), *takedown_files(storage, 1)} == {path for path in names(storage) if "takedowns" in path}


def test_lists_of_duplicates_stay_as_long_as_their_manifest(
    any_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch)
    hashed_dataset(any_root, tmp_path / "in")
    storage = Storage.open(any_root)
    assert take_down(storage, ["a1"]).published
    settle(storage)
    first, second = sorted(path for path in names(storage) if path.endswith(".duplicates.arrow"))
    assert "000001" in first
    assert "000002" in second
    assert len(find_garbage(storage, NOW)) == 0
    orphan = layout.manifest_duplicates(2, "hashed", FAKE)
    storage.put(orphan, [b"superseded"])
    settle(storage)
    remove(storage, find_garbage(storage, NOW))
    assert {path for path in names(storage) if path.endswith(".duplicates.arrow")} == {first, second}
    remove(storage, find_garbage(storage, NOW, generations_before=2))
    assert {path for path in names(storage) if path.endswith(".duplicates.arrow")} == {second}
    assert (repeats_of(any_root)["a9"], verify(storage).problems) == ("a5", [])
