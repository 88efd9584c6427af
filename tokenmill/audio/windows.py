"""Recordings of any length in windows of bounded length, each with the context that a codec must see around it.

All windows of a recording are equally long, save the last one, and a recording that fits in one is one. What a window
keeps follows on what the one before it kept; the first one keeps what would be context in others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of a recording.

    Attributes:
        values: `[sample, …]`.
        skip_frames: Frames at its beginning that the window before has given already.
        keep_frames: Frames after those that are to be taken from it; None for all.
        last: Whether the recording ends with it.
    """

    values: Values
    skip_frames: int
    keep_frames: int | None
    last: bool


@dataclass(frozen=True, slots=True)
class Cutting:
    """How recordings are cut into windows that see context.

    Attributes:
        hop: Samples of a frame.
        chunk_frames: By how many frames a window lies after the one before.
        left_frames: Frames of context before what is kept of a window.
        right_frames: Frames of context after it.
    """

    hop: int
    chunk_frames: int
    left_frames: int
    right_frames: int

    @property
    def window_frames(self) -> int:
        """Frames of a window."""
        return self.left_frames + self.chunk_frames + self.right_frames

    def windows(self, blocks: Iterable[Values]) -> Iterator[Window]:
        """Yield a recording's windows in order; none of a recording without samples.

        Args:
            blocks: `[sample, …]` each, of any lengths.
        """
        length = self.window_frames * self.hop
        held = _Held()
        skip = 0
        for block in blocks:
            held.add(block)
            # Only when something comes after it: the last window ends where the recording does.
            while held.length > length:
                yield Window(held.head(length), skip, self.left_frames + self.chunk_frames - skip, last=False)
                held.drop(self.chunk_frames * self.hop)
                skip = self.left_frames
        if held.length:
            yield Window(held.head(length), skip, None, last=True)


@dataclass(frozen=True, slots=True)
class Chunking:
    """How recordings are cut for a codec that codes every chunk by itself.

    Attributes:
        length: Samples of a chunk; those at a recording's end are shorter.
        step: By how many samples a chunk begins after the one before.
    """

    length: int
    step: int

    def windows(self, blocks: Iterable[Values]) -> Iterator[Window]:
        """Yield chunks in order: one for every `step` samples that have begun."""
        held = _Held()
        for block in blocks:
            held.add(block)
            while held.length > self.length:
                yield Window(held.head(self.length), 0, None, last=False)
                held.drop(self.step)
        while held.length:
            yield Window(held.head(self.length), 0, None, last=held.length <= self.step)
            held.drop(self.step)


class _Held:
    """What was read and is not yet used up. Blocks are put together only when wanted: many short ones cost no more."""

    def __init__(self) -> None:
        self.length = 0
        self._pieces: list[Values] = []

    def add(self, block: Values) -> None:
        self._pieces.append(block)
        self.length += len(block)

    def head(self, length: int) -> Values:
        """Return the first samples, as many as there are of those asked for."""
        if len(self._pieces) > 1:
            self._pieces = [np.concatenate(self._pieces)]
        return self._pieces[0][:length]

    def drop(self, length: int) -> None:
        """Forget the first samples, after `head`."""
        self._pieces = [self._pieces[0][length:]]
        self.length = len(self._pieces[0])
