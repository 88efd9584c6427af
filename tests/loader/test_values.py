import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenmill
from tests.loader.corpora import IDS, write_corpus
from tokenmill.errors import CorruptionError, MissingFileError, TokenmillError
from tokenmill.loader import TokenCorpus, TokenLoader
from tokenmill.loader.values import LocalValues
from tokenmill.shards import BLOCK_BYTES
from tokenmill.streams import StreamSpec

SHARDS = [[4, 0, 3], [], [0], [50, 1]]
#: Values of a block of a shard.
BLOCK_VALUES = BLOCK_BYTES // 4


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_corpus(tmp_path_factory.mktemp("corpus"), SHARDS)


def values_of(uri: str, stream: str = "ids", **options: Any) -> LocalValues:
    table = tokenmill.open(uri)["text"]
    return LocalValues(table.storage, table.shards, stream, table.streams[stream].dtype, **options)


def shard_path(uri: str, shard: int) -> Path:
    return Path(uri) / tokenmill.open(uri)["text"].shards.path(shard)


def flip(uri: str, shard: int, value: int) -> str:
    """Change one bit of a value of a shard; returns the shard's name."""
    path = shard_path(uri, shard)
    first = tokenmill.open(uri)["text"].shards.column("value_offset.ids")[shard]
    with path.open("r+b") as file:
        file.seek(int(first) + 4 * value + 1)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 8]))
    return path.name


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 51), st.integers(0, 51)), max_size=15), st.integers(1, 4))
def test_values_are_those_of_the_rows(uri: str, asked: list[tuple[int, int, int]], mapped_shards: int) -> None:
    values = values_of(uri, mapped_shards=mapped_shards)
    first = [0, 7, 7, 7]
    for shard, start, length in asked:
        start = min(start, sum(SHARDS[shard]))
        stop = min(start + length, sum(SHARDS[shard]))
        found = values.read(shard, start, stop)
        assert found.dtype == np.uint32
        assert not found.flags.writeable
        assert found.tolist() == list(range(first[shard] + start, first[shard] + stop))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "uint32", "int64", "uint64"])
@pytest.mark.parametrize("check", [False, True])
def test_values_of_every_width_and_of_any_stream(tmp_path: Path, dtype: str, check: bool) -> None:
    # Values of a second stream lie behind the first one's, and whatever pads them.
    uri = write_corpus(tmp_path, [[5, 8], [0], [3]], streams={"ids": IDS, "other": StreamSpec(dtype)})
    values = values_of(uri, "other", check=check)
    for _ in range(2):
        assert values.read(0, 0, 13).tolist() == list(range(13))
        assert values.read(2, 1, 3).tolist() == [14, 15]
        assert values.read(1, 0, 0).tolist() == []
        out = np.empty((3, 2), np.int64)
        values.gather(np.array([2, 0, 0]), np.array([1, 4, 0]), out)
        assert out.tolist() == [[14, 15], [4, 5], [0, 1]]


def test_a_shard_whose_values_were_all_checked_is_not_checked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody reads the blocks that hold its columns and other streams.
    count = 3 * BLOCK_VALUES
    uri = write_corpus(tmp_path, [[count]], streams={"before": IDS, "ids": IDS, "behind": IDS})
    values = values_of(uri)
    for start in range(0, count, BLOCK_VALUES):
        values.read(0, start, start + BLOCK_VALUES)

    def prepare(*_: Any) -> None:
        raise AssertionError("blocks were looked for")

    monkeypatch.setattr(values, "_prepare", prepare)
    assert values.read(0, 5, 9).tolist() == [5, 6, 7, 8]
    out = np.empty((1, 2), np.int64)
    values.gather(np.array([0]), np.array([count - 2]), out)
    assert out.tolist() == [[count - 2, count - 1]]


@pytest.fixture
def large(tmp_path: Path) -> str:
    """Three shards, the second of more than three blocks."""
    return write_corpus(tmp_path, [[9], [3 * BLOCK_VALUES, 10, 5], [7]])


