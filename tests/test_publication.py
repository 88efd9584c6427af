import hashlib
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.datasets import build_dataset, job_of, run_splits, write_jsonl
from tests.hashed_text import expected, hashed_dataset, register, repeats_of
from tests.test_parts import Item, Run
from tokenmill import encoding_ahead, layout, part_files, parts, publication
from tokenmill.dataset import open_dataset
from tokenmill.encoders import encode_batch
from tokenmill.errors import CorruptionError, DatasetError, RejectedFractionError, RunError
from tokenmill.jobs import Job
from tokenmill.layout import ReceiptName
from tokenmill.manifests import Manifest, ShardTable, read_duplicates, read_manifest, read_shard_table
from tokenmill.parts import process_split
from tokenmill.planning import make_plan
from tokenmill.plans import Plan
from tokenmill.publication import complete_parts, publish
from tokenmill.receipts import Receipt
from tokenmill.shards import block_checksums
from tokenmill.statistics.part import PartStatistics
from tokenmill.storage.outputs import Storage
from tokenmill.takedown_lists import Takedown, key_digests, write_takedown
from tokenmill.verification import verify

RECORDS = [{"id": f"d{n}", "text": f"text {n} " * 60} for n in range(40)]


def job_on(root: str, tmp_path: Path) -> Job:
    write_jsonl(tmp_path / "in" / "a.jsonl", [*RECORDS, {"id": "null", "text": None}, "not json"])
    tables = [{"name": name, "tokenizer": {"id": "bytes", "eos": name == "framed"}} for name in ("text", "framed")]
    return job_of(root, tmp_path / "in", tables=tables)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return job_on(str(tmp_path / "out"), tmp_path)


@pytest.fixture
def any_job(any_root: str, tmp_path: Path) -> Job:
    return job_on(any_root, tmp_path)


def finish(job: Job, plan: Plan, fraction: float = 1.0) -> Manifest:
    return publish(Storage.open(job.output), plan, max_rejected_fraction=fraction)


def test_a_manifest_lists_every_shard_in_order(any_job: Job) -> None:
    manifest = build_dataset(any_job)
    storage = Storage.open(any_job.output)
    assert read_manifest(storage) == manifest
    table = manifest.tables["text"]
    assert (table.rows, table.rejected, table.size_bytes > 0) == (40, 2, True)
    assert table.tokens == {"ids": sum(len(record["text"]) for record in RECORDS)}
    assert table.tokens["ids"] == manifest.tables["framed"].tokens["ids"] - 40
    shards = read_shard_table(storage, table)
    assert len(shards) == table.shards["count"] > 3
    assert shards.column("part").tolist() == list(range(len(shards)))
    assert shards.row_ends.tolist()[-1] == 40
    for index, row in enumerate(shards.rows()):
        data = storage.read(row["path"])
        assert len(data) == row["size_bytes"]
        assert shards.path(index) == row["path"]
        assert block_checksums([memoryview(data)]).tolist() == shards.blocks(index).tolist()
    text = json.dumps(manifest.to_json())
    assert any_job.output not in text  # a dataset can be copied
    assert manifest.tables["text"].summary


def test_publishing_again_changes_nothing(job: Job) -> None:
    manifest = build_dataset(job)
    storage = Storage.open(job.output)
    before = {(entry.path, entry.size_bytes) for entry in storage.list()}
    assert finish(job, make_plan(storage, job).plan) == manifest
    assert {(entry.path, entry.size_bytes) for entry in storage.list()} == before


