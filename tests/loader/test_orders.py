import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill.loader.orders import BlockOrder, GlobalOrder, NaturalOrder, Order
from tokenmill.loader.permutation import KeyedPermutation

block_orders = st.builds(
    BlockOrder,
    count=st.integers(1, 200),
    block=st.integers(1, 30),
    open_blocks=st.integers(1, 5),
    key=st.sampled_from(["a", "b"]),
)


def groups_of(order: Order, epoch: int) -> list[list[int]]:
    """Return the samples of each group of an epoch."""
    sizes = [order.size(epoch, group) for group in range(order.groups(epoch))]
    return [order.numbers(epoch, group, np.arange(size)).tolist() for group, size in enumerate(sizes)]


def flat(order: Order, epoch: int) -> list[int]:
    return [number for group in groups_of(order, epoch) for number in group]


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_the_natural_order_is_the_same_in_every_epoch(count: int) -> None:
    order = NaturalOrder(count)
    assert groups_of(order, 0) == groups_of(order, 5) == [list(range(count))]
    assert order.spans(3, 0) == [(0, count)]
    assert not order.in_blocks


@pytest.mark.parametrize("count", [1, 2, 7, 100, 1025])
def test_the_global_order_permutes_all_samples_in_every_epoch_anew(count: int) -> None:
    order = GlobalOrder(count, "key")
    epochs = [flat(order, epoch) for epoch in range(6)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert order.groups(0) == 1
    assert order.spans(0, 0) == [(0, count)]
    if count > 5:
        assert len(set(map(tuple, epochs))) == 6
        assert flat(GlobalOrder(count, "other"), 0) != epochs[0]
    # Epochs can be asked for in any order, also long past ones.
    assert [flat(order, epoch) for epoch in reversed(range(6))] == epochs[::-1]
    assert epochs[2] == KeyedPermutation(count, "key/2")(np.arange(count)).tolist()


@settings(max_examples=50)
@given(block_orders, st.integers(0, 9))
def test_blocks_are_read_one_after_another(order: BlockOrder, epoch: int) -> None:
    groups = groups_of(order, epoch)
    count, block, open_blocks = order._count, order._block, order._open
    assert sorted(number for group in groups for number in group) == list(range(count))
    blocks = [{number // block for number in group} for group in groups]
    assert sum(map(len, blocks)) == -(-count // block), "a block is in one group"
    assert all(len(some) == open_blocks for some in blocks[:-1])
    for group, numbers in enumerate(groups):
        spans = order.spans(epoch, group)
        assert sorted(numbers) == sorted(number for first, last in spans for number in range(first, last))
        assert len(spans) == len(blocks[group])
    assert order.in_blocks


@settings(max_examples=50)
@given(block_orders, st.integers(0, 5), st.data())
def test_places_can_be_asked_for_singly(order: BlockOrder, epoch: int, data: st.DataObject) -> None:
    group = data.draw(st.integers(0, order.groups(epoch) - 1))
    numbers = groups_of(order, epoch)[group]
    places = data.draw(st.lists(st.integers(0, len(numbers) - 1), max_size=10))
    assert order.numbers(epoch, group, np.array(places, np.int64)).tolist() == [numbers[place] for place in places]
    again = BlockOrder(order._count, order._block, order._open, order._key)
    assert again.numbers(epoch, group, np.arange(len(numbers))).tolist() == numbers


def test_blocks_and_what_is_in_them_are_shuffled_anew_in_every_epoch() -> None:
    order = BlockOrder(1000, 10, 4, "key")
    first, second = groups_of(order, 0), groups_of(order, 1)
    assert {number // 10 for number in first[0]} != {number // 10 for number in second[0]}
    assert [number // 10 for number in first[0]] != sorted(number // 10 for number in first[0])
    # Open blocks are mixed: neither is one done before the next begins.
    assert all(len({number // 10 for number in group[:20]}) == 4 for group in first)
    assert flat(BlockOrder(1000, 10, 4, "other"), 0) != flat(order, 0)
    # Groups are shuffled each in its own way.
    ranks = [np.argsort(group).tolist() for group in first]
    assert len(set(map(tuple, ranks))) == len(ranks)


def test_a_last_block_that_is_short_may_come_anywhere() -> None:
    places = {
        next(index for index, group in enumerate(groups_of(BlockOrder(95, 10, 1, "key"), epoch)) if 94 in group)
        for epoch in range(60)
    }
    assert places == set(range(10))


# A saved training state means this order: it must never change.
def test_the_order_of_blocks() -> None:
    assert flat(BlockOrder(11, 2, 2, "golden"), 1) == [8, 6, 7, 9, 2, 4, 3, 5, 1, 10, 0]
