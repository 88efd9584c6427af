"""A table seen as one long sequence of tokens over its shards, in source order: what windows and packings are cut from.

Places in that sequence count every token that a loader delivers: the separator that may follow each document has a
place of its own, and rows that a subset leaves out, and tokens behind the prefix that is read of every row, have none.
Of codes, a place is a step of the pattern that lays them out. Which places make a sample is not decided here.
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
from tokenmill.loader.chosen import choose
from tokenmill.loader.laid_out import Access, LaidOutStreams
from tokenmill.loader.patterns import Pattern
from tokenmill.loader.remote_values import MEMORY_BYTES
from tokenmill.loader.subsets import Subset
from tokenmill.loader.values import MAPPED_SHARDS, ShardValues

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
        values: int64 `[document]`, where each row's values begin in the shard's stream; of codes, frames.
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
        stream: Name of the stream; default the table's first, with a pattern all streams of its codes.
        pattern: How codes (frame, codebook) are laid out; None for streams of one dimension.
        separator: Token that follows every document.
        subset: Rows to keep; default all.
        prefix: Tokens of every row to keep, its first ones, or frames of codes: of a tokenizer whose rows decode from
            any prefix, a coarser item at a lower price; default all.
        generation: Which generation; default the newest.
        tokenizer: Fingerprint that the table's tokenizer must have, or its beginning (8 digits or more).
        check: Whether blocks of local shards are compared with their checksums when they are first read; blocks from
            object storage always are.
        cache: Where blocks from object storage are kept; default in memory only.
        id_offset: Number added to every id, its place in a vocabulary shared with other tables.
        mapped_shards: How many local shards are kept mapped.
        memory_bytes: What blocks from object storage may take in memory, half of it for reading ahead.
        open_blocks: How many long ranges are read side by side, and
        block_tokens: of how many ids: memory takes them twice, however little `memory_bytes` is.

    Attributes:
        step_shape: Shape of a token: `()`, or `(codebooks,)` where the pattern has one of every codebook.
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
        pattern: Pattern | None = None,
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
        open_blocks: int = 0,
        block_tokens: int = 0,
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
        self._chosen = choose(self.table, stream, pattern, self.uri)
        self._layout = self._chosen.layout
        self.step_shape = self._layout.step_shape
        self.stream = self._chosen.name
        self._asked = self.stream if self._chosen.ragged is None else None
        self.pattern = pattern
        self.separator = separator
        self.subset = subset
        self.prefix = prefix
        self.id_offset = id_offset
        self._access = Access(check, cache, mapped_shards, memory_bytes, open_blocks, block_tokens)
        self._ending = int(separator is not None)  # places that a document has beside its tokens
        self._check_tokenizer(tokenizer)
        if separator is not None:
            self._chosen.check_separator(separator, self.uri)
        if prefix is not None and prefix < 1:
            raise LoaderError(f"a prefix of {prefix} tokens of every row; it must have one or more", where=self.uri)
        self.shards = self.table.shards
        self._first_rows = self.shards.row_ends - self.shards.column("rows")
        self._streams = LaidOutStreams(self.table, self._chosen, self._access)
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
        return self._streams.even and self.separator is None and self.subset is None and self.prefix is None

    @property
    def what(self) -> str:
        """The stream's name, how much of every row is read, and the pattern that lays it out."""
        read = self.stream if self.prefix is None else f"{self.stream}[:{self.prefix}]"
        return read if self.pattern is None else f"{read} ({self.pattern.what})"

    @property
    def vocabulary_size(self) -> int | None:
        """How many ids there are, from `id_offset` on, the separator's and what fills holes among them."""
        size = self._layout.vocabulary_size
        return size if size is None or self.separator is None else max(size, self.separator + 1)

    @property
    def frame_tokens(self) -> int:
        """Places that a frame of codes takes one after another; 1 where there are no frames."""
        return self._layout.steps_per_frame

    @property
    def local(self) -> bool:
        """Whether the shards are mapped files."""
        return self._streams.local

    @property
    def values(self) -> ShardValues:
        """The stream's values, or frames of codes, shard by shard."""
        return self._streams.values

    def gather(self, shards: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], out: npt.NDArray[np.int64]) -> None:
        """Copy equally many tokens of a plain corpus from each of some places, each in its shard, to `out`.

        Args:
            shards: int64 `[run]`.
            starts: int64 `[run]`, places in the shards.
            out: int64 `[run, token, …]`, contiguous.
        """
        self._streams.gather(shards, starts, out)
        if self.id_offset:
            out += self.id_offset

    def read(self, shard: int, start: int, stop: int, out: npt.NDArray[np.int64]) -> None:
        """Copy the tokens at places start … stop - 1 of a shard to `out`, `[token, …]`."""
        if self.plain:
            self._streams.copy(shard, 0, int(self._streams.frames[shard]), start, stop, out)
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
            origin, limit = int(rows.starts[document]), int(rows.starts[document + 1])
            begin, end = max(origin, start), min(limit, stop)
            count = end - begin
            separated = self.separator is not None and end == limit
            values = count - 1 if separated else count
            frames = self._layout.frames(limit - origin - self._ending)
            first_step, piece = begin - origin, out[at : at + values]
            self._streams.copy(shard, int(rows.values[document]), frames, first_step, first_step + values, piece)
            if separated and self.separator is not None:
                out[at + values] = self.separator
            at += count

    def undo(self, tokens: npt.NDArray[Any], position: int = 0) -> dict[str, npt.NDArray[Any]]:
        """Return the row's streams that tokens were laid out from: what the tokenizer's decoder takes.

        Args:
            tokens: Integers `[token, …]`, a row's or a stretch of it; a separator at the end is taken off.
            position: Place of the first of them in its row, as `positions` of a batch say.

        Raises:
            LoaderError: a token is not a code of its place.
        """
        values = np.asarray(tokens, np.int64) - self.id_offset
        if self.separator is not None and len(values) and (values[-1] == self.separator).all():
            values = values[:-1]
        return self._chosen.undo(values, position)

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
        """Return first and last + 1 of the values, or frames of codes, that places start … stop - 1 are made from.

        It is a guess where rows are not known yet.
        """
        total = int(self._streams.frames[shard])
        if self.plain:
            return self._streams.needed(0, total, start, stop)
        rows = self._rows.get(shard)
        if rows is None:
            scale = total / int(self.lengths[shard])
            return int(start * scale), min(int(stop * scale) + 1, total)
        starts, values = rows.starts, rows.values
        first, last = rows_between(starts, start, stop)
        found = []
        for document in (first, last - 1):
            origin, limit = int(starts[document]), int(starts[document + 1])
            frames = self._layout.frames(limit - origin - self._ending)
            piece = (max(start, origin) - origin, min(stop, limit - self._ending) - origin)
            found.append(self._streams.needed(int(values[document]), frames, *piece))
        return found[0][0], found[1][1]

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
        self.values.close()
        self._rows.clear()
        self._remembered = 0

    def _read_rows(self, shard: int) -> ShardRows:
        opened = self.table.open_shard(shard, self.values.shard_bytes(shard))
        offsets = self._streams.offsets(opened)
        first = int(self._first_rows[shard])
        if self.plain:
            return ShardRows(first, None, self._layout.steps(offsets), offsets[:-1])
        lengths = np.diff(offsets)
        if self.prefix is not None:
            np.minimum(lengths, self.prefix, out=lengths)
        lengths = self._layout.steps(lengths) + self._ending
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
        of_frames, of_rows = self._layout.steps_per_frame, self._layout.more_steps + self._ending
        return self._streams.frames * of_frames + self.shards.column("rows") * of_rows

    def _check_tokenizer(self, asked: str | None) -> None:
        found = self.table.tokenizer.fingerprint
        if asked is not None and (len(asked) < 8 or not found.startswith(asked)):
            raise LoaderError(
                f"table {self.table.name!r} was made by the tokenizer {found}, and {asked} was asked for",
                where=self.uri,
                fix="read the dataset of that tokenizer, or ask for this one (`tokenmill inspect` shows it)",
            )

    def __reduce__(self) -> tuple[Any, ...]:
        return (
            _reopen,
            (
                self.uri,
                self.table.name,
                {
                    "stream": self._asked,
                    "pattern": self.pattern,
                    "separator": self.separator,
                    "subset": self.subset,
                    "prefix": self.prefix,
                    "generation": self.generation,
                    "id_offset": self.id_offset,
                    **vars(self._access),
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