def test_of_runs_that_publish_at_once_one_manifest_remains(any_job: Job) -> None:
    plan = run_splits(any_job)
    found: list[Manifest] = []
    threads = [threading.Thread(target=lambda: found.append(finish(any_job, plan))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [manifest == found[0] for manifest in found] == [True] * 4


@pytest.mark.parametrize("table", ["text", "framed"])
@pytest.mark.parametrize("part", [0, 1, -1])
def test_a_missing_part_is_named(job: Job, table: str, part: int) -> None:
    plan = run_splits(job)
    storage = Storage.open(job.output)
    count = len(complete_parts(storage, plan, plan.table(table)).receipts)
    number = range(count)[part]
    storage.delete([layout.receipt(ReceiptName(table, 0, number, 0))])
    message = f"split 0 of table {table!r} is not complete: part {number} has no valid receipt"
    with pytest.raises(RunError, match=message) as caught:
        finish(job, plan)
    assert "run the job again" in str(caught.value.fix)
    assert not list(storage.list("manifests/"))


def test_a_plan_from_before_a_takedown_is_not_published(any_job: Job) -> None:
    plan = run_splits(any_job)
    storage = Storage.open(any_job.output)
    write_takedown(storage, Takedown(1, "", b"salt", key_digests(b"salt", ["d3"]), 0, {}, {}))
    with pytest.raises(RunError, match=r"keys were taken down \(list 1\) since generation 1 was planned") as caught:
        finish(any_job, plan)
    assert "run the job again" in str(caught.value.fix)
    assert storage.stat(layout.manifest(1)) is None
    with pytest.raises(RunError, match="split 0 of table 'text' is not complete: part 0 has no valid receipt"):
        finish(any_job, make_plan(storage, any_job).plan)
    table = build_dataset(any_job).tables["text"]
    assert (table.rows, table.rejected, table.taken_down) == (39, 2, 1)


def test_nothing_done_is_not_complete(job: Job) -> None:
    plan = make_plan(Storage.open(job.output), job).plan
    with pytest.raises(RunError, match="split 0 of table 'text' is not complete: part 0"):
        finish(job, plan)


def test_a_damaged_receipt_is_no_receipt(job: Job) -> None:
    plan = run_splits(job)
    storage = Storage.open(job.output)
    path = layout.receipt(ReceiptName("text", 0, 1, 0))
    data = storage.read(path)
    storage.delete([path])
    storage.create(path, data.replace(b'"items"', b'"itemz"'))
    with pytest.raises(RunError, match="part 1 has no valid receipt"):
        finish(job, plan)


def test_parts_that_leave_a_gap_are_not_complete(job: Job) -> None:
    plan = run_splits(job)
    storage = Storage.open(job.output)
    path = layout.receipt(ReceiptName("text", 0, 1, 0))
    receipt = Receipt.from_bytes(storage.read(path), path)
    storage.delete([path])
    shifted = replace(receipt, start=replace(receipt.start, ordinal=receipt.start.ordinal + 1))
    storage.create(path, shifted.to_bytes())
    with pytest.raises(RunError, match="part 1 has no valid receipt"):
        finish(job, plan)


def test_too_many_rejects_are_refused_with_the_commonest_reasons(tmp_path: Path) -> None:
    bad: list[Any] = [
        "not json",
        "not json either",
        {"id": "a", "text": None},
        {"id": "b"},
        {"id": "c", "text": 5},
        "[]",
        "{",
    ]
    write_jsonl(tmp_path / "in" / "a.jsonl", [*bad, *RECORDS[:13]])
    job = job_of(str(tmp_path / "out"), tmp_path / "in")
    plan = run_splits(job)
    storage = Storage.open(job.output)
    with pytest.raises(RejectedFractionError) as caught:
        finish(job, plan, 0.34)
    assert caught.value.what == (
        "table 'text': 7 of 20 items were rejected (35.00%; the job allows 34.00%): "
        "invalid_json 3, missing_field 1, not_an_object 1, null_text 1, wrong_type 1"
    )
    assert "rejects/text-000000-0000-" in str(caught.value.fix)
    assert caught.value.exit_code == 5
    assert not list(storage.list("manifests/"))
    assert finish(job, plan, 0.35).tables["text"].rejected == 7


def test_many_reasons_are_not_all_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publication, "_SHOWN_REASONS", 1)
    write_jsonl(tmp_path / "in" / "a.jsonl", ["x", "y", "[]", {"id": "a"}])
    job = job_of(str(tmp_path / "out"), tmp_path / "in")
    plan = run_splits(job)
    with pytest.raises(RejectedFractionError, match="invalid_json 2 and 2 other reasons"):
        finish(job, plan, 0.5)


def test_what_a_torn_file_lost_counts(tmp_path: Path) -> None:
    """Lost items are added to those seen, so that a fraction is one of all there were."""
    run = Run(str(tmp_path), [Item(5)] * 10 + [Item(None)])
    with pytest.MonkeyPatch.context() as patch:
        original = parts._Reading.part

        def cut(reading: Any, part_bytes: int) -> Any:
            for batch, rejects in original(reading, part_bytes):
                yield batch, [replace(reject, reason="torn_file", lost_items=30) for reject in rejects]

        patch.setattr(parts._Reading, "part", cut)
        run.process([4])
    with pytest.raises(RejectedFractionError, match=r"30 of 40 items were rejected \(75\.00%.*torn_file 30"):
        publish(run.storage, run.plan, max_rejected_fraction=0.7)
    assert publish(run.storage, run.plan, max_rejected_fraction=0.75).tables["text"].rejected == 30


def test_damaged_statistics_are_not_merged(job: Job) -> None:
    plan = run_splits(job)
    storage = Storage.open(job.output)
    entry = next(iter(storage.list("text/statistics/")))
    data = storage.read(entry.path)
    storage.put(entry.path, [data[:-9] + b"\x01" + data[-8:]])
    with pytest.raises(CorruptionError, match=r"text/statistics/.*does not match the checksum in its receipt"):
        finish(job, plan)


def test_a_manifest_over_other_shards_is_refused(tmp_path: Path) -> None:
    """Shards of a published generation were lost, and made again by an encoder that gives other ids."""
    write_jsonl(tmp_path / "in" / "a.jsonl", RECORDS)
    job = job_of(str(tmp_path / "out"), tmp_path / "in")
    build_dataset(job)
    storage = Storage.open(job.output)
    storage.delete([entry.path for entry in storage.list("text/shards/")])
    original = encode_batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            encoding_ahead,
            "encode_batch",
            lambda encoder, specs, texts: original(encoder, specs, [text.upper() for text in texts]),
        )
        plan = run_splits(job)
    with pytest.raises(CorruptionError, match="is published with other shards"):
        finish(job, plan)


