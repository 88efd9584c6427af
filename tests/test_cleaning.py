"""Cleaning removes what nobody names, and never anything else."""

import os
import random
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.datasets import build_dataset, job_of, run_splits, write_jsonl
from tokenmill import layout
from tokenmill.cleaning import DEFAULT_AGE, find_garbage, remove
from tokenmill.errors import CorruptionError, DatasetError
from tokenmill.jobs import Job
from tokenmill.layout import ReceiptName
from tokenmill.receipts import Receipt
from tokenmill.storage import s3_client
from tokenmill.storage.outputs import Storage
from tokenmill.verification import verify

NOW = timedelta(0)
FAKE = "f" * 64


@pytest.fixture
def job(any_root: str, tmp_path: Path) -> Job:
    write_jsonl(tmp_path / "in/a.jsonl", ["broken", *({"id": str(i), "text": f"{i} " * 300} for i in range(30))])
    return job_of(any_root, tmp_path / "in")


@pytest.fixture
def storage(job: Job) -> Storage:
    return Storage.open(job.output)


@pytest.fixture
def local(tmp_path: Path) -> Job:
    write_jsonl(tmp_path / "in/a.jsonl", ["broken", *({"id": str(i), "text": f"{i} " * 300} for i in range(30))])
    return job_of(str(tmp_path / "out"), tmp_path / "in")


def names(storage: Storage) -> set[str]:
    return {entry.path for entry in storage.list()}


def age(root: str, paths: Iterable[str], hours: float) -> None:
    """Make local files older."""
    then = time.time() - 3600 * hours
    for path in paths:
        os.utime(Path(root) / path, (then, then))


def plant(storage: Storage, *, part: int = 0) -> set[str]:
    """Leave one orphan of each kind."""
    orphans = {
        layout.shard("text", 0, part, FAKE),
        layout.statistics("text", 0, part, FAKE),
        layout.rejects("text", 0, part, FAKE),
        layout.shard("text", 77, 3, FAKE),
    }
    for path in orphans:
        storage.put(path, [b"orphan"])
    return orphans


def settle(storage: Storage) -> None:
    """Wait until what was written is in the past on a clock that has whole seconds."""
    if storage.uri.startswith("s3://"):
        time.sleep(1.1)


def test_a_clean_dataset(job: Job, storage: Storage) -> None:
    build_dataset(job)
    settle(storage)
    before = names(storage)
    garbage = find_garbage(storage, NOW)
    assert len(garbage) == 0
    assert garbage.notes == ()
    assert remove(storage, garbage).files == 0
    assert names(storage) == before


def test_orphans_of_every_kind(job: Job, storage: Storage) -> None:
    build_dataset(job)
    before = names(storage)
    orphans = plant(storage)
    sidecars = {
        layout.splits(1, FAKE),
        layout.manifest_shards(1, "text", FAKE),
        layout.manifest_statistics(1, "text", FAKE),
        layout.manifest_duplicates(1, "text", FAKE),
    }
    for path in sidecars:
        storage.put(path, [b"superseded"])
    strangers = {
        "notes.txt",
        "text/shards/readme.md",
        "other/shards/" + layout.part_name(0, 0) + "-" + FAKE[:16] + ".arrow",
    }
    for path in strangers:
        storage.put(path, [b"not ours"])
    settle(storage)
    assert len(find_garbage(storage)) == 0, "nothing is an hour old"
    garbage = find_garbage(storage, NOW)
    assert {entry.path for entry in garbage.orphans} == orphans
    assert {entry.path for entry in garbage.sidecars} == sidecars
    assert garbage.size_bytes == 4 * 6 + 4 * 10
    assert names(storage) == before | orphans | sidecars | strangers, "looking removes nothing"
    removed = remove(storage, garbage)
    assert (removed.files, removed.size_bytes, removed.kept) == (8, 64, 0)
    assert names(storage) == before | strangers
    assert verify(storage).ok
    assert remove(storage, garbage).kept == 8


