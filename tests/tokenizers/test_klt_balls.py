"""Ball codes against the slow and obvious way: all points, one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tokenmill.tokenizers.klt import balls


def padded(points: list[tuple[int, ...]]) -> balls.Integers:
    whole = np.zeros((len(points), balls.MAX_SIZE), np.int64)
    whole[:, : len(points[0])] = points
    return whole


@pytest.mark.parametrize(("size", "radius"), [(1, 5), (2, 4), (3, 6), (4, 3), (6, 2)])
def test_ranks_number_all_points(size: int, radius: int) -> None:
    values = range(-radius, radius + 1)
    points = [point for point in itertools.product(values, repeat=size) if sum(map(abs, point)) <= radius]
    assert balls.COUNTS[size, radius] == len(points)
    ranks = balls.rank(padded(points), np.full(len(points), size), np.full(len(points), radius))
    assert sorted(ranks.tolist()) == list(range(len(points)))
    assert balls.points_of(size, radius)[ranks].tolist() == [list(point) for point in points]


@pytest.mark.parametrize("size", range(1, balls.MAX_SIZE + 1))
def test_the_largest_ball_that_a_token_holds(size: int) -> None:
    radius = balls.largest_radius(size, 1 << 16)
    assert balls.COUNTS[size, radius] <= 1 << 16
    assert radius == balls.MAX_RADIUS or balls.COUNTS[size, radius + 1] > 1 << 16


@pytest.mark.parametrize("spread", [0.5, 2.0, 8.0])
def test_nearest_points_are_nearest(spread: float) -> None:
    values = np.abs(np.random.default_rng(1).laplace(0, spread, (100, 4)))
    found = balls.nearest(values, np.full(100, 6))
    points = np.abs(balls.points_of(4, 6))
    best = np.square(values[:, None] - points[None]).sum(-1).min(axis=1)
    assert np.square(values - found).sum(-1) == pytest.approx(best)