@pytest.mark.parametrize("which", ["manifest", "shards"])
def test_a_damaged_manifest_is_noticed(job: Job, which: str) -> None:
    manifest = build_dataset(job)
    storage = Storage.open(job.output)
    path = layout.manifest(1) if which == "manifest" else manifest.tables["text"].shards["path"]
    data = storage.read(path)
    storage.delete([path])
    storage.put(path, [data[:100] + bytes([data[100] ^ 1]) + data[101:]])
    if which == "shards":
        with pytest.raises(CorruptionError, match=r"manifests/000001.*does not match the checksum in its manifest"):
            read_shard_table(storage, read_manifest(storage).tables["text"])
    else:
        with pytest.raises(CorruptionError, match=r"manifests/000001\.json.*does not match its own checksum"):
            read_manifest(storage)
        with pytest.raises(CorruptionError, match=r"manifests/000001\.json.*does not match its own checksum"):
            build_dataset(job)


def test_statistics_of_all_parts_are_merged(job: Job) -> None:
    manifest = build_dataset(job)
    storage = Storage.open(job.output)
    documents = 0
    for entry in storage.list("text/statistics/"):
        documents += PartStatistics.from_arrow_bytes(storage.read(entry.path)).documents
    assert documents == 40 == manifest.tables["text"].rows


