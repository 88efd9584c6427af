"""Windows: a table's tokens cut into pieces of equal length, documents running on from one window into the next.

The tokens are taken as a ring: from a place that the epoch shifts, windows tile it end to end, the last ones going on
at the table's beginning. So every epoch cuts documents elsewhere, has the same number of windows, and leaves out no
more than the tokens that do not fill one (or none, where the last window is padded).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from tokenmill.errors import LoaderError
from tokenmill.loader.batches import FIELDS, BatchBuilder
from tokenmill.loader.corpus import TokenCorpus
from tokenmill.loader.packed import PackedSamples, SamplePlan


class PackedWindows(PackedSamples):
    """A table's windows of tokens: `len`, and a sample by its number.

    Args:
        corpus: The tokens.
        window: Tokens of a window.
        fields: Arrays of a sample.
        tail: What becomes of the last tokens that do not fill a window: left out, or padded to one.
        pad_id: Id that pads.

    Raises:
        LoaderError: the window is longer than the data.
    """

    def __init__(
        self,
        corpus: TokenCorpus,
        window: int,
        *,
        fields: Collection[str] = FIELDS,
        tail: Literal["drop", "pad"] = "drop",
        pad_id: int = 0,
    ) -> None:
        super().__init__(corpus, window, fields=fields, pad_id=pad_id)
        self.count = corpus.tokens // window if tail == "drop" else -(-corpus.tokens // window)
        if not self.count:
            raise LoaderError(
                f"a window of {window} tokens is longer than the data: {corpus!r}",
                where=corpus.uri,
                fix="take a shorter window" + ("" if corpus.tokens == 0 else ", or tail='pad'"),
            )

    def __len__(self) -> int:
        return self.count

    def plan(self, numbers: npt.NDArray[np.int64], shift: int = 0) -> SamplePlan:
        """Find windows by number; the first one begins at token `shift`."""
        return _WindowPlan(self, numbers, shift)

    def span(self, first: int, last: int, shift: int) -> Iterator[tuple[int, int, int]]:
        """Yield what windows first … last - 1 read together."""
        begin, end = first * self.window, min(last * self.window, self.corpus.tokens)
        for shard, start, stop in self.corpus.runs(shift + begin, end - begin):
            yield (shard, *self.corpus.values_between(shard, start, stop))


class _WindowPlan(SamplePlan):
    """Windows found: for each, the shard that it begins in and the place there."""

    def __init__(self, packed: PackedWindows, numbers: npt.NDArray[np.int64], shift: int) -> None:
        corpus, window = packed.corpus, packed.window
        self._packed = packed
        self._corpus = corpus
        begins = (shift + numbers * window) % corpus.tokens
        shards = corpus.ends.searchsorted(begins, "right")
        places = begins - (corpus.ends[shards] - corpus.lengths[shards])
        lengths = np.minimum(window, corpus.tokens - numbers * window)
        # Whether a window is just a run of one shard's values.
        simple = (places + window <= corpus.lengths[shards]) & (lengths == window) & corpus.plain
        self._shards: npt.NDArray[np.int64] = shards
        self._places: npt.NDArray[np.int64] = places
        self._begins: npt.NDArray[np.int64] = begins
        self._lengths: npt.NDArray[np.int64] = lengths
        self._simple: npt.NDArray[np.bool_] = simple
        self._all_simple = bool(simple.all())

    def fill(self, samples: range, rows: Sequence[int], batch: BatchBuilder) -> None:
        some = slice(samples.start, samples.stop)
        if isinstance(rows, range) and (self._all_simple or self._simple[some].all()):
            self._fill_simple(some, np.arange(rows.start, rows.stop), batch, batch.ids[rows.start : rows.stop])
            return
        targets, simple = np.asarray(rows, np.int64), self._simple[some]
        chosen = np.flatnonzero(simple)
        if len(chosen):
            ids = np.empty((len(chosen), *batch.ids.shape[1:]), np.int64)
            self._fill_simple(chosen + samples.start, targets[chosen], batch, ids)
            batch.ids[targets[chosen]] = ids
        for place in np.flatnonzero(~simple).tolist():
            self._fill_runs(samples[place], int(targets[place]), batch)

    def pieces(self) -> Iterator[tuple[int, int, int]]:
        for begin, length in zip(self._begins.tolist(), self._lengths.tolist(), strict=True):
            for shard, start, stop in self._corpus.runs(begin, length):
                yield (shard, *self._corpus.values_between(shard, start, stop))

    def _fill_simple(
        self,
        samples: slice | npt.NDArray[np.int64],
        rows: npt.NDArray[np.int64],
        batch: BatchBuilder,
        ids: npt.NDArray[np.int64],
    ) -> None:
        """Copy samples that are runs of one shard's values to `ids` `[sample, token, …]`, rows of a batch then."""
        shards, places = self._shards[samples], self._places[samples]
        self._corpus.gather(shards, places, ids)
        if batch.wants_pieces:
            batch.add_pieces(self._corpus.pieces(rows, shards.tolist(), places.tolist(), self._packed.window))

    def _fill_runs(self, sample: int, row: int, batch: BatchBuilder) -> None:
        at = 0
        for shard, start, stop in self._corpus.runs(int(self._begins[sample]), int(self._lengths[sample])):
            self._corpus.read(shard, start, stop, batch.ids[row, at : at + stop - start])
            if batch.wants_pieces:
                batch.add_pieces(self._corpus.pieces(np.array([row]), [shard], [start], stop - start))
            at += stop - start
        batch.pad(row, at, self._packed.pad_id)
