"""TokenLoader in one process: what it gives, where it goes on, what it refuses; what holds for any, test_properties."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import golden
from tests.datasets import build_dataset, job_of, write_jsonl
from tests.loader.corpora import SEPARATOR, write_corpus
from tests.loader.reference import (
    PADDING,
    Batch,
    Reference,
    on_ranks,
    samples_of,
    take,
    through_workers,
    without_padding,
)
from tokenmill.errors import DatasetError, LoaderError
from tokenmill.loader import Source, Subset, TokenLoader, loading

SHARDS = [[5, 0, 20, 1], [33, 2], [0], [7, 7, 7, 40]]  # 122 tokens


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_corpus(tmp_path_factory.mktemp("corpus"), SHARDS)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dataset that the real functions made, of several shards and 16-bit ids."""
    root = tmp_path_factory.mktemp("text")
    texts = ["", "x", "žluťoučký kůň " * 40, "short", *(f"document {number} " * (number % 13) for number in range(80))]
    write_jsonl(root / "in/a.jsonl", [{"id": f"d{number}", "text": text} for number, text in enumerate(texts)])
    tables = [{"name": "text", "tokenizer": {"id": "bytes", "eos": True}}]
    build_dataset(job_of(str(root / "out"), root / "in", tables=tables, splitting={"part_bytes": 1024}))
    return str(root / "out")


def make(uri: str, **changes: Any) -> TokenLoader:
    # An epoch is 30 windows: 10 batches.
    return TokenLoader(uri, **{"window": 4, "global_batch_size": 3, **changes})


def firsts(batches: list[Batch], count: int) -> list[tuple[int, int]]:
    """Return the document and position of the first token of each window."""
    return [(documents[0], positions[0]) for _, documents, positions in samples_of(*batches)][:count]


@pytest.mark.parametrize("packing", ["windows", "documents"])
@pytest.mark.parametrize("shuffle", ["global", "blocks", "none"])
def test_a_published_dataset_is_read_whole(text: str, packing: Any, shuffle: Any) -> None:
    reference = Reference(text)
    loader = TokenLoader(
        text, window=32, global_batch_size=4, packing=packing, shuffle=shuffle, tail="pad", pad_id=9, block_tokens=128
    )
    assert len(loader.sources[0].corpus.shards) > 3
    batches = list(loader)
    for batch in batches:
        reference.check(batch, pad_id=9)
    assert not reference.missing(batches)
    if packing == "documents":
        assert any(len(set(documents)) > 2 for _, documents, _ in samples_of(*batches))


# Saved training states mean these orders: they must never change.
GOLDEN: list[tuple[dict[str, Any], list[list[tuple[int, int]]]]] = [
    (
        {},
        [
            [(3, 3797), (3, 2497), (3, 597), (3, 1597), (3, 3897), (3, 2797)],
            [(3, 174), (3, 3074), (3, 4174), (3, 374), (3, 1874), (3, 3474)],
        ],
    ),
    (
        {"shuffle": "blocks", "block_tokens": 400, "open_blocks": 2},
        [
            [(3, 2497), (3, 1197), (3, 2597), (3, 2397), (3, 2697), (3, 1397)],
            [(3, 3074), (3, 3874), (3, 2974), (3, 3774), (3, 3674), (3, 2774)],
        ],
    ),
    (
        {"packing": "documents"},
        [
            [(3, 2300), (3, 3000), (3, 2200), (3, 2400), (3, 1900), (3, 1500)],
            [(3, 2200), (3, 100), (1, 0), (3, 3500), (3, 4300), (3, 1900)],
        ],
    ),
    (
        {"separator": 3, "tail": "pad"},
        [
            [(3, 3794), (3, 2494), (3, 594), (3, 1594), (3, 3894), (3, 2794)],
            [(3, 171), (3, 3071), (3, 4171), (3, 371), (3, 1871), (3, 4371)],
        ],
    ),
    (
        {"subset": Subset("train", 0.4, 1)},
        [
            [(3, 3798), (3, 2498), (3, 598), (3, 1598), (3, 3898), (3, 2798)],
            [(3, 175), (3, 3075), (3, 4175), (3, 375), (3, 1875), (3, 3475)],
        ],
    ),
]


