"""The cache of blocks on disk: shared by processes, bounded, and whole whatever is killed."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tokenmill.errors import LoaderError
from tokenmill.loader import block_cache
from tokenmill.loader.block_cache import LEAST_BYTES, BlockCache
from tokenmill.shards import BLOCK_BYTES

_SPAWN = multiprocessing.get_context("spawn")
_WRITE_FOR_EVER = """
import sys
from tests.loader.test_block_cache import content
from tokenmill.loader.block_cache import BlockCache
cache = BlockCache(sys.argv[1], 32 << 20)
print("begun", flush=True)
number = 0
while True:
    cache.put("killed", number % 50, memoryview(content("killed", number % 50)))
    number += 1
"""


def content(name: str, block: int, size: int = BLOCK_BYTES) -> bytes:
    return (random.Random(f"{name}/{block}").randbytes(4096) * (size // 4096 + 1))[:size]


def kept(cache: BlockCache, name: str, block: int, size: int = BLOCK_BYTES) -> bytes | None:
    room = bytearray(size)
    return bytes(room) if cache.get(name, block, memoryview(room)) else None


def used_bytes(cache: BlockCache, *, aside: bool = True) -> int:
    sizes = 0
    for path in Path(cache.directory).glob("[ab]*/**/*"):
        if path.is_file() and (aside or path.parent.name != "aside"):
            try:
                sizes += path.stat().st_size
            except FileNotFoundError:
                continue
    return sizes


@pytest.fixture
def cache(tmp_path: Path) -> BlockCache:
    return BlockCache(tmp_path / "cache", 64 << 20)


def test_blocks_are_told_apart(cache: BlockCache) -> None:
    whole = {("a", 1): content("a", 1), ("a", 11): content("a", 11), ("a1", 1): content("a1", 1, 77)}
    for (name, block), data in whole.items():
        assert kept(cache, name, block, len(data)) is None
        cache.put(name, block, memoryview(data))
    for (name, block), data in whole.items():
        assert kept(cache, name, block, len(data)) == data
        part = bytearray(10)
        assert cache.get_part(name, block, 60, memoryview(part))
        assert part == data[60:70]
    cache.drop("a", 1)
    cache.drop("a", 1)
    assert kept(cache, "a", 1) is None
    assert kept(cache, "a", 11) == whole["a", 11]


def test_pickles_as_its_arguments(cache: BlockCache) -> None:
    cache.put("a", 1, memoryview(b"content"))
    again = pickle.loads(pickle.dumps(cache))
    assert (again.directory, again.limit_bytes) == (cache.directory, cache.limit_bytes)
    assert kept(again, "a", 1, 7) == b"content"


def test_a_file_of_another_length_is_no_block(cache: BlockCache) -> None:
    cache.put("a", 1, memoryview(b"content"))
    for room in (bytearray(8), bytearray(7)):
        assert not cache.get("a", 1, memoryview(room))  # it is gone after the first time


def test_the_blocks_read_longest_ago_go_first(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, LEAST_BYTES)
    for block in range(16):
        cache.put("a", block, memoryview(content("a", block)))
        time.sleep(0.01)  # file times of some filesystems are no finer
    for block in range(0, 16, 2):
        assert kept(cache, "a", block) == content("a", block)
    for block in range(16, 20):
        cache.put("a", block, memoryview(content("a", block)))
    there = {block for block in range(20) if kept(cache, "a", block)}
    assert there >= {0, 2, 4, 6, 8, 10, 12, 14, 19}
    assert len(there) <= 16
    assert not {1, 3} & there


def test_a_lower_limit_is_kept_from_the_start(cache: BlockCache) -> None:
    for block in range(40):
        cache.put("a", block, memoryview(content("a", block)))
    assert used_bytes(cache) > 39 << 20
    lower = BlockCache(cache.directory, 20 << 20)
    assert used_bytes(lower) <= lower.limit_bytes
    assert kept(lower, "a", 39) == content("a", 39)


def _write_much(directory: str, limit_bytes: int, seed: int) -> None:
    cache = BlockCache(directory, limit_bytes)
    random_blocks = random.Random(seed)
    for _ in range(150):
        block = random_blocks.randrange(200)
        found = kept(cache, "shared", block)
        if found is None:
            cache.put("shared", block, memoryview(content("shared", block)))
        else:
            assert found == content("shared", block)


def test_processes_share_it_within_its_limit(tmp_path: Path) -> None:
    limit = 40 << 20
    processes = [_SPAWN.Process(target=_write_much, args=(str(tmp_path), limit, seed)) for seed in range(4)]
    cache = BlockCache(tmp_path, limit)
    for process in processes:
        process.start()
    highest = 0
    while any(process.is_alive() for process in processes):
        highest = max(highest, used_bytes(cache))
    assert [process.exitcode for process in processes] == [0] * 4
    assert limit // 2 < highest <= limit + 2 * len(processes) * BLOCK_BYTES
    cache.clean()
    assert limit // 2 < used_bytes(cache, aside=False) <= limit


@pytest.mark.parametrize("number", range(4))
def test_killed_while_it_writes(tmp_path: Path, number: int) -> None:
    command = [sys.executable, "-c", _WRITE_FOR_EVER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(random.uniform(0.05, 0.4))
        process.send_signal(signal.SIGKILL)
    cache = BlockCache(tmp_path, 32 << 20)
    found = [block for block in range(50) if kept(cache, "killed", block) is not None]
    assert found
    for block in found:
        assert kept(cache, "killed", block) == content("killed", block)
    for block in range(100, 150):  # goes on as if nothing had happened
        cache.put("more", block, memoryview(content("more", block)))
    assert kept(cache, "more", 149) == content("more", 149)
    assert used_bytes(cache, aside=False) <= cache.limit_bytes


def test_what_killed_processes_left_is_removed(cache: BlockCache) -> None:
    left = Path(cache.directory, "aside", "123-left")
    left.write_bytes(b"torn")
    fresh = Path(cache.directory, "aside", "123-fresh")
    fresh.write_bytes(b"being written")
    os.utime(left, (time.time() - 1000,) * 2)
    cache.clean()
    assert not left.exists()
    assert fresh.exists()


def test_a_full_disk(cache: BlockCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    cache.put("a", 1, memoryview(b"before"))
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) > 100:
            write(descriptor, data[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    with caplog.at_level(logging.WARNING):
        for block in range(5):
            cache.put("b", block, memoryview(content("b", block)))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No space left on device" in caplog.text
    assert cache.directory in caplog.text
    assert kept(cache, "b", 0) is None
    assert kept(cache, "a", 1, 6) == b"before"
    assert not list(Path(cache.directory, "aside").iterdir())
    monkeypatch.setattr(os, "write", write)
    cache.put("b", 1, memoryview(b"not yet"))
    assert kept(cache, "b", 1, 7) is None, "it stands aside for a while"
    monkeypatch.setattr(block_cache, "_ASIDE_SECONDS", 0.0)
    cache.put("b", 1, memoryview(b"again"))
    assert kept(cache, "b", 1, 5) == b"again"


def test_somebody_removes_the_directory(cache: BlockCache) -> None:
    cache.put("a", 1, memoryview(b"content"))
    Path(cache.directory).rename(Path(cache.directory).with_name("elsewhere"))
    assert kept(cache, "a", 1, 7) is None
    cache.drop("a", 1)
    with cache.claim("a", 1, threading.Event()):
        cache.put("a", 1, memoryview(b"content"))
    assert kept(cache, "a", 1, 7) == b"content"


def test_refused_arguments(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LoaderError, match="cannot be made or written to") as raised:
        BlockCache(tmp_path / "file" / "below", 64 << 20)
    assert raised.value.where == str(tmp_path / "file" / "below")
    with pytest.raises(LoaderError, match="too small"):
        BlockCache(tmp_path / "small", LEAST_BYTES - 1)
    assert not (tmp_path / "small").exists()


def _claim_and_wait(directory: str, claimed: Any, seconds: float) -> None:
    with BlockCache(directory, 64 << 20).claim("a", 1, threading.Event()):
        claimed.set()
        time.sleep(seconds)


def _seconds_to_claim(cache: BlockCache, stopped: threading.Event | None = None) -> float:
    began = time.monotonic()
    with cache.claim("a", 1, stopped or threading.Event()):
        return time.monotonic() - began


def test_a_claim_holds_others_off(cache: BlockCache) -> None:
    claimed = _SPAWN.Event()
    process = _SPAWN.Process(target=_claim_and_wait, args=(cache.directory, claimed, 1.0))
    process.start()
    assert claimed.wait(30)
    with cache.claim("a", 2, threading.Event()):
        pass  # another one is free
    assert 0.5 < _seconds_to_claim(cache) < 5
    process.join()
    assert _seconds_to_claim(cache) < 0.5


def test_a_claim_ends_with_its_process(cache: BlockCache) -> None:
    claimed = _SPAWN.Event()
    process = _SPAWN.Process(target=_claim_and_wait, args=(cache.directory, claimed, 100.0))
    process.start()
    assert claimed.wait(30)
    process.kill()
    process.join()
    assert _seconds_to_claim(cache) < 0.5


def test_nobody_waits_for_a_claim_for_ever(cache: BlockCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_cache, "CLAIM_SECONDS", 0.3)
    with cache.claim("a", 1, threading.Event()):
        assert 0.3 <= _seconds_to_claim(cache) < 2
        stopped = threading.Event()
        stopped.set()
        assert _seconds_to_claim(cache, stopped) < 0.2


def _claim_and_fork(directory: str, pid: Any) -> None:
    with BlockCache(directory, 64 << 20).claim("a", 1, threading.Event()):
        child = os.fork()
        if child:
            pid.value = child
        time.sleep(100)


def test_a_child_does_not_keep_its_parents_claim(cache: BlockCache) -> None:
    pid = _SPAWN.Value("i", 0)
    process = _SPAWN.Process(target=_claim_and_fork, args=(cache.directory, pid))
    process.start()
    while not pid.value:
        time.sleep(0.01)
    process.kill()
    process.join()
    assert _seconds_to_claim(cache) < 0.5
    os.kill(pid.value, signal.SIGKILL)  # it was there all the time
