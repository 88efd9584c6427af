"""Reading datasets: rows by index and in order, from local files and object storage."""

import os
import pickle
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenmill
from tests import hashed_text
from tests.datasets import build_dataset, job_of, write_jsonl
from tests.toy_codec import register, sound_job, write_sounds
from tokenmill import dataset as dataset_module
from tokenmill.audio.sound import Sound
from tokenmill.dataset import Dataset, Row, Table
from tokenmill.errors import AssetError, CorruptionError, DatasetError, MissingFileError
from tokenmill.shard_files import FetchedBytes, open_bytes
from tokenmill.storage.outputs import Storage
from tokenmill.tokenizers.bytes import BytesTokenizer

TEXTS = [f"Text {i}: " + "žluťoučký kůň " * (i % 23) for i in range(400)]
BROKEN = range(0, 400, 37)


def write_inputs(directory: Path) -> Path:
    records = [
        "no json" if i in BROKEN else {"id": f"doc-{i}", "text": text, "lang": ["cs", None][i % 2], "n": i}
        for i, text in enumerate(TEXTS)
    ]
    write_jsonl(directory / "a.jsonl", records[:150])
    write_jsonl(directory / "b.jsonl", records[150:])
    return directory


@pytest.fixture
def dataset(any_root: str, tmp_path: Path) -> Dataset:
    inputs = write_inputs(tmp_path / "in")
    build_dataset(
        job_of(
            any_root,
            inputs,
            source={"metadata": {"lang": "string", "n": "int64"}},
            splitting={"part_bytes": 16_000},
            tables=[
                {"name": "text", "tokenizer": {"id": "bytes"}},
                {"name": "framed", "tokenizer": {"id": "bytes", "bos": True, "eos": True}},
            ],
        )
    )
    return tokenmill.open(any_root)


def test_importing_is_cheap() -> None:
    command = (
        "import sys; import tokenmill; from tokenmill import layout\n"
        "heavy = {'pyarrow', 'numpy', 'pydantic', 'fsspec', 'typer', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", command], check=True)


def test_package() -> None:
    assert tokenmill.open is dataset_module.open_dataset
    assert tokenmill.Dataset is Dataset
    assert tokenmill.__version__.count(".") == 2
    assert set(dir(tokenmill)) >= {"open", "Table", "Row", "__version__"}
    with pytest.raises(AttributeError, match="nothing"):
        tokenmill.nothing  # noqa: B018


def test_dataset(dataset: Dataset, any_root: str) -> None:
    assert dataset.uri == any_root
    assert dataset.generation == 1
    assert list(dataset) == list(dataset.tables) == ["text", "framed"]
    assert len(dataset) == 2
    assert "text" in dataset
    assert "nope" not in dataset
    assert dataset.fingerprint == dataset.manifest.fingerprint
    with pytest.raises(DatasetError, match="no table 'nope'; it has text, framed"):
        dataset["nope"]
    assert "400" not in repr(dataset)
    assert str(len(dataset["text"])) in repr(dataset)


def test_rows(dataset: Dataset) -> None:
    table = dataset["text"]
    kept = [i for i in range(len(TEXTS)) if i not in BROKEN]
    assert len(table) == len(kept)
    assert len(table.shards) > 3
    for index in np.random.default_rng(0).permutation(len(kept)).tolist():
        row, i = table[index], kept[index]
        assert row.key == f"doc-{i}"
        assert row.metadata == {"lang": "cs" if i % 2 == 0 else None, "n": i}
        assert row.streams["ids"].dtype == np.uint8
        assert bytes(row.streams["ids"]).decode() == TEXTS[i]
        assert not row.streams["ids"].flags.writeable
        assert (row.split, row.ordinal) == (0, i)  # both files are small: one run
        assert (row.document, row.position) == (row.ordinal, 0)


def test_tables_join_on_split_and_ordinal(dataset: Dataset) -> None:
    for plain, framed in zip(dataset["text"], dataset["framed"], strict=True):
        assert (plain.split, plain.ordinal, plain.key) == (framed.split, framed.ordinal, framed.key)
        assert framed.streams["ids"].dtype == np.uint16
        np.testing.assert_array_equal(framed.streams["ids"][1:-1], plain.streams["ids"])


