"""Where the documents of a table lie, shard by shard: its rows, or the stretches that a stream of ends cuts rows into.

Every stretch up to an end is a document, and so is what stands behind the last end of a row. Documents are numbered
through the table, those too that a subset leaves out, so that a number says where a document is: a row of n ends takes
n + 1 numbers, whether anything stands behind the last end or not. How many numbers a shard takes is then known without
opening it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.dataset import Table
from tokenmill.duplicates import Duplicates
from tokenmill.errors import DatasetError, LoaderError
from tokenmill.loader.laid_out import LaidOutStreams
from tokenmill.loader.layouts import Layout
from tokenmill.loader.subsets import Subset
from tokenmill.shard_files import OpenShard, OpenStream

#: Documents of shards whose places are remembered, and threads that read a whole table's.
_REMEMBERED_DOCUMENTS = 4 << 20
_READERS = 8


@dataclass(frozen=True)
class DocumentChoice:
    """What a document is, which ones there are, and how long each is; `TokenCorpus` documents the members.

    Attributes:
        ends: Stream that says where documents end; None where a row is one.
        separated: Whether a separator follows each.
        subset: Rows to keep; None for all.
        prefix: Tokens of each to keep, or frames; None for all.
        skip_duplicates: Whether rows that repeat an earlier one are left out.
        distinct: Stream with a value for each end: documents with the value of an earlier one are left out.
    """

    ends: str | None
    separated: bool
    subset: Subset | None
    prefix: int | None
    skip_duplicates: bool
    distinct: str | None

    @property
    def complete(self) -> bool:
        """Whether every document is there: those left out have no tokens, and no separator."""
        cut = self.ends is not None and self.separated  # what stands behind a row's last end may be nothing
        return self.subset is None and not self.skip_duplicates and self.distinct is None and not cut

    @property
    def plain(self) -> bool:
        """Whether the documents laid end to end are the rows laid end to end."""
        return self.complete and self.prefix is None and not self.separated


@dataclass(frozen=True)
class ShardDocuments:
    """Where the documents of one shard lie.

    Attributes:
        first: Number in the table of the shard's first document.
        kept: int64 `[document]`, number in the shard; None where all documents are there, in order.
        starts: int64 `[document + 1]`, the place in the shard of each one's first token, and the shard's length.
        values: int64 `[document]`, where each one's values begin in the shard's stream; of codes, frames.
        row_firsts: int64 `[row + 1]`, number in the shard of each row's first document; None where a row is one.
    """

    first: int
    kept: npt.NDArray[np.int64] | None
    starts: npt.NDArray[np.int64]
    values: npt.NDArray[np.int64]
    row_firsts: npt.NDArray[np.int64] | None

    def number(self, document: int) -> int:
        """Return a document's number in the table."""
        return self.first + (document if self.kept is None else int(self.kept[document]))

    def numbers(self, first: int, last: int) -> npt.NDArray[np.int64]:
        """Return int64 `[document]`: numbers in the table of the documents first … last - 1."""
        if self.kept is None:
            return np.arange(self.first + first, self.first + last)
        return self.first + self.kept[first:last]

    def between(self, start: int, stop: int) -> tuple[int, int]:
        """Return first and last + 1 of the documents that places start … stop - 1 overlap."""
        return int(self.starts.searchsorted(start, "right")) - 1, int(self.starts.searchsorted(stop, "left"))


