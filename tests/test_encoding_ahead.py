import os
import random
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill import encoding_ahead
from tokenmill.contract import Encoded, Failure
from tokenmill.encoding_ahead import EncodingAhead, encode_items, preparation_threads, without_failed
from tokenmill.errors import ChangedError, ItemError, RunError, UnavailableError
from tokenmill.sources.items import ItemBatch
from tokenmill.streams import Jagged, StreamSpec

SPECS = {"ids": StreamSpec("int64")}


class Prepared:
    def __init__(self, value: int, nbytes: int) -> None:
        self.value = value
        self.nbytes = nbytes


class Doubling:
    """Payload n becomes n tokens of 2 n; n % 7 == 3 cannot be prepared, n % 7 == 5 not encoded, n % 11 == 6 panics."""

    def __init__(self, batch_items: int = 8, *, item_bytes: int = 100, sleep: bool = False) -> None:
        self.batch_items = batch_items
        self.item_bytes = item_bytes
        self.sleep = sleep
        self.batches: list[int] = []
        self.threads: set[str] = set()
        self.most_ready = 0
        self._ready = 0
        self._lock = threading.Lock()

    def prepare(self, payload: int) -> Prepared:
        if self.sleep:
            time.sleep(random.random() / 500)
        self.threads.add(threading.current_thread().name)
        if payload % 7 == 3:
            raise ItemError("cannot", f"{payload} cannot be prepared")
        if payload % 11 == 6:
            raise ZeroDivisionError("a bug")
        with self._lock:
            self._ready += 1
            self.most_ready = max(self.most_ready, self._ready)
        return Prepared(payload * 2, self.item_bytes)

    def encode(self, payloads: Sequence[Prepared]) -> Encoded:
        self.batches.append(len(payloads))
        with self._lock:
            self._ready -= len(payloads)
        failed = [index for index, one in enumerate(payloads) if one.value // 2 % 7 == 5]
        rows = [np.full(one.value // 2, one.value) for index, one in enumerate(payloads) if index not in failed]
        failures = tuple(Failure(index, "unlucky", "") for index in failed)
        return Encoded({"ids": Jagged.from_rows(rows, SPECS["ids"])}, failures)


def batch_of(payloads: Sequence[Any], first: int = 0) -> ItemBatch:
    numbers = np.arange(first, first + len(payloads))
    return ItemBatch(
        numbers, numbers + 1, numbers, [f"k{n}" for n in numbers], list(payloads), {"n": numbers.tolist()}, "f",
        [f"f!{n}" for n in numbers],
    )  # fmt: skip


def run(
    encoder: Doubling, sizes: Sequence[int], threads: int
) -> tuple[list[str], list[list[int]], list[tuple[str, str]]]:
    """Encode batches of payloads 0, 1, 2 …; return keys in order, rows by key, and failures."""
    keys: list[str] = []
    rows: list[list[int]] = []
    failures: list[tuple[str, str]] = []
    ahead = EncodingAhead(encoder, SPECS, threads)
    first = 0
    found = []
    for size in sizes:
        found += list(ahead.add(batch_of(range(first, first + size), first)))
        first += size
    found += list(ahead.finish())
    assert ahead.idle
    ahead.close()
    for items, encoded in found:
        failures += [(items.keys[failure.index], failure.reason) for failure in encoded.failures]
        kept = without_failed(items, encoded.failures)
        assert kept.metadata["n"] == kept.ordinals.tolist()
        keys += kept.keys
        rows += [encoded.streams["ids"][index].tolist() for index in range(len(kept))]
    return keys, rows, failures


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=8), st.integers(1, 4), st.integers(1, 20), st.booleans())
def test_every_item_comes_out_once_and_in_order(sizes: list[int], threads: int, batch_items: int, heavy: bool) -> None:
    encoder = Doubling(batch_items, item_bytes=40 << 20 if heavy else 100)
    keys, rows, failures = run(encoder, sizes, threads)
    wanted, missed = [], []
    for n in range(sum(sizes)):
        if n % 7 == 3:
            missed.append((f"k{n}", "cannot"))
        elif n % 11 == 6:
            missed.append((f"k{n}", "tokenizer_failed"))
        elif n % 7 == 5:
            missed.append((f"k{n}", "unlucky"))
        else:
            wanted.append(n)
    assert keys == [f"k{n}" for n in wanted]
    assert rows == [[2 * n] * n for n in wanted]
    assert sorted(failures) == sorted(missed)


def test_batches_depend_on_neither_threads_nor_their_luck() -> None:
    seen = []
    for threads in (1, 4):
        encoder = Doubling(6, sleep=True)
        run(encoder, [50, 1, 0, 17], threads)
        assert all(name.startswith("prepare") for name in encoder.threads)
        seen.append(encoder.batches)
    assert seen[0] == seen[1]
    assert max(seen[0]) <= 6


def test_large_items_do_not_pile_up() -> None:
    light, heavy = Doubling(8), Doubling(8, item_bytes=50 << 20)
    run(light, [300], 4)
    run(heavy, [300], 4)
    # Two fill the room, and four threads may have begun one each before the second was ready.
    assert heavy.most_ready <= 8 < light.most_ready
    assert max(heavy.batches) == 2  # 64 MiB are enough for one call


def test_large_items_behind_small_ones_wait_as_well() -> None:
    class Mixed(Doubling):
        def prepare(self, payload: int) -> Prepared:
            self.item_bytes = 10 if payload < 200 else 200 << 20
            return super().prepare(payload)

    encoder = Mixed(8, sleep=True)
    keys, _, failures = run(encoder, [50] * 6, 4)
    assert len(keys) + len(failures) == 300


def test_closing_amid_a_part_ends_the_threads() -> None:
    encoder = Doubling(8, item_bytes=200 << 20)
    ahead = EncodingAhead(encoder, SPECS, 3)
    list(ahead.add(batch_of(range(50))))
    ahead.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prepare")]


def test_an_encoder_that_prepares_nothing_gets_batches_as_they_come() -> None:
    class Plain:
        def encode(self, payloads: Sequence[int]) -> Encoded:
            return Encoded({"ids": Jagged.from_rows([np.array([n]) for n in payloads], SPECS["ids"])})

    ahead = EncodingAhead(Plain(), SPECS, 4)
    ((items, encoded),) = ahead.add(batch_of([5, 6]))
    assert (len(items), encoded.streams["ids"].values.tolist()) == (2, [5, 6])
    assert ahead.idle
    assert list(ahead.finish()) == []


def test_here_and_now() -> None:
    encoded = encode_items(Doubling(), SPECS, list(range(8)))
    assert [(failure.index, failure.reason) for failure in encoded.failures] == [
        (3, "cannot"), (5, "unlucky"), (6, "tokenizer_failed"),
    ]  # fmt: skip
    assert encoded.streams["ids"].lengths.tolist() == [0, 1, 2, 4, 7]
    none = encode_items(Doubling(), SPECS, [3])
    assert (len(none.streams["ids"]), len(none.failures)) == (0, 1)


def test_a_device_without_memory_ends_the_part() -> None:
    class Full(Doubling):
        def encode(self, payloads: Sequence[Prepared]) -> Encoded:
            raise RunError("cuda ran out of memory with batches of 8", fix="set `batch_size` below 8")

    ahead = EncodingAhead(Full(), SPECS, 1)
    list(ahead.add(batch_of([1, 2])))
    with pytest.raises(RunError, match="`batch_size` below 8"):
        list(ahead.finish())
    ahead.close()


@pytest.mark.parametrize("error", [UnavailableError("the server is gone"), ChangedError("the file has changed")])
@pytest.mark.parametrize("method", ["prepare", "encode"])
def test_what_is_no_fault_of_an_item_ends_the_part(error: Exception, method: str) -> None:
    """Recordings are read while they are prepared, and while they are encoded."""

    def fail(_: Any) -> Any:
        raise error

    encoder = Doubling()
    setattr(encoder, method, fail)
    ahead = EncodingAhead(encoder, SPECS, 1)
    list(ahead.add(batch_of([1, 2])))
    with pytest.raises(type(error), match=error.args[0]):
        list(ahead.finish())
    ahead.close()
    with pytest.raises(type(error), match=error.args[0]):
        encode_items(encoder, SPECS, [1, 2])


def test_large_items_are_not_read_far_ahead() -> None:
    """Recordings that lie in tar files are held as they were read."""

    class Large(int):
        nbytes = 40 << 20

    encoder = Doubling(4)
    ahead = EncodingAhead(encoder, SPECS, 2)
    coming = out = most = 0
    for number in range(0, 60, 2):
        for items, _ in ahead.add(batch_of([Large(number), Large(number + 1)], number)):
            out += len(items)
        coming += 2
        most = max(most, coming - out)
    out += sum(len(items) for items, _ in ahead.finish())
    ahead.close()
    assert out == 60
    assert most <= 5


def test_threads_share_the_cores_with_other_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert [preparation_threads(workers) for workers in (1, 2, 3, 8, 40)] == [8, 4, 2, 1, 1]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(200)))
    assert preparation_threads(1) == encoding_ahead._MOST_THREADS
