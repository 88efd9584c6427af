"""Runs of small files: reads one after another as if they were one, and joins their small batches.

A position in a run is `file number << POSITION_BITS | position in that file`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice

from tokenmill.sources.file_task import FileTask
from tokenmill.sources.items import Cursor, ItemBatch, joined
from tokenmill.sources.limits import BATCH_BYTES, BATCH_ITEMS

#: Room for the position in a file: a terabyte, decompressed.
POSITION_BITS = 40

#: Small remote files that are fetched at once, and held; a larger one (an image) is read when its turn comes.
_FETCHED_AHEAD = 8
_FETCHED_BYTES = 8 << 20
#: The same of recordings, which are read as streams, and many of which are under way at once.
_FETCHED_AUDIO_BYTES = 1 << 20

ReadFile = Callable[[FileTask, Cursor], Iterator[ItemBatch]]


def read_run(tasks: Sequence[FileTask], cursor: Cursor, read_file: ReadFile) -> Iterator[ItemBatch]:
    """Yield the items of a run of files.

    Args:
        tasks: The run; they ask for explicit locators, for a batch may hold items of many files.
        cursor: Where to begin.
        read_file: Reads one file of any format.
    """
    return join_batches(_batches(tasks, cursor, read_file))


def _batches(tasks: Sequence[FileTask], cursor: Cursor, read_file: ReadFile) -> Iterator[ItemBatch]:
    ordinal = cursor.ordinal
    first = cursor.position >> POSITION_BITS
    remaining = tasks[first:]
    is_remote = bool(tasks) and "://" in tasks[0].root
    for number, task in enumerate(_fetched(remaining) if is_remote else remaining, first):
        position = cursor.position & ((1 << POSITION_BITS) - 1) if number == first else 0
        for batch in read_file(task, Cursor(ordinal, position)):
            batch.ends += number << POSITION_BITS
            ordinal = _next_ordinal(batch, ordinal)
            yield batch


def _fetched(tasks: Sequence[FileTask]) -> Iterator[FileTask]:
    """Yield the tasks with their files' content, fetched by several threads ahead: a round trip each would add up."""

    def fetch(task: FileTask) -> FileTask:
        if task.file.size_bytes > (_FETCHED_AUDIO_BYTES if task.format.format == "audio" else _FETCHED_BYTES):
            return task
        with task.open_stored() as file:
            return replace(task, content=file.read(task.file.size_bytes))

    waiting = iter(tasks)
    with ThreadPoolExecutor(_FETCHED_AHEAD) as pool:
        pending = deque(pool.submit(fetch, task) for task in islice(waiting, _FETCHED_AHEAD))
        try:
            while pending:
                yield pending.popleft().result()
                pending.extend(pool.submit(fetch, task) for task in islice(waiting, 1))
        finally:
            pool.shutdown(cancel_futures=True)


def _next_ordinal(batch: ItemBatch, ordinal: int) -> int:
    last_item = int(batch.ordinals[-1]) if len(batch) else -1
    last_reject = batch.rejects[-1].ordinal if batch.rejects else -1
    return max(ordinal, last_item + 1, last_reject + 1)


def join_batches(batches: Iterator[ItemBatch]) -> Iterator[ItemBatch]:
    """Join small batches, which must have explicit locators, until they reach the size of a batch."""
    held: list[ItemBatch] = []
    items = size_bytes = 0
    for batch in batches:
        batch_bytes = int(batch.sizes.sum())
        batch_items = len(batch) + len(batch.rejects)
        if held and (items + batch_items > BATCH_ITEMS or size_bytes + batch_bytes > BATCH_BYTES):
            yield joined(held)
            held, items, size_bytes = [], 0, 0
        held.append(batch)
        items += batch_items
        size_bytes += batch_bytes
    if held:
        yield joined(held)
