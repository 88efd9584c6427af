"""Packing whole documents into windows by best fit, from their lengths alone.

Nothing here knows of tables, shards or tokens: lengths go in, and which piece of which document lies in which bin comes
out. The method is that of Ding et al. 2024, "Fewer Truncations Improve Language Modeling" (arXiv:2404.10830): only
documents longer than a window are cut, and the pieces are packed by best-fit decreasing.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenmill.errors import LoaderError

_LARGEST_WINDOW = int(np.iinfo(np.int32).max)


class Pieces(NamedTuple):
    """The pieces in one bin, in their order in the window.

    Attributes:
        documents: int64 [piece], index of the document.
        starts: int64 [piece], where the piece begins in its document, in tokens.
        lengths: int32 [piece], in tokens, at least 1.
    """

    documents: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Packing:
    """Which pieces of documents lie in which bin; a bin becomes one window.

    Bins are in the order in which they were opened, which is by the length of their first piece, longest first: whoever
    trains on them shuffles them. Within a bin the longest piece is first, equal ones in the order of their documents.

    Attributes:
        window: Tokens that a bin holds at most.
        bin_starts: int64 [bin + 1], where a bin's pieces begin in the arrays below.
        documents: int64 [piece], index of the document.
        starts: int64 [piece], where the piece begins in its document, in tokens; a multiple of the window.
        lengths: int32 [piece], in tokens, at least 1.
    """

    window: int
    bin_starts: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.bin_starts) - 1

    def __getitem__(self, number: int) -> Pieces:
        place = range(len(self))[number]
        pieces = slice(self.bin_starts[place], self.bin_starts[place + 1])
        return Pieces(self.documents[pieces], self.starts[pieces], self.lengths[pieces])

    def __iter__(self) -> Iterator[Pieces]:
        return (self[number] for number in range(len(self)))

    @property
    def tokens(self) -> int:
        """Number of tokens in all bins, which is that of all documents."""
        return int(self.lengths.sum(dtype=np.int64))

    @property
    def fill(self) -> float:
        """Fraction of the windows' places that hold a token; 1.0 where there is no window."""
        return self.tokens / (len(self) * self.window) if len(self) else 1.0


def best_fit(lengths: npt.NDArray[np.integer[Any]], window: int) -> Packing:
    """Pack documents into windows by best-fit decreasing.

    A document longer than the window is cut into pieces of `window` tokens, each a bin of its own, and a rest. Rests
    and shorter documents are placed from the longest to the shortest, equal ones in the order of the documents, each
    into the bin that has the least room among those with room enough, of equal bins the one opened first; where there
    is none a bin is opened. Documents of no tokens have no piece. The result depends on the arguments alone.

    Args:
        lengths: Integers [document], tokens in each document, at least 0.
        window: Tokens that a bin holds at most.

    Raises:
        LoaderError: The window is not between 1 and 2,147,483,647 tokens.
    """
    if not 1 <= window <= _LARGEST_WINDOW:
        raise LoaderError(
            f"a window of {window} tokens cannot be packed", fix=f"give a window of 1 to {_LARGEST_WINDOW} tokens"
        )
    documents, starts, sizes = _cut(np.asarray(lengths, np.int64), window)
    order = np.argsort(-sizes, kind="stable")
    bins = _place(sizes[order], window)
    # pieces of a bin were placed longest first, which a stable sort keeps
    order = order[np.argsort(bins, kind="stable")]
    bin_starts = np.zeros(int(bins.max(initial=-1)) + 2, np.int64)
    np.cumsum(np.bincount(bins), out=bin_starts[1:])
    return Packing(window, bin_starts, documents[order], starts[order], sizes[order])


def _cut(
    lengths: npt.NDArray[np.int64], window: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Cut documents into pieces of at most a window: document, start and length of each [piece], in their order."""
    pieces = -(-lengths // window)
    documents = np.repeat(np.arange(len(lengths)), pieces)
    starts = np.arange(len(documents)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    starts *= window
    return documents, starts, np.minimum(lengths[documents] - starts, window).astype(np.int32)


def _place(sizes: npt.NDArray[np.int32], window: int) -> npt.NDArray[np.int64]:
    """Return the bin [piece] of each of the pieces [piece], which are in descending order of size.

    The work is done on the histogram of sizes and on ranges of neighbouring bins with equal room. The bin that fits a
    piece best still does so for the next piece of that size while it has room for one, so a whole range of bins is
    filled in one step. A step in which the pieces of a size run out splits a range and is the last one for that size;
    every other step leaves its range with less than half the room it had. Steps therefore grow with the number of
    different sizes times log2(window) at most, and never with the number of pieces.
    """
    borders = np.flatnonzero(np.diff(sizes, prepend=0))
    histogram = zip(sizes[borders].tolist(), np.diff(borders, append=len(sizes)).tolist(), strict=True)
    # step by step, in the order of the pieces: so many bins from this one on take so many pieces each
    firsts, numbers, takes = array("q"), array("q"), array("q")
    # ranges (room, first bin, bins) that have room for a piece of the present size, the least room last
    fitting: list[tuple[int, int, int]] = []
    # ranges with less room, a heap of (-room, -first bin, bins): most room first, of equal ones the bins opened last
    waiting: list[tuple[int, int, int]] = []
    opened = 0
    for size, count in histogram:
        while waiting and -waiting[0][0] >= size:
            room, first, number = heappop(waiting)
            fitting.append((-room, -first, number))
        while count:
            if fitting:
                room, first, number = fitting.pop()
                take = room // size
            else:
                take = window // size
                room, first, number = window, opened, -(-count // take)
                opened += number
            full = min(number, count // take)
            if full:
                firsts.append(first)
                numbers.append(full)
                takes.append(take)
                heappush(waiting, (take * size - room, -first, full))
                count -= take * full
            if full < number:
                # the pieces run out here: less than `take` are left, for one bin, which then has the least room of all
                touched = full + (count > 0)
                if touched < number:
                    fitting.append((room, first + touched, number - touched))
                if count:
                    firsts.append(first + full)
                    numbers.append(1)
                    takes.append(count)
                    fitting.append((room - count * size, first + full, 1))
                    count = 0
    number_of = np.asarray(numbers)
    bins = np.repeat(np.asarray(firsts) - (np.cumsum(number_of) - number_of), number_of)
    bins += np.arange(len(bins))
    return np.repeat(bins, np.repeat(np.asarray(takes), number_of))