def test_before_publication_only_what_is_a_day_old(local: Job) -> None:
    storage = Storage.open(local.output)
    run_splits(local)
    orphans = plant(storage)
    age(local.output, orphans, 23)
    found = find_garbage(storage, NOW)
    assert len(found) == 0
    assert found.older_than == timedelta(days=1)
    age(local.output, orphans, 25)
    assert {entry.path for entry in find_garbage(storage, NOW).orphans} == orphans
    build_dataset(local)
    age(local.output, orphans, 2)
    assert {entry.path for entry in find_garbage(storage).orphans} == orphans
    age(local.output, orphans, 0.5)
    assert len(find_garbage(storage)) == 0


def test_a_begun_next_generation_makes_it_careful_again(local: Job, tmp_path: Path) -> None:
    storage = Storage.open(local.output)
    build_dataset(local)
    orphans = plant(storage)
    age(local.output, orphans, 2)
    assert len(find_garbage(storage)) == 4
    write_jsonl(tmp_path / "in/b.jsonl", [{"id": "new", "text": "new"}])
    run_splits(local)
    assert len(find_garbage(storage)) == 0


def test_all_attempts_are_kept(job: Job, storage: Storage) -> None:
    build_dataset(job)
    first = ReceiptName("text", 0, 0, 0)
    receipt = Receipt.from_bytes(storage.read(layout.receipt(first)), "")
    older = replace(receipt.shards[0], path=layout.shard("text", 0, 0, FAKE))
    storage.put(older.path, [b"an earlier attempt's"])
    second = replace(receipt, name=replace(first, attempt=1))
    storage.delete([layout.receipt(first)])
    storage.create(layout.receipt(first), replace(receipt, shards=(older,)).to_bytes())
    storage.create(layout.receipt(second.name), second.to_bytes())
    settle(storage)
    assert len(find_garbage(storage, NOW)) == 0
    storage.delete([layout.receipt(first)])  # the second attempt must be seen though the first is gone
    assert [entry.path for entry in find_garbage(storage, NOW).orphans] == [older.path]


def test_a_damaged_receipt_keeps_its_part(job: Job, storage: Storage) -> None:
    build_dataset(job)
    orphans = plant(storage)
    path = layout.receipt(ReceiptName("text", 0, 0, 0))
    storage.put(path, [b"{}"])
    settle(storage)
    garbage = find_garbage(storage, NOW)
    assert {entry.path for entry in garbage.orphans} == {path for path in orphans if "000077" in path}
    assert any(path in note for note in garbage.notes)


@pytest.mark.parametrize("path", [layout.plan(1), layout.manifest(1)])
def test_a_damaged_plan_or_manifest_stops_it(job: Job, storage: Storage, path: str) -> None:
    build_dataset(job)
    plant(storage)
    storage.put(path, [b"{}"])
    with pytest.raises(CorruptionError, match=path):
        find_garbage(storage, NOW)


def test_a_copy_without_receipts_is_left_alone(job: Job, storage: Storage) -> None:
    build_dataset(job)
    storage.delete([entry.path for entry in storage.list("text/receipts/")])
    settle(storage)
    garbage = find_garbage(storage, NOW)
    assert garbage.orphans == ()
    assert any("no receipts" in note for note in garbage.notes)


def test_what_manifests_list_is_kept_even_without_its_receipt(job: Job, storage: Storage) -> None:
    build_dataset(job)
    storage.delete([layout.receipt(ReceiptName("text", 0, 0, 0))])
    settle(storage)
    assert not [entry for entry in find_garbage(storage, NOW).orphans if "/shards/" in entry.path]


def test_what_came_into_use_meanwhile_is_kept(job: Job, storage: Storage) -> None:
    """A run that was killed is started again between the look and the removal."""
    run_splits(job)
    build_dataset(job)
    receipts = sorted(entry.path for entry in storage.list("text/receipts/"))
    saved = {path: storage.read(path) for path in receipts[:2]}
    storage.delete(saved)
    new = layout.shard("text", 0, 5, FAKE)
    storage.put(new, [b"orphan"])
    settle(storage)
    garbage = find_garbage(storage, NOW)
    doomed = {entry.path for entry in garbage.orphans}
    assert len(doomed) > 1
    for path, data in saved.items():
        storage.create(path, data)
    storage.put(new, [b"written again"])
    removed = remove(storage, garbage)
    assert removed.files == 0
    assert removed.kept == len(doomed)
    assert doomed < names(storage)


