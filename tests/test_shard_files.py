"""Opened shards: every layout of streams, from local files and from object storage."""

import numpy as np
import numpy.typing as npt
import pytest

from tokenmill import layout
from tokenmill.errors import CorruptionError, MissingFileError
from tokenmill.shard_files import FetchedBytes, MappedBytes, OpenShard, open_bytes
from tokenmill.shards import BLOCK_BYTES, SerialisedShard, ShardHeader, ShardRows, serialise_shard
from tokenmill.storage.outputs import Storage
from tokenmill.streams import Jagged, StreamSpec

SPECS = {
    "ids": StreamSpec("uint32", vocabulary_size=100_000),
    "codes": StreamSpec("uint16", ("frame", "codebook"), (None, 8), 1024),
    "latents": StreamSpec("float16", ("row", "column", "channel"), (None, None, 4)),
    "nothing": StreamSpec("uint8", vocabulary_size=4),
}
METADATA = {"url": "string", "length": "int64", "score": "float64", "good": "bool"}


def make_rows(count: int, ids_per_row: int, seed: int = 0) -> ShardRows:
    random = np.random.default_rng(seed)
    lengths = random.integers(0, 2 * ids_per_row + 1, count)
    frames = random.integers(0, 5, count)
    grids = random.integers(0, 4, (count, 2))
    return ShardRows(
        ordinals=np.arange(count, dtype=np.int64) * 2,
        documents=np.arange(count, dtype=np.int64),
        positions=random.integers(0, 9, count).astype(np.int32),
        keys=[f"ключ-{i}" if i % 3 else "" for i in range(count)],
        metadata={
            "url": [None if i % 4 == 0 else f"https://example.org/{i}" for i in range(count)],
            "length": [None if i % 5 == 0 else i for i in range(count)],
            "score": [i / 7 for i in range(count)],
            "good": [i % 2 == 0 for i in range(count)],
        },
        streams={
            "ids": Jagged.from_lengths(random.integers(0, 100_000, int(lengths.sum())).astype(np.uint32), lengths),
            "codes": Jagged(
                random.integers(0, 1024, int(frames.sum()) * 8).astype(np.uint16),
                np.stack([frames, np.full(count, 8)], axis=1),
            ),
            "latents": Jagged(
                random.random(int(grids.prod(axis=1).sum()) * 4).astype(np.float16),
                np.concatenate([grids, np.full((count, 1), 4)], axis=1),
            ),
            "nothing": Jagged(np.empty(0, np.uint8), np.zeros((count, 1), np.int64)),
        },
    )


def store(storage: Storage, rows: ShardRows) -> tuple[str, SerialisedShard]:
    header = ShardHeader("table", 3, 1, SPECS, METADATA, {"id": "test"}, "f" * 64)
    shard = serialise_shard(header, rows)
    path = layout.shard("table", 3, 1, shard.sha256)
    storage.put(path, shard.pieces)
    return path, shard


def opened(storage: Storage, path: str, shard: SerialisedShard, *, check_values: bool = False) -> OpenShard:
    data = open_bytes(storage, path, shard.size_bytes, shard.blocks, check_values=check_values)
    return OpenShard(data, shard.value_offsets)


@pytest.fixture
def storage(any_root: str) -> Storage:
    return Storage.open(any_root)


@pytest.mark.parametrize(("count", "ids_per_row"), [(0, 3), (1, 0), (1, 3), (200, 5), (300, 8000)])
def test_rows_are_what_was_written(storage: Storage, count: int, ids_per_row: int) -> None:
    rows = make_rows(count, ids_per_row)
    path, shard = store(storage, rows)
    found = opened(storage, path, shard, check_values=True)
    assert len(found) == count
    assert (found.header.table, found.header.split, found.header.part) == ("table", 3, 1)
    assert found.header.streams == SPECS
    np.testing.assert_array_equal(found.ordinals, rows.ordinals)
    np.testing.assert_array_equal(found.documents, rows.documents)
    np.testing.assert_array_equal(found.positions, rows.positions)
    ends = {name: np.cumsum(stream.lengths) for name, stream in rows.streams.items()}
    for row in np.random.default_rng(1).permutation(count).tolist():
        assert found.key(row) == rows.keys[row]
        assert found.metadata(row) == {name: values[row] for name, values in rows.metadata.items()}
        for name, stream in rows.streams.items():
            array = found.streams[name].row(row)
            stop = int(ends[name][row])
            expected = stream.values[stop - int(stream.lengths[row]) : stop].reshape(stream.shapes[row])
            assert array.dtype == SPECS[name].dtype
            np.testing.assert_array_equal(array, expected, strict=True)
            assert not array.flags.writeable


def test_no_values_at_all(storage: Storage) -> None:
    rows = make_rows(4, 0)
    empty = {
        name: Jagged(np.empty(0, spec.dtype), np.array([[0, *(w or 0 for w in spec.shape[1:])]] * 4, np.int64))
        for name, spec in SPECS.items()
    }
    rows = ShardRows(rows.ordinals, rows.documents, rows.positions, rows.keys, rows.metadata, empty)
    path, shard = store(storage, rows)
    assert set(shard.value_offsets.values()) == {0}
    found = opened(storage, path, shard)
    assert [found.streams["codes"].row(i).shape for i in range(4)] == [(0, 8)] * 4


