"""The loader in torch's DataLoader: real processes, so that tests are few."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from tests.loader.corpora import write_corpus
from tests.loader.reference import Batch, Reference, Sample, as_worker, forked, samples_of, take
from tokenmill.errors import CorruptionError, LoaderError, TokenmillError
from tokenmill.loader import PackedDocuments, PackedWindows, Source, TokenCorpus, TokenLoader
from tokenmill.loader.torch_workers import WorkerBoard, current_worker, in_worker

# More workers than some machine has cores: what they do is tested here, not how fast.
pytestmark = pytest.mark.filterwarnings(r"ignore:This DataLoader will create \d+ worker processes in total:UserWarning")

SHARDS = [[5, 0, 20, 1], [33, 2], [], [7, 7, 7, 40]]  # 122 tokens


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_corpus(tmp_path_factory.mktemp("corpus"), SHARDS)


@pytest.fixture(scope="module")
def sequence(uri: str) -> list[Sample]:
    """The windows of four epochs, without workers."""
    loader = make(uri)
    return [sample for _ in range(4) for batch in loader for sample in samples_of(batch)]


def make(uri: str, **changes: Any) -> TokenLoader:
    # An epoch is 30 windows: 10 batches.
    return TokenLoader(uri, **{"window": 4, "global_batch_size": 3, **changes})


def with_workers(loader: TokenLoader, workers: int, context: str = "fork", **options: Any) -> DataLoader[Any]:
    return DataLoader(
        loader,  # type: ignore[arg-type]
        batch_size=None,
        num_workers=workers,
        multiprocessing_context=context if workers else None,
        **options,
    )


def refusal_of(batches: DataLoader[Any], kind: type[TokenmillError] = LoaderError) -> str:
    """Return what workers raise while they read an epoch."""
    iterator = iter(batches)
    with pytest.raises(kind) as caught:
        list(iterator)
    # At once, not when the traceback is collected, and with it the queues through which workers are told to end.
    iterator._shutdown_workers()  # type: ignore[attr-defined]
    return str(caught.value)


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_any_number_of_workers_gives_the_same_sequence(uri: str, workers: int, sequence: list[Sample]) -> None:
    loader = make(uri)
    batches = with_workers(loader, workers)
    assert len(batches) == 10
    first = list(batches)
    assert [type(first[0][name]) for name in ("ids", "cu_seqlens", "samples")] == [torch.Tensor, torch.Tensor, int]
    assert samples_of(*first) == sequence[:30]
    assert samples_of(*batches, *batches) == sequence[30:90]


def test_workers_that_are_spawned(uri: str, sequence: list[Sample]) -> None:
    loader = make(uri)
    assert samples_of(*with_workers(loader, 2, "spawn")) == sequence[:30]
    assert samples_of(*with_workers(loader, 1, "spawn")) == sequence[30:60]


def test_more_workers_than_batches_and_epochs_of_one(uri: str) -> None:
    plain = make(uri, global_batch_size=30)
    expected = [samples_of(*plain) for _ in range(4)]
    batches = with_workers(make(uri, global_batch_size=30), 3)
    assert [samples_of(*batches) for _ in range(4)] == expected


def test_workers_that_last_for_several_epochs(uri: str, sequence: list[Sample]) -> None:
    loader = make(uri)
    batches = with_workers(loader, 2, persistent_workers=True)
    assert samples_of(*batches, *batches, *batches) == sequence[:90]
    take(batches, 1)
    assert "were not asked for all of the epoch" in refusal_of(batches)
    batches = with_workers(loader, 2, persistent_workers=True)
    loader.load_state_dict(make(uri).state_dict())
    assert samples_of(*batches) == sequence[:30]
    loader.load_state_dict(make(uri).state_dict())
    assert "a state was loaded while DataLoader workers were at work" in refusal_of(batches)


def test_workers_go_on_from_the_main_process(uri: str, sequence: list[Sample]) -> None:
    loader = make(uri)
    take(loader, 4)
    assert samples_of(*with_workers(loader, 2)) == sequence[12:30]
    assert samples_of(*with_workers(loader, 1)) == sequence[30:60]
    # And it goes on from them, and knows its state again.
    with pytest.raises(LoaderError, match="only the last one delivered tells"):
        loader.state_dict()
    assert samples_of(*take(loader, 2)) == sequence[60:66]
    assert loader.state_dict()["samples"] == 66
    assert samples_of(*with_workers(loader, 1)) == sequence[66:90]


def test_an_iteration_that_was_broken_off_is_not_repeated(uri: str, sequence: list[Sample]) -> None:
    loader = make(uri)
    batches = with_workers(loader, 2)
    last = take(batches, 4)[-1]
    assert "were not asked for all of the epoch" in refusal_of(batches)
    with pytest.raises(LoaderError, match="were not asked for all of the epoch"):
        next(iter(loader))
    loader.load_state_dict(loader.state_dict(last))
    assert samples_of(*batches) == sequence[12:30]


def test_a_mix_in_workers(uri: str) -> None:
    sources = [Source(uri, name="a", weight=2), Source(uri, name="b")]

    def mixed() -> TokenLoader:
        return TokenLoader(sources, window=4, global_batch_size=3)

    expected = take(mixed(), 25)
    loader = mixed()
    found = list(itertools.islice(with_workers(loader, 2), 25))
    assert samples_of(*found) == samples_of(*expected)
    assert [batch["sources"].tolist() for batch in found] == [batch["sources"].tolist() for batch in expected]
    again = mixed()
    again.load_state_dict(loader.state_dict(found[9]))
    assert samples_of(*itertools.islice(with_workers(again, 3), 15)) == samples_of(*expected[10:])


def test_the_state_is_asked_for_with_the_batch(uri: str, sequence: list[Sample]) -> None:
    loader = make(uri)
    batches = iter(with_workers(loader, 2))
    found = [next(batches) for _ in range(4)]
    with pytest.raises(LoaderError, match="only the last one delivered tells") as caught:
        loader.state_dict()
    assert "loader.state_dict(batch)" in str(caught.value)
    # What was delivered counts, not what workers have made ahead.
    state = loader.state_dict(found[-1])
    assert (state["samples"], state["sources"][0]["next"]) == (12, [0, 0, 12])
    assert "worker" not in state
    for workers in (0, 3):
        again = make(uri)
        again.load_state_dict(json.loads(json.dumps(state)))
        assert again.state_dict() == state
        assert samples_of(*with_workers(again, workers)) == sequence[12:30]
    rest = list(batches)
    state = loader.state_dict(rest[-1])
    again = make(uri, global_batch_size=5)
    again.load_state_dict(state)
    assert samples_of(*with_workers(again, 2)) == sequence[30:60]


@pytest.mark.parametrize("workers", [0, 2])
def test_windows_and_documents_as_map_style_datasets(uri: str, workers: int) -> None:
    reference = Reference(uri)
    for kind in (PackedWindows, PackedDocuments):
        packed = kind(TokenCorpus(uri), 4, fields=("ids", "document_ids", "positions"))
        options: dict[str, Any] = {"generator": torch.Generator().manual_seed(0), "num_workers": workers}
        batches = list(DataLoader(packed, batch_size=6, shuffle=True, **options))  # type: ignore[arg-type]
        assert [len(batch["ids"]) for batch in batches] == [6] * (len(packed) // 6) + [len(packed) % 6][
            : len(packed) % 6
        ]
        assert sorted(samples_of(*batches)) == sorted(samples_of(*(one_batch(packed[i]) for i in range(len(packed)))))
        for ids, documents, positions in samples_of(*batches):
            for token, document, position in zip(ids, documents, positions, strict=True):
                assert token == (0 if document < 0 else reference.documents[document][position])


def one_batch(sample: Batch) -> Batch:
    return {name: array[np.newaxis] for name, array in sample.items()}


def test_damage_that_a_worker_finds_is_named(tmp_path: Path) -> None:
    damaged = write_corpus(tmp_path, [[50], [50]])
    shard = sorted((tmp_path / "text/shards").iterdir())[1]
    data = bytearray(shard.read_bytes())
    data[data.index(np.arange(50, 100, dtype="<u4").tobytes()) + 3] ^= 1
    shard.write_bytes(data)
    assert shard.name in refusal_of(with_workers(make(damaged), 2), CorruptionError)


def test_a_loader_is_an_iterable_dataset(uri: str) -> None:
    assert isinstance(make(uri), IterableDataset)
    assert (current_worker(), in_worker()) == ((0, 1), False)


def test_without_torch(uri: str, sequence: list[Sample]) -> None:
    code = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['torchdata'] = None\n"
        "from tokenmill.loader import TokenLoader\n"
        f"loader = TokenLoader({uri!r}, window=4, global_batch_size=3)\n"
        "found = [batch['ids'].tolist() for batch in loader]\n"
        "assert loader.state_dict(batch=None)['samples'] == 30\n"
        "assert [name for name in sys.modules if name.split('.')[0] == 'torch'] == ['torch']\n"
        "print(found)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert [tuple(ids) for batch in json.loads(done.stdout) for ids in batch] == [ids for ids, _, _ in sequence[:30]]


def test_a_pickled_loader_goes_on_by_itself(uri: str, sequence: list[Sample]) -> None:
    loader = make(uri)
    take(loader, 2)
    again = pickle.loads(pickle.dumps(loader))
    assert samples_of(*again) == sequence[6:30]
    assert again.state_dict()["samples"] == 30
    assert loader.state_dict()["samples"] == 6
    assert samples_of(*loader) == sequence[6:30]


@pytest.fixture
def board() -> WorkerBoard:
    board = WorkerBoard()
    board.begin(2, 40)
    return board


def in_copy(board: WorkerBoard, *steps: tuple[str, tuple[int, ...]]) -> None:
    """Let a forked process call methods of its copy of a board, as a worker."""
    process = multiprocessing.get_context("fork").Process(target=_call, args=(board, steps))
    process.start()
    process.join()
    assert process.exitcode == 0


def _call(board: WorkerBoard, steps: tuple[tuple[str, tuple[int, ...]], ...]) -> None:
    with as_worker(0, 2):
        for name, arguments in steps:
            getattr(board, name)(*arguments)


def test_a_board_tells_what_workers_in_other_processes_say(board: WorkerBoard) -> None:
    assert (board.epoch, board.samples, board.in_use) == (2, 40, False)
    in_copy(board, ("use", (2,)), ("end_epoch", (3, 60)))
    assert (board.epoch, board.samples, board.in_use) == (3, 60, True)
    board.begin(0, 0)
    assert (board.epoch, board.samples, board.in_use) == (0, 0, False)


def test_a_worker_that_begins_late_goes_by_what_stood_there_when_it_was_made(board: WorkerBoard) -> None:
    copied = pickle.loads(pickle.dumps(board))
    assert (copied.epoch, copied.samples) == (2, 40)
    read, write = os.pipe()
    if not (child := os.fork()):
        with as_worker(1, 2):
            os.read(read, 1)
            ok = (board.epoch, board.samples) == (2, 40)
            os._exit(0 if ok else 1)
    board.end_epoch(3, 60)
    os.write(write, b"x")
    assert os.waitpid(child, 0)[1] == 0
    assert board.epoch == 3
    # A pickle is another board.
    assert copied.epoch == 2


def test_workers_from_before_a_state_was_loaded_have_no_say(uri: str) -> None:
    loader = make(uri)
    worker = forked(loader)
    with as_worker(0, 1):
        batches = iter(worker)
        next(batches)
    loader.load_state_dict(make(uri).state_dict())
    with as_worker(0, 1):
        list(batches)
    assert not loader._board.in_use
    assert loader._board.epoch == 0


@pytest.fixture(autouse=True)
def no_worker_is_left() -> Iterator[None]:
    yield
    assert not multiprocessing.active_children()
