import pickle
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.loader.corpora import ENDS, IDS, SEPARATOR, write_corpus
from tests.loader.reference import Batch, Reference, samples_of, tokens_of
from tokenmill.errors import LoaderError
from tokenmill.loader import PackedDocuments, Subset, TokenCorpus
from tokenmill.loader import documents as documents_module
from tokenmill.loader.batches import FIELDS, BatchBuilder
from tokenmill.loader.documents import DocumentOrder, number_of
from tokenmill.loader.packing import best_fit

SHARDS = [[3, 0, 5, 3], [0], [], [40, 3, 3], [1, 1, 1], [0, 0], [17, 2, 8]]
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


def batch_of(packed: PackedDocuments, numbers: list[int], shift: int) -> Batch:
    builder = BatchBuilder(1, len(numbers), packed.window, FIELDS)
    packed.plan(np.array(numbers, np.int64), shift).fill(range(len(numbers)), range(len(numbers)), builder)
    return builder.finish()[0]


def numbers_of(packed: PackedDocuments, block: int) -> list[int]:
    return [int(number) for number in number_of(block, np.arange(packed.bins(block)))]


@settings(max_examples=40)
@given(st.sampled_from(OPTIONS), st.integers(1, 50), st.integers(0, 3), st.none() | st.sampled_from([1, 9, 30, 1000]))
def test_every_document_is_packed_once_and_whole_where_it_fits(
    uri: str, options: dict[str, Any], window: int, shift: int, block_tokens: int | None
) -> None:
    reference = Reference(uri, **options)
    packed = PackedDocuments(TokenCorpus(uri, **options), window, pad_id=77, block_tokens=block_tokens)
    batches = [
        batch_of(packed, numbers_of(packed, block), shift) for block in range(packed.blocks) if packed.bins(block)
    ]
    for batch in batches:
        reference.check(batch, pad_id=77)
    assert tokens_of(batches) == Counter(reference.ring)
    assert len(packed) == sum(len(batch["ids"]) for batch in batches)
    for _, documents, positions in samples_of(*batches):
        pieces = [0, *(at for at in range(1, window) if documents[at] != documents[at - 1]), window]
        for start, stop in pairwise(pieces):
            length = len(reference.documents.get(documents[start], []))
            if documents[start] >= 0:
                assert positions[start] % window == 0
                assert stop - start == min(window, length - positions[start])
            else:
                assert stop == window, "padding is at the end"


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("window", [1, 6, 20, 100])
def test_a_block_is_packed_by_best_fit(uri: str, options: dict[str, Any], window: int) -> None:
    reference = Reference(uri, **options)
    packed = PackedDocuments(TokenCorpus(uri, **options), window)
    assert packed.blocks == 1
    documents = list(reference.documents)
    expected = best_fit(np.array([len(reference.documents[document]) for document in documents]), window)
    assert len(packed) == len(expected)
    for number, pieces in enumerate(expected):
        sample = packed[number]
        found = sample["document_ids"]
        places = np.repeat(pieces.documents, pieces.lengths)
        assert found[: len(places)].tolist() == [documents[place] for place in places]
        assert (found[len(places) :] == -1).all()


def test_epochs_pack_other_documents_together_in_as_many_windows(uri: str) -> None:
    packed = PackedDocuments(TokenCorpus(uri), 6)
    numbers = numbers_of(packed, 0)

    def together(shift: int) -> list[tuple[int, ...]]:
        return [documents for _, documents, _ in samples_of(batch_of(packed, numbers, shift))]

    found = [together(shift) for shift in range(5)]
    assert len(set(map(tuple, found))) > 2
    assert found == [together(shift) for shift in range(5)], "packed again, a block is the same"


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers(0, 20), max_size=4), max_size=8), st.integers(1, 60), st.booleans())
def test_blocks_are_runs_of_shards(
    tmp_path_factory: pytest.TempPathFactory, shards: list[list[int]], enough: int, by_tokens: bool
) -> None:
    corpus = TokenCorpus(write_corpus(tmp_path_factory.mktemp("corpus"), shards))
    if not corpus.tokens:
        with pytest.raises(LoaderError, match="there are no documents to pack: <0 tokens"):
            PackedDocuments(corpus, 5)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents_module, "BLOCK_DOCUMENTS", enough)
        packed = PackedDocuments(corpus, 5, block_tokens=enough if by_tokens else None)
    sizes = [sum(lengths) if by_tokens else len(lengths) for lengths in shards]
    blocks = [list(some) for some in packed._blocks]
    covered = [shard for block in blocks for shard in block]
    assert covered == list(range(len(covered)))
    assert not sum(sizes[len(covered) :])
    assert all(sum(sizes[shard] for shard in block) >= enough for block in blocks[:-1])
    assert all(sum(sizes[shard] for shard in block[:-1]) < enough for block in blocks)
    reference = Reference(corpus.uri)
    batches = [batch_of(packed, numbers_of(packed, block), 1) for block in range(packed.blocks) if packed.bins(block)]
    assert tokens_of(batches) == Counter(reference.ring)


