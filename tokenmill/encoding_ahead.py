"""Encoding with items prepared ahead: threads decode files and resize images while the encoder has the device.

What the encoder is given, and in which order, depends on neither the number of threads nor their luck. Threads wait
while what is ready weighs enough, so that neither thumbnails nor huge images overrun the memory.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tokenmill.contract import Encoded, Encoder, Failure, PreparingEncoder, empty_streams
from tokenmill.encoders import NOT_OF_AN_ITEM, encode_batch, item_failure
from tokenmill.sources.items import ItemBatch, joined
from tokenmill.streams import StreamSpec

#: While so many bytes of prepared items wait for the encoder, no further one is begun.
_AHEAD_BYTES = 96 << 20
#: Items under way, waiting ones included: more would not keep a device busier.
_AHEAD_ITEMS = 64
#: And so many bytes of them as they were read, of those that say how much memory they take (recordings).
_AHEAD_READ_BYTES = 128 << 20
#: An encoder gets fewer items at once than it likes where they hold more bytes than this.
_BATCH_BYTES = 64 << 20
_MOST_THREADS = 16


def preparation_threads(workers: int) -> int:
    """Return how many threads a worker prepares items with, where so many workers share this machine."""
    return min(max(len(os.sched_getaffinity(0)) // workers, 1), _MOST_THREADS)


def encode_items(encoder: Encoder, specs: Mapping[str, StreamSpec], payloads: Sequence[Any]) -> Encoded:
    """Prepare items here and now, and encode them; raises as `encode_batch` does."""
    if not isinstance(encoder, PreparingEncoder):
        return encode_batch(encoder, specs, payloads)
    prepared: list[Any] = []
    places: list[int] = []
    failures: list[Failure] = []
    for index, payload in enumerate(payloads):
        try:
            prepared.append(encoder.prepare(payload))
            places.append(index)
        except NOT_OF_AN_ITEM:
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, it is of this item
            failures.append(item_failure(index, error))
    return _encode(encoder, specs, prepared, places, failures)


def _encode(
    encoder: Encoder,
    specs: Mapping[str, StreamSpec],
    prepared: Sequence[Any],
    places: Sequence[int],
    failures: Sequence[Failure],
) -> Encoded:
    """Encode prepared items, whose places among all are given, and put the failures of both steps together."""
    if not prepared:
        return Encoded(empty_streams(specs), tuple(failures))
    encoded = encode_batch(encoder, specs, prepared)
    later = (replace(failure, index=places[failure.index]) for failure in encoded.failures)
    return Encoded(encoded.streams, tuple(sorted((*failures, *later), key=lambda failure: failure.index)))


@dataclass(slots=True)
class _Submitted:
    batch: ItemBatch
    index: int
    prepared: Future[Any]


class _Readiness:
    """What is prepared and not yet taken: how much it weighs, and whose turn it is."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ready_bytes = 0
        self._taken = 0
        self._closed = False

    def prepare(self, encoder: PreparingEncoder, payload: Any, number: int) -> Any:
        """Prepare an item, the `number`-th of all, once there is room; the next one to be taken never waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._ready_bytes < _AHEAD_BYTES or number == self._taken)
        item = encoder.prepare(payload)
        with self._changed:
            self._ready_bytes += _weight(item)
        return item

    def take(self, prepared: Future[Any]) -> Any:
        """Return what was prepared, or raise what preparing it raised; items are taken in order."""
        try:
            item = prepared.result()
        except BaseException:
            self._make_room(0)
            raise
        self._make_room(_weight(item))
        return item

    def close(self) -> None:
        """Let waiting threads go on, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _make_room(self, weight: int) -> None:
        with self._changed:
            self._ready_bytes -= weight
            self._taken += 1
            self._changed.notify_all()


def _weight(item: Any) -> int:
    return int(getattr(item, "nbytes", 0))


