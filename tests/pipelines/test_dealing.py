from hypothesis import given
from hypothesis import strategies as st

from pipelines.dealing import deal

costs_of = st.lists(st.integers(0, 1000), max_size=40)


@given(costs_of, st.integers(1, 8))
def test_every_job_is_dealt_once_in_descending_cost(costs: list[int], lanes: int) -> None:
    dealt = deal(costs, lanes)
    assert sorted(index for lane in dealt for index in lane) == list(range(len(costs)))
    assert len(dealt) <= lanes
    for lane in dealt:
        assert lane
        held = [costs[index] for index in lane]
        assert held == sorted(held, reverse=True)


@given(costs_of.filter(bool), st.integers(1, 8))
def test_no_lane_is_much_fuller_than_need_be(costs: list[int], lanes: int) -> None:
    fullest = max(sum(costs[index] for index in lane) for lane in deal(costs, lanes))
    assert fullest <= sum(costs) / lanes + max(costs)  # what any list scheduling keeps (Graham, 1966)


def test_known_deal() -> None:
    assert deal([5, 9, 1, 3], 2) == [[1], [0, 3, 2]]
    assert deal([1, 1], 5) == [[0], [1]]
    assert deal([], 3) == []


def test_files_without_content_are_shared_out() -> None:
    assert [len(lane) for lane in deal([0] * 10, 2)] == [5, 5]