def test_indices(dataset: Dataset) -> None:
    table = dataset["text"]
    last = len(table) - 1
    assert table[-1].key == table[last].key == table[np.int64(last)].key == "doc-399"
    assert table[-len(table)].key == table[0].key
    for wrong in (len(table), -len(table) - 1):
        with pytest.raises(IndexError, match=str(wrong)):
            table[wrong]
    with pytest.raises(TypeError):
        table["0"]  # type: ignore[call-overload]
    assert [row.key for row in table[3:8]] == [table[i].key for i in range(3, 8)]
    assert [row.key for row in table[-2:]] == [table[-2].key, table[-1].key]
    assert [row.key for row in table[10:4:-3]] == [table[10].key, table[7].key]
    assert table[5:5] == []
    assert table[len(table) + 5 :] == []


def test_iteration_is_in_order(dataset: Dataset) -> None:
    table = dataset["text"]
    assert [row.key for row in table] == [table[i].key for i in range(len(table))]


def test_iteration_opens_one_shard_at_a_time(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[object] = weakref.WeakSet()
    most = 0

    def watched(*arguments: Any, **options: Any) -> Any:
        nonlocal most
        data = open_bytes(*arguments, **options)
        alive.add(data)
        most = max(most, len(alive))
        return data

    monkeypatch.setattr(dataset_module, "open_bytes", watched)
    assert len(dataset["text"].shards) > 3
    for _ in dataset["text"]:
        pass
    assert most <= 2, "the next shard is opened before the last one is let go"


def test_decode(dataset: Dataset) -> None:
    assert dataset["text"].decode(0) == TEXTS[1]
    assert dataset["framed"].decode(-1) == TEXTS[399]
    assert dataset["framed"].decode(dataset["framed"][5]) == dataset["text"].decode(5)


def test_a_tokenizer_without_decoder(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BytesTokenizer, "decoder", lambda self: None)
    with pytest.raises(DatasetError, match="no decoder"):
        dataset["text"].decode(0)


def test_decoding_refuses_another_vocabulary(tmp_path: Path) -> None:
    import base64

    ranks = tmp_path / "v.tiktoken"
    lines = [f"{base64.b64encode(bytes([value])).decode()} {value}" for value in range(256)]
    ranks.write_text("\n".join(lines) + "\n")
    write_jsonl(tmp_path / "in/a.jsonl", [{"id": "a", "text": "abc"}])
    tokenizer = {"id": "tiktoken", "ranks": str(ranks), "pattern": "o200k_base"}
    build_dataset(job_of(str(tmp_path / "out"), tmp_path / "in", tables=[{"name": "text", "tokenizer": tokenizer}]))
    assert tokenmill.open(str(tmp_path / "out"))["text"].decode(0) == "abc"
    lines[97], lines[98] = lines[98][:-2] + "97", lines[97][:-2] + "98"
    ranks.write_text("\n".join(lines) + "\n")
    with pytest.raises(AssetError, match="not the one that the table was made with"):
        tokenmill.open(str(tmp_path / "out"))["text"].decode(0)


def test_a_table_tells_what_it_is(dataset: Dataset) -> None:
    table = dataset["framed"]
    assert table.name == "framed"
    assert table.tokenizer.config == {"id": "bytes", "bos": True, "eos": True}
    assert table.streams["ids"].vocabulary_size == 258
    assert table.metadata == {"lang": "string", "n": "int64"}
    assert table.summary["overall"]["documents"] == len(table)
    assert table.manifest.rejected == len(BROKEN)
    assert table.fingerprint != dataset["text"].fingerprint
    assert "framed" in repr(table)


def test_pickles(dataset: Dataset) -> None:
    again: Table = pickle.loads(pickle.dumps(dataset["text"]))
    assert again[3].key == dataset["text"][3].key
    assert pickle.loads(pickle.dumps(dataset)).generation == 1
    row: Row = pickle.loads(pickle.dumps(dataset["text"][3]))
    assert row.key == dataset["text"][3].key


def test_threads(dataset: Dataset) -> None:
    table = dataset["text"]
    expected = [bytes(row.streams["ids"]) for row in table]
    barrier = threading.Barrier(8)

    def read(seed: int) -> None:
        barrier.wait()
        for index in np.random.default_rng(seed).integers(0, len(table), 200).tolist():
            assert bytes(table[index].streams["ids"]) == expected[index]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(8)))


