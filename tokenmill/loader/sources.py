"""The sources of a loader: what each is, what it is cut into and in which order, and whether they go together."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tokenmill.errors import LoaderError
from tokenmill.loader.block_cache import BlockCache
from tokenmill.loader.corpus import TokenCorpus
from tokenmill.loader.documents import DocumentOrder, PackedDocuments
from tokenmill.loader.feeds import Feed, Place
from tokenmill.loader.orders import BlockOrder, GlobalOrder, NaturalOrder, Order
from tokenmill.loader.packed import PackedSamples
from tokenmill.loader.patterns import Pattern
from tokenmill.loader.remote_values import MEMORY_BYTES
from tokenmill.loader.state import SourceState, shortened
from tokenmill.loader.subsets import Subset
from tokenmill.loader.values import MAPPED_SHARDS
from tokenmill.loader.windows import PackedWindows

Packing = Literal["windows", "documents"]
Shuffle = Literal["global", "blocks", "none"]
Tail = Literal["drop", "pad"]


@dataclass(frozen=True)
class Source:
    """One source of a mix.

    Attributes:
        uri: The dataset.
        table: Name of the table; may be left out where the dataset has one.
        weight: Its share of the samples, relative to the other sources' weights; 0 leaves it out for now.
        name: What states and reports call it; default the uri's last part and the table.
        stream: Name of the stream; default the table's first, with a pattern all streams of its codes.
        prefix: Tokens of every row to read, its first ones, or frames of codes; default all.
        generation: Which generation; default the newest.
        tokenizer: Fingerprint that the table's tokenizer must have.
        id_offset: Number added to every id, its place in a vocabulary that sources of different tokenizers share.
        pattern: How codes (frame, codebook) are laid out: `Flat`, `Parallel`, `Delayed`.
        separator: Token that follows every document of it, before `id_offset` is added; default the loader's.
        documents: Stream that says where documents end in a row, such as `functions`; default: a row is one.
        skip_duplicates: Leave out rows that repeat an earlier one of the table.
        distinct: Stream with a value for each end, such as `function_hashes`: of equal documents the first is read.
    """

    uri: str
    table: str | None = None
    weight: float = 1.0
    name: str | None = None
    stream: str | None = None
    prefix: int | None = None
    generation: int | None = None
    tokenizer: str | None = None
    id_offset: int | None = None
    pattern: Pattern | None = None
    separator: int | None = None
    documents: str | None = None
    skip_duplicates: bool = False
    distinct: str | None = None


@dataclass(frozen=True)
class Reading:
    """How all sources of a loader are read; `TokenLoader` documents the members."""

    window: int
    seed: int
    packing: Packing
    shuffle: Shuffle
    block_tokens: int
    open_blocks: int
    separator: int | None
    tail: Tail
    pad_id: int
    subset: Subset | None
    fields: Collection[str]
    check: bool
    cache: BlockCache | None

    def __post_init__(self) -> None:
        for name, given, known in [
            ("packing", self.packing, ("windows", "documents")),
            ("shuffle", self.shuffle, ("global", "blocks", "none")),
            ("tail", self.tail, ("drop", "pad")),
        ]:
            if given not in known:
                raise LoaderError(f"{name} {given!r} is not one of {', '.join(map(repr, known))}")
        if self.block_tokens < self.window or self.open_blocks < 1:
            raise LoaderError(
                f"block_tokens {self.block_tokens} and open_blocks {self.open_blocks}: a block must hold a window of "
                f"{self.window} tokens, and one or more must be open"
            )

    def order(self) -> dict[str, Any]:
        """Return by name what decides the order of samples beside the data."""
        order: dict[str, Any] = {"seed": self.seed, "window": self.window, "packing": self.packing}
        order["shuffle"] = self.shuffle
        if self.shuffle == "blocks":
            order["shuffle"] = f"{self.open_blocks} blocks of {self.block_tokens} tokens"
        order["separator"] = self.separator
        order["tail"] = self.tail
        order["subset"] = None if self.subset is None else str(self.subset)
        return order


@dataclass(frozen=True)
class OpenSource:
    """A source opened: how it was asked for, its name, and the feed that samples are drawn from."""

    asked: Source
    name: str
    feed: Feed

    @property
    def weight(self) -> float:
        """Its share of the samples, relative to the others'."""
        return self.asked.weight

    def state(self, place: Place) -> SourceState:
        """Return what a state says of the source where it stands at a place."""
        corpus = self.corpus
        what = corpus.what if self.asked.separator is None else f"{corpus.what}, separator {self.asked.separator}"
        return SourceState(self.name, shortened(corpus.fingerprint), what, corpus.generation, place)

    def pinned(self) -> Source:
        """Return the source as it was opened, for another process to open the same."""
        corpus = self.corpus
        return replace(
            self.asked, uri=corpus.uri, table=corpus.table.name, name=self.name, generation=corpus.generation
        )

    def undo(self, tokens: npt.NDArray[Any], position: int = 0) -> dict[str, npt.NDArray[Any]]:
        """Return the row's streams that tokens of one document were laid out from; see `TokenCorpus.undo`."""
        return self.corpus.undo(tokens, position)

    def locate(self, document_ids: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the rows that documents are in, and their places there; see `TokenCorpus.locate`."""
        return self.corpus.locate(document_ids)

    @property
    def corpus(self) -> TokenCorpus:
        """Its tokens."""
        return self.feed.packed.corpus


def asked_sources(data: str | Sequence[Source], whole: Source) -> Sequence[Source]:
    """Return the sources that a loader was asked for: those given, or the one dataset.

    Args:
        data: Uri of a dataset, or sources.
        whole: What else was said of the dataset.

    Raises:
        LoaderError: sources were given, and something of a dataset beside them.
    """
    if isinstance(data, str):
        return [whole]
    if replace(whole, uri="") != Source(""):
        raise LoaderError(
            "table, stream, documents, skip_duplicates, distinct, pattern, prefix, generation and tokenizer belong to "
            "each source: Source(…)"
        )
    return data


def open_sources(sources: Sequence[Source], reading: Reading) -> tuple[OpenSource, ...]:
    """Open the sources of a loader.

    Raises:
        LoaderError: two have one name, or vocabularies that do not go together, or one cannot be cut as asked.
    """
    if not sources:
        raise LoaderError("a loader of no sources")
    opened = tuple(_open(source, reading, len(sources)) for source in sources)
    names = [source.name for source in opened]
    for name in names:
        if names.count(name) > 1:
            raise LoaderError(f"two sources are named {name!r}", fix="give each a name: Source(…, name=…)")
    _check_steps(opened)
    _check_vocabularies(sources, opened)
    return opened


def _open(source: Source, reading: Reading, count: int) -> OpenSource:
    corpus = TokenCorpus(
        source.uri,
        source.table,
        stream=source.stream,
        separator=reading.separator if source.separator is None else source.separator,
        subset=reading.subset,
        prefix=source.prefix,
        generation=source.generation,
        tokenizer=source.tokenizer,
        check=reading.check,
        cache=reading.cache,
        id_offset=source.id_offset or 0,
        mapped_shards=max(MAPPED_SHARDS // count, 1),
        memory_bytes=MEMORY_BYTES // count,
        open_blocks=reading.open_blocks,
        block_tokens=reading.block_tokens if reading.shuffle == "blocks" else 0,
        pattern=source.pattern,
        documents=source.documents,
        skip_duplicates=source.skip_duplicates,
        distinct=source.distinct,
    )
    name = source.name or f"{corpus.uri.rstrip('/').rsplit('/', 1)[-1]}/{corpus.table.name}"
    key = f"{corpus.fingerprint}/{corpus.stream}/{reading.seed}"
    # Blocks are as large whether an id is a token by itself or one of a step's.
    block_steps = max(reading.block_tokens // math.prod(corpus.step_shape), reading.window)
    packed: PackedSamples
    order: Order
    if reading.packing == "documents":
        block_tokens = block_steps * reading.open_blocks if reading.shuffle == "blocks" else None
        packed = documents = PackedDocuments(
            corpus, reading.window, fields=reading.fields, pad_id=reading.pad_id, block_tokens=block_tokens
        )
        shuffled = None if reading.shuffle == "none" else key
        order = DocumentOrder(documents, shuffled, in_blocks=reading.shuffle == "blocks")
    else:
        packed = PackedWindows(corpus, reading.window, fields=reading.fields, tail=reading.tail, pad_id=reading.pad_id)
        order = _window_order(packed, reading, block_steps, key)
    shifts = reading.shuffle != "none"
    return OpenSource(source, name, Feed(packed, order, key, shifts, corpus.frame_tokens))


def _window_order(packed: PackedWindows, reading: Reading, block_steps: int, key: str) -> Order:
    if reading.shuffle == "none":
        return NaturalOrder(len(packed))
    if reading.shuffle == "blocks":
        return BlockOrder(len(packed), block_steps // reading.window, reading.open_blocks, key)
    return GlobalOrder(len(packed), key)


def _check_steps(opened: Sequence[OpenSource]) -> None:
    """Refuse sources whose tokens are of different shapes: they have no batch in common."""
    first = opened[0]
    for one in opened[1:]:
        if one.corpus.step_shape != first.corpus.step_shape:
            shapes = ", ".join(f"{source.name!r} {source.corpus.step_shape}" for source in (first, one))
            raise LoaderError(
                f"sources whose tokens have different shapes cannot be mixed: {shapes}",
                fix="lay codes out one by one, as text is: pattern=Flat(); or take equally many codebooks of all",
            )


def _check_vocabularies(sources: Sequence[Source], opened: Sequence[OpenSource]) -> None:
    """Refuse sources of different tokenizers, unless each has its own place in a shared vocabulary."""
    places: dict[tuple[str, str], tuple[int, int, str]] = {}
    for source, one in zip(sources, opened, strict=True):
        table = one.corpus.table
        identity = (table.tokenizer.fingerprint, one.corpus.stream)
        size = one.corpus.vocabulary_size or 1 << 62
        first_id = one.corpus.id_offset
        place = (first_id, first_id + size, one.name)
        for other, (first, last, name) in places.items():
            same = other == identity
            if not same and source.id_offset is None:
                raise LoaderError(
                    f"sources {name!r} and {one.name!r} have different vocabularies: tokenizers {other[0][:16]}… and "
                    f"{identity[0][:16]}…",
                    fix="mix tables of one tokenizer, or lay the vocabularies out side by side: Source(…, id_offset=…)",
                )
            if not same and place[0] < last and first < place[1]:
                raise LoaderError(
                    f"the ids of sources {name!r} ({first} … {last - 1}) and {one.name!r} ({place[0]} … "
                    f"{place[1] - 1}) overlap, and their tokenizers differ",
                    fix="choose id_offset so that they do not",
                )
            if same and first != place[0]:
                raise LoaderError(
                    f"sources {name!r} and {one.name!r} have one tokenizer, and id_offset {first} and {place[0]}"
                )
        places[identity] = place
