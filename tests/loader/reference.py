"""What a loader's batches must be, worked out slowly from the table's rows: what the loader's tests compare with."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import tokenmill
from tests.loader.corpora import CODEBOOK_SIZE
from tokenmill.loader import Delayed, Flat, Parallel, Pattern, Subset, TokenLoader, loading, torch_workers
from tokenmill.loader.torch_workers import WorkerBoard

Batch = dict[str, Any]
#: Of one window: ids, documents, positions.
Sample = tuple[tuple[Any, ...], tuple[int, ...], tuple[int, ...]]
PADDING = -1


class Reference:
    """A table's tokens, document by document.

    Attributes:
        documents: Number → its ids, the separator included; of some patterns those of all codebooks at each step.
        places: Number → its row, and which document of the row it is.
        ring: (document, position) of every token in source order.
    """

    def __init__(
        self,
        uri: str,
        *,
        table: str = "text",
        stream: str | None = "ids",
        separator: int | None = None,
        subset: Subset | None = None,
        prefix: int | None = None,
        pattern: Pattern | None = None,
        documents: str | None = None,
        skip_duplicates: bool = False,
        distinct: str | None = None,
    ) -> None:
        opened = tokenmill.open(uri)[table]
        skipped = set(opened.known_duplicates().rows.tolist()) if skip_duplicates else set()
        self.documents: dict[int, list[Any]] = {}
        self.places: dict[int, tuple[int, int]] = {}
        seen: set[int] = set()
        number = 0
        for place, row in enumerate(opened):
            values = row.streams[distinct].tolist() if distinct else []
            whole = laid_out(row.streams, stream, None if documents else prefix, pattern)
            ends = [*row.streams[documents].tolist(), len(whole)] if documents else [len(whole)]
            for part, (start, stop) in enumerate(pairwise([0, *ends])):
                behind = documents is not None and part == len(ends) - 1 and start == stop
                left_out = (subset is not None and not subset.contains(row.key)) or place in skipped
                left_out = left_out or not seen.isdisjoint(values[part : part + 1])
                seen.update(values[part : part + 1])
                if not left_out and not (behind and separator is not None):
                    self.documents[number] = whole[start:stop][: prefix if documents else None]
                    self.places[number] = (place, part)
                number += 1
        if separator is not None:
            spec = tokenmill.open(uri)[table].streams.get(stream or "")
            width = (pattern.codebooks or (spec.shape[1] if spec else 0) or 0) if pattern else 0
            for tokens in self.documents.values():
                tokens.append([separator] * width if isinstance(pattern, Parallel | Delayed) else separator)
        self.ring = [(number, place) for number, ids in self.documents.items() for place in range(len(ids))]

    def check(self, batch: Batch, *, pad_id: int = 0) -> None:
        """Compare every token of a batch with the row that it is said to be from, and `cu_seqlens` with both."""
        ends = [0]
        for ids, documents, positions in samples_of(batch):
            begin = ends[-1]
            for place, (token, document, position) in enumerate(zip(ids, documents, positions, strict=True)):
                if document == PADDING:
                    assert np.all(np.equal(token, pad_id))
                    assert position == 0
                    continues = place > 0 and documents[place - 1] == PADDING
                else:
                    assert token == self.documents[document][position]
                    continues = place > 0 and (documents[place - 1], positions[place - 1]) == (document, position - 1)
                if place > 0 and not continues:
                    ends.append(begin + place)
            ends.append(begin + len(ids))
        assert batch["cu_seqlens"].tolist() == ends
        assert [str(batch[name].dtype) for name in ("ids", "document_ids", "positions")] == ["int64"] * 3
        assert batch["cu_seqlens"].dtype == np.int32

    def missing(self, batches: Iterable[Batch]) -> Counter[tuple[int, int]]:
        """Return which tokens no batch has; fails where one is there twice."""
        found = tokens_of(batches)
        assert not found - Counter(self.ring), "a token is there twice"
        return Counter(self.ring) - found


def laid_out(streams: Mapping[str, Any], stream: str | None, prefix: int | None, pattern: Pattern | None) -> list[Any]:
    """Lay a row out by the book; without a stream, codes of different frame rates."""
    if pattern is None:
        return list(streams[stream or "ids"][:prefix].tolist())
    count = pattern.codebooks
    if stream is None:
        assert isinstance(pattern, Flat)
        tokens = []
        for frame in range(len(streams["codes_4"]))[:prefix]:
            books = [(0, int(streams["codes_4"][frame, 0]))]
            for half in range(2 * frame, 2 * frame + 2):
                books += [(1, int(streams["codes_2"][half, 0])), (2, int(streams["codes_2"][half, 1]))]
            books += [(3, int(streams["codes_1"][quarter, 0])) for quarter in range(4 * frame, 4 * frame + 4)]
            taken = [(book, code) for book, code in books if count is None or book < count]
            tokens += [code + (CODEBOOK_SIZE * book if pattern.offsets else 0) for book, code in taken]
        return tokens
    codes = [frame[:count] for frame in streams[stream][:prefix].tolist()]
    if isinstance(pattern, Flat):
        step = CODEBOOK_SIZE if pattern.offsets else 0
        return [code + step * book for frame in codes for book, code in enumerate(frame)]
    if isinstance(pattern, Parallel):
        return codes
    assert isinstance(pattern, Delayed)
    width = count or streams[stream].shape[1]
    hole = CODEBOOK_SIZE if pattern.hole_id is None else pattern.hole_id
    return [
        [codes[step - book][book] if 0 <= step - book < len(codes) else hole for book in range(width)]
        for step in range(len(codes) + width - 1)
    ]


def samples_of(*batches: Batch) -> list[Sample]:
    """Return the windows of batches, in order."""
    names = ("ids", "document_ids", "positions")
    return [
        (tuple(ids), tuple(documents), tuple(positions))
        for batch in batches
        for ids, documents, positions in zip(*(np.asarray(batch[name]).tolist() for name in names), strict=True)
    ]


def tokens_of(batches: Iterable[Batch]) -> Counter[tuple[int, int]]:
    """Return how many times each (document, position) is there, padding left out."""
    return Counter(
        (document, position)
        for _, documents, positions in samples_of(*batches)
        for document, position in zip(documents, positions, strict=True)
        if document != PADDING
    )


def without_padding(samples: Iterable[Sample]) -> list[Sample]:
    """Leave out windows of padding only, which is what fills the last batch up."""
    return [sample for sample in samples if set(sample[1]) != {PADDING}]


@contextmanager
def as_worker(number: int, workers: int) -> Iterator[None]:
    """Let loaders believe that they are in a worker of torch's DataLoader."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "current_worker", lambda: (number, workers))
        for module in (loading, torch_workers):
            patch.setattr(module, "in_worker", lambda: True)
        yield


