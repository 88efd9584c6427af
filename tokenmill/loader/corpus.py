"""A table seen as one long sequence of tokens over its shards, in source order: what windows and packings are cut from.

Places in that sequence count every token that a loader delivers: the separator that may follow each document has a
place of its own, and rows that a subset leaves out, and tokens behind the prefix that is read of every row, have none.
Which places make a sample is not decided here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.dataset import Table, open_dataset
from tokenmill.errors import LoaderError
from tokenmill.loader.batches import Pieces
from tokenmill.loader.block_cache import BlockCache
from tokenmill.loader.remote_values import MEMORY_BYTES, RemoteValues
from tokenmill.loader.subsets import Subset
from tokenmill.loader.values import MAPPED_SHARDS, LocalValues, ShardValues

#: Rows of shards whose places are remembered, and threads that read a whole table's rows.
_REMEMBERED_ROWS = 4 << 20
_READERS = 8


@dataclass(frozen=True)
class ShardRows:
    """Where the rows of one shard lie.

    Attributes:
        first: Row number in the table of the shard's first row.
        rows: int64 `[document]`, row number in the shard; None where all rows are there, in order.
        starts: int64 `[document + 1]`, the place in the shard of each row's first token, and the shard's length.
        values: int64 `[document]`, where each row's values begin in the shard's stream.
    """

    first: int
    rows: npt.NDArray[np.int64] | None
    starts: npt.NDArray[np.int64]
    values: npt.NDArray[np.int64]

    def number(self, document: int) -> int:
        """Return a document's row number in the table."""
        return self.first + (document if self.rows is None else int(self.rows[document]))

    def documents(self, first: int, last: int) -> npt.NDArray[np.int64]:
        """Return int64 `[document]`: row numbers in the table of the documents first … last - 1."""
        if self.rows is None:
            return np.arange(self.first + first, self.first + last)
        return self.first + self.rows[first:last]


