from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.statistics import cases
from tokenmill.statistics.sketch import BUCKET_ENDS, RELATIVE_ACCURACY, Sketch

LARGEST = 2**63 - 1
lengths = st.lists(st.one_of(st.integers(0, 60), st.integers(0, 10**6), st.integers(0, LARGEST)), max_size=60)


def sketch_of(values: list[int]) -> Sketch:
    sketch = Sketch()
    sketch.add(np.array(values, np.int64))
    return sketch


@cases.single_values
@given(lengths, st.floats(0, 1))
@example([LARGEST] * 5, 0.5)
@example([0, 0, 7], 0.5)
@example(list(range(2000)), 0.99)
def test_a_quantile_is_within_one_percent_of_the_exact_one(values: list[int], fraction: float) -> None:
    quantile = sketch_of(values).quantile(fraction)
    if not values:
        assert quantile is None
        return
    exact = sorted(values)[int(fraction * (len(values) - 1))]
    assert quantile is not None
    assert abs(quantile - exact) <= RELATIVE_ACCURACY * exact * (1 + 1e-12)
    if exact < 58:
        assert quantile == exact


def test_one_percent_holds_at_both_borders_of_every_bucket() -> None:
    for bucket in range(1, len(BUCKET_ENDS)):
        first, last = int(BUCKET_ENDS[bucket - 1]) + 1, int(BUCKET_ENDS[bucket])
        # Outer values, so that the quantiles in the middle are neither the minimum nor the maximum.
        sketch = sketch_of([0, first, last, LARGEST])
        low, high = sketch.quantiles([0.34, 0.67])
        assert low is not None
        assert high is not None
        assert abs(low - first) <= RELATIVE_ACCURACY * first * (1 + 1e-12)
        assert abs(high - last) <= RELATIVE_ACCURACY * last * (1 + 1e-12)


def test_bucket_borders_are_the_powers_of_gamma_and_are_fixed_for_ever() -> None:
    gamma = 1.01 / 0.99
    assert BUCKET_ENDS[:59].tolist() == [*range(58), 59]
    assert BUCKET_ENDS[-1] == LARGEST
    assert (np.diff(BUCKET_ENDS) > 0).all()
    assert set(BUCKET_ENDS[1:800].tolist()) <= {math.floor(gamma**i) for i in range(1500)}
    # Files hold bucket numbers: another table of borders would misread every file that exists.
    assert len(BUCKET_ENDS) == 2039
    assert BUCKET_ENDS[[100, 500, 1000, 2000]].tolist() == [137, 408574, 9002463021, 4370594664226444751]


@cases.single_values
@given(lengths, lengths, lengths)
def test_merging_is_associative_and_commutative_and_equals_adding(a: list[int], b: list[int], c: list[int]) -> None:
    left = sketch_of(a)
    left.merge(sketch_of(b))
    left.merge(sketch_of(c))
    inner = sketch_of(c)
    inner.merge(sketch_of(b))
    right = inner
    right.merge(sketch_of(a))
    assert left == right == sketch_of(a + b + c)


@cases.single_values
@given(lengths)
def test_count_sum_and_ends_are_exact(values: list[int]) -> None:
    sketch = sketch_of(values)
    assert sketch.count == len(values)
    assert sketch.total == sum(values)
    assert (sketch.minimum, sketch.maximum) == ((min(values), max(values)) if values else (None, None))
    assert sketch.mean == (sum(values) / len(values) if values else None)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="-3"):
        sketch_of([4, -3])
    with pytest.raises(ValueError, match=r"1\.5"):
        sketch_of([4]).quantile(1.5)
