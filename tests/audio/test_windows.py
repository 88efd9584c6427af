from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from tokenmill.audio.windows import Chunking, Cutting, Values

HOP = 4
CUTTINGS = [Cutting(HOP, 10, 3, 2), Cutting(HOP, 10, 0, 0), Cutting(HOP, 1, 5, 5), Cutting(1, 7, 2, 0)]


def in_blocks(values: Values, length: int) -> Iterator[Values]:
    for start in range(0, len(values), length):
        yield values[start : start + length]


@pytest.mark.parametrize("cutting", CUTTINGS)
@pytest.mark.parametrize("count", [0, 1, HOP, 11 * HOP, 15 * HOP, 15 * HOP + 1, 25 * HOP - 1, 25 * HOP, 131])
def test_what_windows_keep_is_the_recording(cutting: Cutting, count: int) -> None:
    values = np.arange(count)
    frames = -(-count // cutting.hop)
    for length in (1, 7, 1000):
        kept: list[int] = []
        place = 0
        windows = list(cutting.windows(in_blocks(values, length)))
        for window in windows:
            begin = place - window.skip_frames
            assert window.values.tolist() == values[begin * cutting.hop :][: len(window.values)].tolist()
            left = -(-len(window.values) // cutting.hop)
            keep = left - window.skip_frames if window.keep_frames is None else window.keep_frames
            # Context is whole, or the recording begins or ends there.
            assert window.skip_frames == (cutting.left_frames if place else 0)
            assert window.last or left - window.skip_frames - keep == cutting.right_frames
            assert window.last or len(window.values) == cutting.window_frames * cutting.hop
            assert len(window.values) <= cutting.window_frames * cutting.hop
            kept += range(place, place + keep)
            place += keep
        assert kept == list(range(frames))
        assert [window.last for window in windows] == [False] * (len(windows) - 1) + [True] * bool(windows)


def test_a_recording_that_fits_in_a_window_is_one() -> None:
    cutting = CUTTINGS[0]
    assert [len(window.values) for window in cutting.windows([np.arange(60)])] == [60]
    assert [len(window.values) for window in cutting.windows([np.arange(61)])] == [60, 21]


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 110, 111, 400, 405])
def test_chunks_begin_at_every_step(count: int) -> None:
    values = np.arange(count)
    expected = [values[start : start + 110].tolist() for start in range(0, count, 100)]
    for length in (1, 64, 1000):
        windows = list(Chunking(110, 100).windows(in_blocks(values, length)))
        assert [window.values.tolist() for window in windows] == expected
        assert [window.last for window in windows] == [False] * (len(expected) - 1) + [True] * bool(expected)


def test_memory_does_not_grow_with_the_recording() -> None:
    def hours() -> Iterator[Values]:
        for _ in range(3 * 3600):
            yield np.zeros(16_000, np.float32)

    tracemalloc.start()
    count = sum(len(window.values) for window in Cutting(320, 500, 10, 10).windows(hours()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count >= 3 * 3600 * 16_000
    assert peak < 4 << 20
