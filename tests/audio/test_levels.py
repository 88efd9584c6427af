from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audio.samples import tones
from tokenmill.audio.audio_file import Samples
from tokenmill.audio.levels import Levels


def level(*blocks: Samples, rate_hz: int = 16_000) -> list[float]:
    levels = Levels(rate_hz)
    for block in blocks:
        levels.add(block)
    return [float(value) for value in levels.values()]


def test_a_full_sine_has_a_peak_of_0_and_an_rms_of_3_db_below() -> None:
    sine = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)
    assert level(sine) == pytest.approx([-3.0103, 0, 0], abs=1e-4)


def test_what_is_below_the_floor_is_the_floor() -> None:
    assert level(np.full(1000, 1e-9, np.float32)) == [-120, -120, 1]
    assert level() == [-120, -120, 0]


def test_silence_is_counted_in_frames_of_20_ms_that_stay_below_60_db() -> None:
    frame = np.full(320, 0.5, np.float32)
    click = np.zeros(320, np.float32)
    click[100] = 0.0011
    murmur = np.full(320, 0.00099, np.float32)
    assert level(frame, click, murmur, murmur)[2] == 0.5


def test_the_last_frame_counts_by_its_length() -> None:
    assert level(np.full(320, 0.5, np.float32), np.zeros(80, np.float32))[2] == pytest.approx(0.2)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 50_000), max_size=6))
def test_levels_do_not_depend_on_blocks(lengths: list[int]) -> None:
    samples = tones(60_011, 1)[:, 0]
    blocks = np.split(samples, np.minimum(np.cumsum(lengths), len(samples)).astype(int)) if lengths else [samples]
    assert level(*blocks) == level(samples)


def test_a_rate_so_low_that_a_frame_has_few_samples() -> None:
    assert level(np.zeros(7, np.float32), rate_hz=10)[2] == 1
