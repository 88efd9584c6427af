"""Layouts: which tokens stand at the steps of a row of codes, for any stretch of it, and which codes tokens stand for.

A layout has steps, places of a sequence: one token each (flat, and text itself), or a token of every codebook (parallel
and delayed). Any stretch of the steps of a row is laid out by itself, from the frames that it needs, so that a loader
reads no more than those. Nothing here knows of tables or files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.errors import LoaderError
from tokenmill.streams import narrowest_dtype

#: Codes int64 `[frame, code]`, unchecked, and what tells where among the tokens one of them, (frame, code), stood.
_Gathered = tuple[npt.NDArray[np.int64], Callable[[int, int], tuple[int, ...]]]


class Layout(ABC):
    """Rows of `stored` codes a frame, laid out in steps.

    Attributes:
        codes_per_frame: Codes of a stored frame.
        steps_per_frame: Steps that every frame has.
        more_steps: Steps that every row has beside those of its frames.
        step_shape: Shape of a step: `()`, one token, or `(codebooks,)`.
        vocabulary_size: Tokens are 0 … vocabulary_size - 1; None where that is not known.
    """

    codes_per_frame: int
    steps_per_frame: int = 1
    more_steps: int = 0
    step_shape: tuple[int, ...] = ()
    vocabulary_size: int | None

    def steps(self, frames: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return int64 `[row]`: steps of rows of so many frames, int64 `[row]`."""
        if self.steps_per_frame == 1 and self.more_steps == 0:
            return frames
        return frames * self.steps_per_frame + self.more_steps

    def frames(self, steps: int) -> int:
        """Return the frames of a row of so many steps."""
        return (steps - self.more_steps) // self.steps_per_frame

    def needed(self, start: int, stop: int, frames: int) -> tuple[int, int]:
        """Return first and last + 1 of the frames that steps start … stop - 1 of a row of so many frames have in them.

        Where steps have none, the two are equal.
        """
        first, last = start // self.steps_per_frame, -(-stop // self.steps_per_frame)
        return min(first, frames), min(last, frames)

    @abstractmethod
    def cut(
        self, codes: npt.NDArray[Any], first: int, frames: int, start: int, stop: int, out: npt.NDArray[np.int64]
    ) -> None:
        """Lay out steps start … stop - 1 of a row.

        Args:
            codes: `[frame, code]`, the frames that `needed` names.
            first: Number in the row of the first of them.
            frames: Frames of the whole row.
            start: First step.
            stop: Last step + 1.
            out: int64 `[step, …]`, what is written.
        """


class TokenLayout(Layout):
    """Streams of one dimension as they are: every token is a frame and a step.

    Args:
        vocabulary_size: Number of ids; None where that is not known.
    """

    codes_per_frame = 1

    def __init__(self, vocabulary_size: int | None) -> None:
        self.vocabulary_size = vocabulary_size

    def cut(
        self, codes: npt.NDArray[Any], first: int, frames: int, start: int, stop: int, out: npt.NDArray[np.int64]
    ) -> None:
        """Copy the tokens, `[token]`."""
        out[:] = codes


