"""Taking keys down: what is gone, what stays as it is, and that nothing brings the keys back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import hashed_text
from tests.datasets import build_dataset, job_of, write_jsonl
from tests.hashed_text import repeats_of
from tests.takedown_cases import (
    KEYS,
    TABLES,
    corpus,
    dataset,
    files,
    job_on,
    keys_of,
    merged,
    records,
    rows_of,
    whole,
    without,
)
from tokenmill import layout
from tokenmill.errors import ConfigurationError, CorruptionError, DatasetError, InputError
from tokenmill.jobs import Job
from tokenmill.manifests import read_manifest, read_shard_table
from tokenmill.receipts import latest_receipt
from tokenmill.storage.outputs import Storage
from tokenmill.takedown_lists import newest_takedown
from tokenmill.takedowns import TakenFromTable, read_keys, take_down
from tokenmill.verification import verify


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return dataset(str(tmp_path / "out"), tmp_path / "in")


@pytest.fixture
def any_job(any_root: str, tmp_path: Path) -> Job:
    return dataset(any_root, tmp_path / "in")


def test_rows_of_the_keys_are_gone_and_the_others_are_as_they_were(any_job: Job, tmp_path: Path) -> None:
    root, storage = any_job.output, Storage.open(any_job.output)
    before, first = rows_of(root), read_manifest(storage)
    there = files(storage)
    report = take_down(storage, [*KEYS, "nobody", "a3"])
    assert (report.takedown, report.generation, report.published) == (1, 2, True)
    assert (report.keys, report.new_keys, report.unmatched_keys, report.unmatched) == (5, 5, 1, ("nobody",))
    assert {name: taken.items for name, taken in report.tables.items()} == {"text": 6, "framed": 6}
    expected = {name: [row for row in rows if row[4] not in KEYS] for name, rows in before.items()}
    assert rows_of(root) == expected
    assert rows_of(root, generation=1) == before, "the generation before stays readable"
    whole(root)

    now = read_manifest(storage)
    assert now.takedown == 1
    assert {path: found for path, found in files(storage).items() if path in there} == there
    for name, table in now.tables.items():
        assert (table.rows, table.taken_down, table.rejected) == (len(expected[name]), 6, 2)
        old, new = (set(read_shard_table(storage, one.tables[name]).table["path"].to_pylist()) for one in (first, now))
        assert len(old & new) > len(old - new) > 1
        assert report.tables[name].shards == len(old - new)
    newest = newest_takedown(storage)
    assert newest is not None
    text = storage.read(layout.takedown(1)).decode()
    assert not any(key in text for key in ("twice", "nobody"))


def test_statistics_are_those_of_the_remaining_items(any_job: Job, tmp_path: Path) -> None:
    storage = Storage.open(any_job.output)
    take_down(storage, KEYS)
    kept = {name: without(lines, KEYS) for name, lines in corpus().items()}
    other = dataset(str(tmp_path / "other"), tmp_path / "kept", kept)
    there = Storage.open(other.output)
    mine, theirs = read_manifest(storage), read_manifest(there)
    for name in ("text", "framed"):
        assert merged(storage, mine, name) == merged(there, theirs, name)
        assert mine.tables[name].summary == theirs.tables[name].summary


def test_nothing_is_tokenized_and_the_source_is_not_needed(job: Job, tmp_path: Path) -> None:
    for path in (tmp_path / "in").iterdir():
        path.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tokenmill.tokenizers.bytes.BytesTokenizer.load", lambda *_: pytest.fail("tokenizes"))
        report = take_down(Storage.open(job.output), KEYS)
    assert report.published
    assert not any("estimates" in note for note in report.notes)
    assert not set(KEYS) & set(keys_of(job.output)["text"])
    whole(job.output)


def test_a_shard_is_the_one_that_a_run_makes(any_job: Job) -> None:
    """Parts written anew from their shards, and the same parts made of the source, are the same files."""
    storage = Storage.open(any_job.output)
    take_down(storage, KEYS)
    manifest = read_manifest(storage)
    rewritten = {
        file.path
        for table in manifest.tables
        for name in (layout.ReceiptName(table, split, part, 1) for split in range(8) for part in range(12))
        if storage.stat(layout.receipt(name)) is not None
        for latest in [latest_receipt(storage, table, name.split, name.part)]
        if latest is not None and latest.receipt is not None
        for file in latest.receipt.files
    }
    assert {path.partition("/")[0] for path in rewritten} == {"text", "framed", "rejects"}
    content = {path: storage.read(path) for path in rewritten}
    assert len(content) > 12
    storage.delete(content)
    again = build_dataset(any_job)
    assert again == manifest
    assert {path: storage.read(path) for path in content} == content
    whole(any_job.output)


def test_a_dry_run_tells_the_same_and_writes_nothing(any_job: Job) -> None:
    storage = Storage.open(any_job.output)
    there = files(storage)
    would = take_down(storage, [*KEYS, "nobody"], dry_run=True)
    assert files(storage) == there
    assert (would.dry_run, would.published, would.generation, would.takedown) == (True, False, 1, 1)
    did = take_down(storage, [*KEYS, "nobody"])
    assert (would.tables, would.unmatched, would.new_keys) == (did.tables, did.unmatched, did.new_keys)
    after = take_down(storage, [*KEYS, "nobody"], dry_run=True)
    assert after.tables == {"text": TakenFromTable(0, 0), "framed": TakenFromTable(0, 0)}


def test_the_same_keys_again_change_nothing(any_job: Job) -> None:
    storage = Storage.open(any_job.output)
    take_down(storage, KEYS)
    there = files(storage)
    for keys in (KEYS, KEYS[:1], reversed(KEYS)):
        report = take_down(storage, keys)
        assert (report.published, report.generation, report.takedown, report.new_keys) == (False, 2, 1, 0)
    assert files(storage) == there


def test_a_later_takedown_adds_to_the_earlier(any_job: Job) -> None:
    root, storage = any_job.output, Storage.open(any_job.output)
    take_down(storage, ["a3", "twice"])
    report = take_down(storage, ["a3", "a4", "b39"])
    assert (report.takedown, report.generation, report.new_keys) == (2, 3, 2)
    assert report.tables["text"].items == 2
    gone = {"a3", "a4", "b39", "twice"}
    assert not gone & set(keys_of(root)["text"])
    assert {"a4", "b39"} <= set(keys_of(root, generation=2)["text"])
    takedown = newest_takedown(storage)
    assert takedown is not None
    assert takedown.taken([*sorted(gone), "a5"]).tolist() == [True] * 4 + [False]
    table = read_manifest(storage).tables["text"]
    assert table.taken_down == 6
    whole(root)


def test_tables_are_taken_from_apart(tmp_path: Path) -> None:
    """A table over another source, whose keys are not concerned, keeps its fingerprint."""
    write_jsonl(tmp_path / "one/a.jsonl", records("a", 20))
    write_jsonl(tmp_path / "two/b.jsonl", records("b", 20))
    sources = [{"name": name, "uris": [str(tmp_path / name)], "fields": {"id": "id"}} for name in ("one", "two")]
    tables = [{"name": name, "sources": [name], "tokenizer": {"id": "bytes"}} for name in ("one", "two")]
    job = job_of(str(tmp_path / "out"), tmp_path, splitting={"part_bytes": 2048}, sources=sources, tables=tables)
    first = build_dataset(job)
    report = take_down(Storage.open(job.output), ["b7"])
    second = read_manifest(Storage.open(job.output))
    assert (report.tables["one"], report.tables["two"]) == (TakenFromTable(0, 0), TakenFromTable(1, 1))
    assert first.tables["one"].fingerprint == second.tables["one"].fingerprint
    assert first.tables["two"].fingerprint != second.tables["two"].fingerprint
    assert "b7" not in keys_of(job.output)["two"]
    whole(job.output)


def test_all_rows_of_a_part_and_of_a_table(job: Job) -> None:
    storage = Storage.open(job.output)
    everything = keys_of(job.output)["text"]
    take_down(storage, everything[:30])
    assert keys_of(job.output)["text"] == [key for key in everything[30:] if key not in everything[:30]]
    whole(job.output)
    take_down(storage, everything)
    assert keys_of(job.output) == {"text": [], "framed": []}
    assert read_manifest(storage).tables["text"].rejected == 3
    whole(job.output)
    assert build_dataset(job) == read_manifest(storage)


def test_the_next_run_leaves_the_keys_out_of_new_files(any_job: Job, tmp_path: Path) -> None:
    root, storage = any_job.output, Storage.open(any_job.output)
    take_down(storage, [*KEYS, "later"])
    assert build_dataset(any_job) == read_manifest(storage), "a run with nothing new"
    there = files(storage)
    write_jsonl(
        tmp_path / "in/c.jsonl", [*records("c", 20), {"id": "later", "text": "x"}, {"id": "twice", "text": "4"}]
    )
    grown = build_dataset(any_job)
    assert (grown.generation, grown.takedown) == (3, 1)
    keys = keys_of(root)
    for name in ("text", "framed"):
        assert not {*KEYS, "later"} & set(keys[name])
        assert "c19" in keys[name]
        assert grown.tables[name].taken_down == 8
        assert grown.tables[name].rejected == 2
    assert {path: found for path, found in files(storage).items() if path in there} == there, "all parts were kept"
    whole(root)


def test_a_new_table_leaves_them_out_too(job: Job, tmp_path: Path) -> None:
    take_down(Storage.open(job.output), KEYS)
    late = job_on(job.output, tmp_path / "in", tables=[*TABLES, {"name": "late", "tokenizer": {"id": "bytes"}}])
    build_dataset(late)
    keys = keys_of(job.output)
    assert keys["late"] == keys["text"]
    whole(job.output)


def test_what_was_taken_down_counts_neither_as_rejected_nor_against_the_limit(tmp_path: Path) -> None:
    lines = [*records("a", 9), "not json"]
    job = dataset(str(tmp_path / "out"), tmp_path / "in", {"a.jsonl": lines}, limits={"max_rejected_fraction": 0.1})
    take_down(Storage.open(job.output), [f"a{i}" for i in range(8)])
    write_jsonl(tmp_path / "in/b.jsonl", [{"id": f"a{i}", "text": "again"} for i in range(8)])
    table = build_dataset(job).tables["text"]
    assert (table.rows, table.rejected, table.taken_down) == (1, 1, 16)
    assert table.summary["overall"]["rejected"]["items"] == 1


def test_no_key_and_no_dataset(job: Job, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="empty"):
        take_down(Storage.open(job.output), [])
    with pytest.raises(DatasetError, match="holds no dataset"):
        take_down(Storage.open(str(tmp_path / "nothing")), ["a"])


def test_a_list_that_is_lost_stops_everything(job: Job) -> None:
    """Nothing goes on without the list: what it holds would come back."""
    storage = Storage.open(job.output)
    take_down(storage, KEYS)
    storage.delete([layout.takedown(1)])
    with pytest.raises(CorruptionError, match=r"takedowns/000001\.json.*no such file"):
        build_dataset(job)
    with pytest.raises(CorruptionError, match=r"takedowns/000001\.json.*no such file"):
        take_down(storage, KEYS)
    assert {problem.path for problem in verify(storage).problems} == {layout.takedown(1)}


def test_keys_are_read_line_by_line(tmp_path: Path, s3_root: str) -> None:
    data = "\ufeffplain\r\nwith  spaces \n\nключ\n\u2028within\u2028\nplain\nlast".encode()
    (tmp_path / "keys.txt").write_bytes(data)
    expected = ["plain", "with  spaces ", "ключ", "\u2028within\u2028", "plain", "last"]
    assert read_keys(str(tmp_path / "keys.txt")) == expected
    Storage.open(s3_root).put("lists/keys.txt", [data])
    assert read_keys(f"{s3_root}/lists/keys.txt") == expected
    (tmp_path / "latin.txt").write_bytes(b"one\ntw\xf6\n")
    with pytest.raises(ConfigurationError, match="line 2 of the keys is not UTF-8"):
        read_keys(str(tmp_path / "latin.txt"))
    with pytest.raises(InputError):
        read_keys(str(tmp_path / "missing.txt"))


def test_of_equal_rows_the_next_one_survives_the_first(
    any_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed_text.register(monkeypatch)
    job = hashed_text.hashed_dataset(any_root, tmp_path / "in")
    storage = Storage.open(any_root)
    gone = ["a1", "a3", "b2", "a4"]
    before = repeats_of(any_root)
    assert {key: before[key] for key in ("a5", "b2", "b3", "b12")} == {"a5": "a1", "b2": "a1", "b3": "a3", "b12": "a1"}
    assert take_down(storage, gone).published
    left = {key: text for texts in hashed_text.TEXTS.values() for key, text in texts.items() if key not in gone}
    now = repeats_of(any_root)
    assert now == hashed_text.expected(left)
    assert (now["a9"], now["b12"], "b3" in now) == ("a5", "a5", False)
    assert repeats_of(any_root, generation=1) == before
    whole(any_root)

    # What is lost and made again of its source has the digests that were written anew from the rows.
    receipt = latest_receipt(storage, "hashed", 0, 0)
    assert receipt is not None
    assert receipt.receipt is not None
    assert receipt.receipt.taken_down
    statistics = receipt.receipt.statistics
    storage.delete([statistics.path])
    build_dataset(job)
    assert b"digests" in storage.read(statistics.path)
    whole(any_root)
