"""A batch under construction: ids are copied in row by row, and what the documents' pieces say is laid out at the end.

Arrays: `ids` int64 `[sample, token]`; `document_ids` int64 `[sample, token]`, row number in the table, -1 for padding;
`positions` int64 `[sample, token]`, the token's place in its document; `cu_seqlens` int32 `[piece + 1]`, cumulative
lengths of the pieces of documents over the flattened batch, as FlashAttention's variable-length kernels take them:
every sample starts a new piece.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

FIELDS = ("ids", "document_ids", "positions", "cu_seqlens")
#: int64 `[piece]` each: document (-1 for padding), place of the piece's first token in it, tokens.
Pieces = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]


class BatchBuilder:
    """One batch: `samples` rows of `window` tokens.

    Attributes:
        ids: int64 `[sample, token]`, to be filled.
        wants_pieces: Whether `pieces` must be set for every row.
        pieces: For every row, the pieces of documents that it consists of.
    """

    def __init__(self, samples: int, window: int, fields: Collection[str]) -> None:
        self.ids = np.empty((samples, window), np.int64)
        self._fields = fields
        self.wants_pieces = not set(fields) <= {"ids"}
        self.pieces: list[list[Pieces]] = [[] for _ in range(samples)] if self.wants_pieces else []

    def pad(self, row: int, start: int, pad_id: int) -> None:
        """Fill a row with padding from token `start` on."""
        self.ids[row, start:] = pad_id
        if self.wants_pieces and start < self.ids.shape[1]:
            self.pieces[row].append((np.array([-1]), np.array([0]), np.array([self.ids.shape[1] - start])))

    def finish(self) -> dict[str, Any]:
        """Return the batch's arrays by name."""
        batch: dict[str, Any] = {"ids": self.ids}
        if self.wants_pieces:
            columns = zip(*(piece for row in self.pieces for piece in row), strict=True)
            documents, begins, lengths = (np.concatenate(column) for column in columns)
            shape, total = self.ids.shape, self.ids.size
            ends = np.cumsum(lengths)
            if "document_ids" in self._fields:
                batch["document_ids"] = np.repeat(documents, lengths).reshape(shape)
            if "positions" in self._fields:
                positions = np.arange(total)
                positions -= np.repeat(ends - lengths - begins, lengths)
                padding = documents < 0
                if padding.any():
                    positions[np.repeat(padding, lengths)] = 0
                batch["positions"] = positions.reshape(shape)
            if "cu_seqlens" in self._fields:
                cumulative = np.concatenate([[0], ends[lengths > 0]])
                batch["cu_seqlens"] = cumulative.astype(np.int32)
        return {name: batch[name] for name in self._fields}
