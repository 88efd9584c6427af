from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
import pytest

from tests.audio.samples import decoded
from tokenmill.audio.sound import Sound, write_wav


def test_wav_is_written_and_read_again(tmp_path: Path) -> None:
    samples = np.array([0, 0.5, -0.5, 1 / 32768, -1.0], np.float32)
    buffer = io.BytesIO()
    for target in (tmp_path / "a.wav", str(tmp_path / "b.wav"), buffer):
        write_wav(Sound(samples, 22_050), target)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes() == buffer.getvalue()
    info, found = decoded(buffer.getvalue())
    assert (info.rate_hz, info.channels, info.codec) == (22_050, 1, "pcm_s16le")
    np.testing.assert_array_equal(found[:, 0], samples)


@pytest.mark.filterwarnings("error")
def test_what_does_not_fit_is_clipped_and_never_wraps() -> None:
    buffer = io.BytesIO()
    samples = np.array([1.0, 1.5, 1e30, np.inf, -1.0001, -7, -np.inf, np.nan, 0.99999], np.float32)
    write_wav(Sound(samples, 8_000), buffer)
    buffer.seek(0)
    with wave.open(buffer) as file:
        values = np.frombuffer(file.readframes(100), "<i2").tolist()
    assert values == [32767, 32767, 32767, 32767, -32768, -32768, -32768, 0, 32767]


def test_no_samples() -> None:
    buffer = io.BytesIO()
    write_wav(Sound(np.empty(0, np.float32), 8_000), buffer)
    assert decoded(buffer.getvalue())[1].shape == (0, 1)