def test_open_shards_are_bounded(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    cost = 256 << 10
    monkeypatch.setattr(dataset_module, "CACHE_BYTES", 3 * cost)
    monkeypatch.setattr(
        FetchedBytes, "held_bytes", property(lambda self: cost, lambda self, value: None), raising=False
    )
    table = tokenmill.open(dataset.uri)["text"]
    expected = [bytes(row.streams["ids"]) for row in table]
    assert len(table.shards) > 4
    for index in np.random.default_rng(0).integers(0, len(table), 100).tolist():
        assert bytes(table[index].streams["ids"]) == expected[index]
        assert len(table._cache._shards) <= 3
        assert table._cache._held == cost * len(table._cache._shards)


def test_close(dataset: Dataset) -> None:
    with tokenmill.open(dataset.uri) as opened:
        row = opened["text"][0]
        assert len(opened._cache._shards) == 1
    assert len(opened._cache._shards) == 0
    assert bytes(row.streams["ids"]) == bytes(opened["text"][0].streams["ids"])


def test_local_values_are_checked_on_demand(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", [{"id": str(i), "text": "x" * 3_000_000} for i in range(3)])
    root = tmp_path / "out"
    build_dataset(job_of(str(root), tmp_path / "in", splitting={"split_bytes": 1 << 30, "part_bytes": 1 << 30}))
    shard = next((root / "text/shards").iterdir())
    data = bytearray(shard.read_bytes())
    data[5_000_000] = ord("y")
    shard.write_bytes(data)
    loose, strict = tokenmill.open(str(root))["text"], tokenmill.open(str(root), check=True)["text"]
    assert b"y" in bytes(loose[1].streams["ids"])
    assert b"y" not in bytes(strict[0].streams["ids"])
    for table in (strict, pickle.loads(pickle.dumps(strict))):
        with pytest.raises(CorruptionError, match=rf"byte {5_000_000 // (1 << 20) * (1 << 20)} ") as raised:
            table[1]
        assert shard.name in str(raised.value)
    with pytest.raises(CorruptionError):
        list(strict)


def test_a_swapped_or_missing_shard(dataset: Dataset) -> None:
    storage = Storage.open(dataset.uri)
    paths = dataset["text"].shards.table["path"].to_pylist()
    intact = dataset["text"][0].key
    storage.put(paths[1], [storage.read(paths[2])])
    storage.delete([paths[3]])
    table = tokenmill.open(dataset.uri)["text"]
    ends = table.shards.row_ends
    assert table[0].key == intact
    with pytest.raises(CorruptionError):
        table[int(ends[0])]
    with pytest.raises(MissingFileError):
        table[int(ends[2])]


def test_generations(any_root: str, tmp_path: Path) -> None:
    inputs = tmp_path / "in"
    write_jsonl(inputs / "a.jsonl", [{"id": "a", "text": "one"}])
    job = job_of(any_root, inputs)
    build_dataset(job)
    first = tokenmill.open(any_root)
    write_jsonl(inputs / "b.jsonl", [{"id": "b", "text": "two"}])
    build_dataset(job)
    second = tokenmill.open(any_root)
    assert [row.key for row in second["text"]] == ["a", "b"]
    assert [row.key for row in first["text"]] == ["a"]
    assert (first.generation, second.generation) == (1, 2)
    assert first.fingerprint != second.fingerprint
    assert [row.key for row in tokenmill.open(any_root, generation=1)["text"]] == ["a"]
    assert pickle.loads(pickle.dumps(first)).generation == 1
    with pytest.raises(DatasetError, match=r"no generation 7; it has \[1, 2\]"):
        tokenmill.open(any_root, generation=7)


def test_a_table_without_rows(any_root: str, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", ["broken", "broken"])
    build_dataset(job_of(any_root, tmp_path / "in"))
    table = tokenmill.open(any_root)["text"]
    assert len(table) == 0
    assert list(table) == table[:] == []
    for index in (0, -1):
        with pytest.raises(IndexError):
            table[index]


def test_empty_texts_are_rows(any_root: str, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", [{"id": str(i), "text": ""} for i in range(5)])
    build_dataset(job_of(any_root, tmp_path / "in"))
    table = tokenmill.open(any_root)["text"]
    assert [row.streams["ids"].shape for row in table] == [(0,)] * 5
    assert table.decode(2) == ""


def test_nothing_there(any_root: str) -> None:
    with pytest.raises(DatasetError, match="holds no dataset"):
        tokenmill.open(any_root)


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", [{"id": "a", "text": "one"}])
    build_dataset(job_of(str(tmp_path / "out"), tmp_path / "in"))
    monkeypatch.chdir(tmp_path)
    dataset = tokenmill.open("out")
    os.chdir("/")
    assert dataset["text"][0].key == "a"


def test_recordings_decode_to_sound(any_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)
    build_dataset(sound_job(any_root, write_sounds(tmp_path / "in")))
    table = tokenmill.open(any_root)["fine"]
    assert len(table) == 4
    for index, row in enumerate(table):
        sound = table.decode(index)
        assert isinstance(sound, Sound)
        assert sound.rate_hz == 8_000
        assert len(sound.samples) == row.streams["recording"][5] == (int(row.key[0]) + 1) * 1600
        rms = 20 * np.log10(np.sqrt(np.mean(sound.samples.astype(np.float64) ** 2)))
        assert rms == pytest.approx(row.streams["level"][0], abs=3)  # the codec loses high tones


def test_rows_that_repeat_an_earlier_one_are_left_out(
    any_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed_text.register(monkeypatch)
    hashed_text.hashed_dataset(any_root, tmp_path / "in")
    table = tokenmill.open(any_root)["hashed"]
    distinct = list(table.distinct())
    assert [row.key for row in distinct] == [key for key in hashed_text.KEYS if key not in hashed_text.expected()]
    numbers = table.known_duplicates().kept(0, len(table)).tolist()
    for row, number in zip(distinct, numbers, strict=True):
        assert bytes(row.streams["ids"]) == bytes(table[number].streams["ids"])
    assert pickle.loads(pickle.dumps(table)).duplicates == table.duplicates
    with pytest.raises(DatasetError, match="table 'text' has no list of duplicates: rows have no digests"):
        tokenmill.open(any_root)["text"].distinct()


def test_a_damaged_list_of_duplicates(any_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed_text.register(monkeypatch)
    hashed_text.hashed_dataset(any_root, tmp_path / "in")
    storage, table = Storage.open(any_root), tokenmill.open(any_root)["hashed"]
    assert table.manifest.duplicates is not None
    path = table.manifest.duplicates["path"]
    storage.put(path, [storage.read(path)[:-1]])
    with pytest.raises(CorruptionError, match=f"{path}: does not match the checksum in its manifest"):
        list(table.distinct())
    storage.delete([path])
    with pytest.raises(MissingFileError):
        list(table.distinct())


def test_what_distinct_rows_do_not_need_is_not_fetched(
    s3_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many repeats lie between two rows, and a shard of nothing else after them."""
    hashed_text.register(monkeypatch)
    for name, ids in (("a", ["first", *("again" for _ in range(13)), "last"]), ("b", ["again"] * 3)):
        records = [{"id": f"{name}{number}", "text": text} for number, text in enumerate(ids)]
        write_jsonl(tmp_path / f"in/{name}.jsonl", records)
    tables = [{"name": "hashed", "tokenizer": {"id": "hashed-text", "heavy_bytes": 1 << 20}}]
    build_dataset(job_of(s3_root, tmp_path / "in", tables=tables, splitting={"part_bytes": 1024}))
    table = tokenmill.open(s3_root)["hashed"]
    fetched: list[int] = []
    original = FetchedBytes._load

    def load(self: FetchedBytes, first: int, last: int) -> None:
        fetched.append(last - first)
        original(self, first, last)

    monkeypatch.setattr(FetchedBytes, "_load", load)
    assert [row.key for row in table.distinct()] == ["a0", "a1", "a14"]
    assert sum(fetched) <= 7
    assert [row.key for row in table.chosen(np.array([3, 15]))] == ["a3", "b0"]
    fetched.clear()
    assert len(list(table)) == 18
    assert sum(fetched) >= 18
