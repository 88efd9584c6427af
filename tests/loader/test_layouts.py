from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill.errors import LoaderError
from tokenmill.loader import Delayed, Flat, Parallel, Pattern
from tokenmill.loader.layouts import CodeLayout, EvenLayout, TokenLayout

Case = tuple[Pattern, CodeLayout, npt.NDArray[Any], int]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A pattern, its layout, stored codes, and how many codebooks are laid out."""
    stored, size = draw(st.integers(1, 9)), draw(st.sampled_from([1, 2, 256, 257, 1024, 70_000]))
    codebooks = draw(st.none() | st.integers(1, stored))
    holes = st.none() | st.integers(size, size + 5)
    patterns: list[st.SearchStrategy[Pattern]] = [
        st.builds(Flat, st.just(codebooks), st.booleans()),
        st.just(Parallel(codebooks)),
        st.builds(Delayed, st.just(codebooks), holes),
    ]
    pattern = draw(st.one_of(patterns))
    frames = draw(st.integers(0, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    codes = rng.integers(0, size, (frames, stored)).astype(draw(st.sampled_from(["uint32", "int64"])))
    return pattern, pattern.layout(stored, size), codes, codebooks or stored


@settings(max_examples=300)
@given(cases())
def test_what_was_laid_out_can_be_undone(case: Case) -> None:
    _, layout, codes, count = case
    tokens = layout.lay_out(codes)
    assert tokens.dtype == np.int64
    found = layout.undo(tokens)
    assert found.shape == (len(codes), count)
    np.testing.assert_array_equal(found, codes[:, :count])
    assert found.dtype.itemsize == (1 if layout.codebook_size <= 256 else 2 if layout.codebook_size <= 65_536 else 4)
    assert layout.steps(np.array([len(codes)])).tolist() == [len(tokens)]
    assert layout.frames(len(tokens)) == len(codes)
    assert not tokens.size or 0 <= tokens.min() <= tokens.max() < layout.vocabulary_size


@settings(max_examples=300)
@given(cases())
def test_tokens_are_where_the_pattern_says(case: Case) -> None:
    pattern, layout, codes, count = case
    tokens, size = layout.lay_out(codes), layout.codebook_size
    frames = codes.astype(int).tolist()
    if isinstance(pattern, Flat):
        assert tokens.tolist() == [
            code + (book * size if pattern.offsets else 0)
            for frame in frames
            for book, code in enumerate(frame[:count])
        ]
    elif isinstance(pattern, Parallel):
        assert tokens.tolist() == [frame[:count] for frame in frames]
    elif isinstance(pattern, Delayed):
        expected = np.full((len(codes) + count - 1, count), size if pattern.hole_id is None else pattern.hole_id)
        for number, frame in enumerate(frames):
            for book in range(count):
                expected[number + book, book] = frame[book]
        np.testing.assert_array_equal(tokens, expected)


@settings(max_examples=300)
@given(cases(), st.data())
def test_any_stretch_is_laid_out_from_the_frames_it_needs(case: Case, data: st.DataObject) -> None:
    _, layout, codes, _ = case
    tokens = layout.lay_out(codes)
    start = data.draw(st.integers(0, len(tokens)), label="start")
    stop = data.draw(st.integers(start, len(tokens)), label="stop")
    first, last = layout.needed(start, stop, len(codes))
    assert 0 <= first <= last <= len(codes)
    out = np.full((stop - start, *layout.step_shape), -1, np.int64)
    layout.cut(codes[first:last], first, len(codes), start, stop, out)
    np.testing.assert_array_equal(out, tokens[start:stop])


@settings(max_examples=300)
@given(cases(), st.data())
def test_a_stretch_gives_the_frames_that_are_whole_in_it(case: Case, data: st.DataObject) -> None:
    pattern, layout, codes, count = case
    tokens = layout.lay_out(codes)
    start = data.draw(st.integers(0, len(tokens)), label="start")
    stop = data.draw(st.integers(start, len(tokens)), label="stop")
    found = layout.undo(tokens[start:stop], start)
    if isinstance(pattern, Flat):
        first, last = -(-start // count), stop // count
    elif isinstance(pattern, Parallel):
        first, last = start, stop
    else:
        first, last = start, stop - count + 1
    np.testing.assert_array_equal(found, codes[first : max(first, last), :count])


@settings(max_examples=200)
@given(cases(), st.integers(1, 20), st.data())
def test_several_runs_are_laid_out_at_once(case: Case, count: int, data: st.DataObject) -> None:
    _, layout, codes, _ = case
    if not isinstance(layout, EvenLayout):
        return
    several = np.stack([codes, codes[::-1]])
    steps = len(codes) * layout.steps_per_frame
    phase = data.draw(st.integers(0, layout.steps_per_frame - 1), label="phase")
    count = min(count, steps - phase)
    if count < 1:
        return
    out = np.full((2, count, *layout.step_shape), -1, np.int64)
    layout.cut_many(several, phase, out)
    layout.add_offsets(np.array([phase, phase]), out)
    for run in range(2):
        np.testing.assert_array_equal(out[run], layout.lay_out(several[run])[phase : phase + count])


def test_runs_that_begin_at_different_codes_get_their_own_offsets() -> None:
    layout = Flat().layout_of(range(3), 10)
    out = np.zeros((3, 4), np.int64)
    for _ in range(2):  # what is kept from the first time is not changed
        layout.add_offsets(np.array([0, 2, 1]), out)
    assert out.tolist() == [[0, 20, 40, 0], [40, 0, 20, 40], [20, 40, 0, 20]]


def test_half_a_frame_at_the_end_is_left_out() -> None:
    layout = Flat().layout(2, 8)
    assert layout.undo(np.array([1, 9, 2, 10, 3])).tolist() == [[1, 1], [2, 2]]
    assert layout.undo(np.array([1])).shape == (0, 2)
    assert Delayed().layout(3, 8).undo(np.full((2, 3), 8)).shape == (0, 3)


@pytest.mark.parametrize(
    ("pattern", "tokens", "said"),
    [
        (Flat(), [1, 9, 8, 10], r"token 8 at 2 is no code of codebook 0: 0 … 7 are"),
        (Flat(), [1, 9, 2, 16], r"token 16 at 3 is no code of codebook 1: 8 … 15 are"),
        (Flat(), [9, 1, 10, 2], r"token 9 at 0 is no code of codebook 0"),
        (Flat(offsets=False), [1, 8], r"token 8 at 1 is no code of codebook 1: 0 … 7 are"),
        (Flat(), [1, -1], r"token -1 at 1"),
        (Parallel(), [[1, 2], [3, 8]], r"token 8 at \(1, 1\) is no code of codebook 1"),
        (Delayed(), [[1, 8], [2, 3], [8, 8]], r"token 8 at \(2, 1\) is no code of codebook 1"),
        (Flat(), [[1, 2]], r"tokens of the shape \(1, 2\) cannot be undone; it must be \(steps\)"),
        (Parallel(), [1, 2], r"tokens of the shape \(2,\) cannot be undone; it must be \(steps, 2\)"),
        (Delayed(), [[1, 2, 3]], r"shape \(1, 3\) .* must be \(steps, 2\)"),
    ],
)
def test_tokens_that_are_no_codes_are_refused(pattern: Pattern, tokens: list[Any], said: str) -> None:
    with pytest.raises(LoaderError, match=said):
        pattern.layout(2, 8).undo(np.array(tokens))


@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 2, 4)])
def test_codes_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(LoaderError, match=r"made for \(frames, 4\)"):
        Flat().layout(4, 8).lay_out(np.zeros(shape, np.uint8))


def test_tokens_are_their_own_layout() -> None:
    layout = TokenLayout(300)
    lengths = np.array([3, 0, 5])
    assert layout.steps(lengths) is lengths
    assert (layout.frames(7), layout.needed(2, 5, 7), layout.step_shape) == (7, (2, 5), ())
    out = np.zeros(3, np.int64)
    layout.cut(np.array([4, 5, 6], np.uint16), 2, 7, 2, 5, out)
    assert out.tolist() == [4, 5, 6]
