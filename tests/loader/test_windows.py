import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.loader.corpora import ENDS, IDS, SEPARATOR, write_corpus
from tests.loader.reference import Batch, Reference, Sample, samples_of
from tokenmill.errors import LoaderError
from tokenmill.loader import PackedWindows, Subset, TokenCorpus
from tokenmill.loader.batches import FIELDS, BatchBuilder
from tokenmill.loader.values import ShardValues

SHARDS = [[3, 0, 5], [0], [], [40], [1, 1, 1]]
HALF = Subset("train", 0.5, 1)
OPTIONS: list[dict[str, Any]] = [
    {}, {"separator": SEPARATOR}, {"subset": HALF}, {"prefix": 2},
    {"separator": SEPARATOR, "subset": HALF, "prefix": 7},
    {"documents": "pieces"}, {"documents": "pieces", "separator": SEPARATOR, "subset": HALF, "skip_duplicates": True},
]  # fmt: skip


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    streams = {"ids": IDS, "pieces": ENDS}
    return write_corpus(tmp_path_factory.mktemp("corpus"), SHARDS, streams=streams, duplicates={4: 2})


def batch_of(packed: PackedWindows, numbers: list[int], shift: int) -> Batch:
    builder = BatchBuilder(1, len(numbers), packed.window, FIELDS)
    packed.plan(np.array(numbers), shift).fill(range(len(numbers)), range(len(numbers)), builder)
    return builder.finish()[0]


def expected(reference: Reference, window: int, number: int, shift: int, pad_id: int) -> Sample:
    """Return a window of the ring: `number` windows on from `shift`."""
    ring = reference.ring
    places = [ring[(shift + at) % len(ring)] for at in range(number * window, min((number + 1) * window, len(ring)))]
    ids = [reference.documents[document][position] for document, position in places]
    padding = window - len(places)
    return (
        (*ids, *[pad_id] * padding),
        (*(document for document, _ in places), *[-1] * padding),
        (*(position for _, position in places), *[0] * padding),
    )


@settings(max_examples=60)
@given(st.sampled_from(OPTIONS), st.integers(1, 60), st.sampled_from(["drop", "pad"]), st.integers(0, 200), st.data())
def test_windows_tile_the_ring(
    uri: str, options: dict[str, Any], window: int, tail: Any, shift: int, data: Any
) -> None:
    reference = Reference(uri, **options)
    tokens = len(reference.ring)
    count = tokens // window if tail == "drop" else -(-tokens // window)
    corpus = TokenCorpus(uri, **options)
    if not count:
        with pytest.raises(LoaderError, match=f"a window of {window} tokens is longer than the data: <{tokens} tokens"):
            PackedWindows(corpus, window, tail=tail)
        return
    packed = PackedWindows(corpus, window, tail=tail, pad_id=77)
    assert len(packed) == count
    numbers = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=10))
    batch = batch_of(packed, numbers, shift)
    reference.check(batch, pad_id=77)
    assert samples_of(batch) == [expected(reference, window, number, shift, 77) for number in numbers]


@pytest.mark.parametrize("options", OPTIONS)
def test_what_a_plan_announces_is_what_it_reads(uri: str, options: dict[str, Any]) -> None:
    corpus = TokenCorpus(uri, **options)
    for shard in range(len(SHARDS)):
        corpus.documents.shard(shard)
    packed = PackedWindows(corpus, 6, tail="pad")
    read: set[tuple[int, int]] = set()
    real = corpus.values.read

    def watched(shard: int, start: int, stop: int) -> Any:
        read.update((shard, value) for value in range(start, stop))
        return real(shard, start, stop)

    for shift in (0, 5):
        numbers = np.array([2, 0, len(packed) - 1])
        read.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(corpus.values, "read", watched)
            patch.setattr(corpus.values, "gather", partial(ShardValues.gather, corpus.values))
            plan = packed.plan(numbers, shift)
            builder = BatchBuilder(1, 3, 6, FIELDS)
            plan.fill(range(3), [0, 1, 2], builder)
        announced = {(shard, value) for shard, start, stop in plan.pieces() for value in range(start, stop)}
        assert read <= announced
        spans = {
            (shard, value)
            for number in numbers.tolist()
            for shard, start, stop in packed.span(number, number + 1, shift)
            for value in range(start, stop)
        }
        assert spans == announced


def test_a_window_by_its_number(uri: str) -> None:
    packed = PackedWindows(TokenCorpus(uri), 8, pad_id=9, tail="pad")
    reference = Reference(uri)
    assert len(packed) == 7
    for number in range(-7, 7):
        sample = packed[number]
        assert {name: array.shape for name, array in sample.items() if name != "cu_seqlens"} == {
            "ids": (8,), "document_ids": (8,), "positions": (8,)
        }  # fmt: skip
        batch = {name: array if name == "cu_seqlens" else array[np.newaxis] for name, array in sample.items()}
        reference.check(batch, pad_id=9)
        assert samples_of(batch) == [expected(reference, 8, number % 7, 0, 9)]
    several = packed.__getitems__([3, -1, np.int64(0), 3])
    assert [sample["ids"].tolist() for sample in several] == [packed[number]["ids"].tolist() for number in (3, 6, 0, 3)]
    for number in (7, -8):
        with pytest.raises(IndexError, match=f"sample {number} of 7"):
            packed[number]
    assert [sample["ids"].tolist() for sample in packed] == [packed[number]["ids"].tolist() for number in range(7)]  # type: ignore[attr-defined]


def test_pickles(uri: str) -> None:
    packed = PackedWindows(TokenCorpus(uri, separator=SEPARATOR), 8, fields=("ids", "positions"), tail="pad", pad_id=3)
    again = pickle.loads(pickle.dumps(packed))
    assert len(again) == len(packed)
    assert again[-1].keys() == {"ids", "positions"}
    assert [again[i]["ids"].tolist() for i in range(len(again))] == [
        packed[i]["ids"].tolist() for i in range(len(packed))
    ]


@pytest.mark.parametrize("window", [0, -3])
def test_windows_that_are_refused(uri: str, window: int) -> None:
    with pytest.raises(LoaderError, match=f"a window of {window} tokens; it must have one or more"):
        PackedWindows(TokenCorpus(uri), window)


@pytest.mark.parametrize("fields", [("positions",), (), ("ids", "labels")])
def test_fields_that_are_refused(uri: str, fields: tuple[str, ...]) -> None:
    with pytest.raises(LoaderError, match=f"the fields of a batch are {', '.join(fields) or 'none'}; possible are ids"):
        PackedWindows(TokenCorpus(uri), 4, fields=fields)


@pytest.mark.parametrize("shards", [[], [[0, 0]], [[], []]])
@pytest.mark.parametrize("tail", ["drop", "pad"])
def test_no_tokens_are_refused(tmp_path: Path, shards: list[list[int]], tail: Any) -> None:
    with pytest.raises(LoaderError, match="a window of 1 tokens is longer than the data: <0 tokens") as caught:
        PackedWindows(TokenCorpus(write_corpus(tmp_path, shards)), 1, tail=tail)
    assert "pad" not in str(caught.value.fix)
