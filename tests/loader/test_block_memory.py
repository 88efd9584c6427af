"""Blocks in memory: what is fetched when, what is let go of, what readers are told; the fetching is made up."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tokenmill.errors import CorruptionError, StorageError, TokenmillError, UnavailableError
from tokenmill.loader.block_memory import BlockMemory
from tokenmill.shards import BLOCK_BYTES

_RUN = 8
_SIZE = 1000


class Source:
    """Blocks that hold their own number; fetching waits while `gate` is closed.

    Attributes:
        requests: (first block, blocks) of each request, in the order in which they began.
        fetched: Blocks of requests that ended.
        bad: Block → what its request raises.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[int, int]] = []
        self.fetched: list[int] = []
        self.bad: dict[int, TokenmillError] = {}
        self.gate = threading.Event()
        self.gate.set()

    def fetch(self, block: int, buffers: Sequence[memoryview], stopped: threading.Event) -> None:
        blocks = range(block, block + len(buffers))
        self.requests.append((block, len(buffers)))
        while not self.gate.wait(0.01):
            if stopped.is_set():
                raise StorageError("stopped")
        for number in blocks:
            if number in self.bad:
                raise self.bad[number]
        for number, buffer in zip(blocks, buffers, strict=True):
            assert len(buffer) == _SIZE
            np.frombuffer(buffer, np.uint16)[:] = number
        self.fetched += blocks

    @staticmethod
    def bounds(block: int) -> tuple[int, int]:
        return block - block % _RUN, block - block % _RUN + _RUN


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def make(source: Source) -> Iterator[Callable[..., BlockMemory]]:
    made = []

    def memory(slots: int = 32, threads: int = 1) -> BlockMemory:
        made.append(BlockMemory(slots, threads, sizes=lambda _: _SIZE, bounds=source.bounds, fetch=source.fetch))
        return made[-1]

    yield memory
    for one in made:
        one.close(wait_seconds=5)
        assert not any(thread.is_alive() for thread in one._threads)


def read(memory: BlockMemory, block: int, also: Sequence[int] = ()) -> int:
    """Return what a block holds, which should be its number."""
    out = np.zeros(20, np.uint8)
    memory.copy(block, 100, out, also=also)
    numbers = out.view(np.uint16)
    assert (numbers == numbers[0]).all()
    return int(numbers[0])


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def settle(source: Source) -> list[int]:
    """Return the blocks that were fetched, once nothing more is."""
    count = -1
    while count != len(source.fetched):
        count = len(source.fetched)
        time.sleep(0.1)
    return list(source.fetched)


def test_blocks_are_read(source: Source, make: Callable[..., BlockMemory]) -> None:
    memory = make()
    assert [read(memory, block) for block in (5, 70, 5, 6)] == [5, 70, 5, 6]
    assert source.requests == [(5, 1), (70, 1), (6, 1)]
    assert memory.holds(5)
    assert not memory.holds(7)


def test_neighbours_are_fetched_together_in_the_order_of_need(source: Source, make: Callable[..., BlockMemory]) -> None:
    memory = make(64)
    source.gate.clear()
    memory.announce([50])
    until(lambda: bool(source.requests))
    memory.announce([30, 31, 32, 33, 9, 10, 13, 12, 31])
    memory.announce([33, 34, 8])
    source.gate.set()
    settle(source)
    # From the first needed on, up and down to the bounds of a request; 13 and 12 are neighbours, and so are 8 … 10.
    assert source.requests == [(50, 1), (30, 2), (32, 3), (8, 3), (12, 2)]


def test_reading_ahead_stops_at_half_the_memory_and_goes_on(source: Source, make: Callable[..., BlockMemory]) -> None:
    memory = make(32, threads=3)
    memory.announce(range(100))
    assert sorted(settle(source)) == list(range(16))
    assert [read(memory, block) for block in range(7)] == list(range(7))
    assert len(settle(source)) == 16, "rather a whole request later than a small one now"
    assert read(memory, 7) == 7
    assert sorted(settle(source)) == list(range(24))
    assert [read(memory, block) for block in range(8, 100)] == list(range(8, 100))
    assert sorted(settle(source)) == list(range(100)), "none was fetched twice"


def test_unread_blocks_are_kept_and_the_one_used_longest_ago_goes(
    source: Source, make: Callable[..., BlockMemory]
) -> None:
    memory = make(32)
    memory.announce(range(16))
    settle(source)
    for block in range(100, 120):  # 16 slots for 20 blocks
        assert read(memory, block) == block
        read(memory, 100)
    assert all(memory.holds(block) for block in range(16))
    assert [block for block in range(100, 120) if memory.holds(block)] == [100, *range(105, 120)]


def test_what_is_waited_for_comes_first(source: Source, make: Callable[..., BlockMemory]) -> None:
    memory = make(64)
    source.gate.clear()
    memory.announce([0, 10, 20, 30, 40])
    until(lambda: bool(source.requests))
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(read, memory, 30)
        until(lambda: 30 in memory._urgent)
        source.gate.set()
        assert waiting.result() == 30
    settle(source)
    assert source.requests == [(0, 1), (30, 1), (10, 1), (20, 1), (40, 1)]


