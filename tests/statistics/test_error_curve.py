from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.statistics import cases
from tokenmill.errors import SpecError
from tokenmill.statistics import error_curve as module
from tokenmill.statistics.error_curve import ERROR_UNIT, LARGEST_ERROR, LENGTH_ENDS, ErrorCurve
from tokenmill.statistics.sketch import BUCKET_ENDS, values_at

Rows = list[tuple[int, float]]
rows = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 300), st.integers(0, 2**63 - 1)),
        st.one_of(st.floats(0, 1, width=32), st.floats(width=32), st.sampled_from([0.0, -0.0, 1e30])),
    ),
    max_size=20,
)


def counted(given_rows: Rows, at_once: int = 3) -> ErrorCurve:
    curve = ErrorCurve("ids")
    for start in range(0, len(given_rows), at_once):
        lengths, errors = zip(*given_rows[start : start + at_once], strict=True)
        curve.add(np.array(lengths, np.int64), np.array(errors, np.float32))
    return curve


@cases.whole_parts
@given(rows, st.integers(1, 9))
@example([(127, 0.5), (128, 0.5), (126, 0.5)], 1)
def test_rows_are_counted_by_octave_and_error(given_rows: Rows, at_once: int) -> None:
    curve = counted(given_rows, at_once)
    known = [(length, error) for length, error in given_rows if math.isfinite(error) and error >= 0]
    assert curve.unknown == len(given_rows) - len(known)
    assert curve.errors.count == len(known)
    by_octave = curve.by_octave()
    assert {octave: int(buckets.sum()) for octave, buckets in by_octave.items()} == {
        octave: sum(length.bit_length() == octave for length, _ in known)
        for octave in sorted({length.bit_length() for length, _ in known})
    }
    for octave, buckets in by_octave.items():
        errors = sorted(min(error, LARGEST_ERROR) for length, error in known if length.bit_length() == octave)
        for fraction in (0.0, 0.5, 0.95, 1.0):
            exact = errors[int(fraction * (len(errors) - 1))]
            (found,) = values_at(buckets, [fraction])
            assert abs(found * ERROR_UNIT - exact) <= 0.01 * exact + ERROR_UNIT


@cases.whole_parts
@given(rows, rows, rows, st.sampled_from([1, 4, 1 << 16]))
def test_merging_is_associative_and_equals_counting_at_once(a: Rows, b: Rows, c: Rows, pending: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PENDING", pending)
        left = counted(a)
        left.merge(counted(b))
        left.merge(counted(c))
        right = counted(c)
        right.merge(counted(b))
        right.merge(counted(a))
        assert left == right == counted(a + b + c, 100)
        read = ErrorCurve("ids")
        read.fill(*left.sparse(), left.others())
        assert read == left
        read.merge(counted(a))
        left.merge(counted(a))
        assert read == left


def test_what_is_no_error_is_unknown() -> None:
    curve = counted([(5, math.nan), (5, math.inf), (5, -math.inf), (5, -0.1), (5, -0.0), (5, 0.25)])
    assert curve.unknown == 4
    assert (curve.errors.minimum, curve.errors.maximum) == (0, 1 << 28)


def test_an_error_too_large_to_count_is_counted_as_the_largest() -> None:
    curve = counted([(5, 1e30), (5, 2.0**32)])
    assert curve.errors.minimum == curve.errors.maximum == 1 << 62


def test_which_pair_is_which_is_fixed_for_ever() -> None:
    # Files hold these numbers: other borders would misread every file that exists.
    assert len(LENGTH_ENDS) == 2096
    assert ERROR_UNIT == 2**-30
    keys, _ = counted([(0, 0.0), (127, 0.5), (128, 0.5), (4096, 1.0)]).sparse()
    assert [divmod(key, len(BUCKET_ENDS)) for key in keys.tolist()] == [(0, 0), (98, 860), (99, 860), (277, 894)]


def test_memory_does_not_grow_with_the_rows() -> None:
    curve = ErrorCurve("ids")
    random = np.random.default_rng(0)
    for _ in range(50):
        curve.add(random.integers(0, 300, 10_000), random.integers(1, 100, 10_000) / 100)
        held = len(curve._keys) + curve._pending_keys
    assert curve.errors.count == 500_000
    assert held <= 300 * 99 + module._PENDING


def test_an_error_must_be_one_of_something() -> None:
    specs = cases.IMAGE_SPECS
    assert ErrorCurve.for_stream("ids", specs) is None
    with pytest.raises(SpecError, match="the error of 'codes'; the table has ids, books"):
        ErrorCurve.for_stream("error", {**specs, "error": replace(specs["error"], error_of="codes")})
    for wrong in ({"shape": (2,)}, {"dtype": "int32"}, {"shape": (None,)}):
        with pytest.raises(SpecError, match="in place of one float"):
            ErrorCurve.for_stream("error", {**specs, "error": replace(specs["error"], **wrong)})


def test_a_pair_beyond_the_last_cannot_be_read_in() -> None:
    beyond = len(LENGTH_ENDS) * len(BUCKET_ENDS)
    with pytest.raises(IndexError, match=str(beyond)):
        ErrorCurve("ids").fill(np.array([beyond], np.uint32), np.array([1]), ErrorCurve("ids").others())
