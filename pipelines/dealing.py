"""Dealing splits to lanes: which worker reads which splits, where a runner deals statically."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def deal(costs: Sequence[int], lanes: int) -> list[list[int]]:
    """Deal jobs to lanes so that the fullest lane is not much fuller than the others.

    Longest processing time first (Graham, 1969): in descending cost, each to the emptiest lane; within 4/3 of the best.

    Args:
        costs: Cost of each job.
        lanes: Number of lanes; lanes left empty are dropped.

    Returns:
        Per lane the indices of its jobs, in descending cost.
    """
    dealt: list[list[int]] = [[] for _ in range(lanes)]
    heap = [(0, 0, lane) for lane in range(lanes)]  # load, number of jobs, lane
    for index in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        load, count, lane = heapq.heappop(heap)
        dealt[lane].append(index)
        heapq.heappush(heap, (load + costs[index], count + 1, lane))
    return [lane for lane in dealt if lane]