def test_local_rows_are_views_of_the_mapped_file(tmp_path: object) -> None:
    storage = Storage.open(str(tmp_path))
    path, shard = store(storage, make_rows(50, 100))
    found = opened(storage, path, shard)
    assert isinstance(found.data, MappedBytes)
    assert np.shares_memory(found.streams["ids"].row(7), found.streams["ids"].values)
    start = found.data.buffer.address
    address = found.streams["ids"].row(7).__array_interface__["data"][0]
    assert start <= address < start + found.data.size_bytes


def test_fetched_rows_hold_nothing_but_themselves(s3_root: str) -> None:
    storage = Storage.open(s3_root)
    path, shard = store(storage, make_rows(50, 100))
    row = opened(storage, path, shard).streams["ids"].row(7)
    owner: npt.NDArray[np.uint32] = row if row.base is None else row.base
    assert owner.nbytes == row.nbytes


def test_only_the_blocks_of_a_row_are_fetched(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.open(s3_root)
    path, shard = store(storage, make_rows(400, 12_500))
    assert shard.size_bytes > 16 * BLOCK_BYTES
    ranges: list[tuple[int, int]] = []
    read_range = storage.read_range

    def counted(path: str, start: int, stop: int) -> bytes:
        ranges.append((start, stop))
        return read_range(path, start, stop)

    monkeypatch.setattr(storage, "read_range", counted)
    found = opened(storage, path, shard)
    fetched = sum(stop - start for start, stop in ranges)
    assert fetched <= 4 * BLOCK_BYTES, "the columns before the values, those between streams, and the footer"
    assert isinstance(found.data, FetchedBytes)
    assert found.data.held_bytes == fetched
    found.key(200)
    assert sum(stop - start for start, stop in ranges) == fetched
    ranges.clear()
    found.streams["ids"].row(200)
    assert sum(stop - start for start, stop in ranges) <= 2 * BLOCK_BYTES
    ranges.clear()
    found.streams["ids"].row(200)
    assert not ranges


@pytest.mark.parametrize("check_values", [False, True])
def test_damage_in_values(storage: Storage, check_values: bool) -> None:
    rows = make_rows(400, 4000)
    path, shard = store(storage, rows)
    damaged = bytearray(b"".join(shard.pieces))
    bad = 3 * BLOCK_BYTES + 17
    assert shard.value_offsets["ids"] < bad < shard.value_offsets["ids"] + rows.streams["ids"].values.nbytes
    damaged[bad] ^= 1
    storage.put(path, [bytes(damaged)])
    found = opened(storage, path, shard, check_values=check_values)
    row = int(np.searchsorted(np.cumsum(rows.streams["ids"].lengths), (bad - shard.value_offsets["ids"]) // 4, "right"))
    found.streams["ids"].row(0)
    if storage.local_path(path) is not None and not check_values:
        found.streams["ids"].row(row)  # as documented: mapped values are not checked unless asked for
        return
    with pytest.raises(CorruptionError, match=f"block at byte {3 * BLOCK_BYTES}") as raised:
        found.streams["ids"].row(row)
    assert raised.value.where is not None
    assert path in raised.value.where


def test_damage_in_columns_is_always_found(storage: Storage) -> None:
    path, shard = store(storage, make_rows(100, 10))
    for offset in (0, 100, shard.value_offsets["ids"] - 1, shard.value_offsets["codes"] - 1, shard.size_bytes - 20):
        damaged = bytearray(b"".join(shard.pieces))
        damaged[offset] ^= 0x40
        storage.put(path, [bytes(damaged)])
        with pytest.raises(CorruptionError, match="block at byte 0"):
            opened(storage, path, shard)


def test_truncated_and_missing(storage: Storage) -> None:
    path, shard = store(storage, make_rows(100, 10))
    whole = b"".join(shard.pieces)
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        storage.put(path, [whole[:cut]])
        with pytest.raises(CorruptionError):
            opened(storage, path, shard)
    storage.delete([path])
    with pytest.raises(MissingFileError):
        opened(storage, path, shard)


def test_intact_bytes_that_are_no_shard(storage: Storage) -> None:
    from tokenmill.shards import block_checksums

    for content in (b"x", b"not an arrow file at all" * 50, b"\x10\0\0\0ARROW1" * 3):
        storage.put("x", [content])
        blocks = block_checksums([memoryview(content)])
        with pytest.raises(CorruptionError):
            OpenShard(open_bytes(storage, "x", len(content), blocks, check_values=False), {"ids": 0})


def test_block_checksums_of_another_size(storage: Storage) -> None:
    path, shard = store(storage, make_rows(10, 10))
    with pytest.raises(CorruptionError, match="block checksums"):
        open_bytes(storage, path, shard.size_bytes + BLOCK_BYTES, shard.blocks, check_values=False)