class TokenCorpus:
    """One stream of a published table as a sequence of tokens.

    Args:
        uri: The dataset: a local directory, or `s3://bucket/prefix`.
        table: Name of the table; may be left out where the dataset has one.
        stream: Name of the stream, whose rows must have one dimension; default the table's first.
        separator: Token that follows every document.
        subset: Rows to keep; default all.
        prefix: Tokens of every row to keep, its first ones: of a tokenizer whose rows decode from any prefix, a
            coarser item at a lower price; default all.
        generation: Which generation; default the newest.
        tokenizer: Fingerprint that the table's tokenizer must have, or its beginning (8 digits or more).
        check: Whether blocks of local shards are compared with their checksums when they are first read; blocks from
            object storage always are.
        cache: Where blocks from object storage are kept; default in memory only.
        id_offset: Number added to every id, its place in a vocabulary shared with other tables.
        mapped_shards: How many local shards are kept mapped.
        memory_bytes: What blocks from object storage may take in memory, half of it for reading ahead.

    Attributes:
        lengths: int64 `[shard]`, number of tokens.
        ends: int64 `[shard]`, number of tokens up to and including each shard.

    Raises:
        LoaderError: the table has another tokenizer, or the stream or the separator does not fit.
        DatasetError: there is no such dataset, table or generation.
    """

    def __init__(
        self,
        uri: str,
        table: str | None = None,
        *,
        stream: str | None = None,
        separator: int | None = None,
        subset: Subset | None = None,
        prefix: int | None = None,
        generation: int | None = None,
        tokenizer: str | None = None,
        check: bool = True,
        cache: BlockCache | None = None,
        id_offset: int = 0,
        mapped_shards: int = MAPPED_SHARDS,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        dataset = open_dataset(uri, generation=generation)
        if table is None:
            if len(dataset) != 1:
                raise LoaderError(
                    f"has {len(dataset)} tables ({', '.join(dataset)})", where=dataset.uri, fix="say which: table=…"
                )
            table = next(iter(dataset))
        self.table: Table = dataset[table]
        self.uri = dataset.uri
        self.generation = dataset.generation
        self.stream = _check_stream(self.table, stream, self.uri)
        self.separator = separator
        self.subset = subset
        self.prefix = prefix
        self.id_offset = id_offset
        self._check = check
        self._cache = cache
        self._mapped_shards = mapped_shards
        self._memory_bytes = memory_bytes
        self._check_tokenizer(tokenizer)
        self._check_separator()
        if prefix is not None and prefix < 1:
            raise LoaderError(f"a prefix of {prefix} tokens of every row; it must have one or more", where=self.uri)
        self.shards = self.table.shards
        self._counts = self.shards.column(f"tokens.{self.stream}")
        self._first_rows = self.shards.row_ends - self.shards.column("rows")
        self._values = self._open_values()
        self._rows: OrderedDict[int, ShardRows] = OrderedDict()
        self._remembered = 0
        self.lengths = self._count()
        self.ends: npt.NDArray[np.int64] = np.cumsum(self.lengths)
        self.tokens = int(self.ends[-1]) if len(self.ends) else 0

    @property
    def fingerprint(self) -> str:
        """What the table holds: its tokenizer's fingerprint and all shards' checksums."""
        return self.table.fingerprint

    @property
    def plain(self) -> bool:
        """Whether places are just the shards' values, end to end."""
        return self.separator is None and self.subset is None and self.prefix is None

    @property
    def what(self) -> str:
        """The stream's name, and how much of every row is read."""
        return self.stream if self.prefix is None else f"{self.stream}[:{self.prefix}]"

    @property
    def local(self) -> bool:
        """Whether the shards are mapped files."""
        return isinstance(self._values, LocalValues)

    @property
    def values(self) -> ShardValues:
        """The stream's values, shard by shard."""
        return self._values

    def gather(self, shards: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], out: npt.NDArray[np.int64]) -> None:
        """Copy equally many tokens of a plain corpus from each of some places, each in its shard, to `out`.

        Args:
            shards: int64 `[run]`.
            starts: int64 `[run]`, places in the shards.
            out: int64 `[run, token]`.
        """
        self._values.gather(shards, starts, out)
        if self.id_offset:
            out += self.id_offset

    def read(self, shard: int, start: int, stop: int, out: npt.NDArray[np.int64]) -> None:
        """Copy the tokens at places start … stop - 1 of a shard to `out`, `[token]`."""
        if self.plain:
            out[:] = self._values.read(shard, start, stop)
        else:
            self._read_documents(shard, start, stop, out)
        if self.id_offset:
            out += self.id_offset

    def _read_documents(self, shard: int, start: int, stop: int, out: npt.NDArray[np.int64]) -> None:
        """Copy tokens document by document, with separators."""
        rows = self.rows(shard)
        first, last = rows_between(rows.starts, start, stop)
        at = 0
        for document in range(first, last):
            begin = max(int(rows.starts[document]), start)
            end = min(int(rows.starts[document + 1]), stop)
            count = end - begin
            separated = self.separator is not None and end == int(rows.starts[document + 1])
            values = count - 1 if separated else count
            offset = int(rows.values[document]) + begin - int(rows.starts[document])
            out[at : at + values] = self._values.read(shard, offset, offset + values)
            if separated and self.separator is not None:
                out[at + values] = self.separator
            at += count

    def pieces(
        self, targets: npt.NDArray[np.int64], shards: Sequence[int], starts: Sequence[int], count: int
    ) -> Pieces:
        """Return the documents that runs of `count` places, each from its start in its shard, belong to, in order.

        Args:
            targets: int64 `[run]`, the row of a batch that a run goes to.
            shards: `[run]`.
            starts: `[run]`, places in the shards.
            count: Places of a run.
        """
        begins, numbers, counts = [], [], []
        for shard, start in zip(shards, starts, strict=True):
            rows = self.rows(shard)
            first, last = rows_between(rows.starts, start, start + count)
            begins.append(rows.starts[first:last])
            counts.append(last - first)
            numbers.append(rows.first + first if rows.rows is None else rows.documents(first, last))
        # Where documents begin, as seen from the run; those that begin before it are continued.
        seen = np.concatenate(begins) - np.repeat(starts, counts)
        flat = np.maximum(seen, 0) + np.repeat(np.arange(len(counts)) * count, counts)
        if self.subset is None:  # rows follow on one another
            ends = np.cumsum(counts)
            documents = np.arange(len(seen)) + np.repeat(np.array(numbers) - ends + counts, counts)
        else:
            documents = np.concatenate(numbers)
        lengths = np.diff(flat, append=len(counts) * count)
        return Pieces(np.repeat(targets, counts), documents, np.maximum(-seen, 0), lengths)

    def runs(self, begin: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Yield the runs of places (shard, start, stop) of `count` tokens from token `begin` of the ring on."""
        begin %= self.tokens
        shard = int(self.ends.searchsorted(begin, "right"))
        place = begin - int(self.ends[shard] - self.lengths[shard])
        while count:
            stop = min(place + count, int(self.lengths[shard]))
            if stop > place:
                yield shard, place, stop
            count -= stop - place
            shard, place = (shard + 1) % len(self.lengths), 0

    def values_between(self, shard: int, start: int, stop: int) -> tuple[int, int]:
        """Return first and last + 1 of the values at places start … stop - 1; a guess where rows are not known yet."""
        if self.plain:
            return start, stop
        rows = self._rows.get(shard)
        if rows is None:
            scale = int(self._counts[shard]) / int(self.lengths[shard])
            return int(start * scale), min(int(stop * scale) + 1, int(self._counts[shard]))
        first, last = rows_between(rows.starts, start, stop)
        begin = int(rows.values[first]) + start - int(rows.starts[first])
        return begin, min(int(rows.values[last - 1]) + stop - int(rows.starts[last - 1]), int(self._counts[shard]))

    def rows(self, shard: int) -> ShardRows:
        """Return where the rows of a shard lie; what was asked for lately is remembered."""
        found = self._rows.get(shard)
        if found is None:
            found = self._rows[shard] = self._read_rows(shard)
            self._remembered += len(found.values)
            while self._remembered > _REMEMBERED_ROWS and len(self._rows) > 1:
                self._remembered -= len(self._rows.popitem(last=False)[1].values)
        return found

    def every_rows(self, shards: Sequence[int]) -> Iterator[ShardRows]:
        """Yield where the rows of many shards lie, read on threads, in order; they are not remembered."""
        with ThreadPoolExecutor(_READERS) as pool:
            yield from pool.map(self._read_rows, shards)

    def close(self) -> None:
        """Let go of all shards; reading opens them again."""
        self._values.close()
        self._rows.clear()
        self._remembered = 0

    def _read_rows(self, shard: int) -> ShardRows:
        opened = self.table.open_shard(shard, self._values.shard_bytes(shard))
        offsets = opened.streams[self.stream].offsets
        if not self.local:
            offsets = offsets.copy()  # a view would keep all of the shard that was fetched
        first = int(self._first_rows[shard])
        if self.plain:
            return ShardRows(first, None, offsets, offsets[:-1])
        lengths = np.diff(offsets)
        if self.prefix is not None:
            np.minimum(lengths, self.prefix, out=lengths)
        lengths += self.separator is not None
        rows = None
        values = offsets[:-1]
        if self.subset is not None:
            chosen = self.subset.select(opened.key(row) for row in range(len(opened)))
            rows = np.flatnonzero(chosen)
            lengths, values = lengths[rows], values[rows]
        starts = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=starts[1:])
        return ShardRows(first, rows, starts, values)

    def _count(self) -> npt.NDArray[np.int64]:
        """Return int64 `[shard]`, tokens that each shard has; a subset and prefixes are counted by reading all rows."""
        if self.subset is not None or self.prefix is not None:
            shards = range(len(self.shards))
            return np.fromiter((rows.starts[-1] for rows in self.every_rows(shards)), np.int64, len(self.shards))
        return self._counts if self.separator is None else self._counts + self.shards.column("rows")

    def _open_values(self) -> ShardValues:
        storage = self.table.storage
        dtype = self.table.streams[self.stream].dtype
        local = not len(self.shards) or storage.local_path(self.shards.path(0)) is not None
        if local:
            return LocalValues(
                storage,
                self.shards,
                self.stream,
                dtype,
                check=self._check,
                mapped_shards=self._mapped_shards,
            )
        return RemoteValues(
            storage, self.shards, self.stream, dtype, cache=self._cache, memory_bytes=self._memory_bytes
        )

    def _check_tokenizer(self, asked: str | None) -> None:
        found = self.table.tokenizer.fingerprint
        if asked is not None and (len(asked) < 8 or not found.startswith(asked)):
            raise LoaderError(
                f"table {self.table.name!r} was made by the tokenizer {found}, and {asked} was asked for",
                where=self.uri,
                fix="read the dataset of that tokenizer, or ask for this one (`tokenmill inspect` shows it)",
            )

    def _check_separator(self) -> None:
        size = self.table.streams[self.stream].vocabulary_size
        if self.separator is not None and not 0 <= self.separator < (size or 1 << 63):
            raise LoaderError(
                f"the separator {self.separator} is not an id of stream {self.stream!r}, whose vocabulary has {size}",
                where=self.uri,
            )

    def __reduce__(self) -> tuple[Any, ...]:
        return (
            _reopen,
            (
                self.uri,
                self.table.name,
                {
                    "stream": self.stream,
                    "separator": self.separator,
                    "subset": self.subset,
                    "prefix": self.prefix,
                    "generation": self.generation,
                    "check": self._check,
                    "cache": self._cache,
                    "id_offset": self.id_offset,
                    "mapped_shards": self._mapped_shards,
                    "memory_bytes": self._memory_bytes,
                },
            ),
        )

    def __repr__(self) -> str:
        return f"<{self.tokens} tokens: {self.what!r} of table {self.table.name!r} of {self.uri}>"


def rows_between(starts: npt.NDArray[np.int64], start: int, stop: int) -> tuple[int, int]:
    """Return first and last + 1 of the documents, given by `starts` `[document + 1]`, that places overlap."""
    return int(starts.searchsorted(start, "right")) - 1, int(starts.searchsorted(stop, "left"))


def _reopen(uri: str, table: str, options: dict[str, Any]) -> TokenCorpus:
    return TokenCorpus(uri, table, **options)


def _check_stream(table: Table, asked: str | None, uri: str) -> str:
    name = next(iter(table.streams)) if asked is None else asked
    if name not in table.streams:
        raise LoaderError(f"table {table.name!r} has no stream {name!r}; it has {', '.join(table.streams)}", where=uri)
    spec = table.streams[name]
    if len(spec.dims) > 1 or np.dtype(spec.dtype).kind not in "iu":
        raise LoaderError(
            f"stream {name!r} of table {table.name!r} holds {spec.dtype} with dimensions ({', '.join(spec.dims)}); "
            "windows are cut from whole numbers in one dimension",
            where=uri,
        )
    return name
