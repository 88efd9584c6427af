import math
import time
import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tokenmill.errors import LoaderError
from tokenmill.loader.packing import Packing, best_fit

Piece = tuple[int, int, int]  # document, start, length


def cut(lengths: list[int], window: int) -> list[Piece]:
    """Full windows of each document, and its rest."""
    return [
        (document, start, min(window, length - start))
        for document, length in enumerate(lengths)
        for start in range(0, length, window)
    ]


def packed_slowly(lengths: list[int], window: int) -> list[list[Piece]]:
    """Best-fit decreasing as textbooks have it: look at every bin for every piece."""
    bins: list[list[Piece]] = []
    rooms: list[int] = []
    for piece in sorted(cut(lengths, window), key=lambda piece: -piece[2]):
        fitting = [number for number, room in enumerate(rooms) if room >= piece[2]]
        if fitting:
            best = min(fitting, key=rooms.__getitem__)
        else:
            best = len(bins)
            bins.append([])
            rooms.append(window)
        bins[best].append(piece)
        rooms[best] -= piece[2]
    return bins


def packed(lengths: list[int] | npt.NDArray[np.int64], window: int) -> Packing:
    return best_fit(np.asarray(lengths, np.int64), window)


def listed(packing: Packing) -> list[list[Piece]]:
    return [list(zip(*(column.tolist() for column in pieces), strict=True)) for pieces in packing]


def log_normal(documents: int, seed: int = 0) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).lognormal(math.log(600), 1.0, documents).astype(np.int64)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[int], int]:
    """Windows with lengths that all differ, or of a few kinds, so that many are equal."""
    window = draw(st.integers(1, 120))
    length = st.integers(0, draw(st.sampled_from([window, 3 * window, max(window // 3, 1)])))
    few = st.lists(length, min_size=1, max_size=6).flatmap(lambda kinds: st.lists(st.sampled_from(kinds), max_size=80))
    return draw(few | st.lists(length, max_size=80)), window


@given(cases())
@example(([], 5))
@example(([0, 0], 5))
@example(([7], 7))
@example(([3, 3, 3, 2, 2, 2, 2, 1], 8))
def test_bins_are_those_of_the_slow_way(case: tuple[list[int], int]) -> None:
    assert listed(packed(*case)) == packed_slowly(*case)


@pytest.mark.parametrize("window", [512, 2048, 100_000])
def test_many_documents_are_packed_as_the_slow_way_does(window: int) -> None:
    lengths = log_normal(1500).tolist()
    assert listed(packed(lengths, window)) == packed_slowly(lengths, window)


@given(cases())
def test_every_token_is_in_one_bin_and_only_long_documents_are_cut(case: tuple[list[int], int]) -> None:
    lengths, window = case
    packing = packed(lengths, window)
    assert sorted(piece for pieces in listed(packing) for piece in pieces) == cut(lengths, window)
    assert all(1 <= pieces.lengths.sum() <= window for pieces in packing)
    of_document = np.bincount(packing.documents, minlength=len(lengths))
    assert all((pieces > 1) == (length > window) for pieces, length in zip(of_document, lengths, strict=True))
    assert packing.tokens == sum(lengths)


@given(cases())
def test_bins_and_their_pieces_have_a_stable_order(case: tuple[list[int], int]) -> None:
    bins = listed(packed(*case))
    assert bins == listed(packed(*case))
    assert all(pieces == sorted(pieces, key=lambda piece: (-piece[2], piece[0], piece[1])) for pieces in bins)
    longest = [pieces[0][2] for pieces in bins]
    assert longest == sorted(longest, reverse=True)


@pytest.mark.parametrize("parts", [2, 5, 20])
def test_few_more_windows_than_the_optimum(parts: int) -> None:
    # windows cut at random places can be put together again, so the optimum is known
    window, optimum = 2048, 500
    places = np.random.default_rng(parts).integers(0, window + 1, (optimum, parts - 1))
    ends = np.sort(np.pad(places, ((0, 0), (1, 1)), constant_values=((0, 0), (0, window))))
    lengths = np.random.default_rng(0).permutation(np.diff(ends).ravel())
    assert optimum == math.ceil(lengths.sum() / window) <= len(packed(lengths, window)) <= 11 / 9 * optimum + 1


@pytest.mark.parametrize(("window", "fill"), [(2048, 0.9999), (8192, 0.9999)])
def test_a_block_of_a_million_documents_fills_its_windows_in_little_memory(window: int, fill: float) -> None:
    lengths = log_normal(1_000_000)
    tracemalloc.start()
    try:
        packing = packed(lengths, window)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert packing.tokens == lengths.sum()
    assert fill < packing.fill == packing.tokens / (len(packing) * window) <= 1
    assert peak_bytes < 100_000_000


def test_large_windows_with_lengths_of_every_size_take_few_steps() -> None:
    lengths = np.random.default_rng(0).integers(1, 131_073, 1_000_000)
    start = time.process_time()
    packing = packed(lengths, 131_072)
    # half a second on an ordinary core; a way that looks at bins one by one takes hours
    assert time.process_time() - start < 10
    assert packing.fill > 0.99


def test_a_packing_is_a_sequence_of_bins() -> None:
    packing = packed([3, 0, 12, 2], 5)
    assert listed(packing) == [[(2, 0, 5)], [(2, 5, 5)], [(0, 0, 3), (2, 10, 2)], [(3, 0, 2)]]
    assert (len(packing), packing.window, packing.tokens, packing.fill) == (4, 5, 17, 17 / 20)
    assert packing[-1].documents.tolist() == [3]
    assert np.shares_memory(packing[2].lengths, packing.lengths)
    for number in (4, -5):
        with pytest.raises(IndexError):
            packing[number]
    columns = (packing.bin_starts, packing.documents, packing.starts, packing.lengths)
    assert [str(column.dtype) for column in columns] == ["int64", "int64", "int64", "int32"]


def test_lengths_of_any_integer_type() -> None:
    narrow = best_fit(np.array([3, 0, 12, 2], np.uint32), 5)
    assert listed(narrow) == listed(packed([3, 0, 12, 2], 5))


def test_no_documents_have_no_bins() -> None:
    packing = packed([], 5)
    assert (len(packing), packing.tokens, packing.fill, packing.bin_starts.tolist()) == (0, 0, 1.0, [0])


@pytest.mark.parametrize("window", [0, -1, 2**31])
def test_a_window_that_cannot_be_is_refused(window: int) -> None:
    with pytest.raises(LoaderError, match=f"window of {window} tokens"):
        packed([1], window)


def test_the_largest_window() -> None:
    packing = packed([2**31, 2**31 - 2], 2**31 - 1)
    assert listed(packing) == [[(0, 0, 2**31 - 1)], [(1, 0, 2**31 - 2), (0, 2**31 - 1, 1)]]
