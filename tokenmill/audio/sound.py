"""Decoded sound: samples and their rate. What decoders of audio tokenizers return."""

from __future__ import annotations

from typing import NamedTuple

from tokenmill.audio.audio_file import Samples


class Sound(NamedTuple):
    """One channel of sound.

    Attributes:
        samples: float32 `[sample]`, in -1 … 1 where it is not clipped.
        rate_hz: Samples a second.
    """

    samples: Samples
    rate_hz: int