def test_shard_tables_give_back_their_rows() -> None:
    rows = [
        {"split": n, "part": 0, "path": f"p{n}", "sha256": "s", "size_bytes": 5, "rows": n, "blocks": b"\1\0\0\0",
         "tokens.ids": 7, "value_offset.ids": 64}
        for n in range(4)
    ]  # fmt: skip
    table = ShardTable.from_bytes(ShardTable.from_rows(rows, ["ids"]).to_bytes())
    assert [{**row, "blocks": b"\1\0\0\0"} for row in table.rows()] == rows
    assert table.row_ends.tolist() == [0, 1, 3, 6]
    assert table.blocks(2).tolist() == [1]
    assert len(ShardTable.from_rows([], ["ids"])) == 0


def test_processing_after_publication_makes_nothing(job: Job) -> None:
    build_dataset(job)
    storage = Storage.open(job.output)
    report = process_split(storage, make_plan(storage, job).plan, 0, ["text", "framed"])
    assert report.made == 0


def test_duplicates_are_published(any_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)
    job = hashed_dataset(any_root, tmp_path / "in")
    storage = Storage.open(any_root)
    manifest = read_manifest(storage)
    assert len(read_shard_table(storage, manifest.tables["hashed"])) > 4
    assert manifest.tables["text"].duplicates is None
    assert "duplicates" not in manifest.tables["text"].to_json()
    listed = manifest.tables["hashed"].duplicates
    assert listed is not None
    data = storage.read(listed["path"])
    assert listed == {
        "path": layout.manifest_duplicates(1, "hashed", listed["sha256"]),
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        "count": len(expected()),
    }
    assert repeats_of(any_root) == expected()
    before = {(entry.path, entry.size_bytes) for entry in storage.list()}
    assert finish(job, make_plan(storage, job).plan) == manifest
    assert {(entry.path, entry.size_bytes) for entry in storage.list()} == before
    assert storage.read(listed["path"]) == data


def test_a_new_generation_knows_the_duplicates_of_its_own_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)
    root = str(tmp_path / "out")
    job = hashed_dataset(root, tmp_path / "in")
    texts = {"c0": "a 3 " * 150, "c1": "new", "c2": "new"}
    write_jsonl(tmp_path / "in/c.jsonl", [{"id": key, "text": text} for key, text in texts.items()])
    build_dataset(job)
    assert repeats_of(root, generation=1) == expected()
    assert repeats_of(root) == {**expected(), "c0": "a3", "c2": "c1"}


def test_parts_made_before_digests_were_kept_have_no_duplicates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch)
    root = str(tmp_path / "out")
    with monkeypatch.context() as earlier:
        earlier.setattr(part_files, "has_digests", lambda streams: False)
        job = hashed_dataset(root, tmp_path / "in")
    storage = Storage.open(root)
    old = read_manifest(storage)
    kept = {entry.path: storage.read(entry.path) for entry in storage.list("hashed/")}
    assert not any(b"digests" in data for data in kept.values())
    write_jsonl(tmp_path / "in/c.jsonl", [{"id": "c0", "text": "a 3 " * 150}])
    build_dataset(job)
    for manifest in (old, read_manifest(storage)):
        assert manifest.tables["hashed"].duplicates is None
    assert not any(entry.path.endswith("duplicates.arrow") for entry in storage.list())
    assert read_duplicates(storage, manifest.tables["hashed"]) is None
    report = verify(root)
    assert (report.problems, report.generation) == ([], 2)
    with pytest.raises(DatasetError, match="no list of duplicates: its generation was published without one"):
        open_dataset(root)["hashed"].distinct()


def test_a_table_without_rows_has_no_duplicates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)
    write_jsonl(tmp_path / "in/a.jsonl", [{"id": "a", "text": None}])
    tables = [{"name": "hashed", "tokenizer": {"id": "hashed-text"}}]
    build_dataset(job_of(str(tmp_path / "out"), tmp_path / "in", tables=tables))
    assert repeats_of(str(tmp_path / "out")) == {}
