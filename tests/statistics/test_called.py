"""Names that are called often are found, and how often is told with the error that is documented."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.statistics import cases
from tokenmill.statistics import called
from tokenmill.statistics.called import CalledNames

Module = tuple[int, dict[bytes, int]]
some_modules = st.lists(
    st.tuples(
        st.integers(0, (1 << 64) - 1),
        st.dictionaries(st.binary(max_size=2), st.integers(1, (1 << 32) - 1), max_size=9),
    ),
    max_size=6,
)


def counted(*batches: list[Module]) -> CalledNames:
    found = CalledNames()
    for batch in batches:
        calls = [(name, count, module) for module, names in batch for name, count in names.items()]
        names = [name for name, _, _ in calls]
        found.add(
            names,
            np.array([count for _, count, _ in calls], np.int64),
            np.array([module for *_, module in calls], np.uint64),
        )
    return found


@cases.single_values
@given(some_modules, some_modules, some_modules)
def test_only_the_modules_matter(one: list[Module], two: list[Module], three: list[Module]) -> None:
    with mock.patch.object(called, "KEPT", 3):
        whole = counted(one + two + three)
        assert counted(*([module] for module in three + two + one)) == whole
        left, right = counted(one), counted(two)
        left.merge(right)
        left.merge(counted(three))
        right.merge(counted(three))
        other = counted(one)
        other.merge(right)
        assert left == other == whole
        read = CalledNames()
        read.fill(*whole.sparse(), whole.others())
        assert read == whole
        assert set(whole.rows()) == {whole.calls}


@cases.single_values
@given(some_modules)
def test_few_names_are_counted_exactly(modules: list[Module]) -> None:
    sums: dict[bytes, int] = {}
    for _, names in modules:
        for name, count in names.items():
            sums[name] = sums.get(name, 0) + count
    found = counted(modules)
    assert found.most_called(100) == sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    assert (found.calls, found.complete) == (sum(sums.values()), True)


@pytest.fixture(scope="module")
def zipfian() -> tuple[CalledNames, np.ndarray]:
    """Return what is told of a million calls of 100,000 names, the n-th of which has a share like 1 / n; and truth."""
    random, found = np.random.default_rng(5), CalledNames()
    share = 1 / np.arange(1, 100_001)
    truth = np.zeros(100_000, np.int64)
    for module in range(200):
        names, counts = np.unique(random.choice(100_000, 5_000, p=share / share.sum()), return_counts=True)
        truth[names] += counts
        found.add([b"f%d" % n for n in names], counts, np.full(len(names), module, np.uint64))
    return found, truth


def test_frequent_names_are_found_among_many(zipfian: tuple[CalledNames, np.ndarray]) -> None:
    found, truth = zipfian
    assert not found.complete
    assert [name for name, _ in found.most_called(20)] == [b"f%d" % n for n in np.argsort(-truth)[:20]]
    assert len(found.most_called(10_000)) == called.KEPT


def test_counts_are_never_too_small_and_seldom_too_large(zipfian: tuple[CalledNames, np.ndarray]) -> None:
    found, truth = zipfian
    too_much = np.array([count - truth[int(name[1:])] for name, count in found.most_called(called.KEPT)])
    assert too_much.min() >= 0
    assert (too_much > found.calls * np.e / 32_768).mean() < 0.05


def test_the_same_module_again_ranks_no_name_higher() -> None:
    modules: list[Module] = [(n, {b"f%d" % n: 1}) for n in range(2 * called.KEPT)]
    once, often = counted(modules), counted(modules, *[modules[:1]] * 50)
    assert once.others()["ranks"] == often.others()["ranks"]


def test_a_long_name_counts_as_its_beginning() -> None:
    found = counted([(1, {b"x" * 5_000: 2, b"x" * 6_000: 3})])
    assert found.most_called(5) == [(b"x" * called.LONGEST_NAME_BYTES, 5)]


def test_too_many_names_are_refused() -> None:
    ranks = {str(n): n for n in range(called.KEPT + 1)}
    with pytest.raises(ValueError, match="1025 names"):
        CalledNames().fill(np.empty(0, np.uint32), np.empty(0, np.int64), {"calls": 0, "ranks": ranks})
