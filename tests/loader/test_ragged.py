from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.audio.codec import CodecShape
from tokenmill.errors import LoaderError
from tokenmill.loader import Flat, Ragged

SNAC = (4, 2, 1)


@st.composite
def strides(draw: st.DrawFn) -> tuple[int, ...]:
    """Strides of some codebooks, coarsest first, of which several may be of one rate."""
    found = [1]
    for _ in range(draw(st.integers(0, 3))):
        found.append(found[-1] * draw(st.integers(1, 3)))
    return tuple(reversed(found))


@given(strides(), st.integers(0, 5), st.data())
def test_streams_are_undone_whatever_the_rates_and_codebooks(
    rates: tuple[int, ...], frames: int, data: st.DataObject
) -> None:
    ragged = Ragged(rates)
    names = list(CodecShape(24_000, 512, len(rates), 50, rates, False, 1, 0, 0, True).streams())
    assert list(ragged.widths) == (names if set(rates) != {1} else ["codes_1"])
    rng = np.random.default_rng(3)
    streams = {
        f"codes_{rate}": rng.integers(0, 50, (frames * rates[0] // rate, rates.count(rate))) for rate in set(rates)
    }
    codebooks = data.draw(st.none() | st.integers(1, len(rates)), label="codebooks")
    layout = Flat(codebooks).layout_of(ragged.books, 50)
    found = ragged.split(layout.undo(layout.lay_out(ragged.join(streams))))
    left = codebooks or len(rates)
    for name in ragged.widths:
        count = min(streams[name].shape[1], left)
        left -= count
        if count:
            np.testing.assert_array_equal(found.pop(name), streams[name][:, :count])
    assert not found


def test_a_coarse_code_then_its_two_then_its_four() -> None:
    ragged = Ragged(SNAC)
    assert ragged.books == (0, 1, 1, 2, 2, 2, 2)
    streams: dict[str, npt.NDArray[Any]] = {
        "recording": np.zeros(6),
        "codes_4": np.array([[0], [7]], np.uint16),
        "codes_2": np.array([[1], [2], [8], [9]], np.uint16),
        "codes_1": np.arange(3, 11, dtype=np.uint16).reshape(-1, 1),
    }
    tokens = Flat().layout_of(ragged.books, 100).lay_out(ragged.join(streams))
    assert tokens.tolist() == [0, 101, 102, 203, 204, 205, 206, 7, 108, 109, 207, 208, 209, 210]
    two = Flat(2, offsets=False).layout_of(ragged.books, 100)
    assert two.lay_out(ragged.join(streams)).tolist() == [0, 1, 2, 7, 8, 9]


@pytest.mark.parametrize("rates", [(1, 2), (4, 3), (0,), (4, 0), (-2, -1)])
def test_strides_without_common_frames_are_refused(rates: tuple[int, ...]) -> None:
    with pytest.raises(LoaderError, match="no frames in common"):
        Ragged(rates)


def test_streams_that_do_not_go_together_are_refused() -> None:
    ragged = Ragged((2, 1))
    with pytest.raises(LoaderError, match="no stream 'codes_1' among codes_2, level"):
        ragged.join({"codes_2": np.zeros((3, 1)), "level": np.zeros(3)})
    for finer in (5, 7, 4, 8):
        with pytest.raises(LoaderError, match=f"not equally long in time: codes_2 3, codes_1 {finer} frames"):
            ragged.join({"codes_2": np.zeros((3, 1)), "codes_1": np.zeros((finer, 1))})
    with pytest.raises(LoaderError, match="4 codes of a frame are not those of the first codebooks"):
        ragged.split(np.zeros((3, 4)))
