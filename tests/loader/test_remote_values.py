"""Values on object storage: the right ones, ahead of need, in bounded memory, across forks, kills and restarts."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from infra.latency_proxy import LatencyProxy
from infra.s3_server import S3Server
from tests.loader.remote_shards import put_shards
from tokenmill.errors import CorruptionError, LoaderError, MissingFileError, UnavailableError
from tokenmill.loader.block_cache import BlockCache
from tokenmill.loader.remote_values import LEAST_MEMORY_BYTES, RemoteValues
from tokenmill.loader.values import LocalValues
from tokenmill.manifests import ShardTable
from tokenmill.shard_files import OpenShard
from tokenmill.shards import BLOCK_BYTES
from tokenmill.storage.outputs import Storage

_COUNTS = [3_000_000, 0, 5, 4_500_000, 900_000]
_SPAWN = multiprocessing.get_context("spawn")
_FORK = multiprocessing.get_context("fork")

Contents = Sequence[npt.NDArray[Any]]


@pytest.fixture
def storage(any_root: str) -> Storage:
    return Storage.open(any_root)


@pytest.fixture
def cache(tmp_path: Path) -> BlockCache:
    return BlockCache(tmp_path / "cache", 256 << 20)


def windows(contents: Contents, count: int, seed: int, longest: int = 5000) -> list[tuple[int, int, int]]:
    """Draw random windows, some of them empty, some across blocks."""
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(count):
        shard = int(random.integers(len(contents)))
        start = int(random.integers(len(contents[shard]) + 1))
        drawn.append((shard, start, min(start + int(random.integers(longest)), len(contents[shard]))))
    return drawn


def check(values: RemoteValues, contents: Contents, pieces: Sequence[tuple[int, int, int]]) -> None:
    for shard, start, stop in pieces:
        found = values.read(shard, start, stop)
        assert not found.flags.writeable
        np.testing.assert_array_equal(found, contents[shard][start:stop], strict=True)


def threads_of(values: RemoteValues) -> list[threading.Thread]:
    assert values._memory is not None
    return values._memory._threads


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int64"])
def test_values_are_what_was_written(storage: Storage, dtype: str) -> None:
    shards, contents = put_shards(storage, [1_500_000, 0, 3, 400_000], dtype=dtype)
    values = RemoteValues(storage, shards, "ids", dtype, memory_bytes=LEAST_MEMORY_BYTES)
    check(values, contents, [(shard, 0, len(content)) for shard, content in enumerate(contents)])
    ahead = windows(contents, 100, 1, longest=300_000)
    values.prefetch(ahead)
    check(values, contents, ahead)
    values.prefetch([])
    values.prefetch(np.array(ahead[:3]))
    values.prefetch((shard, start, stop) for shard, start, stop in ahead)
    values.close()


def test_what_is_not_there_is_refused(storage: Storage) -> None:
    shards, _ = put_shards(storage, [10])
    values = RemoteValues(storage, shards, "ids", "uint32")
    for start, stop in ((-1, 3), (0, 11), (4, 3)):
        with pytest.raises(IndexError, match="of shard 0, which has 10"):
            values.read(0, start, stop)
    for memory_bytes, threads in ((LEAST_MEMORY_BYTES - 1, 1), (LEAST_MEMORY_BYTES, 0)):
        with pytest.raises(LoaderError, match="too little"):
            RemoteValues(storage, shards, "ids", "uint32", memory_bytes=memory_bytes, threads=threads)


def test_a_shards_columns_come_the_same_way(storage: Storage, cache: BlockCache) -> None:
    shards, _ = put_shards(storage, [3_000_000])
    values = RemoteValues(storage, shards, "ids", "uint32", cache=cache)

    def opened() -> OpenShard:
        return OpenShard(values.shard_bytes(0), {"ids": int(shards.column("value_offset.ids")[0])})

    assert [opened().key(row) for row in range(2)] == ["a", "b"]
    storage.delete([shards.path(0)])
    values.close()
    shard = opened()
    assert shard.streams["ids"].offsets.tolist() == [0, 1_000_000, 3_000_000], "they are in the cache"
    with pytest.raises(MissingFileError, match="no longer there"):
        shard.streams["ids"].row(1)
    values.close()


def test_columns_are_fetched_ahead_once_they_are_read(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    shards, contents = put_shards(storage, [3_000_000] * 4)
    made: list[tuple[str, int]] = []
    read_into = storage.read_into

    def counted(path: str, start: int, buffers: Sequence[memoryview], *, retry_seconds: float | None = None) -> int:
        made.extend((path, start // BLOCK_BYTES + number) for number in range(len(buffers)))
        return read_into(path, start, buffers, retry_seconds=retry_seconds)

    monkeypatch.setattr(storage, "read_into", counted)
    values = RemoteValues(storage, shards, "ids", "uint32")
    begin = int(shards.column("value_offset.ids")[0])

    def key(shard: int) -> str:
        return OpenShard(values.shard_bytes(shard), {"ids": begin}).key(0)

    middle = [(shard, 1_500_000, 1_500_100) for shard in (0, 2, 1, 2)]
    values.prefetch(middle)
    check(values, contents, middle)
    assert len(made) == 3, "nobody asked for columns"
    assert key(0) == "a"
    made.clear()
    middle = [(shard, 2_000_000, 2_000_100) for shard in (0, 3, 1, 3)]
    values.prefetch(middle)
    check(values, contents, middle)
    deadline = time.monotonic() + 10
    while len(made) < 7 and time.monotonic() < deadline:
        time.sleep(0.01)
    ends = [0, 7, 11]
    assert sorted(made) == sorted(
        [(shards.path(0), 7), *((shards.path(shard), block) for shard in (1, 3) for block in ends)]
    )
    assert [key(shard) for shard in (3, 1)] == ["a", "a"]
    assert len(made) == 7
    values.close()


def test_ranges_announced_ahead_are_fetched_once_in_large_requests(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, contents = put_shards(storage, _COUNTS)
    made: list[int] = []
    read_into = storage.read_into

    def counted(path: str, start: int, buffers: Sequence[memoryview], *, retry_seconds: float | None = None) -> int:
        made.append(len(buffers))
        return read_into(path, start, buffers, retry_seconds=retry_seconds)

    monkeypatch.setattr(storage, "read_into", counted)
    values = RemoteValues(storage, shards, "ids", "uint32")
    ranges = [(3, 0, 4_500_000), (0, 0, 3_000_000), (4, 0, 900_000)]
    for _ in range(3):
        values.prefetch(ranges)
    check(values, contents, [window for window in windows(contents, 400, 2) if window[0] not in (1, 2)])
    sizes = shards.column("size_bytes")[[0, 3, 4]]
    assert sum(made) <= sum(-(-sizes // BLOCK_BYTES))
    assert len(made) <= sum(-(-sizes // (8 * BLOCK_BYTES)))
    values.close()


def test_latency_is_hidden(s3_server: S3Server, s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.open(s3_root)
    shards, contents = put_shards(storage, [1_000_000] * 16)
    ahead = [(shard, 500_000, 502_048) for shard in range(16)] + [(shard, 800_000, 802_048) for shard in range(16)]
    with LatencyProxy(s3_server.endpoint, 0.3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        values = RemoteValues(storage, shards, "ids", "uint32", threads=16)
        values.prefetch(ahead)
        began = time.monotonic()
        check(values, contents, ahead)
        seconds = time.monotonic() - began
    assert 0.3 < seconds < 0.3 * 16, "32 requests, of which each alone takes 0.3 s or more"
    values.close()


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_many_windows_at_once(storage: Storage, cache: BlockCache, dtype: str) -> None:
    shards, contents = put_shards(storage, [3_000_000, 0, 900_000], dtype=dtype)
    values = RemoteValues(storage, shards, "ids", dtype, cache=cache, memory_bytes=LEAST_MEMORY_BYTES)
    random = np.random.default_rng(11)
    for count, samples in ((2048, 300), (400_000, 5), (1, 100)):
        which = random.choice([0, 2], samples)
        starts = np.array([random.integers(len(contents[shard]) - count) for shard in which])
        out = np.zeros((samples, count), np.int64)
        values.gather(which, starts, out)
        expected = [contents[shard][start : start + count] for shard, start in zip(which, starts, strict=True)]
        np.testing.assert_array_equal(out, expected)
    values.close()


@pytest.mark.parametrize("threads", [1, 8])
def test_threads_share_it(storage: Storage, cache: BlockCache, threads: int) -> None:
    shards, contents = put_shards(storage, _COUNTS)
    values = RemoteValues(
        storage, shards, "ids", "uint32", cache=cache, memory_bytes=LEAST_MEMORY_BYTES, threads=threads
    )

    def work(seed: int) -> None:
        for part in range(4):
            ahead = windows(contents, 40, 10 * seed + part, longest=20_000)
            values.prefetch(ahead)
            check(values, contents, ahead)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    values.close()


def test_it_pickles_as_its_arguments(storage: Storage, cache: BlockCache) -> None:
    shards, contents = put_shards(storage, _COUNTS)
    values = RemoteValues(storage, shards, "ids", "uint32", cache=cache, memory_bytes=32 << 20, threads=3)
    check(values, contents, windows(contents, 5, 0))
    again = pickle.loads(pickle.dumps(values))
    check(again, contents, windows(contents, 20, 3))
    assert (len(threads_of(values)), len(threads_of(again))) == (3, 3)
    values.close()
    again.close()


def test_closing_ends_its_threads_and_reading_begins_anew(storage: Storage) -> None:
    shards, contents = put_shards(storage, _COUNTS)
    values = RemoteValues(storage, shards, "ids", "uint32", threads=3)
    for _ in range(3):
        check(values, contents, windows(contents, 5, 0))
        threads = threads_of(values)
        assert [thread.is_alive() for thread in threads] == [True] * 3
        values.close()
        assert not any(thread.is_alive() for thread in threads)
    check(values, contents, windows(contents, 5, 0))
    threads = threads_of(values)
    del values
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive(), "nobody refers to the values any more"


def _read_in_child(values: RemoteValues, contents: Contents, seed: int) -> None:
    ahead = windows(contents, 50, seed)
    values.prefetch(ahead)
    check(values, contents, ahead)


def test_children_forked_after_it_was_used(storage: Storage, cache: BlockCache) -> None:
    shards, contents = put_shards(storage, _COUNTS)
    values = RemoteValues(storage, shards, "ids", "uint32", cache=cache)
    values.prefetch([(shard, 0, count) for shard, count in enumerate(_COUNTS)])
    for seed in range(3):  # while the parent's threads are at work
        processes = [_FORK.Process(target=_read_in_child, args=(values, contents, 10 * seed + i)) for i in range(2)]
        for process in processes:
            process.start()
        check(values, contents, windows(contents, 50, 100 + seed))
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0, 0]
    values.close()


def test_an_interpreter_that_waits_for_a_server_ends(s3_root: str, tmp_path: Path) -> None:
    storage = Storage.open(s3_root)
    shards, _ = put_shards(storage, [3_000_000])
    (tmp_path / "shards").write_bytes(pickle.dumps(shards))
    program = """
