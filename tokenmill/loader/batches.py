"""Batches under construction: ids are copied in, and what the documents' pieces say is laid out at the end.

Arrays of a batch: `ids` int64 `[sample, token]`, of codes perhaps `[sample, step, codebook]`, where a step is what a
token is otherwise; `document_ids` int64 `[sample, token]`, row in the table, -1 for padding; `positions` int64
`[sample, token]`, the token's place in its document; `cu_seqlens` int32 `[piece + 1]`, cumulative lengths of the pieces
of documents over the flattened batch, as FlashAttention's variable-length kernels take them: every sample starts a new
piece. Several batches are built side by side, as numpy costs the same for one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

FIELDS = ("ids", "document_ids", "positions", "cu_seqlens")
#: The most that arrays of batches take, about.
_ARRAY_BYTES = 8 << 20


class Pieces(NamedTuple):
    """Pieces of documents, in the order in which they lie in the rows of batches.

    Attributes:
        rows: int64 `[piece]`, row of the builder.
        documents: int64 `[piece]`, row number in the table; -1 for padding.
        begins: int64 `[piece]`, place in the document of the piece's first token.
        lengths: int64 `[piece]`, tokens.
    """

    rows: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int64]
    begins: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]


def keep_freed_memory() -> None:
    """Let the C library keep the memory of arrays that were freed, for the next batch's.

    glibc maps large arrays anew each time, and the kernel clears every page of them, until an array of that size has
    been freed once (mallopt(3), M_MMAP_THRESHOLD). One here halves the time of a batch of all fields.
    """
    np.empty(_ARRAY_BYTES, np.uint8)


class BatchBuilder:
    """Batches of `samples` rows each, one after another.

    Args:
        batches: How many.
        samples: Rows of a batch.
        window: Tokens of a row.
        fields: Arrays of a batch, of `FIELDS`.
        step_shape: Shape of a token.

    Attributes:
        ids: int64 `[row, token, …]`, the rows of all batches, to be filled.
        wants_pieces: Whether `add_pieces` must be called for every row.
    """

    def __init__(
        self, batches: int, samples: int, window: int, fields: Collection[str], step_shape: tuple[int, ...] = ()
    ) -> None:
        self.ids = np.empty((batches * samples, window, *step_shape), np.int64)
        self._shape = (batches * samples, window)
        self.wants_pieces = len(fields) > 1
        self._samples = samples
        self._fields = fields
        self._pieces: list[Pieces] = []

    def add_pieces(self, pieces: Pieces) -> None:
        """Say which pieces of documents rows consist of; of one row they come in order, rows in any."""
        self._pieces.append(pieces)

    def pad(self, row: int, start: int, pad_id: int) -> None:
        """Fill a row with padding from token `start` on."""
        left = self.ids.shape[1] - start
        if left:
            self.ids[row, start:] = pad_id
            if self.wants_pieces:
                self.add_pieces(Pieces(*(np.array([number]) for number in (row, -1, 0, left))))

    def finish(self) -> list[dict[str, Any]]:
        """Return the batches: their arrays by name."""
        if not self.wants_pieces:
            return [{"ids": self.ids[row : row + self._samples]} for row in range(0, len(self.ids), self._samples)]
        arrays: dict[str, npt.NDArray[np.int64]] = {"ids": self.ids}
        rows, documents, begins, lengths = (np.concatenate(column) for column in zip(*self._pieces, strict=True))
        if (rows[1:] < rows[:-1]).any():
            order = rows.argsort(kind="stable")  # what was said of one row stays in order
            documents, begins, lengths = documents[order], begins[order], lengths[order]
        ends = np.cumsum(lengths)
        if "document_ids" in self._fields:
            arrays["document_ids"] = np.repeat(documents, lengths).reshape(self._shape)
        if "positions" in self._fields:
            positions = np.arange(self._shape[0] * self._shape[1])
            positions -= np.repeat(ends - lengths - begins, lengths)
            if documents.min() < 0:
                positions[np.repeat(documents < 0, lengths)] = 0
            arrays["positions"] = positions.reshape(self._shape)
        ends = ends[lengths > 0]
        return [self._batch(arrays, ends, first) for first in range(0, len(self.ids), self._samples)]

    def _batch(
        self, arrays: dict[str, npt.NDArray[np.int64]], ends: npt.NDArray[np.int64], first: int
    ) -> dict[str, Any]:
        batch: dict[str, Any] = {}
        for name in self._fields:
            if name == "cu_seqlens":
                begin, end = first * self.ids.shape[1], (first + self._samples) * self.ids.shape[1]
                inside = ends[ends.searchsorted(begin, "right") : ends.searchsorted(end, "right")]
                batch[name] = np.concatenate([[0], inside - begin]).astype(np.int32)
            else:
                batch[name] = arrays[name][first : first + self._samples]
        return batch
