"""Samples to coefficients and back: a modified discrete cosine transform whose forward arithmetic is exact.

Samples and the matrix are rounded to whole numbers, and every sum stays below 2**53: products in float64 are then
exact, whatever order a BLAS adds in, so that coefficients depend neither on the library and its threads nor on how a
recording is cut into blocks.

Frame `f` is centred on sample `f * HOP`: it sees HOP samples before and after it. A recording is taken as preceded and
followed by silence; frames 0 … `ceil(samples / HOP)` then give back all of it (Princen and Bradley, "Analysis/synthesis
filter bank design based on time domain aliasing cancellation", 1986).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from tokenmill.audio.audio_file import Samples

Floats = npt.NDArray[np.float64]

RATE_HZ = 24_000
#: Samples between two frames, and coefficients of each.
HOP = 320
#: Frames that are transformed, and searched for, at once.
BLOCK_FRAMES = 512
#: Samples become whole numbers, this many to full scale, and are cut off at CLIP times full scale; NaN is 0.
SAMPLE_UNIT = 1 << 19
CLIP = 4.0
_MATRIX_UNIT = 1 << 24


def _matrix() -> Floats:
    """Return the windowed transform, orthonormal between overlapping frames: `[sample, coefficient]`."""
    places = np.arange(2 * HOP) + 0.5
    window = np.sin(np.pi * places / (2 * HOP))
    cosines = np.cos(np.pi / HOP * (places + HOP / 2)[:, None] * (np.arange(HOP) + 0.5))
    matrix: Floats = window[:, None] * cosines * np.sqrt(2 / HOP)
    return matrix


_FORWARD = np.rint(_matrix() * _MATRIX_UNIT)
_BACK = _matrix().T.copy()


def frame_count(samples: int) -> int:
    """Return how many frames a recording of so many samples has: none where it has none, else `ceil(n / HOP) + 1`."""
    return -(-samples // HOP) + 1 if samples else 0


def forward(hops: Floats) -> Floats:
    """Transform frames that lie side by side.

    Args:
        hops: Whole numbers `[frame + 1, sample]`, HOP samples each: a frame is a row and the one after it.

    Returns:
        Whole numbers `[frame, coefficient]`, SAMPLE_UNIT to full scale.
    """
    coefficients: Floats = hops[:-1] @ _FORWARD[:HOP]
    coefficients += hops[1:] @ _FORWARD[HOP:]
    coefficients *= 1 / _MATRIX_UNIT
    return np.rint(coefficients, out=coefficients)


def analyse(blocks: Iterable[Samples]) -> Iterator[Floats]:
    """Yield a recording's coefficients `[frame, coefficient]`, whole numbers, up to BLOCK_FRAMES frames at a time.

    Args:
        blocks: The recording, float32 `[sample]`, in blocks of any lengths.
    """
    wanted = BLOCK_FRAMES * HOP
    held = np.zeros(HOP)
    parts: list[Floats] = []
    waiting, heard = 0, False
    for block in blocks:
        heard = heard or bool(len(block))
        for start in range(0, len(block), wanted):
            parts.append(_whole_numbers(block[start : start + wanted]))
            waiting += len(parts[-1])
            if waiting >= wanted:
                together = np.concatenate([held, *parts])
                stop = HOP + wanted
                yield forward(together[:stop].reshape(-1, HOP))
                held, parts = together[wanted:stop], [together[stop:]]
                waiting -= wanted
    if heard:
        together = np.concatenate([held, *parts])
        hops = np.zeros(((frame_count(waiting) or 1) + 1, HOP))
        hops.reshape(-1)[: len(together)] = together
        yield forward(hops)


def _whole_numbers(samples: Samples) -> Floats:
    numbers = np.nan_to_num(samples.astype(np.float64), copy=False)
    np.clip(numbers, -CLIP, CLIP, out=numbers)
    numbers *= SAMPLE_UNIT
    return np.rint(numbers, out=numbers)


class Synthesis:
    """Puts frames, block after block, together to sound again."""

    def __init__(self) -> None:
        self._tail: Floats | None = None

    def samples(self, coefficients: Floats) -> Samples:
        """Return the samples that the next frames `[frame, coefficient]` complete, HOP for each but the very first."""
        if not len(coefficients):
            return np.empty(0, np.float32)
        halves = (coefficients @ _BACK).reshape(-1, 2, HOP)
        whole = halves[:, 0].copy()
        whole[1:] += halves[:-1, 1]
        if self._tail is None:
            whole = whole[1:]
        else:
            whole[0] += self._tail
        self._tail = halves[-1, 1]
        whole *= 1 / SAMPLE_UNIT
        return whole.reshape(-1).astype(np.float32)
