"""Values of streams in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tokenmill.audio.streams import LEVEL_SPEC, RECORDING_SPEC
from tokenmill.commands.output import described
from tokenmill.streams import StreamSpec

CODES = StreamSpec("uint8", ("frame", "codebook"), (None, None), 32, frame_hz=12.5)
UNITS = StreamSpec("uint8", vocabulary_size=9, frame_hz=50.0)
PHONES = StreamSpec("uint8", vocabulary_size=3, labels=("SIL", "AA", "B"))


@pytest.mark.parametrize(
    ("name", "spec", "values", "says"),
    [
        ("recording", RECORDING_SPEC, [44_100, 1, -1, 0, 66_150, 1], "1.50 s of 44.1 kHz, 1 channel"),
        ("recording", RECORDING_SPEC, [8_000, 2, -1, 0, 0, 0], "0.00 s of 8 kHz, the mean of 2 channels"),
        ("recording", RECORDING_SPEC, [8_000, 2, 1, 4_000, 80, 1], "0.01 s of 8 kHz, channel 2 of 2, from 0.50 s on"),
        ("level", LEVEL_SPEC, [-23.04, 0.5, 0.125], "RMS -23.0 dBFS, peak 0.5 dBFS, 12% silence"),
        ("level", StreamSpec("uint8", ("value",), (3,)), [1, 2, 3], "3 uint8: 1 2 3"),
        ("codes", CODES, [[1, 2]], "1 frame at 12.5 Hz × 2 codebooks uint8: 1 2"),
        ("codes", CODES, [[1], [2]], "2 frames at 12.5 Hz × 1 codebook uint8: 1 | 2"),
        ("codes", CODES, np.zeros((0, 3)), "0 frames at 12.5 Hz × 3 codebooks uint8: "),
        ("codes", CODES, [list(range(9))] * 5, "5 frames at 12.5 Hz × 9 codebooks uint8: " + "0 1 2 3 … | " * 4 + "…"),
        ("ids", UNITS, [1] * 17, "17 frames at 50 Hz uint8: " + "1 " * 16 + "…"),
        ("ids", PHONES, [0, 2, 1], "3 uint8: SIL B AA"),
        ("ids", PHONES, [2], "B"),
    ],
)  # fmt: skip
def test_described(name: str, spec: StreamSpec, values: Any, says: str) -> None:
    assert described(np.array(values, spec.dtype), spec, name) == says
