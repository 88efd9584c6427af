"""Pictures of sound: a spectrogram with its axes, seconds to the right and mel-spaced Hz upwards, drawn with Pillow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from tokenmill.audio.sound import Sound

#: Size in pixels of a picture, axes and all, and of what the axes take of it.
WIDTH, HEIGHT = 320, 200
_LEFT, _BELOW = 34, 18
_WINDOW_SECONDS = 0.04
#: The quietest that is told from silence, below the loudest of a row of pictures.
_RANGE_DECIBELS = 80.0
_TEXT = 11
_PAPER, _INK = "#fafaf8", "#6f6f6a"
_MARKS_HZ = (125, 250, 500, 1000, 2000, 4000, 8000, 16_000)
#: Matplotlib's colour map "magma" at even steps (by N. J. Smith and S. van der Walt, CC0).
_MAGMA = ("000004", "120d31", "331067", "59157e", "7e2482", "a3307e", "c83e73", "e95462", "fa7d5e", "fea973", "fed395", "fcfdbf")  # fmt: skip # noqa: E501


def spectrograms(sounds: Sequence[Sound]) -> list[Image.Image]:
    """Draw sounds of one rate and the loudest of them at the top of the scale of all."""
    powers = [_mel_powers(sound) for sound in sounds]
    loudest = max(max((float(power.max()) for power in powers), default=0.0), 1e-12)
    return [_drawn(power, loudest, sound) for power, sound in zip(powers, sounds, strict=True)]


def _mel_powers(sound: Sound) -> npt.NDArray[np.float64]:
    """Return the mean power `[row, column]` of each pixel, the highest frequencies first."""
    rows, columns = HEIGHT - _BELOW, WIDTH - _LEFT
    window = max(round(_WINDOW_SECONDS * sound.rate_hz), 2)
    count = max(columns, 2 * len(sound.samples) // window)
    padded = np.pad(np.nan_to_num(sound.samples), (window // 2, window))
    # In single precision, and a stretch at a time: half a minute is some thousand windows.
    starts = np.linspace(0, len(sound.samples), count, endpoint=False).astype(np.int64)
    edges = _hz(np.linspace(_mel(sound.rate_hz / 2), 0, rows + 1))
    powers = np.zeros((rows, columns))
    for column, part in enumerate(np.array_split(starts, columns)):
        pieces = padded[part[:, None] + np.arange(window)] * np.hanning(window).astype(np.float32)
        power = (np.abs(np.fft.rfft(pieces)) ** 2).mean(axis=0) / window
        # A pixel's mean power is the difference of two values of the integral: at low frequencies it spans less than
        # one bin, at high ones many.
        bins = np.arange(len(power) + 1) * sound.rate_hz / window
        until = np.interp(edges, bins, np.append(0, power.cumsum()))
        powers[:, column] = (until[:-1] - until[1:]) / (edges[:-1] - edges[1:])
    return powers


def _drawn(power: npt.NDArray[np.float64], loudest: float, sound: Sound) -> Image.Image:
    decibels = 10 * np.log10(np.maximum(power / loudest, 1e-12))
    shade = (1 + decibels / _RANGE_DECIBELS).clip(0, 1)
    stops = np.array([list(bytes.fromhex(colour)) for colour in _MAGMA], np.float64)
    place = np.linspace(0, 1, len(stops))
    colours = np.stack([np.interp(shade, place, stops[:, part]) for part in range(3)], axis=-1)
    picture = Image.new("RGB", (WIDTH, HEIGHT), _PAPER)
    picture.paste(Image.fromarray(np.rint(colours).astype(np.uint8)), (_LEFT, 0))
    _draw_axes(ImageDraw.Draw(picture), sound)
    return picture


def _draw_axes(draw: ImageDraw.ImageDraw, sound: Sound) -> None:
    font = ImageFont.load_default(_TEXT)
    bottom, right = HEIGHT - _BELOW, WIDTH - _LEFT
    last = HEIGHT
    for hz in _MARKS_HZ:
        at = round(bottom * (1 - _mel(hz) / _mel(sound.rate_hz / 2)))
        if _TEXT // 2 <= at <= last - _TEXT - 2:
            draw.line((_LEFT - 4, at, _LEFT - 1, at), _INK)
            draw.text((_LEFT - 6, at), f"{hz / 1000:g}k" if hz >= 1000 else str(hz), _INK, font, anchor="rm")
            last = at
    draw.text((_LEFT - 6, bottom + 3), "Hz", _INK, font, anchor="ra")
    seconds = len(sound.samples) / sound.rate_hz
    if not seconds:
        return
    step = next(step for step in _steps() if seconds / step <= 5)
    for number in range(int(seconds / step) + 1):
        at = _LEFT + round(number * step / seconds * right)
        label = f"{number * step:g} s"
        if at + font.getlength(label) / 2 <= WIDTH:
            draw.line((at, bottom, at, bottom + 3), _INK)
            draw.text((at, bottom + 4), label, _INK, font, anchor="la" if not number else "ma")


def _steps() -> list[float]:
    return [base * 10.0**power for power in range(-4, 6) for base in (1, 2, 5)]


def _mel(hz: float) -> float:
    return float(2595 * np.log10(1 + hz / 700))


def _hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(700 * (10 ** (mel / 2595) - 1))