def forked(loader: TokenLoader) -> TokenLoader:
    """Copy a loader as a fork into a DataLoader worker does: the memory that it shares stays shared."""
    board = WorkerBoard.__new__(WorkerBoard)
    vars(board).update(vars(loader._board))
    board.note()
    made = copy.copy(loader)
    made._board = board
    return made


def through_workers(loader: TokenLoader, workers: int, count: int | None = None) -> list[Batch]:
    """Read what is left of an epoch as DataLoader workers do, each with a copy, and in turn deliver their batches.

    Every worker but the last is as far ahead as can be: it has finished before the next one begins.

    Args:
        loader: The loader, which is left as it is.
        workers: How many; 0: none, the loader itself is read.
        count: Stop after so many batches.
    """
    if not workers:
        found = []
        for batch in loader:
            found.append(batch)
            if len(found) == count:
                break
        return found
    copies = [forked(loader) for _ in range(workers)]
    made: list[list[Batch]] = []
    for number, one in enumerate(copies):
        with as_worker(number, workers):
            # of batches number, number + workers, … below `count`
            mine = None if count is None else len(range(number, count, workers))
            made.append(take(one, mine))
    total = sum(map(len, made))
    return [made[number % workers][number // workers] for number in range(total)]


def take(loader: Iterable[Batch], count: int | None) -> list[Batch]:
    """Return the first batches, or all, leaving the iteration where it is."""
    if count == 0:
        return []
    found = []
    for batch in loader:
        found.append(batch)
        if len(found) == count:
            break
    return found


def on_ranks(ranks: Sequence[Sequence[Batch]]) -> list[Sample]:
    """Lay the ranks' batches side by side: the windows of all ranks in global order."""
    return [sample for parts in zip(*ranks, strict=True) for sample in samples_of(*parts)]
