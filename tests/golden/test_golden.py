"""Every golden file is read by today's code, and is what today's code writes."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

import tokenmill
from tests import golden
from tests.datasets import build_dataset
from tests.shard_cases import header, rows_of
from tests.test_receipts import a_receipt
from tokenmill import layout
from tokenmill.duplicates import Duplicates
from tokenmill.manifests import ShardTable, read_manifest, read_shard_table
from tokenmill.plans import SplitTable, read_plan
from tokenmill.receipts import Receipt, latest_receipt, sha256_of
from tokenmill.shards import block_checksums, parse_header
from tokenmill.storage.outputs import Storage
from tokenmill.takedown_lists import read_takedown

NAMES = (
    "duplicates-v1.arrow", "manifest-duplicates-v1.json", "manifest-taken-down-v1.json", "manifest-v1.json",
    "plan-v1.json", "plan-v2.json", "receipt-v1.json", "receipt-v2.json", "rejects-v1.jsonl", "shard-v1.arrow",
    "shards-v1.arrow", "splits-v1.arrow", "takedown-keys-v1.arrow", "takedown-parts-v1.arrow", "takedown-v1.json",
)  # fmt: skip


def read(name: str) -> bytes:
    return (golden.DIRECTORY / name).read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_todays_code_writes_the_same_bytes(name: str) -> None:
    assert golden.files()[name] == read(name)


def test_no_golden_file_goes_unchecked() -> None:
    assert tuple(sorted(golden.files())) == NAMES
    found = {path.name for path in golden.DIRECTORY.iterdir() if path.suffix in (".arrow", ".json", ".jsonl")}
    assert found == set(NAMES)


def test_the_shard_is_read() -> None:
    table = pa.ipc.open_file(pa.BufferReader(read("shard-v1.arrow"))).read_all()
    table.validate(full=True)
    assert parse_header(table.schema, "x") == header(golden.COLUMNS)
    rows = rows_of(golden.ROWS, golden.COLUMNS)
    assert table["ordinal"].to_pylist() == rows.ordinals.tolist()
    assert table["key"].to_pylist() == [row["key"] for row in golden.ROWS]
    for name in golden.COLUMNS:
        assert table[f"metadata.{name}"].to_pylist() == [row["metadata"][name] for row in golden.ROWS]
    for name in ("ids", "grid"):
        assert [list(row) for row in table[name].to_pylist()] == [
            rows.streams[name][index].reshape(-1).tolist() for index in range(len(rows))
        ]


def test_the_receipt_is_read() -> None:
    assert Receipt.from_bytes(read("receipt-v1.json"), "x") == a_receipt()
    taken_from = Receipt.from_bytes(read("receipt-v2.json"), "x")
    assert taken_from == replace(a_receipt(), takedown=3, taken_down=2, items=102)


def put_takedown(root: Path) -> None:
    """Lay the takedown list out as it was written."""
    (root / "takedowns").mkdir()
    (root / layout.takedown(3)).write_bytes(read("takedown-v1.json"))
    value = json.loads(read("takedown-v1.json"))
    for kind in ("keys", "parts"):
        (root / value[kind]["path"]).write_bytes(read(f"takedown-{kind}-v1.arrow"))


def test_the_takedown_list_is_read(tmp_path: Path) -> None:
    put_takedown(tmp_path)
    expected = golden.takedown()
    found = read_takedown(Storage.open(str(tmp_path)), 3)
    for name in ("number", "created", "salt", "splits", "tables", "parts"):
        assert getattr(found, name) == getattr(expected, name)
    assert found.digests.tolist() == expected.digests.tolist()
    assert found.taken([row["key"] for row in golden.ROWS]).tolist() == [True] * 3 + [False] * 2


def test_the_plan_is_read(tmp_path: Path) -> None:
    expected = golden.plan()
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "000002.json").write_bytes(read("plan-v1.json"))
    path = json.loads(read("plan-v1.json"))["splits"]["path"]
    (tmp_path / path).write_bytes(read("splits-v1.arrow"))
    found = read_plan(Storage.open(str(tmp_path)), 2)
    assert list(found.splits) == list(expected.splits) == list(SplitTable.from_bytes(read("splits-v1.arrow")))
    assert (found.job, found.roots, found.tables) == (expected.job, expected.roots, expected.tables)
    assert found.environment == expected.environment
    assert (found.takedown, found.withheld_from) == (None, None)


def test_the_plan_of_a_dataset_with_a_takedown_is_read(tmp_path: Path) -> None:
    put_takedown(tmp_path)
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "000002.json").write_bytes(read("plan-v2.json"))
    (tmp_path / json.loads(read("plan-v2.json"))["splits"]["path"]).write_bytes(read("splits-v1.arrow"))
    found = read_plan(Storage.open(str(tmp_path)), 2)
    assert found.takedown is not None
    assert (found.takedown.number, found.withheld_from, found.reach) == (3, 2, 2)
    assert found.splits_of(found.table("text")).tolist() == [0, 1]


def test_the_manifest_is_read(tmp_path: Path) -> None:
    (tmp_path / "manifests").mkdir()
    (tmp_path / layout.manifest(2)).write_bytes(read("manifest-v1.json"))
    assert read_manifest(Storage.open(str(tmp_path))) == golden.manifest()
    (tmp_path / layout.manifest(3)).write_bytes(read("manifest-taken-down-v1.json"))
    taken_from = read_manifest(Storage.open(str(tmp_path)), 3)
    assert (taken_from.takedown, taken_from.tables["text"].taken_down) == (3, 4)


def test_the_table_of_shards_is_read() -> None:
    table = ShardTable.from_bytes(read("shards-v1.arrow"))
    assert table.rows() == golden.shard_table().rows()
    assert table.blocks(0).tolist() == block_checksums([memoryview(read("shard-v1.arrow"))]).tolist()


def test_the_list_of_duplicates_is_read(tmp_path: Path) -> None:
    assert Duplicates.from_bytes(read("duplicates-v1.arrow"), "x", 1 << 34) == golden.duplicates()
    (tmp_path / "manifests").mkdir()
    (tmp_path / layout.manifest(2)).write_bytes(read("manifest-duplicates-v1.json"))
    listed = read_manifest(Storage.open(str(tmp_path))).tables["text"].duplicates
    assert listed is not None
    assert (listed["size_bytes"], listed["count"]) == (3, 3)


def test_the_rejects_are_read() -> None:
    lines = [json.loads(line) for line in read("rejects-v1.jsonl").splitlines()]
    assert [line["ordinal"] for line in lines] == [3, 9]
    assert [line["key"] for line in lines] == [reject.key for reject in golden.REJECTS]
    assert lines[1]["lost_items"] == 17


def test_the_dataset_is_read(tmp_path: Path) -> None:
    """A whole dataset, written by an earlier version, copied to somewhere else."""
    shutil.copytree(golden.DIRECTORY / "dataset-v1", tmp_path / "copy")
    kept = [record for record in golden.RECORDS if record["text"] is not None]
    dataset = tokenmill.open(str(tmp_path / "copy"))
    for name in ("text", "raw"):
        table = dataset[name]
        assert len(table) == len(kept)
        for index, record in enumerate(kept):
            assert table[index].key == record["id"]
            assert table.decode(index) == record["text"]


def test_todays_code_writes_the_same_shards(tmp_path: Path) -> None:
    """Shards, statistics and rejects; receipts and plans tell of the environment, too."""
    job = golden.dataset_job(tmp_path)
    build_dataset(job)
    kept, made = golden.DIRECTORY / "dataset-v1", Path(job.output)
    names = {path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file()}
    products = {name for name in names if layout.is_product(name)}
    assert len(products) == 8
    for name in products:
        assert (made / name).read_bytes() == (kept / name).read_bytes(), name
    old, new = read_manifest(Storage.open(str(kept))), read_manifest(Storage.open(job.output))
    assert old.fingerprint == new.fingerprint
    assert old.tables["text"].summary == new.tables["text"].summary


def test_the_datasets_receipts_are_read() -> None:
    storage = Storage.open(str(golden.DIRECTORY / "dataset-v1"))
    for row in read_shard_table(storage, read_manifest(storage).tables["text"]).rows():
        latest = latest_receipt(storage, "text", row["split"], row["part"])
        assert latest is not None
        assert latest.receipt is not None
        assert latest.receipt.shards[0].sha256 == row["sha256"] == sha256_of(storage, row["path"])
