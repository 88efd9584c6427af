"""Partitions: a long plan in bounded runs, so that each is minutes long and a pause acts between two of them."""

from __future__ import annotations

from dataclasses import dataclass

from tokenmill.plans import Plan


@dataclass(frozen=True)
class Partition:
    """The splits [first_split, last_split) of a plan; `number` of `count`."""

    first_split: int
    last_split: int
    number: int
    count: int

    def __str__(self) -> str:
        return f"splits {self.first_split}–{self.last_split - 1} ({self.number}/{self.count})"


def partitions(plan: Plan, partition_bytes: int) -> list[Partition]:
    """Cut a plan into runs of consecutive splits of about `partition_bytes` of stored input each."""
    ends: list[int] = []
    filled = 0
    for number, size in enumerate(plan.splits.input_bytes):
        filled += int(size)
        if filled >= partition_bytes:
            ends.append(number + 1)
            filled = 0
    if len(plan.splits) and (not ends or ends[-1] != len(plan.splits)):
        ends.append(len(plan.splits))
    starts = [0, *ends][:-1]
    return [
        Partition(start, stop, number, len(ends))
        for number, (start, stop) in enumerate(zip(starts, ends, strict=True), 1)
    ]
