"""A table seen as one long sequence of tokens over its shards, in source order: what windows and packings are cut from.

Places in that sequence count every token that a loader delivers: the separator that may follow each document has a
place of its own; documents that are left out, and tokens behind the prefix that is read of each, have none.
Of codes, a place is a step of the pattern that lays them out. Which places make a sample is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.dataset import Table, open_dataset
from tokenmill.errors import LoaderError
from tokenmill.loader.batches import Pieces
from tokenmill.loader.block_cache import BlockCache
from tokenmill.loader.chosen import check_distinct, choose
from tokenmill.loader.laid_out import Access, LaidOutStreams
from tokenmill.loader.layouts import TokenLayout
from tokenmill.loader.patterns import Pattern
from tokenmill.loader.remote_values import MEMORY_BYTES
from tokenmill.loader.subsets import Subset
from tokenmill.loader.table_documents import DocumentChoice, ShardDocuments, TableDocuments
from tokenmill.loader.values import MAPPED_SHARDS, ShardValues

#: Documents of a stretch that are copied one by one: there numpy's calls cost more than a loop.
_FEW_DOCUMENTS = 4


class TokenCorpus:
    """One stream of a published table as a sequence of tokens.

    Args:
        uri: The dataset: a local directory, or `s3://bucket/prefix`.
        table: Name of the table; may be left out where the dataset has one.
        stream: Name of the stream; default the table's first, with a pattern all streams of its codes.
        pattern: How codes (frame, codebook) are laid out; None for streams of one dimension.
        separator: Token that follows every document.
        documents: Name of a stream that says where stretches of the stream end (`StreamSpec.ends_of`), such as
            `functions`: each is a document, and so is what stands behind a row's last end. Default: a row is one.
        subset: Rows to keep; default all.
        skip_duplicates: Leave out rows that repeat an earlier one (`Table.duplicates`).
        distinct: Name of a stream with a value for each end, such as `function_hashes`: of documents with one value
            only the first is kept.
        prefix: Tokens of every document to keep, its first ones, or frames of codes: of a tokenizer whose rows decode
            from any prefix, a coarser item at a lower price; default all.
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
        documents: Where its documents lie.
        plain: Whether places are just the shards' values, end to end.

    Raises:
        LoaderError: the table has another tokenizer, the stream, the separator or the stream of ends does not fit, or
            duplicates are not known.
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
        documents: str | None = None,
        subset: Subset | None = None,
        skip_duplicates: bool = False,
        distinct: str | None = None,
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
        self.id_offset = id_offset
        self._access = Access(check, cache, mapped_shards, memory_bytes, open_blocks, block_tokens)
        self._ending = int(separator is not None)  # places that a document has beside its tokens
        self._check_tokenizer(tokenizer)
        if separator is not None:
            self._chosen.check_separator(separator, self.uri)
        if prefix is not None and prefix < 1:
            raise LoaderError(f"a prefix of {prefix} tokens of every row; it must have one or more", where=self.uri)
        if documents is not None:
            self._chosen.check_ends(self.table, documents, self.uri)
        if distinct is not None:
            check_distinct(self.table, distinct, documents, self.uri)
        self.shards = self.table.shards
        self._streams = LaidOutStreams(self.table, self._chosen, self._access)
        choice = DocumentChoice(documents, separator is not None, subset, prefix, skip_duplicates, distinct)
        self.documents = TableDocuments(self.table, self._streams, self._layout, choice)
        self.plain = self._streams.even and choice.plain
        self.lengths = self.documents.count()
        self.ends: npt.NDArray[np.int64] = np.cumsum(self.lengths)
        self.tokens = int(self.ends[-1]) if len(self.ends) else 0

    @property
    def fingerprint(self) -> str:
        """What the table holds: its tokenizer's fingerprint and all shards' checksums."""
        return self.table.fingerprint

    @property
    def what(self) -> str:
        """The stream's name, how much of every document is read, what one is, which ones, and the pattern."""
        choice = self.documents.choice
        read = self.stream if choice.prefix is None else f"{self.stream}[:{choice.prefix}]"
        if choice.ends is not None:
            read += f" by {choice.ends}"
        if choice.skip_duplicates:
            read += " without duplicates"
        if choice.distinct is not None:
            read += f" distinct in {choice.distinct}"
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
        found = self.documents.shard(shard)
        first, last = found.between(start, stop)
        if last - first > _FEW_DOCUMENTS and isinstance(self._layout, TokenLayout):
            self._read_many(shard, found, slice(first, last), start, stop, out)
            return
        at = 0
        for document in range(first, last):
            origin, limit = int(found.starts[document]), int(found.starts[document + 1])
            begin, end = max(origin, start), min(limit, stop)
            count = end - begin
            separated = self.separator is not None and end == limit
            values = count - 1 if separated else count
            frames = self._layout.frames(limit - origin - self._ending)
            first_step, piece = begin - origin, out[at : at + values]
            self._streams.copy(shard, int(found.values[document]), frames, first_step, first_step + values, piece)
            if separated and self.separator is not None:
                out[at + values] = self.separator
            at += count

    def _read_many(
        self, shard: int, found: ShardDocuments, chosen: slice, start: int, stop: int, out: npt.NDArray[np.int64]
    ) -> None:
        """Copy tokens of many documents, as they are stored: those at once that lie end to end there."""
        origins, limits = found.starts[chosen], found.starts[chosen.start + 1 : chosen.stop + 1]
        begins, ends = np.maximum(origins, start), np.minimum(limits, stop)
        counts = ends - begins
        tokens = out
        if self.separator is not None:
            separators = np.cumsum(counts)[ends == limits] - 1
            counts -= ends == limits
            out[separators] = self.separator
            tokens = np.empty(len(out) - len(separators), np.int64)
        values = found.values[chosen] + (begins - origins)
        after = values + counts
        cuts = (np.flatnonzero(values[1:] != after[:-1]) + 1).tolist()
        at = 0
        for one, other in pairwise([0, *cuts, len(values)]):
            run = self.values.read(shard, int(values[one]), int(after[other - 1]))
            tokens[at : at + len(run)] = run
            at += len(run)
        if self.separator is not None:
            places = np.ones(len(out), np.bool_)
            places[separators] = False
            out[places] = tokens

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
        complete = self.documents.choice.complete
        for shard, start in zip(shards, starts, strict=True):
            found = self.documents.shard(shard)
            first, last = found.between(start, start + count)
            begins.append(found.starts[first:last])
            counts.append(last - first)
            numbers.append(found.first + first if complete else found.numbers(first, last))
        # Where documents begin, as seen from the run; those that begin before it are continued.
        seen = np.concatenate(begins) - np.repeat(starts, counts)
        flat = np.maximum(seen, 0) + np.repeat(np.arange(len(counts)) * count, counts)
        if complete:  # they follow on one another
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

        It is a guess where documents are not known yet.
        """
        total = int(self._streams.frames[shard])
        if self.plain:
            return self._streams.needed(0, total, start, stop)
        documents = self.documents.known(shard)
        if documents is None:
            scale = total / int(self.lengths[shard])
            return int(start * scale), min(int(stop * scale) + 1, total)
        starts, values = documents.starts, documents.values
        first, last = documents.between(start, stop)
        found = []
        for document in (first, last - 1):
            origin, limit = int(starts[document]), int(starts[document + 1])
            frames = self._layout.frames(limit - origin - self._ending)
            piece = (max(start, origin) - origin, min(stop, limit - self._ending) - origin)
            found.append(self._streams.needed(int(values[document]), frames, *piece))
        return found[0][0], found[1][1]

    def locate(self, document_ids: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return where documents are, by their numbers in a batch's `document_ids`.

        Args:
            document_ids: Integers of any shape; -1 for padding.

        Returns:
            int64 of that shape, twice: the row number in the table, and which document of its row it is, from 0; what
            stands behind a row's last end comes last. Both -1 for padding. Where a row is one document: itself, and 0.

        Raises:
            LoaderError: there is no such document.
        """
        return self.documents.locate(document_ids)

    def close(self) -> None:
        """Let go of all shards; reading opens them again."""
        self.values.close()
        self.documents.clear()

    def _check_tokenizer(self, asked: str | None) -> None:
        found = self.table.tokenizer.fingerprint
        if asked is not None and (len(asked) < 8 or not found.startswith(asked)):
            raise LoaderError(
                f"table {self.table.name!r} was made by the tokenizer {found}, and {asked} was asked for",
                where=self.uri,
                fix="read the dataset of that tokenizer, or ask for this one (`tokenmill inspect` shows it)",
            )

    def __reduce__(self) -> tuple[Any, ...]:
        choice = self.documents.choice
        return (
            _reopen,
            (
                self.uri,
                self.table.name,
                {
                    "stream": self._asked,
                    "pattern": self.pattern,
                    "separator": self.separator,
                    "documents": choice.ends,
                    "subset": choice.subset,
                    "skip_duplicates": choice.skip_duplicates,
                    "distinct": choice.distinct,
                    "prefix": choice.prefix,
                    "generation": self.generation,
                    "id_offset": self.id_offset,
                    **vars(self._access),
                },
            ),
        )

    def __repr__(self) -> str:
        return f"<{self.tokens} tokens: {self.what!r} of table {self.table.name!r} of {self.uri}>"


def _reopen(uri: str, table: str, options: dict[str, Any]) -> TokenCorpus:
    return TokenCorpus(uri, table, **options)
