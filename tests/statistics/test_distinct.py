"""What is kept of hashes depends on what was added alone, is exact while it is little, and an estimate beyond."""

from __future__ import annotations

from collections import Counter
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.statistics import cases
from tokenmill.statistics import distinct
from tokenmill.statistics.distinct import Distinct

#: Few enough for hypothesis to exceed.
KEPT = 4
#: Hashes whose low bits vary little, so that levels matter.
hashes = st.lists(st.one_of(st.integers(0, 31).map(lambda n: n << 59 | n), st.integers(0, (1 << 64) - 1)), max_size=30)


def counted(*batches: list[int]) -> Distinct:
    found = Distinct()
    for batch in batches:
        found.add(np.array(batch, np.uint64))
    return found


def level_and_counts(values: list[int]) -> tuple[int, dict[int, int]]:
    """Return what is to be kept, from the definition."""
    level = 0
    while len({value for value in values if value % (1 << level) == 0}) > KEPT:
        level += 1
    return level, dict(Counter(value for value in values if value % (1 << level) == 0))


@cases.single_values
@given(hashes, hashes, hashes)
def test_only_the_union_matters(one: list[int], two: list[int], three: list[int]) -> None:
    with mock.patch.object(distinct, "LARGEST_KEPT", KEPT):
        whole = counted(one + two + three)
        level, counts = level_and_counts(one + two + three)
        keys, found = whole.sparse()
        assert (whole.level, dict(zip(keys.tolist(), found.tolist(), strict=True))) == (level, counts)
        assert whole.total == len(one + two + three)
        assert counted(three, two, one) == whole
        left, right = counted(one), counted(two)
        left.merge(right)
        left.merge(counted(three))
        right.merge(counted(three))
        other = counted(one)
        other.merge(right)
        assert left == other == whole
        read = Distinct()
        read.fill(*whole.sparse(), whole.ends())
        assert read == whole
        read.add(np.array(one, np.uint64))
        whole.merge(counted(one))
        assert read == whole


def test_while_few_the_number_is_exact() -> None:
    found = counted([7, 7, 9], [7], [])
    assert (found.estimate(), found.total, found.level) == (2, 4, 0)
    assert found.sparse()[1].tolist() == [3, 1]
    assert (Distinct().estimate(), Distinct().level) == (0, 0)
    assert found != counted([7, 9, 9, 9])


def test_beyond_it_is_right_to_two_percent() -> None:
    some = np.random.default_rng(3).integers(0, 1 << 64, 600_000, dtype=np.uint64)
    found = Distinct()
    for batch in np.array_split(np.concatenate((some, some[:250_000])), 7):
        found.add(batch)
    assert found.level > 0
    assert distinct.LARGEST_KEPT / 2.1 < len(found.sparse()[0]) <= distinct.LARGEST_KEPT
    assert found.estimate() == pytest.approx(600_000, rel=0.02)  # 3.6 standard errors
    assert found.total == 850_000


@pytest.mark.parametrize(("level", "keys"), [(-1, [4]), (64, [0]), (2, [4, 6])])
def test_hashes_that_cannot_be_kept_are_refused(level: int, keys: list[int]) -> None:
    with pytest.raises(ValueError, match="level"):
        Distinct().fill(np.array(keys, np.uint64), np.ones(len(keys), np.int64), {"total": 9, "level": level})


def test_too_many_hashes_are_refused() -> None:
    keys = np.arange(distinct.LARGEST_KEPT + 1, dtype=np.uint64)
    with pytest.raises(ValueError, match="65537 hashes"):
        Distinct().fill(keys, np.ones(len(keys), np.int64), {"total": len(keys), "level": 0})
