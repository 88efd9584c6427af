"""Encoding with items prepared ahead: threads decode files and resize images while the encoder has the device.

What the encoder is given, and in which order, depends on neither the number of threads nor their luck. How many items
may be ready at once follows from what they weigh, so that neither thumbnails nor huge images overrun the memory.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from tokenmill.contract import Encoded, Encoder, Failure, PreparingEncoder, empty_streams
from tokenmill.encoders import encode_batch, item_failure
from tokenmill.sources.items import ItemBatch, joined
from tokenmill.streams import StreamSpec

#: Bytes of prepared items that may wait for the encoder, as far as the last ones tell.
_AHEAD_BYTES = 96 << 20
#: Most items that wait: more would not keep a device busier.
_AHEAD_ITEMS = 64
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
    later = (Failure(places[failure.index], failure.reason, failure.message) for failure in encoded.failures)
    return Encoded(encoded.streams, tuple(sorted((*failures, *later), key=lambda failure: failure.index)))


@dataclass(slots=True)
class _Submitted:
    batch: ItemBatch
    index: int
    prepared: Future[Any]


class EncodingAhead:
    """Encodes batches of items in order, their items prepared by threads. Close it, or use it as a context manager.

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
        self._item_bytes: float | None = None

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
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _submit(self, encoder: PreparingEncoder) -> None:
        """Hand items to the threads, as many as may be under way."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="prepare")
        # Nothing is known of the first ones: they may be huge.
        room = 0 if self._item_bytes is None else int(_AHEAD_BYTES / max(self._item_bytes, 1))
        most = min(max(room, self._threads + 1), max(_AHEAD_ITEMS, 2 * encoder.batch_items))
        while self._waiting and len(self._submitted) < most:
            batch, index = self._waiting.popleft()
            self._submitted.append(_Submitted(batch, index, self._pool.submit(encoder.prepare, batch.payloads[index])))

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
            try:
                item = one.prepared.result()
            except Exception as error:  # noqa: BLE001  whatever it is, it is of this item
                failures.append(item_failure(len(taken) - 1, error))
                continue
            size = int(getattr(item, "nbytes", 0))
            held_bytes += size
            # The mean of about the last ten.
            self._item_bytes = size if self._item_bytes is None else 0.9 * self._item_bytes + 0.1 * size
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
