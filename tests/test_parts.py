"""Cutting splits into parts, and bringing each part to a receipt, over a made-up source with known items."""

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datasets import build_dataset, job_of, run_splits, write_jsonl
from tokenmill import layout, parts
from tokenmill.contract import resolve
from tokenmill.errors import ChangedError, CorruptionError
from tokenmill.jobs import parse_job
from tokenmill.layout import ReceiptName
from tokenmill.parts import ROW_BYTES, process_split
from tokenmill.plans import Plan, PlannedTable, SplitTable, read_plan
from tokenmill.receipts import Receipt, latest_receipt, list_receipts
from tokenmill.registry import parse_tokenizer
from tokenmill.sources.items import Cursor, ItemBatch, Reject
from tokenmill.sources.splits import InputFile, Split
from tokenmill.storage.outputs import Storage

PART_BYTES = 1024
TABLES = ("text", "framed")
cutting = settings(max_examples=25)
#: Memory, where there is such a directory: syncing to disk is most of these tests' time.
FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@dataclass(frozen=True)
class Item:
    """An item of the made-up source: its size in bytes, or None for a reject; and whether it has an end."""

    size: int | None
    ends: bool = True


@dataclass
class MadeUpReader:
    """Gives items in batches of the given sizes; positions count items."""

    items: Sequence[Item]
    batches_of: Sequence[int]
    closed: list[bool] = field(default_factory=list)

    def batches(self, start: Cursor = Cursor()) -> Iterator[ItemBatch]:  # noqa: B008
        position, number = start.position, 0
        while position < len(self.items):
            count = self.batches_of[number % len(self.batches_of)]
            chosen = range(position, min(position + count, len(self.items)))
            number, position = number + 1, chosen.stop
            yield self._batch(start, chosen)

    def _batch(self, start: Cursor, chosen: range) -> ItemBatch:
        ordinals = {index: start.ordinal + index - start.position for index in chosen}
        good = [index for index in chosen if self.items[index].size is not None]
        bad = [index for index in chosen if self.items[index].size is None]
        texts = [chr(97 + index % 26) * int(self.items[index].size or 0) for index in good]
        return ItemBatch(
            np.array([ordinals[index] for index in good], np.int64),
            np.array([index + 1 if self.items[index].ends else -1 for index in good], np.int64),
            np.array([len(text) for text in texts], np.int64),
            [f"key{ordinals[index]}" for index in good],
            texts,
            {"n": [ordinals[index] for index in good]},
            "made-up.jsonl",
            rejects=[Reject(ordinals[i], f"bad{ordinals[i]}", f"made-up:{i}", "null_text", "") for i in bad],
        )

    def close(self) -> None:
        self.closed.append(True)


def made_up_plan(part_bytes: int = PART_BYTES) -> Plan:
    tokenizers: dict[str, dict[str, Any]] = {"text": {"id": "bytes"}, "framed": {"id": "bytes", "bos": True}}
    source = {"name": "docs", "uris": ["nowhere"], "metadata": {"n": "int64"}}
    job = parse_job(
        {
            "name": "made-up",
            "sources": [source],
            "tables": [{"name": name, "tokenizer": config} for name, config in tokenizers.items()],
            "output": "nowhere",
            "splitting": {"part_bytes": part_bytes},
        }
    )
    tables = tuple(
        PlannedTable(name, ("docs",), resolve(parse_tokenizer(config)), "cpu") for name, config in tokenizers.items()
    )
    split = Split("docs", "file", (InputFile("made-up.jsonl", 1, "mtime:1"),), 0, 1, 1)
    return Plan(1, job, {"docs": "/nowhere"}, tables, {}, SplitTable.from_splits([split]))


