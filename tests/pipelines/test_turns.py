"""Workers that take turns: everything is taken once, in order, by processes that share nothing but the counter."""

from __future__ import annotations

import os
from collections.abc import Callable

from pipelines.turns import Turns


def forked(work: Callable[[], list[int]]) -> Callable[[], list[int]]:
    """Do work in a forked process; returns what waits for its result."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with os.fdopen(write, "w") as pipe:
            pipe.write(",".join(map(str, work())))
        os._exit(0)
    os.close(write)

    def result() -> list[int]:
        with os.fdopen(read) as pipe:
            numbers = [int(number) for number in pipe.read().split(",") if number]
        assert os.waitpid(pid, 0)[1] == 0
        return numbers

    return result


def test_items_are_drawn_in_order() -> None:
    assert list(Turns().draw("abc")) == ["a", "b", "c"]
    assert list(Turns().draw([])) == []


def test_processes_that_draw_at_once_take_each_item_once() -> None:
    turns, count = Turns(), 20_000
    drawn = [result() for result in [forked(lambda: list(turns.draw(range(count)))) for _ in range(4)]]
    assert all(numbers == sorted(numbers) for numbers in drawn)
    assert sorted(number for numbers in drawn for number in numbers) == list(range(count))


def test_whoever_is_held_up_leaves_the_rest_to_others() -> None:
    turns = Turns()
    mine = turns.draw(range(40))
    assert next(mine) == 0
    assert forked(lambda: list(turns.draw(range(40))))() == list(range(1, 40))
    assert list(mine) == []
