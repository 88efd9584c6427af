from __future__ import annotations

import itertools

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from tests.statistics import cases
from tokenmill.statistics.octaves import OCTAVE_ENDS, first_and_last, octaves_of


@cases.single_values
@given(st.integers(0, 2**63 - 1))
@example(2**53 - 1)
@example(2**63 - 1)
def test_an_octave_is_a_number_of_bits(value: int) -> None:
    (octave,) = octaves_of(np.array([value], np.int64)).tolist()
    assert octave == value.bit_length()
    first, last = first_and_last(octave)
    assert first <= value <= last


def test_octaves_leave_nothing_between_them() -> None:
    spans = [first_and_last(octave) for octave in range(len(OCTAVE_ENDS))]
    assert spans[:4] == [(0, 0), (1, 1), (2, 3), (4, 7)]
    assert all(after[0] == before[1] + 1 for before, after in itertools.pairwise(spans))
    assert spans[-1][1] == 2**63 - 1