import pickle, sys, time
from tokenmill.loader.remote_values import RemoteValues
from tokenmill.storage.outputs import Storage
values = RemoteValues(Storage.open(sys.argv[1]), pickle.loads(open(sys.argv[2], "rb").read()), "ids", "uint32")
values.prefetch([(0, 0, 3_000_000)])
time.sleep(0.5)
"""
    command = [sys.executable, "-c", program, s3_root, str(tmp_path / "shards")]
    began = time.monotonic()
    run = subprocess.run(
        command,
        env={**os.environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert time.monotonic() - began < 15
    assert "Traceback" not in run.stderr


def _highest_memory_bytes(root: str, shards: ShardTable, grown: Any) -> None:
    def high() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))

    values = RemoteValues(Storage.open(root), shards, "ids", "uint32", memory_bytes=32 << 20)
    values.read(0, 0, 10)
    before = high()
    counts = shards.column("tokens.ids").tolist()
    values.prefetch([(shard, 0, count) for shard, count in enumerate(counts)])
    for shard, count in enumerate(counts):
        for start in range(0, count, 2048):
            values.read(shard, start, min(start + 2048, count))
    grown.value = high() - before


def test_memory_is_bounded(s3_root: str) -> None:
    shards, _ = put_shards(Storage.open(s3_root), [4_000_000] * 5)
    grown = _SPAWN.Value("q", 0)
    process = _SPAWN.Process(target=_highest_memory_bytes, args=(s3_root, shards, grown))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert 16 << 20 < grown.value < 64 << 20, "80 MB were read with 32 MiB; requests have buffers of their own"


def test_a_flipped_byte_in_the_object_is_named(storage: Storage, cache: BlockCache) -> None:
    shards, contents = put_shards(storage, _COUNTS)
    damaged = bytearray(storage.read(shards.path(3)))
    damaged[5 * BLOCK_BYTES + 100] ^= 4
    storage.put(shards.path(3), [bytes(damaged)])
    values = RemoteValues(storage, shards, "ids", "uint32", cache=cache)
    values.prefetch([(3, 0, _COUNTS[3])])
    place = (5 * BLOCK_BYTES + 100 - int(shards.column("value_offset.ids")[3])) // 4
    for _ in range(2):
        with pytest.raises(CorruptionError, match=f"{shards.path(3)}: the block at byte {5 * BLOCK_BYTES} does not"):
            values.read(3, place - 10, place + 10)
    check(values, contents, [(3, 0, 1_000_000), (3, 2_000_000, _COUNTS[3]), (0, 0, _COUNTS[0])])
    values.close()


def test_a_full_cache_disk_does_not_disturb(
    storage: Storage, cache: BlockCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, contents = put_shards(storage, _COUNTS)

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    values = RemoteValues(storage, shards, "ids", "uint32", cache=cache, memory_bytes=LEAST_MEMORY_BYTES)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        check(values, contents, windows(contents, 60, 5))
    values.close()


def test_short_pieces_of_checked_blocks_come_from_the_cache(
    storage: Storage, cache: BlockCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, contents = put_shards(storage, _COUNTS)
    values = RemoteValues(storage, shards, "ids", "uint32", cache=cache, memory_bytes=LEAST_MEMORY_BYTES)
    for _ in range(2):  # more than memory holds
        check(values, contents, [(shard, 0, count) for shard, count in enumerate(_COUNTS)])
    storage.delete([shards.path(shard) for shard in range(len(shards))])
    whole_reads: list[int] = []
    get = cache.get

    def counted(name: str, block: int, buffer: memoryview) -> bool:
        whole_reads.append(block)
        return get(name, block, buffer)

    monkeypatch.setattr(cache, "get", counted)
    ahead = windows(contents, 200, 6)
    values.prefetch(ahead)
    check(values, contents, ahead)
    assert not whole_reads
    # One that has since gone is asked for again.
    for path in Path(cache.directory, "blocks").rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(MissingFileError):
        check(values, contents, ahead)
    values.close()


def test_the_same_as_mapped(tmp_path: Path, cache: BlockCache) -> None:
    storage = Storage.open(str(tmp_path / "root"))
    shards, contents = put_shards(storage, _COUNTS)
    mapped = LocalValues(storage, shards, "ids", "uint32")
    fetched = RemoteValues(storage, shards, "ids", "uint32", cache=cache)
    for shard, start, stop in windows(contents, 100, 7):
        np.testing.assert_array_equal(mapped.read(shard, start, stop), fetched.read(shard, start, stop), strict=True)
    fetched.close()


def test_the_server_restarts_while_it_is_read(own_server: S3Server) -> None:
    storage = Storage.open(f"s3://{own_server.bucket}/dataset")
    shards, contents = put_shards(storage, [1_000_000] * 12)
    values = RemoteValues(storage, shards, "ids", "uint32", memory_bytes=LEAST_MEMORY_BYTES)
    ranges = [(shard, 0, 1_000_000) for shard in range(12)]
    values.prefetch(ranges)
    check(values, contents, ranges[:2])
    own_server.kill()
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(check, values, contents, ranges)
        time.sleep(1.5)
        assert not waiting.done()
        own_server.start()
        waiting.result(timeout=60)
    values.close()


def test_a_server_that_stays_away_is_named_after_the_patience(
    s3_root: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    storage = Storage.open(s3_root)
    shards, contents = put_shards(storage, [300_000] * 30)
    values = RemoteValues(storage, shards, "ids", "uint32", patience_seconds=4)
    check(values, contents, [(0, 0, 10)])
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    began = time.monotonic()
    values.prefetch([(shard, 0, 300_000) for shard in range(29)])
    with pytest.raises(UnavailableError, match=f"{shards.path(29)}: the server was away for 4 s"):
        values.read(29, 0, 10)  # of which no thread takes care while all wait
    assert 4 <= time.monotonic() - began < 8
    assert sum("waiting up to 4 s" in record.message for record in caplog.records) == 1
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    check(values, contents, [(29, 0, 10), (5, 0, 300_000)])
    values.close()


def _read_for_ever(root: str, shards: ShardTable, cache: BlockCache, reading: Any) -> None:
    values = RemoteValues(Storage.open(root), shards, "ids", "uint32", cache=cache, memory_bytes=32 << 20)
    counts = shards.column("tokens.ids").tolist()
    while True:
        for shard, count in enumerate(counts):
            values.prefetch([(shard, 0, count)])
            values.read(shard, 0, count)
            reading.set()


def test_readers_killed_at_any_moment_leave_others_undisturbed(s3_root: str, tmp_path: Path) -> None:
    storage = Storage.open(s3_root)
    shards, contents = put_shards(storage, [2_000_000] * 6)
    cache = BlockCache(tmp_path / "cache", 24 << 20)  # less than the shards, so that blocks come and go
    random = np.random.default_rng(3)
    values = RemoteValues(storage, shards, "ids", "uint32", cache=cache, memory_bytes=32 << 20)
    for _ in range(3):
        reading = _SPAWN.Event()
        process = _SPAWN.Process(target=_read_for_ever, args=(s3_root, shards, cache, reading))
        process.start()
        assert reading.wait(60)
        time.sleep(random.uniform(0, 0.3))
        os.kill(process.pid or 0, signal.SIGKILL)
        began = time.monotonic()
        check(values, contents, [(shard, 0, 2_000_000) for shard in range(6)])
        assert time.monotonic() - began < 20, "no lock is left"
        process.join()
    values.close()
    for path in Path(cache.directory, "blocks").rglob("*"):
        assert path.is_dir() or path.stat().st_size in {BLOCK_BYTES, *(shards.column("size_bytes") % BLOCK_BYTES)}