class CodeLayout(Layout):
    """Codes of several codebooks laid out, the first ones of every frame.

    Attributes:
        codebooks: How many codebooks are laid out.
        codebook_size: Ids of each.
        columns: int64 `[code]`, which codes of a stored frame are laid out, in order.
    """

    vocabulary_size: int

    def __init__(self, books: Sequence[int], codebooks: int | None, codebook_size: int) -> None:
        """Take the first codebooks.

        Args:
            books: For each code of a stored frame, the number of its codebook.
            codebooks: How many to lay out; default all.
            codebook_size: Ids of each.

        Raises:
            LoaderError: there are not so many codebooks.
        """
        stored = max(books) + 1
        if codebooks is not None and not 1 <= codebooks <= stored:
            raise LoaderError(
                f"a pattern of the first {codebooks} codebooks; {stored} are stored",
                fix=f"take 1 … {stored}, or leave codebooks out for all",
            )
        self.codebooks = codebooks or stored
        self.codebook_size = codebook_size
        self.codes_per_frame = len(books)
        self.columns = np.flatnonzero(np.asarray(books) < self.codebooks)
        self.vocabulary_size = codebook_size
        # Slices copy faster than lists of columns do.
        count = len(self.columns)
        leading = int(self.columns[-1]) == count - 1
        self._chosen: slice | npt.NDArray[np.int64] = slice(0, count) if leading else self.columns

    @property
    def whole(self) -> bool:
        """Whether all codes of a frame are laid out."""
        return len(self.columns) == self.codes_per_frame

    def lay_out(self, codes: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Lay out a row.

        Args:
            codes: Integers `[frame, code]`, those of all stored codebooks.

        Returns:
            int64 `[step]` or `[step, codebook]`.

        Raises:
            LoaderError: the frames are not those that the layout was made for.
        """
        if codes.ndim != 2 or codes.shape[1] != self.codes_per_frame:
            raise LoaderError(
                f"codes of the shape {codes.shape}; this layout was made for (frames, {self.codes_per_frame})"
            )
        frames = len(codes)
        steps = frames * self.steps_per_frame + self.more_steps
        out = np.empty((steps, *self.step_shape), np.int64)
        self.cut(codes, 0, frames, 0, steps, out)
        return out

    def undo(self, tokens: npt.NDArray[Any], position: int = 0) -> npt.NDArray[Any]:
        """Return the codes of tokens that were laid out: of a row, or of any stretch of one, or of a model's.

        Frames of which not all codes are there are left out: at the end, and at the beginning of a stretch.

        Args:
            tokens: Integers `[step]` or `[step, codebook]`, of one row, without padding or separators.
            position: Place of the first step in its row.

        Returns:
            `[frame, code]` of the codebooks that were laid out, in the narrowest dtype.

        Raises:
            LoaderError: a token is not a code of its place.
        """
        if tokens.shape[1:] != self.step_shape or tokens.ndim != 1 + len(self.step_shape):
            shape = ", ".join(map(str, ("steps", *self.step_shape)))
            raise LoaderError(f"tokens of the shape {tokens.shape} cannot be undone; it must be ({shape})")
        codes, places = self._gathered(tokens.astype(np.int64, copy=False), position)
        wrong = np.argwhere((codes < 0) | (codes >= self.codebook_size))
        if len(wrong):
            frame, column = wrong[0].tolist()
            place = places(frame, column)
            raise LoaderError(
                f"token {int(tokens[place])} at {place[0] if len(place) == 1 else place} is no code of codebook "
                f"{self._book(column)}: {self._ids(column)} are",
                fix="give the tokens of one row, without padding and separators, in the pattern that laid them out; of "
                "a model's tokens, those before the place where it left the pattern",
            )
        return codes.astype(narrowest_dtype(self.codebook_size))

    @abstractmethod
    def _gathered(self, tokens: npt.NDArray[np.int64], position: int) -> _Gathered:
        """Take the codes out of tokens whose shape is right."""

    def _book(self, column: int) -> int:
        return column

    def _ids(self, column: int) -> str:
        return f"0 … {self.codebook_size - 1}"


class EvenLayout(CodeLayout):
    """A layout without steps beside those of the frames: rows laid end to end are their frames laid end to end."""

    def cut_many(self, codes: npt.NDArray[Any], phase: int, out: npt.NDArray[np.int64]) -> None:
        """Lay out equally many steps of several runs of frames, for offsets to be added.

        Args:
            codes: `[run, frame, code]`.
            phase: Steps of the first frame to leave out.
            out: int64 `[run, step, …]`.
        """
        # Column by column: numpy copies few long runs faster than many short ones.
        tokens, count = out.reshape(len(out), -1), len(self.columns)
        for place, column in enumerate(self.columns.tolist()):
            begin = (place - phase) % count
            some = tokens[:, begin::count]
            first = (begin + phase) // count
            some[...] = codes[:, first : first + some.shape[1], column]

    def add_offsets(self, phases: npt.NDArray[np.int64], out: npt.NDArray[np.int64]) -> None:
        """Make tokens of codes int64 `[run, step, …]` in place, each run from place `phases` `[run]` in a frame on."""


class FlatLayout(EvenLayout):
    """Frame by frame, code by code: one token a step.

    Args:
        books: For each code of a stored frame, the number of its codebook.
        codebooks: How many codebooks to lay out; default all.
        codebook_size: Ids of each.
        offsets: Whether the ids of codebook k begin at k * codebook_size.
    """

    def __init__(self, books: Sequence[int], codebooks: int | None, codebook_size: int, *, offsets: bool) -> None:
        super().__init__(books, codebooks, codebook_size)
        self._books = np.asarray(books, np.int64)[self.columns]
        self.steps_per_frame = len(self.columns)
        self.offsets = self._books * codebook_size if offsets else np.zeros(len(self.columns), np.int64)
        self._has_offsets = bool(self.offsets.any())
        self._tile = self.offsets  # again and again, for the longest run so far
        self.vocabulary_size = codebook_size * (self.codebooks if offsets else 1)

    def cut(
        self, codes: npt.NDArray[Any], first: int, frames: int, start: int, stop: int, out: npt.NDArray[np.int64]
    ) -> None:
        """Lay out steps of a row; see `Layout.cut`."""
        begin = start - first * self.steps_per_frame
        out[:] = codes[:, self._chosen].reshape(-1)[begin : begin + stop - start]
        self.add_offsets(np.array([begin]), out[None])

    def add_offsets(self, phases: npt.NDArray[np.int64], out: npt.NDArray[np.int64]) -> None:
        """Add the codebooks' offsets; see `EvenLayout.add_offsets`."""
        if not self._has_offsets or not len(phases):
            return
        count = out.shape[1]
        tile = self._tile
        if len(tile) < count + self.steps_per_frame:
            tile = self._tile = np.resize(self.offsets, count + self.steps_per_frame)
        if (phases == phases[0]).all():
            out += tile[phases[0] : phases[0] + count]
            return
        for run, phase in enumerate(phases.tolist()):
            out[run] += tile[phase : phase + count]

    def _gathered(self, tokens: npt.NDArray[np.int64], position: int) -> _Gathered:
        count = self.steps_per_frame
        first = -position % count
        frames = max((len(tokens) - first) // count, 0)
        codes = tokens[first : first + frames * count].reshape(frames, count) - self.offsets
        return codes, lambda frame, column: (first + frame * count + column,)

    def _book(self, column: int) -> int:
        return int(self._books[column])

    def _ids(self, column: int) -> str:
        offset = int(self.offsets[column])
        return f"{offset} … {offset + self.codebook_size - 1}"


class ParallelLayout(EvenLayout):
    """A step is a frame: a token of every codebook."""

    def __init__(self, books: Sequence[int], codebooks: int | None, codebook_size: int) -> None:
        super().__init__(books, codebooks, codebook_size)
        _require_one_rate(books)
        self.step_shape = (self.codebooks,)

    def cut(
        self, codes: npt.NDArray[Any], first: int, frames: int, start: int, stop: int, out: npt.NDArray[np.int64]
    ) -> None:
        """Lay out steps of a row; see `Layout.cut`."""
        out[:] = codes[:, self._chosen]

    def _gathered(self, tokens: npt.NDArray[np.int64], position: int) -> _Gathered:
        return tokens, lambda frame, column: (frame, column)


class DelayedLayout(CodeLayout):
    """Codebook k is k steps late: a step has the codes of as many frames as there are codebooks, and holes at the ends.

    Args:
        books: For each code of a stored frame, the number of its codebook.
        codebooks: How many codebooks to lay out; default all.
        codebook_size: Ids of each.
        hole_id: Token of the holes.

    Raises:
        LoaderError: the holes' token is a code.
    """

    def __init__(self, books: Sequence[int], codebooks: int | None, codebook_size: int, hole_id: int) -> None:
        super().__init__(books, codebooks, codebook_size)
        _require_one_rate(books)
        if hole_id < codebook_size:
            raise LoaderError(
                f"holes of a delayed pattern are to be {hole_id}, which is a code (0 … {codebook_size - 1}) or below 0",
                fix=f"leave hole_id out for {codebook_size}, or take a larger one",
            )
        self.hole_id = hole_id
        self.step_shape = (self.codebooks,)
        self.more_steps = self.codebooks - 1
        self.vocabulary_size = hole_id + 1

    def needed(self, start: int, stop: int, frames: int) -> tuple[int, int]:
        """Return the frames that steps have codes of; see `Layout.needed`."""
        first, last = max(start - self.more_steps, 0), min(stop, frames)
        return min(first, last), last

    def cut(
        self, codes: npt.NDArray[Any], first: int, frames: int, start: int, stop: int, out: npt.NDArray[np.int64]
    ) -> None:
        """Lay out steps of a row; see `Layout.cut`."""
        count = self.codebooks
        # The frames of all steps, holes where there are none; a step is then every codebook's code of another frame.
        rows = np.empty((stop - start + self.more_steps, count), np.int64)
        begin = first - start + self.more_steps
        rows[:begin] = self.hole_id
        rows[begin : begin + len(codes)] = codes[:, self._chosen]
        rows[begin + len(codes) :] = self.hole_id
        width = rows.itemsize
        out[:] = np.ndarray(
            out.shape, rows.dtype, rows, self.more_steps * count * width, (count * width, (1 - count) * width)
        )

    def _gathered(self, tokens: npt.NDArray[np.int64], position: int) -> _Gathered:
        frames = max(len(tokens) - self.more_steps, 0)
        columns = [tokens[book : book + frames, book] for book in range(self.codebooks)]
        return np.stack(columns, axis=1), lambda frame, column: (frame + column, column)


def _require_one_rate(books: Sequence[int]) -> None:
    if len(books) != max(books) + 1:
        raise LoaderError(
            "codebooks of different frame rates have no steps in common",
            fix="lay them out one after another: Flat()",
        )
