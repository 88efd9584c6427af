"""The loader in torchdata's StatefulDataLoader, which saves the states of its workers itself."""

from __future__ import annotations

import json
from itertools import chain, islice
from typing import Any

import pytest
from torchdata.stateful_dataloader import StatefulDataLoader  # type: ignore[import-untyped]

from tests.loader.corpora import write_corpus
from tests.loader.reference import Sample, as_worker, samples_of, take
from tests.loader.test_torch_workers import SHARDS, make, with_workers
from tokenmill.errors import LoaderError
from tokenmill.loader import Source, TokenLoader

pytestmark = [
    # More workers than some machine has cores: what they do is tested here, not how fast.
    pytest.mark.filterwarnings(r"ignore:This DataLoader will create \d+ worker processes in total:UserWarning"),
    # What torchdata calls, torch has deprecated.
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),
]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_corpus(tmp_path_factory.mktemp("corpus"), SHARDS)


@pytest.fixture(scope="module")
def sequence(uri: str) -> list[Sample]:
    """The windows of four epochs, without workers."""
    loader = make(uri)
    return [sample for _ in range(4) for batch in loader for sample in samples_of(batch)]


def stateful(loader: TokenLoader, workers: int, **options: Any) -> Any:
    context = "fork" if workers else None
    return StatefulDataLoader(
        loader,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context=context,
        **options,
    )


@pytest.mark.parametrize("every", [1, 3])
def test_a_stateful_data_loader_goes_on(uri: str, every: int, sequence: list[Sample]) -> None:
    def fresh(workers: int, **changes: Any) -> tuple[TokenLoader, Any]:
        loader = make(uri, **changes)
        return loader, stateful(loader, workers, snapshot_every_n_steps=every)

    _, batches = fresh(2)
    saved: dict[int, Any] = {}
    for number, batch in enumerate(chain(batches, batches), 1):
        assert samples_of(batch) == sequence[3 * (number - 1) : 3 * number]
        saved[number] = json.loads(json.dumps(batches.state_dict()))
        if number == 15:
            break
    for number in (1, 8, 11):
        done, end = 3 * number, 30 if number < 10 else 60
        _, again = fresh(2)
        again.load_state_dict(saved[number])
        assert samples_of(*again) == sequence[done:end], number
        assert samples_of(*again) == sequence[end : end + 30], number
    for number, workers, size in [(1, 0, 3), (8, 0, 1), (11, 3, 2)]:
        loader, again = fresh(workers, global_batch_size=size)
        loader.load_state_dict(saved[number])
        assert loader.samples == 3 * number
        done, end = 3 * number, 30 if number < 10 else 60
        whole = done + (end - done) // size * size
        assert samples_of(*again) == sequence[done:whole], number


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("finished", [False, True])
def test_a_stateful_data_loader_goes_on_after_an_epoch(
    uri: str, every: int, finished: bool, sequence: list[Sample]
) -> None:
    def fresh() -> tuple[TokenLoader, Any]:
        loader = make(uri)
        return loader, stateful(loader, 2, snapshot_every_n_steps=every)

    _, batches = fresh()
    iterator = iter(batches)
    for _ in range(10):
        next(iterator)
    if finished:
        assert next(iterator, None) is None
    state = batches.state_dict()
    _, again = fresh()
    again.load_state_dict(state)
    if not finished:
        assert samples_of(*again) == []  # it does not know yet that the epoch has ended
    assert samples_of(*again) == sequence[30:60]
    loader, again = fresh()
    loader.load_state_dict(state)
    assert samples_of(*again) == sequence[30:60]


def test_a_stateful_data_loader_that_saves_again_before_all_workers_delivered(uri: str, sequence: list[Sample]) -> None:
    batches = stateful(make(uri), 2)
    take(batches, 3)
    done = 9
    for count in (0, 1, 1):
        state = batches.state_dict()
        batches = stateful(make(uri), 2)
        batches.load_state_dict(state)
        found = samples_of(*take(batches, count)) if count else []
        assert found == sequence[done : done + 3 * count]
        done += 3 * count
    assert batches.state_dict()["_snapshot"]["_snapshot_step"] == 5
    state = batches.state_dict()
    batches = stateful(make(uri), 2)
    batches.load_state_dict(state)
    assert samples_of(*batches) == sequence[15:30]


