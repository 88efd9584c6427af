"""Blocks held in memory: fetched by threads, ahead of the reader and several at a time, and let go of by least use.

Blocks are numbered; what they are of, and how one is fetched, is the owner's business. Memory is one area that is cut
into slots of a block each: it is touched as it fills, and never grows.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.errors import CorruptionError, LoaderError, StorageError, UnavailableError
from tokenmill.shards import BLOCK_BYTES

#: Fetches blocks from a number on into buffers; ends its waiting when the event is set.
Fetch = Callable[[int, Sequence[memoryview], threading.Event], None]


class BlockMemory:
    """Holds blocks, and threads that fetch them; belongs to the process that made it.

    Args:
        slots: Blocks that are held.
        threads: Blocks, or runs of neighbouring ones, that are fetched at a time.
        sizes: A block's number → its size in bytes.
        bounds: A block's number → first and last + 1 of the neighbours that may be fetched together with it.
        fetch: Fetches neighbouring blocks.

    Raises:
        LoaderError: where the system does not give so much memory.
    """

    def __init__(
        self,
        slots: int,
        threads: int,
        *,
        sizes: Callable[[int], int],
        bounds: Callable[[int], tuple[int, int]],
        fetch: Fetch,
    ) -> None:
        self._process = os.getpid()
        self._sizes = sizes
        self._bounds = bounds
        self._fetch = fetch
        try:
            self._memory = mmap.mmap(-1, slots * BLOCK_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise LoaderError(f"{slots} MiB for blocks cannot be had: {error.strerror}", fix="give it less") from error
        self._slots: npt.NDArray[np.uint8] = np.frombuffer(self._memory, np.uint8).reshape(slots, BLOCK_BYTES)
        self._views = memoryview(self._memory)
        self._free = list(reversed(range(slots)))
        self._most_unread = slots // 2

        # A block is in at most one of the next five.
        #: Announced, and not begun; in the order of need.
        self._wanted: OrderedDict[int, None] = OrderedDict()
        #: Waited for by a reader, and not begun.
        self._urgent: OrderedDict[int, None] = OrderedDict()
        #: Being fetched → whether it was announced.
        self._under_way: dict[int, bool] = {}
        #: There, announced, and not read yet → its slot.
        self._unread: OrderedDict[int, int] = OrderedDict()
        #: There → its slot; the one used longest ago first.
        self._used: OrderedDict[int, int] = OrderedDict()
        #: What was announced and not read yet → the first and the latest announcement that named it.
        self._announced: dict[int, tuple[int, int]] = {}
        self._announcements = 0
        self._oldest = 0
        #: Could not be fetched → why; its next reader is told.
        self._failed: dict[int, Exception] = {}
        #: Blocks that readers wait for: not to be let go of before they have seen them.
        self._awaited: Counter[int] = Counter()
        self._announced_under_way = 0

        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._arrived = threading.Condition(self._lock)
        self._stopped = threading.Event()
        # Daemons: the interpreter's end does not wait for a request.
        self._threads = [
            threading.Thread(target=self._run, name=f"blocks-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def copy(self, block: int, start: int, out: npt.NDArray[np.uint8], *, also: Iterable[int] = ()) -> None:
        """Copy bytes of a block from `start` on, waiting for it if need be.

        Args:
            block: Its number.
            start: First byte in it.
            out: uint8 `[byte]`, filled.
            also: Blocks that are needed right after it; fetched with it where it is not there.

        Raises:
            TokenmillError: what fetching it raised.
        """
        with self._lock:
            slot = self._use(block)
            if slot is None:
                slot = self._wait(block, also)
            out[:] = self._slots[slot, start : start + len(out)]

    def gather(
        self, blocks: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], dtype: np.dtype[Any], out: npt.NDArray[Any]
    ) -> npt.NDArray[np.bool_]:
        """Copy equally many values from each of some blocks, where they are there; nothing is waited for.

        Args:
            blocks: int64 `[row]`, their numbers.
            starts: int64 `[row]`, the first value in each.
            dtype: Of the values in the blocks.
            out: `[row, value]`; rows of blocks that are not there are left as they are.

        Returns:
            bool `[row]`, which were there.
        """
        values = self._slots.reshape(-1).view(dtype)
        count = out.shape[1]
        shape = (len(values) - count + 1, count)
        windows = np.lib.stride_tricks.as_strided(values, shape, (dtype.itemsize,) * 2, writeable=False)
        with self._lock:
            slots = np.array(
                [-1 if (slot := self._use(block)) is None else slot for block in blocks.tolist()], np.int64
            )
            places = slots * (BLOCK_BYTES // dtype.itemsize) + starts
            there = slots >= 0
            if there.all():
                out[...] = windows[places]
            else:
                out[there] = windows[places[there]]
        return there

    def holds(self, block: int) -> bool:
        """Tell whether a block is there or on its way."""
        with self._lock:
            return block in self._used or block in self._unread or block in self._under_way

    def announce(self, blocks: Iterable[int]) -> None:
        """Take note of blocks that will be needed, in the order of need; those known already keep their place.

        When a block is read that no earlier announcement named, what only earlier ones named is taken to be out of
        date: it is no longer fetched, and may be let go of.
        """
        with self._lock:
            self._announcements += 1
            number = self._announcements
            added = 0
            for block in blocks:
                if block in self._announced:
                    self._announced[block] = (self._announced[block][0], number)
                elif block in self._used:
                    self._used.move_to_end(block)
                elif not self._settled(block):
                    self._announced[block] = (number, number)
                    self._wanted[block] = None
                    added += 1
            if added:
                self._work.notify(added)

    def close(self, wait_seconds: float = 0.0) -> None:
        """End the threads; those that wait for a server's answer end when it comes."""
        if os.getpid() != self._process:
            return  # a child's copy: its lock may be held by a thread that is not there
        with self._lock:
            self._stopped.set()
            self._work.notify_all()
            self._arrived.notify_all()
        for thread in self._threads:
            if wait_seconds and thread is not threading.current_thread():
                thread.join(wait_seconds)

    def forget(self) -> None:
        """In a child process: give back what memory the copy takes. Nothing else of it may be used."""
        self._memory.madvise(mmap.MADV_DONTNEED)

    def _use(self, block: int) -> int | None:
        """Return the slot of a block that is there, which counts as reading it."""
        slot = self._used.get(block)
        if slot is not None:
            self._used.move_to_end(block)
            return slot
        slot = self._unread.pop(block, None)
        if slot is not None:
            self._used[block] = slot
            self._reached(block)
            if self._wanted:
                self._work.notify()
        return slot

    def _reached(self, block: int) -> None:
        """Take note that a block is read; if it is the first of its announcement, earlier ones are over."""
        first, _ = self._announced.pop(block, (0, 0))
        if first <= self._oldest:
            return
        self._oldest = first
        over = [other for other, (_, latest) in self._announced.items() if latest < first]
        for other in over:
            del self._announced[other]
            self._wanted.pop(other, None)
            if other in self._unread:
                self._used[other] = self._unread.pop(other)

    def _wait(self, block: int, also: Iterable[int]) -> int:
        """Wait for a block that is not there, and return its slot."""
        self._reached(block)
        self._awaited[block] += 1
        try:
            while True:
                if self._stopped.is_set():
                    raise StorageError("was closed while it was read")
                error = self._failed.pop(block, None)
                if error is not None:
                    raise error
                for needed in (block, *islice(also, self._most_unread - 1)):
                    if not self._settled(needed):
                        self._wanted.pop(needed, None)
                        self._announced.pop(needed, None)
                        self._urgent[needed] = None
                        self._work.notify()
                also = ()
                self._arrived.wait()
                slot = self._use(block)
                if slot is not None:
                    return slot
        finally:
            self._awaited[block] -= 1
            if not self._awaited[block]:
                del self._awaited[block]
            if self._urgent:
                self._work.notify()  # its slot may be what another block has been waiting for

    def _settled(self, block: int) -> bool:
        """Tell whether a block is there, under way or waited for already, or cannot be had."""
        return (
            block in self._used
            or block in self._unread
            or block in self._under_way
            or block in self._urgent
            or block in self._failed
        )

    def _room_ahead(self) -> int:
        """Return how many announced blocks may be begun."""
        return self._most_unread - len(self._unread) - self._announced_under_way

    def _run(self) -> None:
        """What a thread does."""
        while True:
            with self._lock:
                while not self._stopped.is_set() and not (run := self._next_run()):
                    self._work.wait()
                if self._stopped.is_set():
                    return
            failed = self._fetch_run(list(run), [self._view(block, slot) for block, slot in run.items()])
            with self._lock:
                for block, slot in run.items():
                    self._announced_under_way -= self._under_way.pop(block)
                    error = failed.get(block)
                    if error is not None:
                        self._announced.pop(block, None)
                        self._free.append(slot)
                        # A server that was away while nobody waited for the block may be back when somebody does.
                        if block in self._awaited or not isinstance(error, UnavailableError):
                            self._failed[block] = error
                    elif block in self._announced:
                        self._unread[block] = slot
                    else:
                        self._used[block] = slot
                if any(block in self._awaited for block in run):
                    self._arrived.notify_all()
                if self._wanted or self._urgent:
                    self._work.notify()

    def _fetch_run(self, blocks: Sequence[int], buffers: Sequence[memoryview]) -> dict[int, Exception]:
        """Fetch neighbouring blocks; return why some could not be."""
        try:
            self._fetch(blocks[0], buffers, self._stopped)
        except CorruptionError as error:
            if len(blocks) == 1:
                return {blocks[0]: error}
            failed: dict[int, Exception] = {}
            for block, buffer in zip(blocks, buffers, strict=True):  # the others may be intact
                failed |= self._fetch_run([block], [buffer])
            return failed
        except Exception as error:  # noqa: BLE001 - raised where the block is read
            return dict.fromkeys(blocks, error)
        return {}

    def _view(self, block: int, slot: int) -> memoryview:
        begin = slot * BLOCK_BYTES
        return self._views[begin : begin + self._sizes(block)]

    def _next_run(self) -> dict[int, int]:
        """Take what is to be fetched next off the queues: neighbouring blocks, ascending, and slots for them."""
        queue = self._urgent or self._wanted
        if not queue:
            return {}
        start = next(iter(queue))
        lowest, highest = self._bounds(start)
        first, last = start, start + 1
        while last < highest and (last in self._urgent or last in self._wanted):
            last += 1
        while first > lowest and (first - 1 in self._urgent or first - 1 in self._wanted):
            first -= 1
        if not self._urgent and self._room_ahead() < last - first:
            return {}  # rather a whole request later than a small one now
        # The block that is needed first gets a slot first, then its neighbours upwards, then those below.
        slots: dict[int, int] = {}
        for block in (*range(start, last), *range(start - 1, first - 1, -1)):
            slot = self._slot(urgent=block in self._urgent)
            if slot is None:
                break
            slots[block] = slot
            announced = block in self._wanted
            self._wanted.pop(block, None)
            self._urgent.pop(block, None)
            self._under_way[block] = announced
            self._announced_under_way += announced
        return dict(sorted(slots.items()))

    def _slot(self, *, urgent: bool) -> int | None:
        """Return a free slot; its block is the one used longest ago, or for an urgent one that which is needed last."""
        if self._free:
            return self._free.pop()
        for block in self._used:
            if block not in self._awaited:
                return self._used.pop(block)
        if urgent:
            for block in reversed(self._unread):
                if block not in self._awaited:
                    del self._announced[block]
                    return self._unread.pop(block)
        return None
