from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.loader.batches import BatchBuilder
from tokenmill.loader.feeds import Feed, Place
from tokenmill.loader.orders import BlockOrder, GlobalOrder, NaturalOrder, Order
from tokenmill.loader.packed import PackedSamples, SamplePlan


class Numbers(PackedSamples):
    """Samples that are nothing but their numbers."""

    def __init__(self, window: int = 8) -> None:
        self.window = window

    def __len__(self) -> int:
        raise AssertionError("nothing needs to know")

    def plan(self, numbers: npt.NDArray[np.int64], shift: int = 0) -> SamplePlan:
        return Found(numbers.tolist(), shift)

    def span(self, first: int, last: int, shift: int) -> Iterator[tuple[int, int, int]]:
        yield (shift, first, last)


class Found(SamplePlan):
    def __init__(self, numbers: list[int], shift: int) -> None:
        self.numbers = numbers
        self.shift = shift

    def fill(self, samples: range, rows: Any, batch: BatchBuilder) -> None:
        raise AssertionError("nothing is copied here")

    def pieces(self) -> Iterator[tuple[int, int, int]]:
        yield from ()


class Groups(Order):
    """Groups of given sizes, of which some may be empty, epochs alike but for the numbers."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes

    def groups(self, epoch: int) -> int:
        return len(self.sizes)

    def size(self, epoch: int, group: int) -> int:
        return self.sizes[group]

    def numbers(self, epoch: int, group: int, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return 10_000 * epoch + 100 * group + places


orders = st.one_of(
    st.builds(NaturalOrder, st.integers(1, 20)),
    st.builds(GlobalOrder, st.integers(1, 20), st.just("key")),
    st.builds(BlockOrder, st.integers(1, 40), st.integers(1, 9), st.integers(1, 3), st.just("key")),
    st.lists(st.integers(0, 6), min_size=1, max_size=6).filter(any).map(Groups),
)


def feed_of(order: Order, *, shifts: bool = True) -> Feed:
    return Feed(Numbers(), order, "key", shifts)


def sequence(feed: Feed, epochs: int) -> list[tuple[int, int]]:
    """Return (shift, number) of every sample of some epochs."""
    return [
        (feed.shift(epoch), number)
        for epoch in range(epochs)
        for group in range(feed.order.groups(epoch))
        for number in feed.order.numbers(epoch, group, np.arange(feed.order.size(epoch, group))).tolist()
    ]


def drawn(feed: Feed, place: Place, distances: list[int]) -> list[tuple[int, int]]:
    found = []
    for count, plan in feed.plans(place, np.array(distances, np.int64)):
        assert isinstance(plan, Found)
        assert count == len(plan.numbers) > 0
        found += [(plan.shift, number) for number in plan.numbers]
    return found


@given(orders, st.lists(st.integers(0, 30), max_size=5), st.sets(st.integers(0, 40), max_size=12))
def test_samples_are_found_by_their_distance_from_any_place(
    order: Order, steps: list[int], distances: set[int]
) -> None:
    feed = feed_of(order)
    epochs = (sum(steps) + 41) // len(sequence(feed, 1)) + 1
    whole = sequence(feed, epochs)
    place, done = Place(), 0
    for step in steps:
        place = feed.advance(place, step)
        done += step
        assert drawn(feed, place, sorted(distances)) == [whole[done + one] for one in sorted(distances)]
    # It does not matter in how many steps a place was come to.
    assert feed.advance(Place(), done) == place


@given(orders, st.integers(0, 100))
def test_a_place_is_the_end_of_one_group_or_in_the_next(order: Order, count: int) -> None:
    feed = feed_of(order)
    place = feed.advance(Place(), count)
    assert 0 <= place.group <= order.groups(place.epoch)
    assert place.sample == 0 or place.sample < order.size(place.epoch, place.group)


@given(orders, st.integers(0, 60), st.integers(1, 60))
def test_what_is_left_of_an_epoch(order: Order, count: int, enough: int) -> None:
    feed = feed_of(order)
    place = feed.advance(Place(), count)
    size = sum(order.size(place.epoch, group) for group in range(order.groups(place.epoch)))
    # After its last sample an epoch is not yet the next one.
    left = (place.epoch + 1) * size - count
    assert 0 <= left <= size
    assert feed.left(place, 10**9) == left
    assert min(feed.left(place, enough), enough) == min(left, enough)


def test_only_as_many_groups_are_counted_as_are_needed() -> None:
    order = Groups([4] * 1000)
    asked: list[int] = []
    order.size = lambda epoch, group: asked.append(group) or 4  # type: ignore[method-assign,func-returns-value]
    assert feed_of(order).left(Place(0, 7, 1), 10) >= 10
    assert asked == [7, 8, 9]


def test_shifts() -> None:
    feed = feed_of(NaturalOrder(3))
    shifts = [feed.shift(epoch) for epoch in range(100)]
    assert set(shifts) == set(range(8))
    assert shifts == [feed.shift(epoch) for epoch in range(100)]
    assert [Feed(Numbers(), NaturalOrder(3), "other", True).shift(epoch) for epoch in range(100)] != shifts
    assert {feed_of(NaturalOrder(3), shifts=False).shift(epoch) for epoch in range(100)} == {0}
    assert {Feed(Numbers(), NaturalOrder(3), "key", True, 3).shift(epoch) for epoch in range(100)} == {0, 3, 6}


@given(orders, st.integers(0, 60))
def test_the_group_of_a_place_and_the_next_one_are_announced(order: Order, count: int) -> None:
    feed = feed_of(order)
    place = feed.advance(Place(), count)
    groups = [(epoch, group) for epoch in range(100) for group in range(order.groups(epoch))]
    first = next(index for index, found in enumerate(groups) if found >= (place.epoch, place.group))
    expected = [
        (feed.shift(epoch), *span) for epoch, group in groups[first : first + 2] for span in order.spans(epoch, group)
    ]
    assert list(feed.groups_ahead(place)) == expected


@given(orders, st.integers(0, 3), st.integers(0, 60))
def test_places_that_there_are(order: Order, epoch: int, count: int) -> None:
    feed = feed_of(order)
    assert feed.has(feed.advance(Place(), count))
    groups = order.groups(epoch)
    found = [
        (group, sample) for group in range(groups + 3) for sample in range(45) if feed.has(Place(epoch, group, sample))
    ]
    inside = [(group, sample) for group in range(groups) for sample in range(max(order.size(epoch, group), 1))]
    assert found == [*inside, (groups, 0)]


def test_no_distances() -> None:
    assert drawn(feed_of(NaturalOrder(3)), Place(), []) == []


@pytest.mark.parametrize("count", [0, 3])
def test_places_are_compared_by_how_far_they_are(count: int) -> None:
    feed = feed_of(Groups([2, 0, 3]))
    places = [feed.advance(Place(), number) for number in range(12)]
    assert places == sorted(places)
    assert feed.advance(places[count], 0) == places[count]
