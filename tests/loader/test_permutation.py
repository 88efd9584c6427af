import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.loader.permutation import KeyedPermutation, keyed_number

POWERS = [2**bits + more for bits in (9, 12, 16) for more in (-1, 0, 1)]


def whole(size: int, key: str = "key") -> list[int]:
    return [int(element) for element in KeyedPermutation(size, key)(np.arange(size))]


def chi_square(counts: Counter[object], kinds: int) -> float:
    """Pearson's statistic of counts that should be equal, in standard deviations from what chance gives."""
    expected = counts.total() / kinds
    found = sum((count - expected) ** 2 for count in counts.values()) + expected**2 * (kinds - len(counts))
    return (found / expected - (kinds - 1)) / math.sqrt(2 * (kinds - 1))


def test_every_element_is_there_once_and_is_found_again() -> None:
    for size in [*range(301), *POWERS]:
        permutation = KeyedPermutation(size, "key")
        places = np.arange(size)
        elements = permutation(places)
        assert len(permutation) == permutation.size == size
        assert elements.dtype == np.int64
        assert sorted(elements.tolist()) == list(range(size))
        np.testing.assert_array_equal(permutation.inverse(elements), places)
        np.testing.assert_array_equal(permutation(permutation.inverse(places)), places)


@given(st.integers(1, 1 << 62), st.text(max_size=5), st.data())
def test_any_size_up_to_the_largest(size: int, key: str, data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=20, unique=True))
    permutation = KeyedPermutation(size, key)
    elements = permutation(np.array(places))
    assert 0 <= elements.min() <= elements.max() < size
    assert len(set(elements.tolist())) == len(places)
    assert permutation.inverse(elements).tolist() == places
    assert [int(permutation(np.array([place]))[0]) for place in places] == elements.tolist()


def test_the_shape_is_kept_and_nothing_else_is_touched() -> None:
    permutation = KeyedPermutation(100, "key")
    places = np.arange(12).reshape(3, 4)
    assert permutation(places).shape == (3, 4)
    assert permutation(places).reshape(-1).tolist() == whole(100)[:12]
    assert permutation(places[:, ::2]).tolist() == permutation(places)[:, ::2].tolist()
    assert places.tolist() == np.arange(12).reshape(3, 4).tolist()
    assert permutation(np.empty((0, 2), np.int64)).shape == (0, 2)
    assert int(permutation(np.array(5))) == whole(100)[5]


# A saved training state means these orders: they must never change.
def test_the_order_of_ten() -> None:
    assert whole(10, "golden") == [0, 4, 1, 7, 6, 5, 3, 8, 2, 9]


def test_the_order_of_a_thousand() -> None:
    order = whole(1000, "golden")
    assert order[:12] == [557, 664, 749, 947, 877, 581, 454, 712, 421, 554, 381, 511]
    assert sum(place * element for place, element in enumerate(order)) == 249_168_054


def test_the_order_of_a_trillion() -> None:
    assert KeyedPermutation(10**12, "golden")(np.arange(3)).tolist() == [642919828896, 392890158625, 555286101546]


def test_keyed_numbers() -> None:
    # The first eight bytes of SHA-256, little-endian.
    assert keyed_number("") == int.from_bytes(bytes.fromhex("e3b0c44298fc1c14"), "little")
    assert keyed_number("abc") == int.from_bytes(bytes.fromhex("ba7816bf8f01cfea"), "little")


@pytest.mark.parametrize("size", [2, 5, 16, 37, 64])
def test_an_element_lands_anywhere(size: int) -> None:
    keys = 100 * size
    lands: Counter[object] = Counter(
        int(KeyedPermutation(size, f"key {number}").inverse(np.array([0]))[0]) for number in range(keys)
    )
    assert abs(chi_square(lands, size)) < 4


@pytest.mark.parametrize("size", [3, 4])
def test_small_permutations_are_all_as_likely(size: int) -> None:
    kinds = len(list(permutations(range(size))))
    found: Counter[object] = Counter(tuple(whole(size, f"key {number}")) for number in range(100 * kinds))
    assert abs(chi_square(found, kinds)) < 4


def test_pairs_land_anywhere() -> None:
    size = 9
    pairs: Counter[object] = Counter(tuple(whole(size, f"key {number}")[:2]) for number in range(5000))
    assert abs(chi_square(pairs, size * (size - 1))) < 4


@pytest.mark.parametrize("size", [1000, 1024, 65_537])
def test_neighbours_part(size: int) -> None:
    order = np.array(whole(size))
    # Of a random permutation about one pair of neighbours stays together, in either direction.
    assert np.count_nonzero(np.diff(order) == 1) < 8
    assert np.count_nonzero(np.diff(order) == -1) < 8
    assert np.count_nonzero(order == np.arange(size)) < 8
    assert abs(np.corrcoef(order, np.arange(size))[0, 1]) < 4 / math.sqrt(size)


def test_keys_and_sizes_give_other_orders() -> None:
    assert len({tuple(whole(50, f"{number}")) for number in range(200)}) == 200
    agreeing = np.count_nonzero(np.array(whole(5000, "0")) == np.array(whole(5000, "1")))
    assert agreeing < 8


@pytest.mark.parametrize("size", [-1, (1 << 62) + 1])
def test_sizes_that_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"permutation of {size} elements"):
        KeyedPermutation(size, "key")


@pytest.mark.parametrize("places", [[-1], [10], [3, 10, 4]])
def test_places_that_are_refused(places: list[int]) -> None:
    permutation = KeyedPermutation(10, "key")
    for method in (permutation, permutation.inverse):
        with pytest.raises(IndexError, match="of a permutation of 10"):
            method(np.array(places))
    with pytest.raises(IndexError):
        KeyedPermutation(0, "key")(np.array([0]))
