from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.statistics import cases
from tokenmill.statistics import unigrams as module
from tokenmill.statistics.unigrams import LARGEST_COUNTED_VOCABULARY, Unigrams
from tokenmill.streams import StreamSpec

VOCABULARY = {"uint8": 256, "uint16": 1000, "uint32": 70_000, "uint64": 70_000, "int32": 300}


@st.composite
def batches(draw: st.DrawFn) -> tuple[str, list[list[int]]]:
    dtype = draw(st.sampled_from(sorted(VOCABULARY)))
    ids = st.one_of(st.integers(0, 5), st.integers(0, VOCABULARY[dtype] - 1))
    return dtype, draw(st.lists(st.lists(ids, max_size=30), max_size=6))


def counted(dtype: str, lists: list[list[int]]) -> Unigrams:
    unigrams = Unigrams(VOCABULARY[dtype], dtype)
    for ids in lists:
        unigrams.add(np.array(ids, dtype))
    return unigrams


@cases.single_values
@given(batches(), st.sampled_from([1, 2, 7, 1 << 16]))
def test_counts_equal_a_counter_whatever_the_buffer(case: tuple[str, list[list[int]]], room: int) -> None:
    dtype, lists = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SMALLEST_BUFFER", room)
        patch.setattr(module, "_LARGEST_BUFFER", room)
        unigrams = counted(dtype, lists)
        expected = Counter(number for ids in lists for number in ids)
        ids, counts = unigrams.sparse()
        assert dict(zip(ids.tolist(), counts.tolist(), strict=True)) == expected
        assert ids.tolist() == sorted(expected)
        assert {int(n): int(unigrams.dense()[n]) for n in np.flatnonzero(unigrams.dense())} == expected


@cases.single_values
@given(batches(), st.booleans(), st.booleans())
def test_merging_sparse_or_dense_counts_equals_counting_at_once(
    case: tuple[str, list[list[int]]], sparse_target: bool, sparse_source: bool
) -> None:
    dtype, lists = case
    target, source = counted(dtype, lists[::2]), counted(dtype, lists[1::2])
    if sparse_target:
        target.fill(*target.sparse())
    if sparse_source:
        source.fill(*source.sparse())
    target.merge(source)
    assert target == counted(dtype, lists)
    target.add(np.array([3, 3, 4], dtype))
    assert target == counted(dtype, [*lists, [3, 3, 4]])


def test_a_view_with_a_step_is_counted_too() -> None:
    values = np.arange(200, dtype=np.uint8)
    assert counted("uint8", [values[::2].tolist()]) == _added("uint8", values[::2])


def _added(dtype: str, values: np.ndarray) -> Unigrams:
    unigrams = Unigrams(VOCABULARY[dtype], dtype)
    unigrams.add(values)
    return unigrams


def test_which_streams_are_counted() -> None:
    assert Unigrams.for_stream(StreamSpec("uint32", vocabulary_size=LARGEST_COUNTED_VOCABULARY)) is not None
    assert Unigrams.for_stream(StreamSpec("uint32", vocabulary_size=LARGEST_COUNTED_VOCABULARY + 1)) is None
    assert Unigrams.for_stream(StreamSpec("float16")) is None


def test_an_id_beyond_the_vocabulary_cannot_be_read_in() -> None:
    with pytest.raises(IndexError, match="300"):
        Unigrams(300, "uint16").fill(np.array([1, 300], np.uint32), np.array([1, 1], np.int64))
