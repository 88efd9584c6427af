"""Spectrograms show what sounds where and when."""

from __future__ import annotations

import numpy as np
import pytest

from tokenmill.audio.sound import Sound
from tokenmill.commands.spectrograms import HEIGHT, WIDTH, spectrograms

LEFT, BELOW = 34, 18


def bright(sound: Sound) -> np.ndarray:
    """Return the brightness `[row, column]` of what is within the axes, 0 … 1."""
    (picture,) = spectrograms([sound])
    assert picture.size == (WIDTH, HEIGHT)
    return np.asarray(picture.convert("L"))[:-BELOW, LEFT:] / 255


def tone(hz: float, seconds: float = 1.0, rate_hz: int = 16_000) -> Sound:
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    return Sound((0.5 * np.sin(2 * np.pi * hz * time)).astype(np.float32), rate_hz)


@pytest.mark.parametrize("hz", [150, 1000, 6500])
def test_a_tone_is_a_line_at_its_height(hz: int) -> None:
    rows = bright(tone(hz))
    mel = 2595 * np.log10(1 + np.array([hz, 8_000]) / 700)
    assert rows.mean(axis=1).argmax() == pytest.approx((HEIGHT - BELOW) * (1 - mel[0] / mel[1]), abs=3)


def test_what_comes_later_is_further_right() -> None:
    samples = tone(1000, 2.0).samples.copy()
    samples[:16_000] = 0
    columns = bright(Sound(samples, 16_000)).max(axis=0)
    middle = (WIDTH - LEFT) // 2
    assert columns[: middle - 4].max() < 0.02
    assert columns[middle + 4 :].min() > 0.5


def test_sounds_share_one_scale() -> None:
    loud, quiet = tone(500), tone(500)._replace(samples=tone(500).samples / np.float32(100))
    shown = [np.asarray(picture.convert("L"))[:-BELOW, LEFT:] for picture in spectrograms([loud, quiet])]
    assert shown[0].max() > shown[1].max() + 60
    assert (np.asarray(spectrograms([quiet])[0]) == np.asarray(spectrograms([loud])[0])).mean() > 0.9


@pytest.mark.parametrize("samples", [[], [0.5], [0.0] * 5000, [float("nan")] * 100])
def test_nothing_silence_and_no_numbers_are_drawn(samples: list[float]) -> None:
    shown = bright(Sound(np.array(samples, np.float32), 16_000))
    assert shown.max() < 0.02 or samples == [0.5]


def test_axes_tell_other_rates_and_lengths_apart() -> None:
    pictures = {
        spectrograms([tone(440, seconds, rate)])[0].tobytes() for seconds in (0.3, 40) for rate in (8_000, 48_000)
    }
    assert len(pictures) == 4
