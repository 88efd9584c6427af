"""Verification finds every kind of damage, and nothing in datasets that are whole."""

import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from tests import hashed_text
from tests.datasets import build_dataset, job_of, run_splits, write_jsonl
from tokenmill import layout
from tokenmill.duplicates import Duplicates
from tokenmill.errors import DatasetError
from tokenmill.manifests import ManifestTable, read_duplicates, read_manifest, read_shard_table
from tokenmill.receipts import Receipt
from tokenmill.sealed import seal
from tokenmill.shard_checks import ListedShard, check_shard
from tokenmill.shards import BLOCK_BYTES, ShardHeader, ShardRows, serialise_shard
from tokenmill.sources.items import Cursor
from tokenmill.storage.outputs import Storage
from tokenmill.streams import Jagged, StreamSpec
from tokenmill.verification import VerificationProgress, VerificationReport, verify


def write_inputs(directory: Path) -> Path:
    records = [{"id": f"doc-{i}", "text": f"text {i} " * (i % 30)} for i in range(120)]
    write_jsonl(directory / "a.jsonl", ["broken" if i % 25 == 3 else record for i, record in enumerate(records)])
    return directory


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of two tables and several parts; copy it before you change it."""
    directory = tmp_path_factory.mktemp("verification")
    tables = [
        {"name": "text", "tokenizer": {"id": "bytes"}},
        {"name": "framed", "tokenizer": {"id": "bytes", "bos": True}},
    ]
    job = job_of(str(directory / "out"), write_inputs(directory / "in"), tables=tables, splitting={"part_bytes": 6000})
    build_dataset(job)
    return directory / "out"


@pytest.fixture
def root(published: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy"
    shutil.copytree(published, copy)
    return copy


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def paths(report: VerificationReport) -> set[str]:
    return {problem.path for problem in report.problems}


def test_a_whole_dataset(published: Path) -> None:
    seen: list[VerificationProgress] = []
    report = verify(str(published), on_progress=seen.append)
    assert report.problems == []
    assert report.notes == []
    assert report.ok
    manifest = read_manifest(Storage.open(str(published)))
    assert report.generation == 1
    assert report.rows == sum(table.rows for table in manifest.tables.values()) == 2 * 115
    assert report.shards == sum(table.shards["count"] for table in manifest.tables.values()) > 6
    assert report.bytes == sum(table.size_bytes for table in manifest.tables.values())
    assert report.receipts == report.shards
    assert seen[-1] == VerificationProgress(report.shards, report.bytes, report.bytes)
    assert [progress.shards for progress in seen] == list(range(1, report.shards + 1))


def test_on_object_storage(s3_root: str, published: Path) -> None:
    storage = Storage.open(s3_root)
    for path in files(published):
        storage.put(path, [(published / path).read_bytes()])
    report = verify(storage)
    assert report.problems == []
    assert report.rows == 2 * 115
    shard = read_shard_table(storage, read_manifest(storage).tables["text"]).path(1)
    data = bytearray(storage.read(shard))
    data[-1] ^= 1
    storage.put(shard, [bytes(data)])
    assert paths(verify(storage)) == {shard}


def test_every_file_is_missed(published: Path, root: Path) -> None:
    for path in files(published):
        (root / path).rename(root / "aside")
        if path == "manifests/000001.json":
            with pytest.raises(DatasetError, match="unfinished"):
                verify(str(root))
            (root / "aside").rename(root / path)
            continue
        report = verify(str(root))
        (root / "aside").rename(root / path)
        if path == "plans/000001.json":
            assert report.ok
            assert any("plans/" in note for note in report.notes)
            continue
        assert path in paths(report), path
        assert any("no such file" in problem.what for problem in report.problems)


def test_no_dataset(root: Path) -> None:
    with pytest.raises(DatasetError, match="no dataset"):
        verify(str(root / "nothing"))


def test_every_flipped_bit_is_found(published: Path, root: Path) -> None:
    chance = random.Random(7)
    for path in files(published):
        whole = (published / path).read_bytes()
        places = {0, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(2))}
        for place in places:
            damaged = bytearray(whole)
            damaged[place] ^= 1 << chance.randrange(8)
            (root / path).write_bytes(damaged)
            report = verify(str(root))
            assert path in paths(report), (path, place)
        (root / path).write_bytes(whole)


def test_every_cut_and_lengthened_file_is_found(published: Path, root: Path) -> None:
    for path in files(published):
        whole = (published / path).read_bytes()
        for changed in (b"", whole[:-1], whole[: len(whole) // 2], whole + b"\0"):
            (root / path).write_bytes(changed)
            assert path in paths(verify(str(root))), (path, len(changed))
        (root / path).write_bytes(whole)


def test_the_first_bad_block_is_named(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", [{"id": str(i), "text": "x" * 2_500_000} for i in range(2)])
    root = tmp_path / "out"
    build_dataset(job_of(str(root), tmp_path / "in", splitting={"split_bytes": 1 << 30, "part_bytes": 1 << 30}))
    assert verify(str(root)).ok
    shard = next((root / "text/shards").iterdir())
    data = bytearray(shard.read_bytes())
    data[3 * BLOCK_BYTES + 5] ^= 1
    data[2 * BLOCK_BYTES + 7] ^= 1
    shard.write_bytes(data)
    (problem,) = verify(str(root)).problems
    assert (problem.path, problem.offset) == (f"text/shards/{shard.name}", 2 * BLOCK_BYTES)
    assert "(at byte 2097152)" in str(problem)
    assert verify(str(root)).to_json()["problems"][0]["offset"] == 2 * BLOCK_BYTES


@pytest.mark.parametrize(
    ("absent", "note"),
    [
        (["text/receipts", "framed/receipts"], "receipts/ is absent"),
        (["plans"], "plans/ is absent"),
        (["plans", "text/receipts", "text/statistics", "framed/receipts", "framed/statistics", "rejects"], "absent"),
    ],
)
def test_a_copy_of_what_readers_need(root: Path, absent: Sequence[str], note: str) -> None:
    for directory in absent:
        shutil.rmtree(root / directory)
    report = verify(str(root))
    assert report.problems == []
    assert any(note in line for line in report.notes)
    assert report.rows == 2 * 115


def test_statistics_that_receipts_name_are_missed(root: Path) -> None:
    shutil.rmtree(root / "text/statistics")
    report = verify(str(root))
    assert len(report.problems) == len(list((root / "text/receipts").iterdir()))


def forge(root: Path, number: int, change: Callable[[Receipt], Receipt]) -> str:
    """Rewrite a receipt, with a seal that holds."""
    path = sorted((root / "text/receipts").iterdir())[number]
    receipt = Receipt.from_bytes(path.read_bytes(), str(path))
    path.write_bytes(change(receipt).to_bytes())
    return f"text/receipts/{path.name}"


def test_an_item_without_row_or_reject(root: Path) -> None:
    def lengthen(receipt: Receipt) -> Receipt:
        end = Cursor(receipt.next.ordinal + 1, receipt.next.position)
        return replace(receipt, next=end, items=receipt.items + 1)

    path = forge(root, -1, lengthen)
    (problem,) = verify(str(root)).problems
    assert problem.path == path
    assert "item 120 of its split has neither a row nor a reject" in problem.what


def test_an_item_with_row_and_reject(root: Path) -> None:
    def reject_another(receipt: Receipt) -> Receipt:
        assert receipt.rejects is not None
        rejects = root / receipt.rejects.path
        data = rejects.read_bytes().replace(b'"ordinal": 3,', b'"ordinal": 4,')
        import hashlib

        rejects.write_bytes(data)
        return replace(receipt, rejects=replace(receipt.rejects, sha256=hashlib.sha256(data).hexdigest()))

    path = forge(root, 0, reject_another)
    (problem,) = verify(str(root)).problems
    assert problem.path == path
    assert "item 3 of its split has neither" in problem.what
    assert "(2 such items)" in problem.what


def test_a_forged_count(root: Path) -> None:
    path = forge(root, 0, lambda receipt: replace(receipt, items=receipt.items - 1))
    assert path in paths(verify(str(root)))


def test_parts_that_do_not_follow_each_other(root: Path) -> None:
    path = forge(root, 1, lambda receipt: replace(receipt, start=replace(receipt.start, position=1)))
    (problem,) = verify(str(root)).problems
    assert problem.path == path
    assert "does not begin where the one before it ends" in problem.what


def test_a_split_without_end(root: Path) -> None:
    forge(root, -1, lambda receipt: replace(receipt, final=False))
    (problem,) = verify(str(root)).problems
    assert "its split is not complete" in problem.what


def test_a_receipt_of_another_tokenizer(root: Path) -> None:
    path = forge(root, 0, lambda receipt: replace(receipt, fingerprint="0" * 64))
    assert paths(verify(str(root))) == {path}


def test_a_receipt_that_names_another_shard(root: Path) -> None:
    path = forge(root, 0, lambda receipt: replace(receipt, shards=(replace(receipt.shards[0], sha256="0" * 64),)))
    assert paths(verify(str(root))) == {path}


def test_an_unfinished_next_generation_is_no_problem(any_root: str, tmp_path: Path) -> None:
    inputs = tmp_path / "in"
    write_jsonl(inputs / "a.jsonl", [{"id": str(i), "text": "one " * 300} for i in range(20)])
    job = job_of(any_root, inputs)
    build_dataset(job)
    write_jsonl(inputs / "b.jsonl", [{"id": str(i), "text": "two " * 300} for i in range(20)])
    run_splits(job)
    report = verify(any_root)
    assert report.problems == []
    assert (report.generation, report.rows) == (1, 20)
    Storage.open(any_root).delete([layout.plan(1)])
    report = verify(any_root)
    assert paths(report) == {layout.plan(1)}
    build_dataset(job)
    assert verify(any_root).rows == 40


def test_shards_of_older_generations_are_checked(tmp_path: Path) -> None:
    inputs = tmp_path / "in"
    for name in ("a", "b"):
        write_jsonl(inputs / f"{name}.jsonl", [{"id": name, "text": name * 500}])
    sources = [{"name": n, "uris": [str(inputs / f"{n}.jsonl")], "fields": {"id": "id"}} for n in ("a", "b")]
    table = {"name": "text", "tokenizer": {"id": "bytes"}}
    build_dataset(job_of(str(tmp_path / "out"), inputs, sources=sources, tables=[table]))
    build_dataset(job_of(str(tmp_path / "out"), inputs, sources=sources, tables=[{**table, "sources": ["a"]}]))
    storage = Storage.open(str(tmp_path / "out"))
    report = verify(storage)
    assert report.problems == []
    assert report.generation == 2
    old = {path.name for path in (tmp_path / "out/text/shards").iterdir()}
    new = read_shard_table(storage, read_manifest(storage).tables["text"]).table["path"].to_pylist()
    (only_old,) = [f"text/shards/{name}" for name in old if f"text/shards/{name}" not in new]
    storage.put(only_old, [b"damaged"])
    assert paths(verify(storage)) == {only_old}


def test_a_damaged_newest_manifest(tmp_path: Path) -> None:
    inputs = tmp_path / "in"
    write_jsonl(inputs / "a.jsonl", [{"id": "a", "text": "one"}])
    job = job_of(str(tmp_path / "out"), inputs)
    build_dataset(job)
    write_jsonl(inputs / "b.jsonl", [{"id": "b", "text": "two"}])
    build_dataset(job)
    (tmp_path / "out/manifests/000002.json").write_text("{}")
    report = verify(str(tmp_path / "out"))
    assert paths(report) == {"manifests/000002.json"}
    assert (report.generation, report.rows) == (1, 1)


SPEC = StreamSpec("int32", vocabulary_size=1000)
GRID = StreamSpec("uint8", ("frame", "codebook"), (None, 2))


@dataclass(frozen=True)
class Faulty:
    """A shard whose bytes are intact, as its writer and as the manifest say it is."""

    ordinals: tuple[int, ...] = (0, 1, 2)
    ids: tuple[int, ...] = (0, 1, 2, 3, 4, 5)
    shapes: tuple[tuple[int, int], ...] = ((2, 2), (3, 2), (1, 2))
    split: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
    rows: int = 3
    ids_listed: int = 6
    grid_offset: int | None = None

    def check(self, storage: Storage, base: ManifestTable) -> list[str]:
        """Store the shard, check it and return what is wrong."""
        streams = {"ids": SPEC, "grid": GRID}
        header = ShardHeader(
            "text", self.split, 0, streams, self.metadata, base.tokenizer.identity, base.tokenizer.fingerprint
        )
        count = len(self.ordinals)
        rows = ShardRows(
            np.array(self.ordinals, np.int64),
            np.zeros(count, np.int64),
            np.zeros(count, np.int32),
            [f"k{i}" for i in range(count)],
            {name: [None] * count for name in self.metadata},
            {
                "ids": Jagged.from_lengths(np.array(self.ids, np.int32), np.array([1, 2, 3])),
                "grid": Jagged(np.zeros(12, np.uint8), np.array(self.shapes, np.int64)),
            },
        )
        shard = serialise_shard(header, rows)
        path = layout.shard("text", 0, 0, shard.sha256)
        storage.put(path, shard.pieces)
        offsets = dict(shard.value_offsets)
        if self.grid_offset is not None:
            offsets["grid"] = self.grid_offset
        tokens = {"ids": self.ids_listed, "grid": 12}
        listed = ListedShard(0, 0, path, shard.sha256, shard.size_bytes, self.rows, tokens, offsets, shard.blocks)
        table = replace(base, tokenizer=replace(base.tokenizer, streams=streams))
        problems = check_shard(storage, table, listed).problems
        assert {problem.path for problem in problems} <= {path}
        return [problem.what for problem in problems]


@pytest.mark.parametrize(
    ("faulty", "what"),
    [
        (Faulty(), None),
        (Faulty(ordinals=(0, 2, 2)), "ordinals do not increase"),
        (Faulty(ids=(0, 1, 2, 1000, 4, 5)), "holds id 1000; its vocabulary has 1000"),
        (Faulty(ids=(0, 1, 2, 3, -1, 5)), "holds id -1"),
        (Faulty(split=1), "what it says of itself"),
        (Faulty(metadata={"url": "string"}), "what it says of itself"),
        (Faulty(rows=4), "has 3 rows; the manifest says 4"),
        (Faulty(ids_listed=7), "do not rise from 0 to 7"),
        (Faulty(shapes=((4, 1), (3, 2), (1, 2))), "'codebook' of stream 'grid' is not 2"),
        (Faulty(grid_offset=8), "begin at byte"),
    ],
)
def test_faults_of_a_writer(tmp_path: Path, published: Path, faulty: Faulty, what: str | None) -> None:
    table = read_manifest(Storage.open(str(published))).tables["text"]
    problems = faulty.check(Storage.open(str(tmp_path)), table)
    assert (not problems) if what is None else any(what in problem for problem in problems), problems


def test_duplicates_are_checked(any_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed_text.register(monkeypatch)
    hashed_text.hashed_dataset(any_root, tmp_path / "in")
    storage = Storage.open(any_root)
    assert verify(storage).problems == []
    manifest = read_manifest(storage)
    table = manifest.tables["hashed"]
    duplicates = read_duplicates(storage, table)
    assert table.duplicates is not None
    assert duplicates is not None
    before, path = dict(table.duplicates), table.duplicates["path"]
    whole = storage.read(path)

    def found(data: bytes | None, **listed: object) -> list[tuple[str, str]]:
        """Replace the file, and what the manifest says of it, by a writer's faults; return the problems."""
        storage.delete([path])
        if data is not None:
            storage.put(path, [data])
        said = {**before, "sha256": sha256(data or whole).hexdigest(), **listed}
        faulty = {**manifest.tables, "hashed": replace(table, duplicates=said)}
        storage.put(layout.manifest(1), [seal(replace(manifest, tables=faulty).to_json())])
        return [(problem.path, problem.what) for problem in verify(storage).problems]

    assert found(whole) == []
    assert found(None) == [(path, "there is no such file")]
    assert found(whole[:-1], sha256=before["sha256"]) == [(path, "does not match the checksum in its manifest")]
    assert found(b"nothing")[0][1].startswith("is no list of duplicates")
    assert found(whole, count=1) == [(path, f"lists {len(duplicates)} rows; the manifest says 1")]
    count = len(duplicates)
    for rows, of in ((duplicates.rows[:-1], duplicates.of[:-1]), (duplicates.rows, duplicates.of * 0)):
        problems = found(Duplicates(rows, of).to_bytes(), count=len(rows))
        assert problems == [(path, f"is not what the digests of the rows tell: {count} repeat an earlier one")]
    outside = Duplicates(np.append(duplicates.rows, table.rows), np.append(duplicates.of, 0)).to_bytes()
    assert found(outside) == [(path, f"lists what cannot be duplicates of {table.rows} rows")]
