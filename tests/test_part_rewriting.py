"""A part written anew without some of its rows is byte for byte what a part of the other rows is."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.datasets import build_dataset
from tests.golden import COLUMNS, ROWS
from tests.mosaics import mosaic_job, register, write_pictures
from tests.shard_cases import STREAMS, header, rows_of
from tests.takedown_cases import merged, whole
from tokenmill.contract import ResolvedTokenizer
from tokenmill.errors import CorruptionError
from tokenmill.jobs import parse_job
from tokenmill.layout import ReceiptName
from tokenmill.manifests import read_manifest
from tokenmill.part_files import create_receipt, put_rejects, put_shard, put_statistics
from tokenmill.part_rewriting import rewrite_part
from tokenmill.plans import Plan, PlannedTable, SplitTable
from tokenmill.receipts import Receipt
from tokenmill.rejects import RejectLines
from tokenmill.shards import ShardRows, serialise_shard
from tokenmill.sources.items import Cursor, Reject
from tokenmill.sources.splits import InputFile, Split
from tokenmill.statistics.part import PartStatistics
from tokenmill.storage.outputs import Storage
from tokenmill.streams import Jagged
from tokenmill.takedown_lists import Takedown, key_digests
from tokenmill.takedowns import take_down

HEADER = header(COLUMNS)
REJECTS = [
    Reject(11, "bad", "a:1", "null_text", "no"),
    Reject(12, "ключ", "a:2", "invalid_json", "\u2028 'x'"),
    Reject(13, "torn.jsonl", "a:3", "torn_file", "gone", lost_bytes=50, lost_items=7),
]
#: Ordinals of the rows are 0, 2, 4 …: these stand for the other items of the part.
ODD = [Reject(ordinal, "odd", "a", "null_text", "") for ordinal in (1, 3, 5, 7, 9)]


def plan_for(keys: list[str], number: int = 1) -> Plan:
    tokenizer = ResolvedTokenizer({"id": "made-up"}, HEADER.tokenizer, {}, STREAMS, HEADER.fingerprint)
    job = parse_job(
        {
            "name": "x",
            "sources": [{"name": "docs", "uris": ["nowhere"], "metadata": COLUMNS}],
            "tables": [{"name": "text", "tokenizer": {"id": "made-up"}}],
            "output": "nowhere",
        }
    )
    splits = [Split("docs", "file", (InputFile(f"{n}.jsonl", 1, "mtime:1"),), 0, 1, 1) for n in range(8)]
    digests = np.unique(key_digests(b"salt", keys))
    takedown = Takedown(number, "", b"salt", digests, 8, {"text": ("docs",)}, {("text", 7, 3): number})
    table = PlannedTable("text", ("docs",), tokenizer, "cpu")
    return Plan(1, job, {"docs": "/nowhere"}, (table,), {}, SplitTable.from_splits(splits), takedown)


def statistics_of(rows: ShardRows, rejects: list[Reject], sizes: list[int] | None = None) -> PartStatistics:
    statistics = PartStatistics.start(STREAMS)
    statistics.add_rows(np.full(len(rows), 10) if sizes is None else np.array(sizes, np.int64), rows.streams)
    statistics.add_rejects(rejects)
    return statistics


def lines_of(rejects: list[Reject]) -> bytes:
    with RejectLines("text", 7, "docs") as lines:
        lines.add(rejects)
        return bytes(lines.content())


def make_part(storage: Storage, rows: ShardRows, rejects: list[Reject]) -> Receipt:
    name = ReceiptName("text", 7, 3, 0)
    shard, kept = put_shard(storage, HEADER, rows)
    statistics = statistics_of(rows, rejects)
    lines = lines_of(rejects)
    receipt = Receipt(
        name=name,
        fingerprint=HEADER.fingerprint,
        start=Cursor(),
        next=Cursor(14, 100),
        final=True,
        shards=(shard,),
        statistics=put_statistics(storage, name, statistics.to_arrow_bytes(kept)),
        rejects=put_rejects(storage, name, lines, hashlib.sha256(lines).hexdigest()),
        items=14,
        rejected=statistics.rejected_items,
        input_bytes=statistics.input_bytes,
        environment={"python": "3.11"},
        seconds=1.0,
        attempt_id="0" * 32,
    )
    return create_receipt(storage, receipt, 0, lambda _: True)


def rows_without(keys: set[str]) -> ShardRows:
    rows = rows_of(ROWS, COLUMNS)
    kept = [index for index, row in enumerate(ROWS) if row["key"] not in keys]
    return ShardRows(
        rows.ordinals[kept],
        rows.documents[kept],
        rows.positions[kept],
        [rows.keys[index] for index in kept],
        {name: [values[index] for index in kept] for name, values in rows.metadata.items()},
        {
            name: Jagged.from_rows([stream[index] for index in kept], STREAMS[name])
            for name, stream in rows.streams.items()
        },
    )


@pytest.fixture
def storage(any_root: str) -> Storage:
    return Storage.open(any_root)


@pytest.mark.parametrize("keys", [{"ascii"}, {"duplicate"}, {"", "ключ"}, {"ascii", "ключ", ""}])
def test_the_shard_is_that_of_the_other_rows(storage: Storage, keys: set[str]) -> None:
    """Streams of one and two dimensions, and metadata of every type with nulls, infinities and -0.0."""
    receipt = make_part(storage, rows_of(ROWS, COLUMNS), ODD)
    rewritten = rewrite_part(storage, plan_for(sorted(keys)), receipt).receipt
    (shard,) = rewritten.shards
    kept = rows_without(keys)
    expected = serialise_shard(HEADER, kept)
    assert storage.read(shard.path) == b"".join(expected.pieces)
    assert (shard.sha256, shard.value_offsets, shard.rows) == (expected.sha256, expected.value_offsets, len(kept))
    assert shard.tokens == {name: len(stream.values) for name, stream in kept.streams.items()}
    assert (rewritten.name.attempt, rewritten.takedown, rewritten.taken_down) == (1, 1, len(ROWS) - len(kept))
    assert (rewritten.rejects, rewritten.rejected) == (receipt.rejects, receipt.rejected)
    assert (rewritten.start, rewritten.next, rewritten.items) == (receipt.start, receipt.next, receipt.items)
    assert rewritten.environment == receipt.environment
    assert rewritten.attempt_id != receipt.attempt_id


def test_rejects_go_and_the_others_keep_their_lines(storage: Storage) -> None:
    receipt = make_part(storage, rows_of(ROWS, COLUMNS), [*ODD, *REJECTS])
    rewritten = rewrite_part(storage, plan_for(["bad", "torn.jsonl"]), receipt).receipt
    kept = [*ODD, REJECTS[1]]
    assert rewritten.rejects is not None
    assert storage.read(rewritten.rejects.path) == lines_of(kept)
    assert (rewritten.rejected, rewritten.taken_down) == (6, 2)
    assert rewritten.shards == receipt.shards
    found = PartStatistics.from_arrow_bytes(storage.read(rewritten.statistics.path))
    assert found == statistics_of(rows_of(ROWS, COLUMNS), kept)


def test_nothing_is_left(storage: Storage) -> None:
    receipt = make_part(storage, rows_of(ROWS, COLUMNS), REJECTS)
    keys = [row["key"] for row in ROWS] + [reject.key for reject in REJECTS]
    rewritten = rewrite_part(storage, plan_for(keys), receipt).receipt
    assert (rewritten.shards, rewritten.rejects, rewritten.rejected) == ((), None, 0)
    assert (rewritten.taken_down, rewritten.input_bytes) == (8, 0)
    assert PartStatistics.from_arrow_bytes(storage.read(rewritten.statistics.path)) == PartStatistics.start(STREAMS)


def test_without_such_keys_files_stay_and_the_receipt_says_so(storage: Storage) -> None:
    receipt = make_part(storage, rows_of(ROWS, COLUMNS), REJECTS)
    rewritten = rewrite_part(storage, plan_for(["nobody"]), receipt).receipt
    assert rewritten.files == receipt.files
    assert (rewritten.takedown, rewritten.taken_down, rewritten.name.attempt) == (1, 0, 1)


def test_a_second_list_adds_to_what_the_first_took(storage: Storage) -> None:
    receipt = make_part(storage, rows_of(ROWS, COLUMNS), REJECTS)
    first = rewrite_part(storage, plan_for(["ascii", "bad"]), receipt).receipt
    second = rewrite_part(storage, plan_for(["ascii", "bad", "duplicate", "ключ"], 2), first).receipt
    assert (second.name.attempt, second.takedown, second.taken_down) == (2, 2, 6)
    (shard,) = second.shards
    assert storage.read(shard.path) == b"".join(
        serialise_shard(HEADER, rows_without({"ascii", "duplicate", "ключ"})).pieces
    )


def test_of_two_that_rewrite_at_once_the_first_counts(storage: Storage) -> None:
    receipt = make_part(storage, rows_of(ROWS, COLUMNS), REJECTS)
    first = rewrite_part(storage, plan_for(["ascii"]), receipt).receipt
    assert rewrite_part(storage, plan_for(["ascii"]), receipt).receipt == first
    assert len(list(storage.list("text/receipts/"))) == 2


@pytest.mark.parametrize("which", ["shards", "statistics", "rejects"])
def test_a_damaged_file_is_not_copied(storage: Storage, which: str) -> None:
    receipt = make_part(storage, rows_of(ROWS, COLUMNS), REJECTS)
    path = next(file.path for file in receipt.files if which in file.path)
    data = bytearray(storage.read(path))
    data[len(data) // 2] ^= 1
    storage.put(path, [bytes(data)])
    with pytest.raises(CorruptionError, match=path):
        rewrite_part(storage, plan_for(["ascii", "bad"]), receipt)
    assert len(list(storage.list("text/receipts/"))) == 1


def test_a_shard_that_is_another_is_not_copied(storage: Storage) -> None:
    receipt = make_part(storage, rows_of(ROWS, COLUMNS), REJECTS)
    other = replace(receipt, shards=(replace(receipt.shards[0], rows=4),))
    with pytest.raises(CorruptionError, match="another shard than its receipt says"):
        rewrite_part(storage, plan_for(["ascii"]), other)


def test_statistics_of_the_images_that_stay_are_those_of_a_dataset_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch)
    roots = {}
    for name, gone in (("all", []), ("kept", ["0.png", "3.png"])):
        pictures = write_pictures(tmp_path / name / "pictures")
        for key in gone:
            (pictures / key).unlink()
        build_dataset(mosaic_job(tmp_path / name / "out", pictures))
        roots[name] = Storage.open(str(tmp_path / name / "out"))
    take_down(roots["all"], ["0.png", "3.png"])
    whole(roots["all"].uri)
    mine, theirs = (merged(storage, read_manifest(storage), "mosaic") for storage in roots.values())
    assert mine == theirs
    assert mine.overall().streams["error"].errors is not None