def test_a_sample_by_its_number(uri: str) -> None:
    packed = PackedDocuments(TokenCorpus(uri), 6, block_tokens=10)
    reference = Reference(uri)
    assert packed.blocks > 2
    samples = [packed[number] for number in range(len(packed))]
    batches = [
        {name: array if name == "cu_seqlens" else array[np.newaxis] for name, array in sample.items()}
        for sample in samples
    ]
    for batch in batches:
        reference.check(batch)
    assert tokens_of(batches) == Counter(reference.ring)
    assert packed[-1]["ids"].tolist() == samples[-1]["ids"].tolist()
    several = packed.__getitems__([len(packed) - 1, 0, 3])
    assert [sample["ids"].tolist() for sample in several] == [samples[number]["ids"].tolist() for number in (-1, 0, 3)]
    with pytest.raises(IndexError):
        packed[len(packed)]


def test_pickles(uri: str) -> None:
    packed = PackedDocuments(TokenCorpus(uri), 6, fields=("ids", "positions"), pad_id=3, block_tokens=10)
    len(packed)
    again = pickle.loads(pickle.dumps(packed))
    assert (len(again), again.blocks, again.window) == (len(packed), packed.blocks, 6)
    assert again[0].keys() == {"ids", "positions"}
    assert [again[i]["ids"].tolist() for i in range(len(again))] == [
        packed[i]["ids"].tolist() for i in range(len(packed))
    ]


def test_what_is_announced_is_what_is_read(uri: str) -> None:
    packed = PackedDocuments(TokenCorpus(uri, separator=SEPARATOR), 6, block_tokens=10)
    for block in range(packed.blocks):
        numbers = np.array(numbers_of(packed, block), np.int64)
        pieces = {
            (shard, value) for shard, start, stop in packed.plan(numbers, 1).pieces() for value in range(start, stop)
        }
        spans = {
            (shard, value)
            for shard, start, stop in packed.span(number_of(block, np.array([0]))[0], 0, 0)
            for value in range(start, stop)
        }
        assert pieces <= spans
        assert spans == {(shard, value) for shard in packed._blocks[block] for value in range(sum(SHARDS[shard]))}


@pytest.mark.parametrize("key", [None, "key"])
def test_the_order_of_blocks_and_of_what_is_in_them(uri: str, key: str | None) -> None:
    packed = PackedDocuments(TokenCorpus(uri), 6, block_tokens=10)
    order = DocumentOrder(packed, key, in_blocks=True)
    epochs = []
    for epoch in range(4):
        groups = [
            order.numbers(epoch, group, np.arange(order.size(epoch, group))).tolist()
            for group in range(order.groups(epoch))
        ]
        for group, numbers in enumerate(groups):
            ((first, _),) = order.spans(epoch, group)
            assert {number >> 32 for number in numbers} <= {first >> 32}
        flat = [number for numbers in groups for number in numbers]
        assert sorted(flat) == [number for block in range(packed.blocks) for number in numbers_of(packed, block)]
        epochs.append(tuple(flat))
    assert len(set(epochs)) == (1 if key is None else 4)
    assert (list(epochs[0]) == sorted(epochs[0])) == (key is None)


def test_a_document_of_many_windows(tmp_path: Path) -> None:
    uri = write_corpus(tmp_path, [[1000]])
    packed = PackedDocuments(TokenCorpus(uri), 3)
    assert len(packed) == 334
    assert tokens_of([batch_of(packed, numbers_of(packed, 0), 2)]) == Counter(Reference(uri).ring)
