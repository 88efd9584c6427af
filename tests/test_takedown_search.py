"""Where keys are found, and what is counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.datasets import build_dataset, write_jsonl
from tests.takedown_cases import KEYS, dataset, records
from tokenmill import layout
from tokenmill.jobs import Job
from tokenmill.manifests import read_manifest, read_shard_table
from tokenmill.plans import read_plan
from tokenmill.receipts import latest_receipt
from tokenmill.storage.outputs import Storage
from tokenmill.takedown_lists import Takedown, key_digests, newest_takedown
from tokenmill.takedown_search import Found, search
from tokenmill.takedowns import take_down


@pytest.fixture
def job(any_root: str, tmp_path: Path) -> Job:
    return dataset(any_root, tmp_path / "in")


def find(storage: Storage, keys: list[str], before: Takedown | None = None) -> Found:
    manifest = read_manifest(storage)
    salt = b"salt" if before is None else before.salt
    digests = np.unique(key_digests(salt, keys))
    wanted = Takedown(9, "", salt, digests, 0, {}, {})
    return search(storage, manifest, read_plan(storage, manifest.generation), wanted, before)


def places_of(storage: Storage, keys: set[str]) -> set[tuple[str, int, int]]:
    """Return the parts that hold keys, found by reading all there is."""
    import pyarrow as pa

    found = set()
    manifest = read_manifest(storage)
    for name, table in manifest.tables.items():
        for row in read_shard_table(storage, table).rows():
            shard = pa.ipc.open_file(pa.BufferReader(storage.read(row["path"]))).read_all()
            if keys & set(shard["key"].to_pylist()):
                found.add((name, row["split"], row["part"]))
    for entry in storage.list("rejects/"):
        part = layout.parse_product(entry.path)
        assert part is not None
        if any(f'"key": "{key}"' in storage.read(entry.path).decode() for key in keys):
            found.add((part.table, part.split, part.part))
    return found


def test_rows_and_rejects_are_found(job: Job) -> None:
    storage = Storage.open(job.output)
    found = find(storage, [*KEYS, "nobody"])
    assert found.parts == dict.fromkeys(places_of(storage, set(KEYS)), 9)
    assert dict(found.items) == {"text": 6, "framed": 6}
    rows = {place for place in places_of(storage, set(KEYS) - {"bad"}) if place[0] == "text"}
    assert found.shards["text"] == len(rows)
    assert found.digests == set(key_digests(b"salt", KEYS).tolist())


def test_nothing_is_found(job: Job) -> None:
    found = find(Storage.open(job.output), ["nobody", "not json"])
    assert (found.parts, found.digests, sum(found.items.values())) == ({}, set(), 0)


def test_rejects_that_no_receipt_names_are_passed_over(job: Job) -> None:
    storage = Storage.open(job.output)
    storage.put(layout.rejects("text", 0, 0, "f" * 64), [b'{"ordinal": 0, "key": "nobody"}\n'])
    assert find(storage, ["nobody"]).parts == {}


def test_parts_that_were_made_without_some_items_are_told(job: Job, tmp_path: Path) -> None:
    storage = Storage.open(job.output)
    take_down(storage, ["later"])
    before = newest_takedown(storage)
    write_jsonl(tmp_path / "in/c.jsonl", [*records("c", 5), {"id": "later", "text": "x"}])
    build_dataset(job)
    found = find(storage, ["nobody"], before)
    made = [place for place in found.parts if found.parts[place] == 1]
    assert {table for table, _, _ in made} == {"text", "framed"}
    for place in made:
        latest = latest_receipt(storage, *place)
        assert latest is not None
        assert latest.receipt is not None
        assert latest.receipt.taken_down == 1
    assert set(found.parts.values()) == {1}
