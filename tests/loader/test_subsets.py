import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.errors import LoaderError
from tokenmill.loader import Subset

KEYS = [f"document {number}" for number in range(20_000)]


def is_validation(key: str, fraction: float, seed: int) -> bool:
    """Decide as the module's docstring says, with exact numbers."""
    digest = hashlib.blake2b(key.encode(), digest_size=8, key=str(seed).encode()).digest()
    return int.from_bytes(digest, "little") < fraction * 2**64


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=20),
    st.floats(0, 1, exclude_min=True, exclude_max=True),
    st.integers(-5, 10**12),
)
def test_a_key_is_in_one_part_by_its_hash(keys: list[str], fraction: float, seed: int) -> None:
    expected = [is_validation(key, fraction, seed) for key in keys]
    validation, train = Subset("validation", fraction, seed), Subset("train", fraction, seed)
    assert validation.select(keys).tolist() == expected
    assert train.select(iter(keys)).tolist() == [not one for one in expected]
    assert [validation.contains(key) for key in keys] == expected
    assert [train.contains(key) for key in keys] == [not one for one in expected]


# Whoever validates on these keys must never train on them: this must never change.
def test_which_keys_are_validation() -> None:
    subset = Subset("validation", 0.3, 7)
    assert [number for number in range(30) if subset.contains(f"document {number}")] == [
        1,
        7,
        9,
        10,
        12,
        16,
        20,
        21,
        26,
        28,
        29,
    ]


@pytest.mark.parametrize("fraction", [0.001, 0.01, 0.5, 0.99])
def test_the_fraction_of_keys(fraction: float) -> None:
    found = np.count_nonzero(Subset("validation", fraction).select(KEYS))
    assert abs(found - fraction * len(KEYS)) < 4 * math.sqrt(len(KEYS) * fraction * (1 - fraction))


def test_a_larger_fraction_keeps_the_keys_of_a_smaller_one() -> None:
    small, large = (Subset("validation", fraction).select(KEYS) for fraction in (0.1, 0.2))
    assert not (small & ~large).any()


def test_seeds_choose_other_keys() -> None:
    first, second = (Subset("validation", 0.5, seed).select(KEYS) for seed in (0, 1))
    assert abs(np.count_nonzero(first == second) / len(KEYS) - 0.5) < 0.02


def test_no_keys() -> None:
    assert Subset("train").select([]).tolist() == []


def test_what_a_state_calls_a_subset() -> None:
    assert str(Subset("train", 0.01, 3)) == "train, fraction 0.01, seed 3"
    # Two that choose other keys are called otherwise.
    assert str(Subset("train", 0.1234567)) != str(Subset("train", 0.1234568))


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 2, math.nan])
def test_fractions_that_are_refused(fraction: float) -> None:
    with pytest.raises(LoaderError, match=f"fraction of validation keys is {fraction}"):
        Subset("train", fraction)


def test_another_part_is_refused() -> None:
    with pytest.raises(LoaderError, match="subset 'test' is neither 'train' nor 'validation'"):
        Subset("test")  # type: ignore[arg-type]