class EncodingAhead:
    """Encodes batches of items in order, their items prepared by threads. Close it.

    Encoders that prepare nothing get each batch as it comes, at once.

    Args:
        encoder: The encoder.
        specs: Its streams.
        threads: How many prepare items.
    """

    def __init__(self, encoder: Encoder, specs: Mapping[str, StreamSpec], threads: int) -> None:
        self._encoder = encoder
        self._specs = specs
        self._threads = threads
        self._preparing = encoder if isinstance(encoder, PreparingEncoder) else None
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: deque[tuple[ItemBatch, int]] = deque()
        self._submitted: deque[_Submitted] = deque()
        self._readiness = _Readiness()
        self._count = 0
        self._read_bytes = 0

    @property
    def idle(self) -> bool:
        """Whether every item that came has been encoded."""
        return not self._waiting and not self._submitted

    def add(self, batch: ItemBatch) -> Iterator[tuple[ItemBatch, Encoded]]:
        """Take a batch; yield items that are encoded by now, with what became of them."""
        if self._preparing is None:
            yield batch, encode_batch(self._encoder, self._specs, batch.payloads)
            return
        self._waiting.extend((batch, index) for index in range(len(batch)))
        self._submit(self._preparing)
        while self._waiting:
            yield self._next(self._preparing)

    def finish(self) -> Iterator[tuple[ItemBatch, Encoded]]:
        """Yield all items that are left."""
        while self._preparing is not None and not self.idle:
            yield self._next(self._preparing)

    def close(self) -> None:
        """Let the threads go; what is not encoded is lost."""
        if self._pool is not None:
            self._readiness.close()
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _submit(self, encoder: PreparingEncoder) -> None:
        """Hand items to the threads, as many as may be under way."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="prepare")
        while self._waiting and len(self._submitted) < max(_AHEAD_ITEMS, 2 * encoder.batch_items):
            if self._submitted and self._read_bytes >= _AHEAD_READ_BYTES:
                break
            batch, index = self._waiting.popleft()
            self._read_bytes += _weight(batch.payloads[index])
            prepared = self._pool.submit(self._readiness.prepare, encoder, batch.payloads[index], self._count)
            self._submitted.append(_Submitted(batch, index, prepared))
            self._count += 1

    def _next(self, encoder: PreparingEncoder) -> tuple[ItemBatch, Encoded]:
        """Encode the next items: as many as the encoder likes, fewer where they are large or no more are left."""
        taken: list[_Submitted] = []
        prepared: list[Any] = []
        places: list[int] = []
        failures: list[Failure] = []
        held_bytes = 0
        while len(taken) < encoder.batch_items and held_bytes < _BATCH_BYTES:
            self._submit(encoder)
            if not self._submitted:
                break
            one = self._submitted.popleft()
            taken.append(one)
            self._read_bytes -= _weight(one.batch.payloads[one.index])
            try:
                item = self._readiness.take(one.prepared)
            except NOT_OF_AN_ITEM:
                raise
            except Exception as error:  # noqa: BLE001  whatever it is, it is of this item
                failures.append(item_failure(len(taken) - 1, error))
                continue
            held_bytes += _weight(item)
            prepared.append(item)
            places.append(len(taken) - 1)
        return _items(taken), _encode(self._encoder, self._specs, prepared, places, failures)


def _items(taken: Sequence[_Submitted]) -> ItemBatch:
    """Return the items, which may come from several batches, as one batch without rejects."""
    pieces: list[ItemBatch] = []
    start = 0
    for stop in range(1, len(taken) + 1):
        if stop == len(taken) or taken[stop].batch is not taken[start].batch:
            pieces.append(taken[start].batch.slice(taken[start].index, taken[stop - 1].index + 1))
            start = stop
    return joined(pieces)


def without_failed(batch: ItemBatch, failures: Sequence[Failure]) -> ItemBatch:
    """Return the items of a batch that did not fail."""
    if not failures:
        return batch
    kept = np.ones(len(batch), bool)
    kept[[failure.index for failure in failures]] = False
    return batch.kept(kept)
