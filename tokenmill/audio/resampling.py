"""One channel of sound to another rate, by soxr (HQ), block by block, the same whatever the blocks are.

A recording of n samples at one rate has `resampled_length(n, ...)` at the other: n times the ratio, rounded to the
nearest, halves up. So 10 ms at any usual rate are what they should be, and a single sample may become none.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import soxr

from tokenmill.audio.audio_file import Samples

#: What soxr is fed with at once.
_FED_SAMPLES = 16_384


def resampled_length(samples: int, from_hz: int, to_hz: int) -> int:
    """Return how many samples a recording has at another rate: n * to / from, rounded to the nearest, halves up."""
    return (2 * samples * to_hz + from_hz) // (2 * from_hz)


def resampled(blocks: Iterator[Samples], from_hz: int, to_hz: int) -> Iterator[Samples]:
    """Yield float32 `[sample]` at another rate; the same rate is passed on as it is, in other blocks.

    Blocks are of a fixed length where the rate is the same, and depend on nothing but the number of samples before them
    where it is not.
    """
    fixed = fixed_blocks(blocks, _FED_SAMPLES)
    if from_hz == to_hz:
        yield from fixed
        return
    stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")
    read = given = 0
    for block in fixed:
        read += len(block)
        out = stream.resample_chunk(block)
        given += len(out)
        if len(out):
            yield out
    length = resampled_length(read, from_hz, to_hz)
    last = stream.resample_chunk(np.empty(0, np.float32), last=True)[: length - given]
    # soxr may round another way: a sample that it leaves out is silence.
    last = np.concatenate([last, np.zeros(length - given - len(last), np.float32)])
    if len(last):
        yield last


def fixed_blocks(blocks: Iterator[Samples], length: int) -> Iterator[Samples]:
    """Yield the same samples in blocks of a length, the last one shorter."""
    held: list[Samples] = []
    count = 0
    for block in blocks:
        at = 0
        while len(block) - at >= length - count:
            piece = block[at : at + length - count]
            at += len(piece)
            yield np.concatenate([*held, piece]) if held else piece
            held, count = [], 0
        if at < len(block):
            held.append(block[at:])
            count += len(block) - at
    if held:
        yield np.concatenate(held)
