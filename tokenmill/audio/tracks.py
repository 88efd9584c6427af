"""What a container hands on: a track, which is a header's facts and its sound, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

#: float32 `[sample, channel]`.
Block = npt.NDArray[np.float32]


class Damaged(Exception):
    """The file breaks off or contradicts itself; says where and how. `DecodedAudio` makes an ItemError of it."""


class Unsupported(Exception):
    """The file may be sound, but such sound is not decoded here."""


class NotAudio(Exception):
    """The file begins as no audio file does."""


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a file's header says.

    Attributes:
        container: `wav`, `flac`, `ogg`, `mp3` or `m4a`.
        codec: FFmpeg's name of the codec.
        rate_hz: Sample rate.
        channels: Number of channels.
        samples: How many samples a channel has; None where the file does not say.
    """

    container: str
    codec: str
    rate_hz: int
    channels: int
    samples: int | None


class Track(Protocol):
    """The sound of an open file.

    Attributes:
        info: What the header says.
    """

    info: AudioInfo

    def blocks(self) -> Iterator[Block]:
        """Yield float32 `[sample, channel]` of any length, once; raises Damaged or Unsupported where it must end."""
        ...


def trimmed(blocks: Iterator[Block], skip: int, samples: int | None) -> Iterator[Block]:
    """Yield blocks without the first `skip` samples, and only `samples` after them."""
    for block in blocks:
        if skip >= len(block):
            skip -= len(block)
            continue
        kept = block[skip:] if samples is None else block[skip : skip + samples]
        skip = 0
        if samples is not None:
            samples -= len(kept)
        if len(kept):
            yield kept
