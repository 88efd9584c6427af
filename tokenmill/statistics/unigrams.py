"""Unigram counts: how often each id of a stream came, exactly. The hot spot of statistics, alone in its file.

`np.bincount` wants ids as wide as a pointer, and makes a count array of the vocabulary's size at every call. Ids are
therefore gathered, and widened as they are, in a buffer of about twice the vocabulary, which is counted when full.
Single bytes are counted as pairs, which takes half the steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.streams import StreamSpec

#: Streams with more ids than this are not counted: their counts alone would take over 32 MiB a worker.
LARGEST_COUNTED_VOCABULARY = 1 << 22
#: Bounds of the buffer, in entries: smaller ones cost calls, larger ones fall out of the processor's caches.
_SMALLEST_BUFFER, _LARGEST_BUFFER = 1 << 16, 1 << 21
_BYTE_PAIRS = 1 << 16


class Unigrams:
    """How often each id came. What is added must have been checked against the spec.

    Counts that were read from a file stay sparse until something is added to them, so that merging many small parts
    does not cost the vocabulary's size a part.
    """

    __slots__ = ("_buffer", "_dense", "_filled", "_in_pairs", "_sparse", "vocabulary_size")

    def __init__(self, vocabulary_size: int, dtype: str) -> None:
        self.vocabulary_size = vocabulary_size
        self._in_pairs = dtype == "uint8"
        self._dense: npt.NDArray[np.int64] | None = None
        self._sparse: tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]] | None = None
        self._buffer: npt.NDArray[np.intp] | None = None
        self._filled = 0

    @classmethod
    def for_stream(cls, spec: StreamSpec) -> Unigrams | None:
        """Return counts of no ids; None for streams without a vocabulary, or with one too large to count."""
        if spec.vocabulary_size is None or spec.vocabulary_size > LARGEST_COUNTED_VOCABULARY:
            return None
        return cls(spec.vocabulary_size, spec.dtype)

    def add(self, ids: npt.NDArray[Any]) -> None:
        """Count ids `[n]`."""
        if self._in_pairs:
            if len(ids) % 2:
                self._counted()[ids[-1]] += 1
            ids = np.ascontiguousarray(ids[: len(ids) // 2 * 2]).view(np.uint16)
        if self._buffer is None:
            keys = _BYTE_PAIRS * 2 if self._in_pairs else self.vocabulary_size
            self._buffer = np.empty(min(max(2 * keys, _SMALLEST_BUFFER), _LARGEST_BUFFER), np.intp)
        start = 0
        while start < len(ids):
            taken = min(len(ids) - start, len(self._buffer) - self._filled)
            self._buffer[self._filled : self._filled + taken] = ids[start : start + taken]
            self._filled += taken
            start += taken
            if self._filled == len(self._buffer):
                self._flush(self._buffer)

    def merge(self, other: Unigrams) -> None:
        """Add what another counted over the same vocabulary."""
        if other._sparse is not None:
            ids, counts = other._sparse
            self._counted()[ids] += counts
        else:
            self._counted()[:] += other.dense()

    def dense(self) -> npt.NDArray[np.int64]:
        """Return int64 `[vocabulary]`: how often each id came. It is the object's own: copy before writing."""
        if self._buffer is not None and self._filled:
            self._flush(self._buffer)
        return self._counted()

    def sparse(self) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """Return the ids that came, increasing, and how often each did."""
        if self._sparse is not None:
            return self._sparse
        dense = self.dense()
        ids = np.flatnonzero(dense)
        return ids.astype(np.uint32), dense[ids]

    def fill(self, ids: npt.NDArray[np.uint32], counts: npt.NDArray[np.int64]) -> None:
        """Take over what `sparse` returned, in place of all there was; raises IndexError for an id too large."""
        if len(ids) and int(ids[-1]) >= self.vocabulary_size:
            raise IndexError(f"id {ids[-1]} in a vocabulary of {self.vocabulary_size} ids")
        self._dense, self._filled, self._sparse = None, 0, (ids, counts)

    def _counted(self) -> npt.NDArray[np.int64]:
        """Return the dense counts, of what is in the buffer not."""
        if self._dense is None:
            self._dense = np.zeros(self.vocabulary_size, np.int64)
            if self._sparse is not None:
                ids, counts = self._sparse
                self._dense[ids] = counts
                self._sparse = None
        return self._dense

    def _flush(self, buffer: npt.NDArray[np.intp]) -> None:
        keys = buffer[: self._filled]
        self._filled = 0
        if self._in_pairs:
            pairs = np.bincount(keys, minlength=_BYTE_PAIRS).reshape(256, 256)
            self._counted()[:] += (pairs.sum(axis=0) + pairs.sum(axis=1))[: self.vocabulary_size]
        else:
            self._counted()[:] += np.bincount(keys, minlength=self.vocabulary_size)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Unigrams):
            return NotImplemented
        ids, counts = self.sparse()
        other_ids, other_counts = other.sparse()
        return np.array_equal(ids, other_ids) and np.array_equal(counts, other_counts)

    __hash__ = None  # type: ignore[assignment]  # it changes