def test_a_long_read_runs_ahead_of_itself(source: Source, make: Callable[..., BlockMemory]) -> None:
    memory = make(32)
    assert read(memory, 4, also=range(5, 40)) == 4
    settle(source)
    assert source.requests == [(4, 4), (8, 8), (16, 4)], "no further than memory can hold for certain"


def test_an_urgent_block_takes_the_place_of_what_is_needed_last(
    source: Source, make: Callable[..., BlockMemory]
) -> None:
    memory = make(16)
    memory.announce(range(8))
    settle(source)
    assert [read(memory, block) for block in range(100, 108)] == list(range(100, 108))
    # All memory is full of unread blocks and of some that other readers are still waiting for.
    with memory._lock:
        memory._awaited.update(range(100, 108))
    assert read(memory, 200) == 200
    assert [block for block in range(8) if memory.holds(block)] == list(range(7))
    with memory._lock:
        memory._awaited.clear()
    memory.announce(range(8))  # the block that had to go is known to be needed still
    assert [read(memory, block) for block in range(8)] == list(range(8))


def test_older_announcements_are_out_of_date_when_a_newer_one_is_read(
    source: Source, make: Callable[..., BlockMemory]
) -> None:
    memory = make(32)
    memory.announce(range(1000))
    settle(source)
    memory.announce([500, 999, *range(2000, 2008)])
    assert read(memory, 0) == 0  # of the first one still: both are awaited
    assert len(memory._wanted) > 900
    assert read(memory, 2003) == 2003
    settle(source)
    assert not memory._wanted, "only what the second one names is fetched"
    assert all(memory.holds(block) for block in (500, 999, *range(2000, 2008)))
    assert len(source.fetched) < 50
    memory.announce([5000])
    assert read(memory, 5000) == 5000


def test_a_failed_request_is_told_to_the_reader_once(source: Source, make: Callable[..., BlockMemory]) -> None:
    memory = make()
    source.bad = {3: StorageError("no", where="there")}
    with pytest.raises(StorageError, match="there: no"):
        read(memory, 3)
    source.bad = {}
    assert read(memory, 3) == 3


def test_a_failure_ahead_is_told_when_the_block_is_read(source: Source, make: Callable[..., BlockMemory]) -> None:
    memory = make()
    source.bad = {3: StorageError("no"), 20: UnavailableError("away")}
    memory.announce([2, 3, 4, 20])
    settle(source)
    requests = len(source.requests)
    memory.announce([2, 3, 4])
    settle(source)
    assert len(source.requests) == requests, "what cannot be had is not asked for again and again"
    for block in (2, 3, 4):  # one request, one fate
        with pytest.raises(StorageError, match="no"):
            read(memory, block)
    # But a server that was away may be back.
    source.bad = {}
    assert [read(memory, block) for block in (2, 3, 4, 20)] == [2, 3, 4, 20]


def test_one_damaged_block_does_not_take_its_neighbours_with_it(
    source: Source, make: Callable[..., BlockMemory]
) -> None:
    memory = make()
    source.bad = {3: CorruptionError("damaged")}
    memory.announce(range(8))
    assert [read(memory, block) for block in (0, 1, 2, 4, 5, 6, 7)] == [0, 1, 2, 4, 5, 6, 7]
    with pytest.raises(CorruptionError):
        read(memory, 3)


def test_closing_ends_threads_and_wakes_readers(source: Source, make: Callable[..., BlockMemory]) -> None:
    memory = make(threads=4)
    source.gate.clear()
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(read, memory, block) for block in (1, 50)]
        until(lambda: len(source.requests) == 2)
        memory.close(wait_seconds=5)
        for future in waiting:
            with pytest.raises(StorageError, match=r"closed|stopped"):
                future.result()
    assert not any(thread.is_alive() for thread in memory._threads)


@pytest.mark.parametrize("seed", range(4))
def test_any_use_by_several_threads(source: Source, make: Callable[..., BlockMemory], seed: int) -> None:
    """Random reads and announcements of more blocks than there is memory, by several threads, some of them failing."""
    memory = make(16, threads=3)
    source.bad = {block: CorruptionError(str(block)) for block in range(7, 300, 31)}

    def work(number: int) -> int:
        rng = random.Random(f"{seed}/{number}")
        right = 0
        for _ in range(300):
            first = rng.randrange(280)
            if rng.random() < 0.3:
                memory.announce(rng.sample(range(300), rng.randrange(40)))
            for block in range(first, first + rng.choice([1, 1, 1, 20])):
                also = range(block + 1, first + 20)
                if block in source.bad:
                    with pytest.raises(CorruptionError, match=f"^{block}$"):
                        read(memory, block, also)
                else:
                    assert read(memory, block, also) == block
                    right += 1
        return right

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(work, range(4))) > 1200
    settle(source)
    with memory._lock:
        blocks = [*memory._wanted, *memory._urgent, *memory._unread, *memory._used, *memory._failed]
        assert len(blocks) == len(set(blocks))
        assert set(memory._announced) == {*memory._wanted, *memory._unread}
        slots = [*memory._free, *memory._unread.values(), *memory._used.values()]
        assert sorted(slots) == list(range(16)), "no slot is lost, none is used twice"
        assert not memory._awaited
        assert not memory._announced_under_way
        assert not memory._under_way
    assert memory._slots.nbytes == 16 * BLOCK_BYTES