@pytest.mark.parametrize(("options", "epochs"), GOLDEN, ids=str)
def test_the_order_of_a_committed_dataset(options: dict[str, Any], epochs: list[list[tuple[int, int]]]) -> None:
    loader = golden_loader(options)
    assert [firsts(list(loader), 6) for _ in epochs] == epochs


def golden_loader(options: dict[str, Any]) -> TokenLoader:
    return TokenLoader(str(golden.DIRECTORY / "dataset-v1"), "text", window=100, global_batch_size=2, seed=7, **options)


def test_another_process_gives_the_same_order(text: str) -> None:
    options = {"window": 8, "global_batch_size": 4, "seed": 5, "shuffle": "blocks", "block_tokens": 64}
    code = (
        "import json; from tokenmill.loader import TokenLoader\n"
        f"print(json.dumps([batch['ids'].tolist() for batch in TokenLoader({text!r}, **{options!r})]))"
    )
    environment = {"PYTHONHASHSEED": "12345", "PATH": ""}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert json.loads(done.stdout) == [batch["ids"].tolist() for batch in TokenLoader(text, **options)]  # type: ignore[arg-type]


def test_epochs_and_seeds_differ(uri: str) -> None:
    loader = make(uri)
    first, second = samples_of(*loader), samples_of(*loader)
    assert sorted(first) != sorted(second), "documents are cut elsewhere"
    assert first != second
    other = samples_of(*make(uri, seed=1))
    assert sorted(first) != sorted(other) or first != other
    # The order alone differs where windows are not cut.
    whole = make(uri, window=40, global_batch_size=1, packing="documents", seed=0)
    orders = [firsts(list(whole), 10) for _ in range(5)]
    assert len(set(map(tuple, orders))) > 1
    plain = make(uri, shuffle="none")
    assert samples_of(*plain) == samples_of(*plain) == samples_of(*make(uri, shuffle="none", seed=9))
    assert [ids for ids, _, _ in samples_of(*make(uri, shuffle="none"))] == [
        tuple(range(at, at + 4)) for at in range(0, 120, 4)
    ]


def test_orders_of_other_data_differ(uri: str, tmp_path: Path) -> None:
    other = write_corpus(tmp_path, SHARDS, first_id=1)
    assert [places for _, *places in samples_of(*make(uri))] != [places for _, *places in samples_of(*make(other))]


def test_what_a_loader_says_of_itself(uri: str) -> None:
    loader = make(uri, world_size=3, rank=1)
    name = Path(uri).name
    assert len(loader) == 10
    assert (loader.samples, loader.tokens, loader.epochs) == (0, 0, {f"{name}/text": 0})
    take(loader, 4)
    assert (loader.samples, loader.tokens, loader.epochs) == (12, 48, {f"{name}/text": 0})
    assert f"<TokenLoader of {name}/text: 3 windows of 4 tokens, rank 1 of 3, 12 samples delivered>" == repr(loader)
    list(loader)
    assert (loader.samples, loader.epochs) == (30, {f"{name}/text": 1})


@pytest.mark.parametrize("fields", [("ids",), ("positions", "ids"), ("cu_seqlens", "ids", "document_ids")])
def test_fields(uri: str, fields: tuple[str, ...]) -> None:
    whole = list(make(uri))
    some = list(make(uri, fields=fields))
    assert [tuple(batch) for batch in some] == [(*fields, "samples")] * 10
    for one, other in zip(whole, some, strict=True):
        assert all(one[name].tolist() == other[name].tolist() for name in fields)
    # What orders samples does not depend on it.
    assert make(uri, fields=fields).state_dict() == make(uri).state_dict()


