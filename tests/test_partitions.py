from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.partitions import Partition, partitions


def plan(sizes: list[int]) -> Any:
    class Splits(list[int]):
        input_bytes = np.array(sizes, np.int64)

    return SimpleNamespace(splits=Splits(sizes))


@given(st.lists(st.integers(0, 1000), max_size=50), st.integers(1, 2000))
def test_every_split_is_in_one_partition(sizes: list[int], partition_bytes: int) -> None:
    cut = partitions(plan(sizes), partition_bytes)
    assert [split for one in cut for split in range(one.first_split, one.last_split)] == list(range(len(sizes)))
    assert [one.number for one in cut] == list(range(1, len(cut) + 1))
    assert {one.count for one in cut} <= {len(cut)}
    for one in cut:
        held = sizes[one.first_split : one.last_split]
        assert held
        assert sum(held[:-1]) < partition_bytes
        assert sum(held) >= partition_bytes or one.number == one.count


def test_no_splits_no_partitions() -> None:
    assert partitions(plan([]), 10) == []


def test_names() -> None:
    assert str(Partition(0, 12, 1, 3)) == "splits 0–11 (1/3)"