@pytest.mark.parametrize("count", [0, 1])
def test_a_stateful_data_loader_with_workers_that_last(uri: str, count: int, sequence: list[Sample]) -> None:
    batches = stateful(make(uri), 2, persistent_workers=True)
    assert samples_of(*batches) == sequence[:30]
    assert samples_of(*islice(batches, count)) == sequence[30 : 30 + 3 * count]
    again = stateful(make(uri), 2, persistent_workers=True)
    again.load_state_dict(batches.state_dict())
    assert samples_of(*again, *again) == sequence[30 + 3 * count : 90]


def test_a_stateful_data_loader_goes_back(uri: str, sequence: list[Sample]) -> None:
    batches = stateful(make(uri), 2)
    take(batches, 2)
    state = batches.state_dict()
    batches.load_state_dict(state)
    assert samples_of(*batches, *batches) == sequence[6:60]
    batches.load_state_dict(state)
    assert samples_of(*batches, *batches) == sequence[6:60]


def test_a_stateful_data_loader_without_workers(uri: str, sequence: list[Sample]) -> None:
    batches = stateful(make(uri), 0)
    take(batches, 3)
    state = json.loads(json.dumps(batches.state_dict()))
    again = stateful(make(uri), 0)
    again.load_state_dict(state)
    assert samples_of(*again, *again) == sequence[9:60]
    loader = make(uri)
    loader.load_state_dict(state)
    assert samples_of(*with_workers(loader, 2)) == sequence[9:30]


def test_a_stateful_data_loader_of_a_mix(uri: str) -> None:
    def mixed() -> TokenLoader:
        sources = [Source(uri, name="a", weight=2), Source(uri, name="b")]
        return TokenLoader(sources, window=4, global_batch_size=3)

    expected = [samples_of(batch) for batch in take(mixed(), 20)]
    batches = stateful(mixed(), 2, snapshot_every_n_steps=3)
    take(batches, 14)
    state = json.loads(json.dumps(batches.state_dict()))
    again = stateful(mixed(), 2)
    again.load_state_dict(state)
    assert [samples_of(batch) for batch in take(again, 6)] == expected[14:]
    loader = mixed()
    loader.load_state_dict(state)
    assert [samples_of(batch) for batch in take(loader, 6)] == expected[14:]


def test_workers_do_not_take_states_of_others(uri: str) -> None:
    batches = stateful(make(uri), 2)
    take(batches, 3)
    state = batches.state_dict()
    of_worker = state["_snapshot"]["_worker_snapshots"]["worker_1"]["dataset_state"]
    for number, workers, size, said in [
        (1, 2, 6, "this is worker 1 of 2, and batches have 6"),
        (0, 2, 3, "this is worker 0 of 2, and batches have 3"),
        (1, 3, 3, "this is worker 1 of 3, and batches have 3"),
    ]:
        again = make(uri, global_batch_size=size)
        with (
            as_worker(number, workers),
            pytest.raises(LoaderError, match=f"worker 1 of 2 and batches of 3 samples; {said}"),
        ):
            again.load_state_dict(of_worker)


def test_padded_batches_since_the_snapshot_are_counted_as_batches(uri: str) -> None:
    # 31 windows: the 8th batch has three, and padding. The snapshot is of the 6th.
    def padded(size: int = 4) -> TokenLoader:
        return make(uri, tail="pad", global_batch_size=size)

    plain = padded()
    take(plain, 8)
    expected = samples_of(*plain)
    batches = stateful(padded(), 2, snapshot_every_n_steps=6)
    assert len(take(batches, 8)) == 8
    loader = padded(6)
    loader.load_state_dict(batches.state_dict())
    assert loader.samples == 31
    assert samples_of(*loader)[:31] == expected[:31]
