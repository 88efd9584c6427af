"""Frames of two streams are matched exactly, and rows are cut to their first seconds."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill.audio.frames import beginning, exact_rate, frame_spans
from tokenmill.audio.streams import LEVEL_SPEC, RECORDING_SPEC
from tokenmill.streams import StreamSpec

rates = st.builds(
    lambda rate, hop: rate / hop,
    st.sampled_from([8_000, 16_000, 22_050, 24_000, 44_100, 48_000]),
    st.integers(1, 5000),
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([16_000, 22_050, 24_000, 44_100, 48_000]), st.integers(1, 5000))
def test_rates_are_the_ratios_that_they_were_computed_from(rate_hz: int, hop: int) -> None:
    assert exact_rate(rate_hz / hop) == Fraction(rate_hz, hop)


@settings(max_examples=200, deadline=None)
@given(rates, st.integers(0, 60), rates, st.integers(0, 200))
def test_each_frame_of_the_other_falls_where_it_begins(
    frame_hz: float, frames: int, other_hz: float, other_frames: int
) -> None:
    spans = frame_spans(frame_hz, frames, other_hz, other_frames)
    assert spans.shape == (frames + 1,)
    step, other_step = 1 / exact_rate(frame_hz), 1 / exact_rate(other_hz)
    for frame in range(frames):
        begins = [n for n in range(other_frames) if frame * step <= n * other_step < (frame + 1) * step]
        assert list(range(spans[frame], spans[frame + 1])) == begins


def test_hours_do_not_drift() -> None:
    hours = 24 * 3600
    spans = frame_spans(16_000 / 300, hours * 160 // 3, 24_000 / 320, hours * 75)
    assert (spans[160::160] == 225 * np.arange(1, len(spans[160::160]) + 1)).all()
    assert spans[-1] == hours * 75


def test_equal_rates_match_one_to_one() -> None:
    assert frame_spans(50.0, 4, 50.0, 4).tolist() == [0, 1, 2, 3, 4]
    assert frame_spans(12.5, 2, 50.0, 9).tolist() == [0, 4, 8]
    assert frame_spans(50.0, 5, 25.0, 3).tolist() == [0, 1, 1, 2, 2, 3]


SPECS = {
    "codes_2": StreamSpec("uint8", ("frame", "codebook"), (None, 1), 16, frame_hz=25.0),
    "codes_1": StreamSpec("uint8", ("frame", "codebook"), (None, 2), 16, frame_hz=50.0),
    "recording": RECORDING_SPEC,
    "level": LEVEL_SPEC,
}


def row_of(seconds: int) -> dict[str, np.ndarray]:
    return {
        "codes_2": np.arange(25 * seconds)[:, None] % 16,
        "codes_1": np.zeros((50 * seconds, 2), np.uint8),
        "recording": np.array([48_000, 2, -1, 0, 48_000 * seconds, 16_000 * seconds]),
        "level": np.zeros(3, np.float32),
    }


@pytest.mark.parametrize(("seconds", "frames"), [(2.0, 50), (2.03, 50), (2.04, 51), (0.001, 1)])
def test_the_beginning_is_whole_frames_of_the_slowest_stream(seconds: float, frames: int) -> None:
    row = row_of(10)
    cut = beginning(row, SPECS, seconds)
    assert (len(cut["codes_2"]), len(cut["codes_1"])) == (frames, 2 * frames)
    assert cut["recording"].tolist() == [48_000, 2, -1, 0, frames * 1920, frames * 640]
    assert row["recording"][5] == 160_000
    assert cut["level"] is row["level"]


def test_what_is_shorter_or_does_not_run_in_time_is_left_as_it_is() -> None:
    row = row_of(3)
    for specs, seconds in ((SPECS, 3.0), ({"recording": RECORDING_SPEC}, 1.0)):
        assert all(beginning(row, specs, seconds)[name] is values for name, values in row.items())
