"""Whole documents packed into windows by best fit: no document that fits a window is ever cut.

Documents are packed in blocks of neighbouring shards, by index only: nothing is copied but their lengths. A sample's
number is its block's number times 2^32 plus its bin's. Which bins there are depends on lengths alone, so that every
epoch has as many; which documents of equal length lie together changes from epoch to epoch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.errors import LoaderError
from tokenmill.loader.batches import FIELDS, BatchBuilder, Pieces
from tokenmill.loader.corpus import TokenCorpus
from tokenmill.loader.orders import Order
from tokenmill.loader.packed import PackedSamples, SamplePlan
from tokenmill.loader.packing import Packing, best_fit
from tokenmill.loader.permutation import KeyedPermutation

#: Documents of a block: packing them takes well under a second, and leaves almost nothing of a window empty.
BLOCK_DOCUMENTS = 1 << 20
#: Blocks that stay packed: the one in use, and the ones before and after it.
_PACKED_BLOCKS = 3
_BIN_BITS = 32


class PackedDocuments(PackedSamples):
    """A table's documents packed into windows: `len`, and a sample by its number.

    What is left of a window is padding: `pad_id`, document -1. Documents longer than a window give full windows of
    their own, and a rest that is packed like a short document. A separator counts as its document's last token.

    Args:
        corpus: The tokens.
        window: Tokens of a window.
        fields: Arrays of a sample.
        pad_id: Id that pads.
        block_tokens: Tokens of a block, at least; default blocks of about a million documents.

    Raises:
        LoaderError: there are no tokens.
    """

    def __init__(
        self,
        corpus: TokenCorpus,
        window: int,
        *,
        fields: Collection[str] = FIELDS,
        pad_id: int = 0,
        block_tokens: int | None = None,
    ) -> None:
        super().__init__(corpus, window, fields=fields, pad_id=pad_id)
        if not corpus.tokens:
            raise LoaderError(f"there are no documents to pack: {corpus!r}", where=corpus.uri)
        self._block_tokens = block_tokens
        if block_tokens is None:
            self._blocks = _cut(corpus.documents.counts, BLOCK_DOCUMENTS)
        else:
            self._blocks = _cut(corpus.lengths, block_tokens)
        self._bins: dict[int, int] = {}
        self._pack = lru_cache(_PACKED_BLOCKS)(self._pack_block)

    def __reduce__(self) -> tuple[Any, ...]:
        make = partial(PackedDocuments, fields=self.fields, pad_id=self.pad_id, block_tokens=self._block_tokens)
        return (make, (self.corpus, self.window))

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self._blocks)

    def bins(self, block: int) -> int:
        """Return the number of samples of a block; packs it."""
        if block not in self._bins:
            self._bins[block] = len(self._pack(block, 0).packing)
        return self._bins[block]

    def __len__(self) -> int:
        """Samples of an epoch; packs all blocks the first time."""
        return sum(self.bins(block) for block in range(self.blocks))

    def plan(self, numbers: npt.NDArray[np.int64], shift: int = 0) -> SamplePlan:
        """Find bins by number; another `shift` packs other documents of equal length together."""
        return _DocumentPlan(self, numbers, shift)

    def span(self, first: int, last: int, shift: int) -> Iterator[tuple[int, int, int]]:
        """Yield what the samples of a block read together: its shards."""
        for shard in self._blocks[first >> _BIN_BITS]:
            length = int(self.corpus.lengths[shard])
            if length:
                yield (shard, *self.corpus.values_between(shard, 0, length))

    def block(self, number: int, shift: int) -> PackedBlock:
        """Return a block packed; the ones used lately are remembered."""
        packed = self._pack(number, shift)
        self._bins[number] = len(packed.packing)
        return packed

    def _numbers(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        ends = np.cumsum([self.bins(block) for block in range(self.blocks)])
        blocks = ends.searchsorted(indices, "right")
        return number_of(blocks, indices - np.concatenate([[0], ends])[blocks])

    def _pack_block(self, number: int, shift: int) -> PackedBlock:
        shards = self._blocks[number]
        lengths = [np.diff(found.starts) for found in self.corpus.documents.every(shards)]
        ends = np.cumsum([len(some) for some in lengths])
        together = np.concatenate(lengths)
        if not shift:
            return PackedBlock(shards, ends.tolist(), best_fit(together, self.window), None)
        shuffled = KeyedPermutation(len(together), f"documents/{shift}")(np.arange(len(together)))
        return PackedBlock(shards, ends.tolist(), best_fit(together[shuffled], self.window), shuffled)


@dataclass(frozen=True)
class PackedBlock:
    """A block of documents, packed.

    Attributes:
        shards: Its shards.
        ends: Documents up to and including each shard.
        packing: The bins.
        shuffled: int64 `[document]`, the document that the packing calls by this number; None where they are the same.
    """

    shards: range
    ends: list[int]
    packing: Packing
    shuffled: npt.NDArray[np.int64] | None

    def pieces(self, number: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield the pieces of a bin: shard, document in the shard, place of the piece in it, tokens."""
        found = self.packing[number]
        documents = found.documents if self.shuffled is None else self.shuffled[found.documents]
        columns = (documents.tolist(), found.starts.tolist(), found.lengths.tolist())
        for document, start, length in zip(*columns, strict=True):
            index = bisect_right(self.ends, document)
            yield self.shards[index], document - (self.ends[index - 1] if index else 0), start, length