def test_after_any_crash_cleaning_does_no_harm(local: Job) -> None:
    chance = random.Random(3)
    storage = Storage.open(local.output)
    for _ in range(5):
        run_splits(local)
        receipts = [entry.path for entry in storage.list("text/receipts/")]
        storage.delete(chance.sample(receipts, len(receipts) // 3))  # killed before those were created
        plant(storage, part=chance.randrange(4))
        age(local.output, [path for path in names(storage) if chance.random() < 0.7], 30)
        remove(storage, find_garbage(storage, NOW))
    build_dataset(local)
    assert verify(storage).ok
    age(local.output, names(storage), 30)
    remove(storage, find_garbage(storage, NOW))
    report = verify(storage)
    assert report.problems == []
    receipts = [entry.path for entry in storage.list("text/receipts/")]
    named = {file.path for path in receipts for file in Receipt.from_bytes(storage.read(path), path).files}
    products = {entry.path for entry in storage.list() if layout.is_product(entry.path)}
    assert products == named


def test_local_temporaries(local: Job) -> None:
    storage = Storage.open(local.output)
    build_dataset(local)
    left = Path(local.output) / ".tmp" / "123-abc"
    left.write_bytes(b"half a shard")
    assert len(find_garbage(storage)) == 0
    age(local.output, [".tmp/123-abc"], 2)
    garbage = find_garbage(storage)
    assert [entry.path for entry in garbage.temporaries] == [".tmp/123-abc"]
    assert remove(storage, garbage).files == 1
    assert not left.exists()


def test_stale_uploads(s3_root: str, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", [{"id": "a", "text": "one"}])
    build_dataset(job_of(s3_root, tmp_path / "in"))
    storage = Storage.open(s3_root)
    bucket, _, prefix = s3_root.removeprefix("s3://").partition("/")
    mine = layout.shard("text", 0, 0, FAKE)
    for path in (mine, "nested/dataset/" + mine, "somebody-elses.bin"):
        s3_client.call("create_multipart_upload", where=s3_root, Bucket=bucket, Key=f"{prefix}/{path}")
    time.sleep(1.1)
    assert len(find_garbage(storage).uploads) == 0
    garbage = find_garbage(storage, NOW)
    assert [upload.path for upload in garbage.uploads] == [mine]
    assert remove(storage, garbage).uploads == 1
    assert sorted(upload.path for upload in storage.stale_uploads(NOW)) == [
        "nested/dataset/" + mine,
        "somebody-elses.bin",
    ]


def test_what_is_no_dataset_is_refused(any_root: str) -> None:
    storage = Storage.open(any_root)
    storage.put(layout.shard("text", 0, 0, FAKE), [b"whose?"])
    with pytest.raises(DatasetError, match="no dataset"):
        find_garbage(storage, NOW)


def test_few_receipts_are_read(job: Job, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    build_dataset(job)
    plant(storage, part=2)
    settle(storage)
    read: list[str] = []
    original = storage.read

    def counted(path: str) -> bytes:
        read.append(path)
        return original(path)

    monkeypatch.setattr(storage, "read", counted)
    assert len(find_garbage(storage, NOW).orphans) == 4
    parts = {path for path in read if layout.parse_receipt(path)}
    assert {layout.parse_receipt(path).part for path in parts} <= {0, 2, 3}  # type: ignore[union-attr]
    assert len(list(storage.list("text/receipts/"))) > 5


def test_json(local: Job) -> None:
    storage = Storage.open(local.output)
    build_dataset(local)
    orphans = plant(storage)
    age(local.output, orphans, 3)
    document = find_garbage(storage).to_json()
    assert document["older_than_seconds"] == DEFAULT_AGE.total_seconds()
    assert {file["path"] for file in document["files"]} == orphans
    assert {file["kind"] for file in document["files"]} == {"orphan"}
    assert document["size_bytes"] == 24