def test_only_the_block_that_is_damaged_is_refused(large: str) -> None:
    name = flip(large, 1, BLOCK_VALUES + 5)
    values = values_of(large)
    assert values.read(0, 0, 9).tolist() == list(range(9))
    assert values.read(1, 0, 10).tolist() == list(range(9, 19))
    assert values.read(1, 2 * BLOCK_VALUES, 2 * BLOCK_VALUES + 2).tolist() == [
        9 + 2 * BLOCK_VALUES,
        10 + 2 * BLOCK_VALUES,
    ]
    for _ in range(2):
        with pytest.raises(CorruptionError, match=f"{name}: the block at byte {BLOCK_BYTES} does not match") as caught:
            values.read(1, BLOCK_VALUES + 10, BLOCK_VALUES + 20)
    assert "tokenmill verify" in str(caught.value)
    out = np.empty((2, 4), np.int64)
    with pytest.raises(CorruptionError, match=name):
        values.gather(np.array([0, 1]), np.array([0, BLOCK_VALUES]), out)
    values.gather(np.array([0, 1]), np.array([0, 2]), out)
    assert out.tolist() == [[0, 1, 2, 3], [11, 12, 13, 14]]


def test_damage_passes_unless_it_is_looked_for(large: str) -> None:
    flip(large, 1, BLOCK_VALUES + 5)
    values = values_of(large, check=False)
    assert values.read(1, BLOCK_VALUES + 5, BLOCK_VALUES + 6).tolist() == [(9 + BLOCK_VALUES + 5) ^ 8 << 8]


@pytest.mark.parametrize("fields", [("ids",), ("ids", "document_ids")])
def test_a_loader_names_the_damaged_shard(large: str, fields: tuple[str, ...]) -> None:
    name = flip(large, 1, 2 * BLOCK_VALUES + 5)
    window = 1 << 16
    loader = TokenLoader(large, window=window, global_batch_size=1, shuffle="none", fields=fields)
    # Batches are made several at a time; the first of them are whole.
    good = next(iter(loader))
    assert good["ids"][0].tolist() == list(range(window))
    with pytest.raises(CorruptionError, match=name):
        list(loader)
    loader = TokenLoader(large, window=window, global_batch_size=1, shuffle="none", fields=fields, check=False)
    assert len(list(loader)) == 12


def test_damaged_columns_are_found_even_without_checking(tmp_path: Path) -> None:
    uri = write_corpus(tmp_path, [[9], [40, 30], [7]])
    path = shard_path(uri, 1)
    data = bytearray(path.read_bytes())
    data[data.index(b"doc-1")] ^= 1
    path.write_bytes(data)
    loader = TokenLoader(uri, window=4, global_batch_size=1, check=False)
    with pytest.raises(CorruptionError, match=path.name):
        list(loader)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def swap(path: Path) -> None:
    """Put another shard of the same size in its place."""
    data = path.read_bytes()
    path.write_bytes(data.replace(b"doc-1", b"dog-1"))


@pytest.mark.parametrize("harm", [truncate, append, swap, Path.unlink])
@pytest.mark.parametrize("fields", [("ids",), ("ids", "positions")])
def test_a_shard_that_is_not_the_one_published_is_named(
    tmp_path: Path, harm: Callable[[Path], None], fields: tuple[str, ...]
) -> None:
    uri = write_corpus(tmp_path, [[9], [40, 30], [7]])
    path = shard_path(uri, 1)
    harm(path)
    loader = TokenLoader(uri, window=4, global_batch_size=1, shuffle="none", fields=fields)
    kind: type[TokenmillError] = MissingFileError if harm is Path.unlink else CorruptionError
    with pytest.raises(kind, match=path.name):
        list(loader)


def test_closing(uri: str) -> None:
    values = values_of(uri)
    values.read(0, 0, 3)
    values.close()
    values.close()
    assert values.read(3, 0, 3).tolist() == [7, 8, 9]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def mappings(below: str) -> int:
    return sum(below in line for line in Path("/proc/self/maps").read_text().splitlines())


def test_files_are_mapped_and_not_held_open(tmp_path: Path) -> None:
    uri = write_corpus(tmp_path, [[5, 3]] * 60)
    TokenLoader(uri, window=4, global_batch_size=5)  # the first one in a process opens memory to share with workers
    descriptors, threads = open_files(), threading.active_count()
    corpus = TokenCorpus(uri)
    values = values_of(uri, mapped_shards=20)
    for shard in range(60):
        assert values.read(shard, 0, 8).tolist() == list(range(8 * shard, 8 * shard + 8))
        assert open_files() == descriptors
    assert mappings(uri) == 20
    values.close()
    assert mappings(uri) == 0
    loader = TokenLoader(uri, window=4, global_batch_size=5)
    for _ in range(3):
        assert len(list(loader)) == 24
    assert open_files() == descriptors
    assert threading.active_count() == threads
    assert mappings(uri) <= 120  # each once for values and once for rows
    loader.close()
    corpus.close()
    assert mappings(uri) == 0
    del values
    del loader, corpus
    assert mappings(uri) == 0
