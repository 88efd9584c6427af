"""Decoded sound: samples and their rate, and writing them as WAV. What decoders of audio tokenizers return."""

from __future__ import annotations

import wave
from os import PathLike, fspath
from typing import IO, NamedTuple

import numpy as np

from tokenmill.audio.audio_file import Samples


class Sound(NamedTuple):
    """One channel of sound.

    Attributes:
        samples: float32 `[sample]`, in -1 … 1 where it is not clipped.
        rate_hz: Samples a second.
    """

    samples: Samples
    rate_hz: int


def write_wav(sound: Sound, target: str | PathLike[str] | IO[bytes]) -> None:
    """Write sound as WAV, PCM of 16 bits.

    Samples are rounded to the nearest; what is beyond -1 … 1 becomes the least or the greatest value there is, and what
    is no number, silence.

    Args:
        sound: The sound.
        target: A path, or a file open for writing, which stays open.

    Raises:
        OSError: It cannot be written.
    """
    scaled = np.rint(np.nan_to_num(sound.samples, nan=0.0) * np.float64(32768)).clip(-32768, 32767)
    with wave.open(fspath(target) if isinstance(target, PathLike) else target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sound.rate_hz)
        file.writeframes(scaled.astype("<i2").tobytes())