@dataclass
class Run:
    """A dataset of one split, made from made-up items."""

    root: str
    items: Sequence[Item]
    plan: Plan = field(default_factory=made_up_plan)

    @property
    def storage(self) -> Storage:
        return Storage.open(self.root)

    def process(self, batches_of: Sequence[int], tables: Sequence[str] = TABLES) -> list[Receipt]:
        """Process the split; returns the receipts in the order in which they were reported."""
        receipts: list[Receipt] = []
        reader = MadeUpReader(self.items, batches_of)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parts, "open_split", lambda *_: reader)
            process_split(self.storage, self.plan, 0, tables, on_part=receipts.append)
        return receipts

    def receipts(self, table: str = "text") -> list[Receipt]:
        found: list[Receipt] = []
        while (latest := latest_receipt(self.storage, table, 0, len(found))) is not None:
            assert latest.receipt is not None
            found.append(latest.receipt)
        return found

    def shards(self, table: str = "text") -> list[str]:
        return [shard.sha256 for receipt in self.receipts(table) for shard in receipt.shards]

    def rows(self, table: str = "text") -> list[dict[str, Any]]:
        rows = []
        for receipt in self.receipts(table):
            for shard in receipt.shards:
                found = pa.ipc.open_file(pa.BufferReader(self.storage.read(shard.path))).read_all().to_pylist()
                assert len(found) == shard.rows
                rows += found
        return rows

    def rejects(self, table: str = "text") -> list[dict[str, Any]]:
        lines = []
        for receipt in self.receipts(table):
            if receipt.rejects is not None:
                lines += [json.loads(line) for line in self.storage.read(receipt.rejects.path).splitlines()]
        return lines


def expected_parts(items: Sequence[Item], part_bytes: int = PART_BYTES) -> list[list[int]]:
    """Cut obviously: a part ends with the item that fills it; what follows, rejects too, is the next part's.

    Where that item has no end, the part ends with the next one that has.
    """
    cut: list[list[int]] = [[]]
    filled, ended = 0, True
    for index, item in enumerate(items):
        if filled >= part_bytes and ended:
            cut.append([])
            filled = 0
        cut[-1].append(index)
        if item.size is not None:
            filled += item.size + ROW_BYTES
            ended = item.ends
    return cut


def with_last_end(items: list[Item]) -> list[Item]:
    """Give the last item that is no reject an end, as readers do."""
    last = max((index for index, item in enumerate(items) if item.size is not None), default=-1)
    return [replace(item, ends=True) if index == last else item for index, item in enumerate(items)]


sizes_of = st.none() | st.sampled_from([0, 1, 300, 700, 1023, 1024, 1025, 3000])
items_of = st.lists(st.builds(Item, sizes_of, st.booleans() | st.just(True)), max_size=25).map(with_last_end)
batches_of = st.lists(st.integers(1, 7), min_size=1, max_size=4)


