import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.loader.test_feeds import Groups, feed_of
from tokenmill.loader import sequence as sequence_module
from tokenmill.loader.feeds import Place
from tokenmill.loader.mixing import Mixture
from tokenmill.loader.sequence import GlobalSequence, Point

sizes = st.lists(st.integers(0, 6), min_size=1, max_size=5).filter(any)
START = Point(0, (Place(),))


def single(groups: list[int], *, pads: bool = False) -> GlobalSequence:
    return GlobalSequence([feed_of(Groups(groups))], None, pads=pads)


def batches_of(count: int, size: int, *, pads: bool) -> list[int]:
    """Return the samples of each batch of an epoch."""
    whole = [size] * (count // size)
    return [*whole, count % size] if pads and count % size else whole


@given(sizes, st.integers(1, 8), st.booleans(), st.integers(1, 5))
def test_an_epoch_is_run_through_in_batches(groups: list[int], size: int, pads: bool, wanted: int) -> None:
    sequence = single(groups, pads=pads)
    expected = batches_of(sum(groups), size, pads=pads)
    point, runs = START, []
    while count := sequence.run(point, size, wanted):
        runs.append(count)
        point = sequence.advance(point, count)
    assert sum(runs) == sum(expected)
    assert all(count % size == 0 and count <= size * wanted for count in runs[:-1])
    assert point == sequence.finish_epoch(START, size)
    assert point.samples == sum(expected)
    assert sequence.run(point, size, 1) == 0
    assert sequence.next_epoch(point) == Point(point.samples, (Place(1),))


@given(sizes, st.integers(1, 8), st.booleans(), st.integers(0, 12), st.integers(0, 12))
def test_batches_are_walked_over_the_ends_of_epochs(
    groups: list[int], size: int, pads: bool, first: int, second: int
) -> None:
    epoch = batches_of(sum(groups), size, pads=pads)
    if not epoch:
        return
    sequence = single(groups, pads=pads)
    # Batch by batch, to know where every one ends.
    points, point = [START], START
    for number in range(first + second):
        point = sequence.next_epoch(point) if number and number % len(epoch) == 0 else point
        point = sequence.advance(point, epoch[number % len(epoch)])
        points.append(point)
    middle = sequence.walk(START, points[first].samples, size)
    assert middle == points[first]
    assert sequence.walk(middle, points[-1].samples, size) == points[-1]
    assert sequence.walk(points[-1], points[-1].samples, size) == points[-1]


@given(sizes, st.integers(1, 8), st.booleans(), st.integers(0, 30), st.integers(0, 30))
def test_batches_are_skipped_up_to_the_end_of_an_epoch(
    groups: list[int], size: int, pads: bool, first: int, second: int
) -> None:
    sequence, epoch = single(groups, pads=pads), batches_of(sum(groups), size, pads=pads)
    middle = sequence.skip(START, first, size)
    assert middle.samples == sum(epoch[:first])
    assert sequence.skip(middle, second, size) == sequence.skip(START, first + second, size)


def test_the_places_of_a_mix_advance_by_what_is_drawn_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    mixture = Mixture([3, 0, 1], "key")
    feeds = [feed_of(Groups([size])) for size in (7, 2, 5)]
    sequence = GlobalSequence(feeds, mixture, pads=False)
    start = Point(0, (Place(), Place(), Place()))
    assert sequence.run(start, 4, 6) == 24
    drawn = mixture.sources(0, 100).tolist()
    expected = tuple(feed.advance(Place(), drawn.count(number)) for number, feed in enumerate(feeds))
    for counted in (1 << 20, 7):
        monkeypatch.setattr(sequence_module, "_COUNTED_SAMPLES", counted)
        assert sequence.advance(start, 100) == Point(100, expected)
        assert sequence.advance(sequence.advance(start, 33), 67) == Point(100, expected)
        assert sequence.walk(start, 100, 4) == Point(100, expected)
    assert expected[0].epoch > 5
    assert expected[1] == Place()
