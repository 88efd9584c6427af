"""Blocks fetched and checked, from the cache or from storage; damage, absence, and what several processes share."""

from __future__ import annotations

import logging
import pickle
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.s3_server import S3Server
from tests.loader.remote_shards import put_shards
from tokenmill.errors import CorruptionError, MissingFileError, StorageError, UnavailableError
from tokenmill.loader import fetching
from tokenmill.loader.block_cache import BlockCache
from tokenmill.loader.fetching import BlockFetcher
from tokenmill.manifests import ShardTable
from tokenmill.shards import BLOCK_BYTES
from tokenmill.storage.outputs import Storage


class Requests:
    """Counts the requests of a storage; `flip` so many answers, `pause_seconds` before each."""

    def __init__(self, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[tuple[int, int]] = []
        self.flip = 0
        self.pause_seconds = 0.0
        self._read_into = storage.read_into
        monkeypatch.setattr(storage, "read_into", self)

    def __call__(
        self, path: str, start: int, buffers: Sequence[memoryview], *, retry_seconds: float | None = None
    ) -> int:
        self.made.append((start // BLOCK_BYTES, len(buffers)))
        time.sleep(self.pause_seconds)
        found = self._read_into(path, start, buffers, retry_seconds=retry_seconds)
        if self.flip:
            self.flip -= 1
            buffers[-1][17] ^= 1
        return found


@pytest.fixture
def storage(any_root: str) -> Storage:
    return Storage.open(any_root)


@pytest.fixture
def shards(storage: Storage) -> ShardTable:
    """One shard of nine blocks, the last of them short, and an empty one."""
    return put_shards(storage, [2_200_000, 0])[0]


@pytest.fixture
def cache(tmp_path: Path) -> BlockCache:
    return BlockCache(tmp_path / "cache", 64 << 20)


def rooms(fetcher: BlockFetcher, first: int, last: int, shard: int = 0) -> list[memoryview]:
    return [memoryview(bytearray(fetcher.block_bytes(shard, block))) for block in range(first, last)]


def fetched(fetcher: BlockFetcher, first: int, last: int, shard: int = 0) -> bytes:
    buffers = rooms(fetcher, first, last, shard)
    fetcher.fetch(shard, first, buffers)
    return b"".join(buffers)


def replace_byte(storage: Storage, shards: ShardTable, place: int) -> None:
    damaged = bytearray(storage.read(shards.path(0)))
    damaged[place] ^= 1
    storage.put(shards.path(0), [bytes(damaged)])


@pytest.mark.parametrize("cached", [False, True])
def test_blocks_are_the_file(storage: Storage, shards: ShardTable, cache: BlockCache, cached: bool) -> None:
    whole = storage.read(shards.path(0))
    fetcher = BlockFetcher(storage, shards, cache=cache if cached else None)
    assert fetched(fetcher, 0, 8) == whole[: 8 * BLOCK_BYTES]
    assert fetched(fetcher, 7, 9) == whole[7 * BLOCK_BYTES :]
    assert fetched(fetcher, 0, 1, shard=1) == storage.read(shards.path(1))
    again = pickle.loads(pickle.dumps(fetcher))
    assert fetched(again, 3, 5) == whole[3 * BLOCK_BYTES : 5 * BLOCK_BYTES]


def test_missing_neighbours_are_one_request(
    storage: Storage, shards: ShardTable, cache: BlockCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = storage.read(shards.path(0))
    requests = Requests(storage, monkeypatch)
    fetcher = BlockFetcher(storage, shards, cache=cache)
    fetched(fetcher, 2, 3)
    fetched(fetcher, 5, 7)
    assert fetched(fetcher, 0, 8) == whole[: 8 * BLOCK_BYTES]
    assert requests.made == [(2, 1), (5, 2), (0, 2), (3, 2), (7, 1)]
    storage.delete([shards.path(0)])
    assert fetched(fetcher, 0, 8) == whole[: 8 * BLOCK_BYTES]
    assert len(requests.made) == 5


def test_altered_files_of_the_cache_are_fetched_again(
    storage: Storage, shards: ShardTable, cache: BlockCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetcher = BlockFetcher(storage, shards, cache=cache)
    whole = fetched(fetcher, 0, 8)
    files = sorted(path for path in Path(cache.directory, "blocks").rglob("*") if path.is_file())
    assert len(files) == 8
    with open(files[0], "r+b") as file:
        file.truncate(BLOCK_BYTES // 2)
    with open(files[1], "r+b") as file:
        file.truncate(0)
    for path in files[2:4]:
        with open(path, "r+b") as file:
            file.seek(BLOCK_BYTES - 1)
            last = file.read(1)[0]
            file.seek(BLOCK_BYTES - 1)
            file.write(bytes([last ^ 1]))
    requests = Requests(storage, monkeypatch)
    assert fetched(fetcher, 0, 8) == whole
    assert sum(count for _, count in requests.made) == 4
    requests.made.clear()
    assert fetched(fetcher, 0, 8) == whole
    assert not requests.made


def test_a_block_damaged_on_its_way_is_fetched_once_more(
    storage: Storage, shards: ShardTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = Requests(storage, monkeypatch)
    requests.flip = 1
    fetcher = BlockFetcher(storage, shards)
    assert fetched(fetcher, 0, 4) == storage.read(shards.path(0))[: 4 * BLOCK_BYTES]
    assert requests.made == [(0, 4), (3, 1)]


@pytest.mark.parametrize("cached", [False, True])
def test_a_damaged_object(storage: Storage, shards: ShardTable, cache: BlockCache, cached: bool) -> None:
    replace_byte(storage, shards, 6 * BLOCK_BYTES + 5)
    fetcher = BlockFetcher(storage, shards, cache=cache if cached else None)
    for _ in range(2):  # nothing bad was kept
        with pytest.raises(CorruptionError, match=f"block at byte {6 * BLOCK_BYTES} does not match") as raised:
            fetched(fetcher, 4, 8)
        assert raised.value.where == f"{storage.uri}/{shards.path(0)}"
    assert fetched(fetcher, 4, 6) == storage.read(shards.path(0))[4 * BLOCK_BYTES : 6 * BLOCK_BYTES]


def test_a_shorter_object(storage: Storage, shards: ShardTable) -> None:
    whole = storage.read(shards.path(0))
    fetcher = BlockFetcher(storage, shards)
    for size in (0, 2 * BLOCK_BYTES, 3 * BLOCK_BYTES + 1):
        storage.put(shards.path(0), [whole[:size]])
        with pytest.raises(CorruptionError, match=f"ends at byte {max(size, 2 * BLOCK_BYTES)} of {len(whole)}"):
            fetched(fetcher, 2, 4)


def test_a_deleted_object(storage: Storage, shards: ShardTable) -> None:
    storage.delete([shards.path(0)])
    with pytest.raises(MissingFileError, match=f"{shards.path(0)}: the shard is no longer there"):
        fetched(BlockFetcher(storage, shards), 0, 1)


def test_processes_that_need_the_same_blocks_make_one_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.open(str(tmp_path / "root"))
    shards, _ = put_shards(storage, [2_000_000])
    whole = storage.read(shards.path(0))
    requests = Requests(storage, monkeypatch)
    requests.pause_seconds = 0.3

    def read(_: int) -> bytes:
        # To the cache, threads with caches of their own are processes: they share no more than the directory.
        return fetched(BlockFetcher(storage, shards, cache=BlockCache(tmp_path / "cache", 64 << 20)), 0, 7)

    with ThreadPoolExecutor(6) as threads:
        assert set(threads.map(read, range(6))) == {whole[: 7 * BLOCK_BYTES]}
    assert requests.made == [(0, 7)]


def test_a_server_that_restarts_is_waited_for(own_server: S3Server, caplog: pytest.LogCaptureFixture) -> None:
    storage = Storage.open(f"s3://{own_server.bucket}/dataset")
    shards, _ = put_shards(storage, [2_200_000])
    whole = storage.read(shards.path(0))
    fetcher = BlockFetcher(storage, shards)
    own_server.kill()
    with ThreadPoolExecutor(4) as threads, caplog.at_level(logging.WARNING, "tokenmill"):
        waiting = [threads.submit(fetched, fetcher, block, block + 1) for block in range(4)]
        time.sleep(2)
        assert not any(future.done() for future in waiting)
        own_server.start()
        assert b"".join(future.result() for future in waiting) == whole[: 4 * BLOCK_BYTES]
    lines = [record.message for record in caplog.records]
    assert len(lines) == 1, "however many threads wait"
    assert "waiting up to 600 s for the server" in lines[0]
    assert storage.uri in lines[0]


def test_a_server_that_stays_away(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.open(s3_root)
    shards, _ = put_shards(storage, [2_200_000])
    fetcher = BlockFetcher(storage, shards, patience_seconds=1.5)
    fetched(fetcher, 0, 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(UnavailableError, match=r"the server was away for 2 s: Could not connect") as raised:
        fetched(fetcher, 1, 2)
    assert 1.4 < time.monotonic() - began < 4
    assert raised.value.where == f"{storage.uri}/{shards.path(0)}"
    with pytest.raises(UnavailableError):  # it has been away for long enough
        fetched(fetcher, 2, 3)
    assert time.monotonic() - began < 5
    # Much later it is another absence.
    monkeypatch.setattr(fetching, "_FORGOTTEN_SECONDS", 0.0)
    began = time.monotonic()
    stopped = threading.Event()
    threading.Timer(0.5, stopped.set).start()
    with pytest.raises(StorageError, match="was closed"):
        fetcher.fetch(0, 1, rooms(fetcher, 1, 2), stopped)
    assert 0.4 < time.monotonic() - began < 1.4