class TableDocuments:
    """The documents of a table.

    Args:
        table: The table.
        streams: The streams that are read of it.
        layout: How they are laid out; with ends, tokens as they are.
        choice: What a document is, and which ones there are.

    Attributes:
        counts: int64 `[shard]`, how many numbers the documents of each take.

    Raises:
        LoaderError: duplicates are to be left out, and the table's are not known; or there are not as many values to
            tell documents apart by as ends.
    """

    def __init__(self, table: Table, streams: LaidOutStreams, layout: Layout, choice: DocumentChoice) -> None:
        self._table = table
        self._streams = streams
        self._layout = layout
        self.choice = choice
        self._ending = int(choice.separated)  # places that a document has beside its tokens
        rows = table.shards.column("rows")
        self._first_rows = table.shards.row_ends - rows
        self.counts = rows if choice.ends is None else rows + table.shards.column(f"tokens.{choice.ends}")
        self._ends: npt.NDArray[np.int64] = np.cumsum(self.counts)
        self._duplicates = self._find_duplicates() if choice.skip_duplicates else None
        self._originals = None if choice.distinct is None else self._find_originals(choice.distinct)
        self._found: OrderedDict[int, ShardDocuments] = OrderedDict()
        self._remembered = 0

    def count(self) -> npt.NDArray[np.int64]:
        """Return int64 `[shard]`, tokens that each shard has; where they depend on rows' lengths, all rows are read."""
        if not self.choice.complete or self.choice.prefix is not None:
            found = self.every(range(len(self.counts)))
            return np.fromiter((documents.starts[-1] for documents in found), np.int64, len(self.counts))
        of_each = self._layout.more_steps + self._ending
        return self._streams.frames * self._layout.steps_per_frame + self.counts * of_each

    def known(self, shard: int) -> ShardDocuments | None:
        """Return where the documents of a shard lie if that is remembered."""
        return self._found.get(shard)

    def shard(self, shard: int) -> ShardDocuments:
        """Return where the documents of a shard lie; what was asked for lately is remembered."""
        found = self._found.get(shard)
        if found is None:
            found = self._found[shard] = self._read(shard)
            self._remembered += len(found.values)
            while self._remembered > _REMEMBERED_DOCUMENTS and len(self._found) > 1:
                self._remembered -= len(self._found.popitem(last=False)[1].values)
        return found

    def every(self, shards: Sequence[int]) -> Iterator[ShardDocuments]:
        """Yield where the documents of many shards lie, read on threads, in order; they are not remembered."""
        with ThreadPoolExecutor(_READERS) as pool:
            yield from pool.map(self._read, shards)

    def locate(self, numbers: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the rows of documents and their places there, as `TokenCorpus.locate` does."""
        wanted = np.asarray(numbers, np.int64)
        total = int(self._ends[-1]) if len(self._ends) else 0
        if wanted.size and wanted.max() >= total:
            raise LoaderError(f"there is no document {wanted.max()} of table {self._table.name!r}: it has {total}")
        if self.choice.ends is None:
            return wanted.copy(), np.minimum(wanted, 0)
        rows, places = np.full_like(wanted, -1), np.full_like(wanted, -1)
        shards = np.where(wanted < 0, -1, self._ends.searchsorted(wanted, "right"))
        for shard in np.unique(shards[wanted >= 0]).tolist():
            here = shards == shard
            found = self.shard(shard)
            assert found.row_firsts is not None
            inside = wanted[here] - found.first
            row = found.row_firsts.searchsorted(inside, "right") - 1
            rows[here] = self._first_rows[shard] + row
            places[here] = inside - found.row_firsts[row]
        return rows, places

    def clear(self) -> None:
        """Forget all places; they are read again."""
        self._found.clear()
        self._remembered = 0

    def _read(self, shard: int) -> ShardDocuments:
        opened = self._table.open_shard(shard, self._streams.values.shard_bytes(shard))
        first = int(self._ends[shard] - self.counts[shard])
        begins = self._streams.offsets(opened)
        row_firsts = None
        if self.choice.ends is not None:
            row_firsts, begins = self._cut(opened, begins)
        if self.choice.plain and self._streams.even:
            return ShardDocuments(first, None, self._layout.steps(begins), begins[:-1], row_firsts)
        lengths, values = np.diff(begins), begins[:-1]
        kept = None if self.choice.complete else np.flatnonzero(self._chosen(opened, shard, lengths, row_firsts))
        if self.choice.prefix is not None:
            np.minimum(lengths, self.choice.prefix, out=lengths)
        lengths = self._layout.steps(lengths) + self._ending
        if kept is not None:
            lengths, values = lengths[kept], values[kept]
        starts = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=starts[1:])
        return ShardDocuments(first, kept, starts, values, row_firsts)

    def _cut(
        self, opened: OpenShard, offsets: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Cut rows at their ends.

        Args:
            opened: The shard.
            offsets: int64 `[row + 1]`, where rows begin.

        Returns:
            int64 `[row + 1]`, the number of each row's first document, and int64 `[document + 1]`, where each begins.
        """
        name = self.choice.ends or ""
        ends = opened.streams[name]
        _require(opened, ends)
        count = len(ends.values)
        row_firsts = ends.offsets + np.arange(len(ends.offsets))
        rows = np.repeat(np.arange(len(opened)), np.diff(ends.offsets))
        begins = np.empty(count + len(opened) + 1, np.int64)
        begins[row_firsts[:-1]] = offsets[:-1]
        begins[-1] = offsets[-1]
        begins[np.arange(1, count + 1) + rows] = ends.values.astype(np.int64) + offsets[rows]
        if (np.diff(begins) < 0).any():
            raise LoaderError(
                f"stream {name!r} cuts no row: an end lies before the one in front of it, or behind the row",
                where=opened.data.where,
                fix="make the table anew by a tokenizer whose ends ascend",
            )
        return row_firsts, begins

    def _chosen(
        self,
        opened: OpenShard,
        shard: int,
        lengths: npt.NDArray[np.int64],
        row_firsts: npt.NDArray[np.int64] | None,
    ) -> npt.NDArray[np.bool_]:
        """Return bool `[document]`: which ones are there."""
        rows = np.ones(len(opened), np.bool_)
        if self.choice.subset is not None:
            rows &= self.choice.subset.select(opened.key(row) for row in range(len(opened)))
        if self._duplicates is not None:
            first = int(self._first_rows[shard])
            originals = np.zeros(len(opened), np.bool_)
            originals[self._duplicates.kept(first, first + len(opened)) - first] = True
            rows &= originals
        if row_firsts is None:
            return rows
        chosen = np.repeat(rows, np.diff(row_firsts))
        last = row_firsts[1:] - 1
        if self._originals is not None:
            with_end = np.ones(len(chosen), np.bool_)
            with_end[last] = False
            chosen[with_end] &= self._originals[shard]
        if self.choice.separated:
            # Where nothing stands behind a row's last end, no separator does either.
            chosen[last] &= lengths[last] > 0
        return chosen

    def _find_duplicates(self) -> Duplicates:
        """Return the table's duplicates."""
        try:
            return self._table.known_duplicates()
        except DatasetError as error:
            raise LoaderError(error.what, where=error.where, fix="leave skip_duplicates out") from error

    def _find_originals(self, name: str) -> list[npt.NDArray[np.bool_]]:
        """Return for every shard bool `[end]`: whether the value of that end is the first of its kind in the table."""
        with ThreadPoolExecutor(_READERS) as pool:
            values = list(pool.map(lambda shard: self._read_values(shard, name), range(len(self.counts))))
        if not values:
            return []
        _, firsts = np.unique(np.concatenate(values), return_index=True)
        originals = np.zeros(sum(map(len, values)), np.bool_)
        originals[firsts] = True
        return np.split(originals, np.cumsum([len(some) for some in values])[:-1])

    def _read_values(self, shard: int, name: str) -> npt.NDArray[Any]:
        """Return `[end]`, a shard's values of a stream that has one for each end."""
        opened = self._table.open_shard(shard, self._streams.values.shard_bytes(shard))
        stream = opened.streams[name]
        if not np.array_equal(stream.offsets, opened.streams[self.choice.ends or ""].offsets):
            raise LoaderError(
                f"stream {name!r} tells no documents apart: a row has not as many values as ends in "
                f"{self.choice.ends!r}",
                where=opened.data.where,
                fix="leave distinct out",
            )
        _require(opened, stream)
        return stream.values.copy()  # a view would keep all of the shard that was fetched


def _require(opened: OpenShard, stream: OpenStream) -> None:
    """Make a stream's values be there, and checked as columns are: they decide what lies where."""
    opened.data.require(stream.start, stream.start + stream.values.nbytes)
