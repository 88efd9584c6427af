"""Patterns: how a codec's codes (frame, codebook) are laid out for a language model, and how that is undone.

from tokenmill.loader import Delayed

layout = Delayed(codebooks=4).layout(codebooks=8, codebook_size=1024)
tokens = layout.lay_out(codes)  # int64 [step, 4] of codes [frame, 8]
layout.undo(tokens)             # uint16 [frame, 4]

The tokens on storage are the same for all patterns: codes are laid out where training reads them. What a step is, and
how it is found, is the business of `layouts`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from tokenmill.loader.layouts import CodeLayout, DelayedLayout, FlatLayout, ParallelLayout


@dataclass(frozen=True)
class Pattern(ABC):
    """How codes are laid out. The base of `Flat`, `Parallel` and `Delayed`.

    Attributes:
        codebooks: Codebooks of every frame to lay out, its first ones; default all.
    """

    codebooks: int | None = None

    def layout(self, codebooks: int, codebook_size: int) -> CodeLayout:
        """Return the layout of frames of one code of each codebook.

        Args:
            codebooks: Codebooks of a stored frame.
            codebook_size: Ids of each.

        Raises:
            LoaderError: the pattern wants more codebooks than there are.
        """
        return self.layout_of(range(codebooks), codebook_size)

    @abstractmethod
    def layout_of(self, books: Sequence[int], codebook_size: int) -> CodeLayout:
        """Return the layout of frames whose codes are of the codebooks `books`, as `Ragged.books` says."""

    @property
    def what(self) -> str:
        """What a state says of it: all that decides which tokens there are."""
        return f"{type(self).__name__.lower()}, " + (
            "all codebooks" if self.codebooks is None else f"{self.codebooks} codebooks"
        )


@dataclass(frozen=True)
class Flat(Pattern):
    """Frame by frame, code by code: `frames * codebooks` tokens, as text is.

    Attributes:
        codebooks: Codebooks of every frame to lay out, its first ones; default all.
        offsets: Whether the ids of codebook k begin at k * codebook_size, so that those of different codebooks differ.
    """

    offsets: bool = True

    def layout_of(self, books: Sequence[int], codebook_size: int) -> FlatLayout:
        """Return the layout of frames whose codes are of the codebooks `books`."""
        return FlatLayout(books, self.codebooks, codebook_size, offsets=self.offsets)

    @property
    def what(self) -> str:
        """What a state says of it."""
        return super().what + ("" if self.offsets else ", no offsets")


@dataclass(frozen=True)
class Parallel(Pattern):
    """A step is a frame, with a token of every codebook: `frames` steps.

    Attributes:
        codebooks: Codebooks of every frame to lay out, its first ones; default all.
    """

    def layout_of(self, books: Sequence[int], codebook_size: int) -> ParallelLayout:
        """Return the layout of frames of one code of each codebook."""
        return ParallelLayout(books, self.codebooks, codebook_size)


@dataclass(frozen=True)
class Delayed(Pattern):
    """Codebook k is k steps late, as MusicGen has it: `frames + codebooks - 1` steps, also of a row without frames.

    Attributes:
        codebooks: Codebooks of every frame to lay out, its first ones; default all.
        hole_id: Token where a codebook has no code yet, or no more; default the first id that is none, codebook_size.
    """

    hole_id: int | None = None

    def layout_of(self, books: Sequence[int], codebook_size: int) -> DelayedLayout:
        """Return the layout of frames of one code of each codebook."""
        hole_id = codebook_size if self.hole_id is None else self.hole_id
        return DelayedLayout(books, self.codebooks, codebook_size, hole_id)

    @property
    def what(self) -> str:
        """What a state says of it."""
        return super().what + ("" if self.hole_id is None else f", holes {self.hole_id}")
