"""What a table is cut into: samples of `window` tokens by number. The base of windows and of packed documents.

Samples are numbered from 0, in groups; a group is what is shuffled at a time and, from object storage, read at a time.
Which sample comes when is the order's business (`orders`), which ranks get it the loader's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from tokenmill.errors import LoaderError
from tokenmill.loader.batches import FIELDS, BatchBuilder
from tokenmill.loader.corpus import TokenCorpus


class SamplePlan(ABC):
    """Some samples of one epoch, found: ready to be copied into batches."""

    @abstractmethod
    def fill(self, samples: range, rows: Sequence[int], batch: BatchBuilder) -> None:
        """Copy samples (places in the plan, step 1) into rows of a batch, one to one."""

    @abstractmethod
    def pieces(self) -> Iterable[tuple[int, int, int]]:
        """Yield what the samples will read: (shard, start, stop) in values or frames."""


class PackedSamples(ABC):
    """Samples of a table: a map-style dataset, and what a `TokenLoader` draws from.

    Attributes:
        corpus: The tokens.
        window: Tokens of a sample.
        fields: Arrays of a sample, of `batches.FIELDS`.
    """

    def __init__(self, corpus: TokenCorpus, window: int, *, fields: Collection[str] = FIELDS, pad_id: int = 0) -> None:
        if window < 1:
            raise LoaderError(f"a window of {window} tokens; it must have one or more")
        unknown = set(fields) - set(FIELDS)
        if unknown or "ids" not in fields:
            raise LoaderError(
                f"the fields of a batch are {', '.join(fields) or 'none'}; possible are {', '.join(FIELDS)}, "
                "and 'ids' is always one of them"
            )
        self.corpus = corpus
        self.window = window
        self.fields = tuple(fields)
        self.pad_id = pad_id

    @abstractmethod
    def __len__(self) -> int:
        """Samples of an epoch."""

    @abstractmethod
    def plan(self, numbers: npt.NDArray[np.int64], shift: int = 0) -> SamplePlan:
        """Find samples by number, int64 `[sample]`; `shift` is what differs between epochs."""

    @abstractmethod
    def span(self, first: int, last: int, shift: int) -> Iterable[tuple[int, int, int]]:
        """Yield what neighbouring samples first … last - 1 read together: (shard, start, stop) in values or frames."""

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        """Return a sample: its arrays by name, each without the sample dimension."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[SupportsIndex]) -> list[dict[str, Any]]:
        """Return several samples; torch's DataLoader asks for a batch in this way."""
        plan = self.plan(self._numbers(np.array([self._index(index) for index in indices], np.int64)))
        builder = BatchBuilder(len(indices), 1, self.window, self.fields, self.corpus.step_shape)
        plan.fill(range(len(indices)), range(len(indices)), builder)
        return [
            {name: array if name == "cu_seqlens" else array[0] for name, array in batch.items()}
            for batch in builder.finish()
        ]

    def _numbers(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Turn 0 … len - 1 into sample numbers."""
        return indices

    def _index(self, index: SupportsIndex) -> int:
        number, count = index.__index__(), len(self)
        if not -count <= number < count:
            raise IndexError(f"sample {number} of {count}")
        return number % count