class DocumentOrder(Order):
    """Blocks of documents in shuffled order, each block's bins shuffled; all in their natural order without a key.

    Args:
        documents: The packed documents.
        key: Names the data and the seed.
        in_blocks: Whether blocks are small enough to be read as a whole.
    """

    def __init__(self, documents: PackedDocuments, key: str | None, *, in_blocks: bool) -> None:
        self._documents = documents
        self._key = key
        self.in_blocks = in_blocks

    def groups(self, epoch: int) -> int:
        """Return the number of blocks."""
        return self._documents.blocks

    def size(self, epoch: int, group: int) -> int:
        """Return the number of bins of a block; packs it."""
        return self._documents.bins(self._block(epoch, group))

    def numbers(self, epoch: int, group: int, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return int64 `[place]`: the sample numbers at these places of a block."""
        block = self._block(epoch, group)
        if self._key is not None:
            places = KeyedPermutation(self.size(epoch, group), f"{self._key}/{epoch}/group {group}")(places)
        return number_of(block, places)

    def spans(self, epoch: int, group: int) -> list[tuple[int, int]]:
        """Return the block, by the number of its first sample."""
        block = self._block(epoch, group)
        return [(block << _BIN_BITS, (block << _BIN_BITS) + 1)]

    def _block(self, epoch: int, group: int) -> int:
        if self._key is None:
            return group
        order = KeyedPermutation(self._documents.blocks, f"{self._key}/{epoch}/blocks")
        return int(order(np.array([group]))[0])


class _DocumentPlan(SamplePlan):
    """Bins found."""

    def __init__(self, packed: PackedDocuments, numbers: npt.NDArray[np.int64], shift: int) -> None:
        self._packed = packed
        self._numbers: list[int] = numbers.tolist()
        self._shift = shift

    def fill(self, samples: range, rows: Sequence[int], batch: BatchBuilder) -> None:
        corpus = self._packed.corpus
        for sample, row in zip(samples, rows, strict=True):
            at = 0
            documents: list[int] = []
            starts: list[int] = []
            lengths: list[int] = []
            for shard, document, start, length in self._pieces(sample):
                found = corpus.documents.shard(shard)
                place = int(found.starts[document]) + start
                corpus.read(shard, place, place + length, batch.ids[row, at : at + length])
                documents.append(found.number(document))
                starts.append(start)
                lengths.append(length)
                at += length
            if batch.wants_pieces:
                columns = ([row] * len(documents), documents, starts, lengths)
                batch.add_pieces(Pieces(*(np.array(column) for column in columns)))
            batch.pad(row, at, self._packed.pad_id)

    def pieces(self) -> Iterator[tuple[int, int, int]]:
        corpus = self._packed.corpus
        for sample in range(len(self._numbers)):
            for shard, document, start, length in self._pieces(sample):
                place = int(corpus.documents.shard(shard).starts[document]) + start
                yield (shard, *corpus.values_between(shard, place, place + length))

    def _pieces(self, sample: int) -> Iterator[tuple[int, int, int, int]]:
        number = self._numbers[sample]
        block = self._packed.block(number >> _BIN_BITS, self._shift)
        yield from block.pieces(number & ((1 << _BIN_BITS) - 1))


def number_of(block: int | npt.NDArray[np.int64], bins: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return int64 `[bin]`: the sample numbers of bins of a block."""
    return (np.asarray(block, np.int64) << _BIN_BITS) + bins


def _cut(sizes: npt.NDArray[np.int64], enough: int) -> list[range]:
    """Cut shards into runs of which each, but the last, has at least `enough` of what `sizes` `[shard]` counts."""
    blocks = []
    first = total = 0
    for shard, size in enumerate(sizes.tolist()):
        total += size
        if total >= enough:
            blocks.append(range(first, shard + 1))
            first, total = shard + 1, 0
    if total:
        blocks.append(range(first, len(sizes)))
    return blocks