def test_batches_are_the_readers_own(uri: str) -> None:
    expected = samples_of(*make(uri), *make(uri))
    loader = make(uri)
    found = []
    for _ in range(2):
        for batch in loader:
            found += samples_of(batch)
            for name in ("ids", "document_ids", "positions", "cu_seqlens"):
                batch[name][:] = -5
        loader.load_state_dict(make(uri).state_dict())
    assert found == expected


def test_an_iteration_goes_on_where_the_last_one_was_left(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = make(uri)
    expected = [samples_of(*plain) for _ in range(2)]
    monkeypatch.setattr(loading, "_DRAWN_SAMPLES", 6)
    loader = make(uri)
    found = []
    for count in (1, 1, 3, 0, 2):
        found += samples_of(*take(loader, count))
    # An iterator that is made and not used takes nothing.
    iter(loader)
    found += samples_of(*loader)
    assert found == expected[0]
    assert samples_of(*loader) == expected[1]


def test_of_two_iterations_the_newer_one_goes_on(uri: str) -> None:
    expected = samples_of(*make(uri))
    loader = make(uri)
    old = iter(loader)
    found = samples_of(next(old))
    new = iter(loader)
    found += samples_of(next(new))
    with pytest.raises(LoaderError, match="another iteration of this loader has begun") as caught:
        next(old)
    assert "another TokenLoader" in str(caught.value)
    assert found + samples_of(*new) == expected
    assert loader.samples == 30


def test_a_state_loaded_ends_the_iteration(uri: str) -> None:
    loader = make(uri)
    batches = iter(loader)
    first = next(batches)
    loader.load_state_dict(loader.state_dict())
    with pytest.raises(LoaderError, match="or a state was loaded"):
        next(batches)
    assert samples_of(first, *loader) == samples_of(*make(uri))


def test_the_end_of_an_epoch_in_a_state(uri: str) -> None:
    loader = make(uri)
    inside: dict[str, Any] = {}
    for _ in loader:
        inside = loader.state_dict()
    after = loader.state_dict()
    assert [state["sources"][0]["next"] for state in (inside, after)] == [[0, 1, 0], [1, 0, 0]]
    second = samples_of(*loader)
    for state in (inside, after):
        for size in (3, 5):
            again = make(uri, global_batch_size=size)
            again.load_state_dict(state)
            assert again.state_dict()["samples"] == 30
            assert samples_of(*again) == second
            assert again.epochs == {again.sources[0].name: 2}


@pytest.mark.parametrize(
    ("ranks", "workers", "packing"),
    [(1, 0, "windows"), (1, 3, "documents"), (3, 2, "documents"), (8, 1, "windows"), (8, 3, "windows")],
)
def test_from_four_ranks_of_two_workers_to_any(text: str, ranks: int, workers: int, packing: Any) -> None:
    options: dict[str, Any] = {"window": 8, "global_batch_size": 24, "packing": packing}
    plain = TokenLoader(text, **options)
    expected = [sample for _ in range(2) for batch in plain for sample in samples_of(batch)]
    before = [TokenLoader(text, world_size=4, rank=rank, **options) for rank in range(4)]
    columns = [through_workers(loader, 2, 5) for loader in before]
    state = json.loads(json.dumps(before[2].state_dict(columns[2][-1])))
    found = on_ranks(columns)
    after = [TokenLoader(text, world_size=ranks, rank=rank, **options) for rank in range(ranks)]
    for loader in after:
        loader.load_state_dict(state)
    for _ in range(2):
        found += on_ranks([through_workers(loader, workers) for loader in after])
    assert found == expected


def test_what_a_batch_leaves_of_an_epoch_is_delivered_to_smaller_ones(uri: str) -> None:
    whole = samples_of(*make(uri, global_batch_size=1))
    loader = make(uri, global_batch_size=8)
    assert samples_of(*loader) == whole[:24]
    inside = make(uri, global_batch_size=8)
    take(inside, 3)
    again = make(uri, global_batch_size=2)
    again.load_state_dict(inside.state_dict())
    assert samples_of(*again) == whole[24:]
    # An epoch that was left for the next one stays behind.
    again.load_state_dict(loader.state_dict())
    assert len(samples_of(*again)) == 30
    assert again.samples == 54


def test_states_of_earlier_batches(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Who holds batches back for a while, to copy them to a device, saves the state of an earlier one.
    monkeypatch.setattr(loading, "_DRAWN_SAMPLES", 6)
    plain = make(uri)
    expected = [sample for _ in range(3) for sample in samples_of(*plain)]
    loader = make(uri)
    batches = [batch for _ in range(2) for batch in loader]
    for number, batch in enumerate(batches, 1):
        again = make(uri)
        again.load_state_dict(loader.state_dict(batch))
        assert samples_of(*again) == expected[3 * number :][: 30 - 3 * (number % 10)]
    later = make(uri)
    later.load_state_dict(loader.state_dict(batches[5]))
    with pytest.raises(LoaderError, match="15 samples delivered, the state has 18"):
        later.state_dict(batches[4])


def test_a_state_changes_nothing(uri: str) -> None:
    loader = make(uri)
    found = []
    for batch in loader:
        found.append(batch)
        assert loader.state_dict() == loader.state_dict(batch) == loader.state_dict()
        assert loader.state_dict()["samples"] == batch["samples"] == 3 * len(found)
    assert samples_of(*found) == samples_of(*make(uri))


def test_epochs_of_one_batch(uri: str) -> None:
    loader = make(uri, global_batch_size=30)
    epochs = [list(loader) for _ in range(4)]
    assert [len(epoch) for epoch in epochs] == [1] * 4
    assert [epoch[0]["samples"] for epoch in epochs] == [30, 60, 90, 120]
    assert len({tuple(samples_of(*epoch)) for epoch in epochs}) == 4


def test_ranks_that_have_only_padding(uri: str) -> None:
    # 31 windows in batches of 16 on 8 ranks: the last batch is one short.
    loaders = [make(uri, global_batch_size=16, world_size=8, rank=rank, tail="pad", pad_id=6) for rank in range(8)]
    ranks = [list(loader) for loader in loaders]
    assert without_padding(on_ranks(ranks)) == samples_of(*make(uri, global_batch_size=1, tail="pad", pad_id=6))
    one = make(uri, global_batch_size=64, world_size=64, rank=63, tail="pad", pad_id=6)
    (batch,) = list(one)
    assert samples_of(batch) == [((6,) * 4, (PADDING,) * 4, (0,) * 4)]
    assert (batch["cu_seqlens"].tolist(), batch["samples"], len(one)) == ([0, 4], 31, 1)
    assert one.state_dict()["samples"] == 31


def test_very_many_ranks(tmp_path: Path) -> None:
    uri = write_corpus(tmp_path, [[10_000], [9_999, 1]])
    size = 4096
    first, last = (
        TokenLoader(uri, window=2, global_batch_size=size, world_size=size, rank=rank) for rank in (0, size - 1)
    )
    whole = samples_of(*islice(TokenLoader(uri, window=2, global_batch_size=size), 2))
    assert samples_of(*islice(first, 2)) == [whole[0], whole[size]]
    assert samples_of(*islice(last, 2)) == [whole[size - 1], whole[2 * size - 1]]


def test_a_window_longer_than_the_data_is_padded_if_asked(uri: str) -> None:
    loader = make(uri, window=200, global_batch_size=1, tail="pad", separator=SEPARATOR)
    reference = Reference(uri, separator=SEPARATOR)
    for _ in range(3):
        (batch,) = list(loader)
        reference.check(batch)
        assert not reference.missing([batch])


def test_closing(uri: str) -> None:
    with make(uri) as loader:
        found = take(loader, 3)
    assert samples_of(*found, *loader) == samples_of(*make(uri))
    loader.close()


def test_integers_of_numpy(uri: str) -> None:
    options: dict[str, Any] = {"window": np.int64(4), "global_batch_size": np.int32(3), "seed": np.int64(2)}
    loader = TokenLoader(uri, separator=5, **options)
    take(loader, 2)
    state = json.loads(json.dumps(loader.state_dict()))
    again = make(uri, seed=2, separator=5)
    again.load_state_dict(state)
    assert samples_of(*again) == samples_of(*loader)
    with pytest.raises(TypeError):
        make(uri, window=4.5)


def test_the_newest_generation_unless_another_is_asked_for(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", [{"id": "a", "text": "one and more"}])
    job = job_of(str(tmp_path / "out"), tmp_path / "in")
    build_dataset(job)
    first = make(job.output)
    write_jsonl(tmp_path / "in/b.jsonl", [{"id": "b", "text": "two, and some more text"}])
    build_dataset(job)
    assert [len(one) for one in (first, make(job.output), make(job.output, generation=1))] == [1, 2, 1]
    # A copy in another process reads the generation that was opened here.
    assert len(pickle.loads(pickle.dumps(first))) == 1
    assert samples_of(*through_workers(first, 2)) == samples_of(*make(job.output, generation=1))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rank": 2, "world_size": 2, "global_batch_size": 4}, "rank 2 of 2 ranks; ranks count from 0"),
        ({"rank": -1}, "rank -1 of 1 ranks"),
        ({"world_size": 0}, "rank 0 of 0 ranks"),
        ({"world_size": 2}, "a global batch of 3 samples cannot be dealt to 2 ranks evenly"),
        ({"global_batch_size": 0}, "a global batch of 0 samples"),
        ({"global_batch_size": -3, "world_size": 3}, "a global batch of -3 samples"),
        ({"window": 0}, "a window of 0 tokens; it must have one or more"),
        ({"window": 123}, "a window of 123 tokens is longer than the data: <122 tokens"),
        ({"global_batch_size": 31}, r"a global batch of 31 samples of 4 tokens is more than .* has \(30 samples\)"),
        ({"window": 100, "packing": "documents"}, r"a global batch of 3 samples of 100 tokens .* has \(2 samples\)"),
        ({"fields": ("positions",)}, "the fields of a batch are positions"),
        ({"stream": "words"}, "no stream 'words'; it has ids"),
        ({"prefix": 0}, "a prefix of 0 tokens of every row"),
        ({"tokenizer": "0" * 64}, "and 0{64} was asked for"),
        ({"separator": 1_000_000}, "the separator 1000000 is not an id of stream 'ids', whose vocabulary has 1000000"),
        ({"packing": "tetris"}, "packing 'tetris' is not one of 'windows', 'documents'"),
        ({"shuffle": "some"}, "shuffle 'some' is not one of"),
        ({"tail": "wag"}, "tail 'wag' is not one of"),
        ({"open_blocks": 0}, "block_tokens 4194304 and open_blocks 0"),
        ({"subset": Subset("validation", 1e-9)}, "a window of 4 tokens is longer than the data: <0 tokens"),
        ({"subset": Subset("validation", 1e-9), "packing": "documents"}, "there are no documents to pack: <0 tokens"),
    ],
)
def test_what_cannot_be_done_is_refused(uri: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(LoaderError, match=said):
        make(uri, **changes)


def test_datasets_that_are_not_there(uri: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no table 'nope'; it has text"):
        make(uri, table="nope")
    with pytest.raises(DatasetError, match="no generation 4"):
        make(uri, generation=4)
    with pytest.raises(DatasetError, match="holds no dataset"):
        make(str(tmp_path))


@pytest.mark.parametrize(
    "name", ["table", "stream", "documents", "skip_duplicates", "distinct", "generation", "tokenizer"]
)
def test_what_belongs_to_a_source_of_a_mix(uri: str, name: str) -> None:
    with pytest.raises(LoaderError, match=r"belong to each source: Source\(…\)"):
        TokenLoader([Source(uri)], window=4, global_batch_size=1, **{name: 1})  # type: ignore[arg-type]