@cutting
@given(items_of, batches_of)
def test_the_union_of_all_parts_is_all_items(items: list[Item], sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory(dir=FAST) as root:
        run = Run(root, items)
        run.process(sizes)
        good = [index for index, item in enumerate(items) if item.size is not None]
        bad = [index for index, item in enumerate(items) if item.size is None]
        for table, extra in (("text", 0), ("framed", 1)):
            rows = run.rows(table)
            assert [row["ordinal"] for row in rows] == good
            assert [row["document"] for row in rows] == good
            assert [row["position"] for row in rows] == [0] * len(good)
            assert [row["key"] for row in rows] == [f"key{index}" for index in good]
            assert [row["metadata.n"] for row in rows] == good
            assert [len(row["ids"]) for row in rows] == [(items[index].size or 0) + extra for index in good]
            assert [line["ordinal"] for line in run.rejects(table)] == bad
        receipts = run.receipts()
        cut = expected_parts(items)
        assert [receipt.items for receipt in receipts] == [len(part) for part in cut]
        assert [receipt.final for receipt in receipts] == [False] * (len(cut) - 1) + [True]
        assert [receipt.rejected for receipt in receipts] == [sum(items[i].size is None for i in part) for part in cut]
        assert [receipt.rows for receipt in receipts] == [sum(items[i].size is not None for i in part) for part in cut]
        assert sum(receipt.input_bytes for receipt in receipts) == sum(item.size or 0 for item in items)
        assert sum(receipt.tokens for receipt in run.receipts("framed")) == sum(
            (i.size or 0) + 1 for i in items if i.size is not None
        )
        for one, following in pairwise(receipts):
            assert following.start == one.next == Cursor(following.start.ordinal, following.start.ordinal)
        for receipt in receipts:
            assert len(receipt.to_bytes()) < 4096
            assert Receipt.from_bytes(receipt.to_bytes(), "x") == receipt


@cutting
@given(items_of, batches_of, batches_of)
def test_cutting_does_not_depend_on_batches(items: list[Item], some: list[int], others: list[int]) -> None:
    with tempfile.TemporaryDirectory(dir=FAST) as one, tempfile.TemporaryDirectory(dir=FAST) as two:
        first, second = Run(one, items), Run(two, items)
        first.process(some)
        second.process(others)
        for table in TABLES:
            assert _lasting(first.receipts(table)) == _lasting(second.receipts(table))


def _lasting(receipts: Sequence[Receipt]) -> list[Receipt]:
    """Return receipts without what differs between attempts."""
    return [replace(r, seconds=0, attempt_id="", name=replace(r.name, attempt=0)) for r in receipts]


@cutting
@given(items_of, batches_of, batches_of, st.data())
def test_resuming_from_any_parts_gives_the_same_shards(
    items: list[Item], some: list[int], others: list[int], data: st.DataObject
) -> None:
    """Any receipts of any table may be gone, as after a crash, or more than that."""
    with tempfile.TemporaryDirectory(dir=FAST) as root:
        run = Run(root, items)
        before = run.process(some)
        names = [layout.receipt(receipt.name) for receipt in before]
        gone = data.draw(st.sets(st.sampled_from(names)))
        run.storage.delete(gone)
        after = run.process(others)
        assert _lasting(sorted(after, key=_place)) == _lasting(sorted(before, key=_place))
        kept = {receipt.attempt_id for receipt in before if layout.receipt(receipt.name) not in gone}
        assert kept <= {receipt.attempt_id for receipt in after}


def _place(receipt: Receipt) -> tuple[str, int]:
    return receipt.name.table, receipt.name.part


def test_a_part_ends_where_reading_can_resume(tmp_path: Path) -> None:
    """The pieces of a recording stay together, over many batches, with the rejects among them."""
    recording = [Item(700, ends=False)] * 5 + [Item(None), Item(700)]
    run = Run(str(tmp_path), [Item(500), *recording, Item(None), *recording, Item(30)])
    run.process([2])
    assert [receipt.items for receipt in run.receipts()] == [8, 8, 1]
    assert [receipt.rejected for receipt in run.receipts()] == [1, 2, 0]
    assert [receipt.next for receipt in run.receipts()] == [Cursor(8, 8), Cursor(16, 16), Cursor(17, 17)]


def test_a_table_that_is_added_later_has_the_same_cuts(tmp_path: Path) -> None:
    run = Run(str(tmp_path), [Item(700), Item(None), Item(700), Item(100), Item(2000), Item(None)])
    run.process([2], ["text"])
    run.process([3], ["framed"])
    both = run.process([1])
    assert [receipt.next for receipt in run.receipts("text")] == [receipt.next for receipt in run.receipts("framed")]
    assert [row["ordinal"] for row in run.rows("text")] == [row["ordinal"] for row in run.rows("framed")]
    assert all(receipt.name.attempt == 0 for receipt in both)


def test_nothing_is_read_where_all_parts_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(str(tmp_path), [Item(2000)] * 3)
    before = run.process([1])

    def refuse(*_: Any) -> Any:
        raise AssertionError("the input was opened")

    monkeypatch.setattr(parts, "open_split", refuse)
    after: list[Receipt] = []
    report = process_split(run.storage, run.plan, 0, TABLES, on_part=after.append)
    assert after == before
    assert (report.made, report.kept, report.rows, report.rejected) == (0, 6, 6, 0)


def test_readers_are_closed_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every other part there, a reader is opened for each gap; only one is open at a time."""
    run = Run(str(tmp_path), [Item(2000)] * 9)
    run.process([1], ["text"])
    run.storage.delete([layout.receipt(ReceiptName("text", 0, part, 0)) for part in range(0, 9, 2)])
    opened: list[MadeUpReader] = []

    def open_split(*_: Any) -> MadeUpReader:
        assert all(reader.closed for reader in opened)
        opened.append(MadeUpReader(run.items, [1]))
        return opened[-1]

    monkeypatch.setattr(parts, "open_split", open_split)
    process_split(run.storage, run.plan, 0, ["text"])
    assert len(opened) == 5
    assert all(reader.closed for reader in opened)


@pytest.mark.parametrize("kind", ["shards", "statistics", "rejects"])
@pytest.mark.parametrize("damage", ["altered", "truncated", "deleted"])
def test_a_damaged_product_is_made_again(tmp_path: Path, kind: str, damage: str) -> None:
    run = Run(str(tmp_path), [Item(None), Item(700), Item(700), Item(100)])
    before = run.process([2])
    shards = run.shards()
    victim = before[0]
    path = {
        "shards": victim.shards[0].path,
        "statistics": victim.statistics.path,
        "rejects": victim.rejects.path if victim.rejects else "",
    }[kind]
    file = tmp_path / path
    content = file.read_bytes()
    if damage == "deleted":
        file.unlink()
    else:
        file.write_bytes(content[:-1] + (bytes([content[-1] ^ 1]) if damage == "altered" else b""))
    after = run.process([2])
    assert next(receipt.name.attempt for receipt in after if receipt.name.table == victim.name.table) == 1
    assert sum(receipt.name.attempt for receipt in after) == 1
    assert run.shards() == shards
    assert file.read_bytes() == content


def test_a_damaged_receipt_is_superseded(tmp_path: Path) -> None:
    run = Run(str(tmp_path), [Item(2000), Item(10)])
    run.process([2])
    shards = run.shards()
    path = tmp_path / layout.receipt(ReceiptName("text", 0, 0, 0))
    path.write_bytes(path.read_bytes().replace(b'"rows": 1', b'"rows": 2'))
    run.process([2])
    assert sorted(name.attempt for name in list_receipts(run.storage, "text")) == [0, 0, 1]
    assert run.shards() == shards
    run.process([2])
    assert sorted(name.attempt for name in list_receipts(run.storage, "text")) == [0, 0, 1]


def test_of_two_runs_the_first_receipt_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While this run tokenizes a part, another one publishes it."""
    run = Run(str(tmp_path), [Item(2000), Item(10)])
    other: list[Receipt] = []
    original = parts._SplitWork.make_part

    def make_part(work: Any, reading: Any, part: int, start: Cursor, tables: Any) -> list[Receipt]:
        if part == 0 and not other:
            other.append(None)  # type: ignore[arg-type]
            other[:] = Run(str(tmp_path), run.items).process([1])
        return original(work, reading, part, start, tables)

    monkeypatch.setattr(parts._SplitWork, "make_part", make_part)
    mine = run.process([2])
    assert [receipt.attempt_id for receipt in mine] == [receipt.attempt_id for receipt in other]
    assert {name.attempt for name in list_receipts(run.storage, "text")} == {0}


def test_tables_that_disagree_are_an_error(tmp_path: Path) -> None:
    run = Run(str(tmp_path), [Item(600)] * 4)
    run.process([2], ["text"])
    run.plan = made_up_plan(part_bytes=2048)
    run.process([2], ["framed"])
    with pytest.raises(CorruptionError, match="disagree on where part 0 of split 0 ends"):
        run.process([2])


def test_a_fraction_of_a_torn_file_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(str(tmp_path), [Item(5), Item(None)])
    original = MadeUpReader._batch

    def batch(reader: MadeUpReader, start: Cursor, chosen: range) -> ItemBatch:
        made = original(reader, start, chosen)
        made.rejects = [replace(reject, reason="torn_file", lost_items=40, lost_bytes=99) for reject in made.rejects]
        return made

    monkeypatch.setattr(MadeUpReader, "_batch", batch)
    (receipt,) = run.process([5], ["text"])
    assert (receipt.rows, receipt.items, receipt.rejected) == (1, 2, 40)
    (line,) = run.rejects()
    assert (line["lost_items"], line["lost_bytes"]) == (40, 99)


def test_reject_lines_say_all(tmp_path: Path) -> None:
    run = Run(str(tmp_path), [Item(1), Item(None)])
    run.process([5])
    (line,) = run.rejects("framed")
    assert line == {
        "split": 0,
        "ordinal": 1,
        "source": "docs",
        "key": "bad1",
        "locator": "made-up:1",
        "reason": "null_text",
        "message": "",
        "lost_items": 1,
        "lost_bytes": 0,
        "replay": "tokenmill replay . --table framed --split 0 --ordinal 1",
    }


def test_rejects_of_the_tokenizer_lie_in_order_among_the_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unlucky:
        def encode(self, payloads: Sequence[str]) -> Any:
            if any(len(payload) == 13 for payload in payloads):
                raise RuntimeError("unlucky")
            return good.encode(payloads)

    good = parse_tokenizer({"id": "bytes"}).load()
    monkeypatch.setattr(parts, "loaded_encoder", lambda *_: Unlucky())
    items = [Item(13), Item(None), Item(5), Item(13), Item(1), Item(None), Item(13)]
    run = Run(str(tmp_path), items)
    run.process([3], ["text"])
    lines = run.rejects()
    assert [line["ordinal"] for line in lines] == [0, 1, 3, 5, 6]
    assert [line["reason"] for line in lines] == [
        "tokenizer_failed", "null_text", "tokenizer_failed", "null_text", "tokenizer_failed",
    ]  # fmt: skip
    assert lines[0]["message"] == "RuntimeError: unlucky"
    assert lines[0]["locator"] == "made-up.jsonl#item=0"
    assert [row["ordinal"] for row in run.rows()] == [2, 4]


def test_real_files_in_parts(any_root: str, tmp_path: Path) -> None:
    """One real source from plan to manifest, locally and on S3; every part of it, made again, has the same bytes."""
    records = [{"id": f"d{n}", "text": "é" * (n % 700), "n": n} for n in range(400)]
    records[7] = {"id": "d7", "text": None, "n": 0}
    write_jsonl(tmp_path / "in" / "a.jsonl", records)
    job = job_of(any_root, tmp_path / "in", source={"metadata": {"n": "int64"}}, splitting={"part_bytes": 8192})
    manifest = build_dataset(job)
    assert manifest.tables["text"].rows == 399
    storage = Storage.open(any_root)
    before = {entry.path: entry.size_bytes for entry in storage.list("text/shards/")}
    assert len(before) > 10
    storage.delete([path for number, path in enumerate(sorted(before)) if number % 3 == 0])
    build_dataset(job)
    assert {entry.path: entry.size_bytes for entry in storage.list("text/shards/")} == before


def test_an_input_that_changes_under_a_run_is_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in" / "a.jsonl", [{"id": "a", "text": "x"}])
    job = job_of(str(tmp_path / "out"), tmp_path / "in")
    run_splits(job)
    storage = Storage.open(job.output)
    storage.delete([layout.receipt(ReceiptName("text", 0, 0, 0))])
    plan = read_plan(storage, 1)
    write_jsonl(path, [{"id": "a", "text": "other"}])
    with pytest.raises(ChangedError, match=r"a\.jsonl: the input file has changed since it was planned"):
        process_split(storage, plan, 0, ["text"])
