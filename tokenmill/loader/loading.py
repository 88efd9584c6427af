"""TokenLoader: batches of packed tokens in a global order that does not depend on ranks, workers or batch size.

The sequence of samples is a pure function of (seed, epoch, data). A global batch is the next `global_batch_size` of
them; rank r of R takes the r-th of R equal runs of it. The state is how far the sequence was delivered, so any number
of ranks and DataLoader workers, and another batch size, goes on where it stands.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from tokenmill.errors import LoaderError
from tokenmill.loader.batches import FIELDS, keep_freed_memory
from tokenmill.loader.block_cache import BlockCache
from tokenmill.loader.drawing import Draw, Share
from tokenmill.loader.feeds import Place
from tokenmill.loader.mixing import Mixture
from tokenmill.loader.patterns import Pattern
from tokenmill.loader.sequence import GlobalSequence, Point
from tokenmill.loader.sources import OpenSource, Packing, Reading, Shuffle, Source, Tail, asked_sources, open_sources
from tokenmill.loader.state import LoaderState, WorkerState, check_same, check_worker, unwrap
from tokenmill.loader.subsets import Subset
from tokenmill.loader.torch_workers import WorkerBoard, current_worker, in_worker, register_iterable

#: Samples that are found at a time, here and on all ranks together.
_DRAWN_SAMPLES = 2048
_DRAWN_EVERYWHERE = 1 << 20


class TokenLoader:
    """Batches of tokens of a published dataset, or of a mix of several.

    `for batch in loader` gives what is left of an epoch, the next `for` the next epoch; a mix (a list of sources, also
    of one) has no end. A batch is a dict of numpy arrays:

    - `ids`: int64 `[sample, token]`, `global_batch_size / world_size` samples of `window` tokens; with a parallel or
      delayed pattern `[sample, step, codebook]`, and all that is said of a token is said of a step;
    - `document_ids`: int64 `[sample, token]`, number of the row in the table; -1 for padding; where rows hold several
      documents, `loader.sources[0].locate` finds the row;
    - `positions`: int64 `[sample, token]`, the token's place in its document; a separator follows its document's last;
    - `cu_seqlens`: int32 `[piece + 1]`, cumulative lengths of the pieces of documents over the flattened batch;
    - `sources`: int32 `[sample]`, only in a mix: number of the source; -1 for padding;
    - `samples`: int, samples delivered to all ranks together once this batch is.

    It works in torch's `DataLoader(loader, batch_size=None, num_workers=…)` and torchdata's `StatefulDataLoader`, where
    torch was imported before the loader was made. The sequence of batches is the same with any number of workers. Where
    an iteration over workers was broken off, the next one has to be told where to go on, as workers read ahead:
    `loader.load_state_dict(loader.state_dict(batch))`, with the last batch.

    Args:
        data: Uri of a dataset (a local directory, or `s3://bucket/prefix`), or sources to be mixed by their weights.
        table: Name of the table; may be left out where the dataset has one.
        window: Tokens of a sample.
        global_batch_size: Samples of a batch on all ranks together; a multiple of `world_size`.
        seed: Another seed gives another order.
        rank: Number of this rank.
        world_size: Number of ranks.
        packing: `windows`: documents end to end, cut where a window ends; `documents`: whole documents by best fit.
        shuffle: `global`: over the whole corpus; `blocks`: blocks of neighbouring windows, read one after another,
            `open_blocks` of them shuffled with each other at a time, for object storage; `none`: source order.
        block_tokens: Tokens of a block, those of all codebooks.
        open_blocks: Blocks open at a time.
        separator: Token that follows every document.
        tail: At the end of an epoch, `drop` leaves out what does not fill a window or a global batch; `pad` pads it.
        pad_id: Id that pads.
        subset: The training or the validation rows; default all.
        fields: Arrays of a batch.
        stream: Name of the stream; default the table's first, with a pattern all streams of its codes.
        documents: Stream that says where documents end in a row, such as `functions`; default: a row is one.
        skip_duplicates: Leave out rows that repeat an earlier one of the table.
        distinct: Stream with a value for each end, such as `function_hashes`: of equal documents the first is read.
        pattern: How codes (frame, codebook) of a codec are laid out: `Flat`, `Parallel` or `Delayed`.
        prefix: Tokens of every document to read, its first ones, or frames of codes: a budget for rows of adaptive
            length; default all.
        generation: Which generation; default the newest.
        tokenizer: Fingerprint that the table's tokenizer must have, or its beginning.
        check: Whether blocks of local shards are compared with their checksums when they are first read.
        cache: Where blocks from object storage are kept on this node; default in memory only.

    Raises:
        LoaderError: what is asked cannot be done; the message names both values.
        DatasetError: there is no such dataset, table or generation.
    """

    def __init__(
        self,
        data: str | Sequence[Source],
        table: str | None = None,
        *,
        window: int,
        global_batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        packing: Packing = "windows",
        shuffle: Shuffle = "global",
        block_tokens: int = 4 << 20,
        open_blocks: int = 8,
        separator: int | None = None,
        tail: Tail = "drop",
        pad_id: int = 0,
        subset: Subset | None = None,
        fields: Collection[str] = FIELDS,
        stream: str | None = None,
        documents: str | None = None,
        skip_duplicates: bool = False,
        distinct: str | None = None,
        pattern: Pattern | None = None,
        prefix: int | None = None,
        generation: int | None = None,
        tokenizer: str | None = None,
        check: bool = True,
        cache: BlockCache | None = None,
    ) -> None:
        # Integers of numpy, too, which a state in JSON could not hold.
        window, global_batch_size, seed = map(operator.index, (window, global_batch_size, seed))
        self._share = Share(global_batch_size, rank, world_size)
        if window < 1:
            raise LoaderError(f"a window of {window} tokens; it must have one or more")
        whole = Source(
            data if isinstance(data, str) else "",
            table,
            stream=stream,
            documents=documents,
            skip_duplicates=skip_duplicates,
            distinct=distinct,
            pattern=pattern,
            prefix=prefix,
            generation=generation,
            tokenizer=tokenizer,
        )
        self._reading = Reading(
            window=window,
            seed=seed,
            packing=packing,
            shuffle=shuffle,
            block_tokens=max(block_tokens, window),
            open_blocks=open_blocks,
            separator=separator,
            tail=tail,
            pad_id=pad_id,
            subset=subset,
            fields=fields,
            check=check,
            cache=cache,
        )
        self._sources = open_sources(asked_sources(data, whole), self._reading)
        weights = [source.weight for source in self._sources]
        self._mixture = None if isinstance(data, str) else Mixture(weights, str(seed))
        self._sequence = self._open_sequence()
        # Where the sequence was last known to stand, where it was last walked to and first stood, and how many samples
        # were delivered since the run began.
        self._point = self._walked = self._origin = Point(0, tuple(Place() for _ in self._sources))
        self._samples = 0
        # Batches seen since DataLoader workers began, which decides whose turn it is.
        self._first_batch = self._seen = 0
        self._board = WorkerBoard()
        self._iteration = 0
        self._check_batch()
        register_iterable(type(self))

    @property
    def sources(self) -> tuple[OpenSource, ...]:
        """The sources, opened."""
        return self._sources

    @property
    def samples(self) -> int:
        """Samples delivered to all ranks together; where DataLoader workers read, only a batch tells."""
        return self._samples

    @property
    def tokens(self) -> int:
        """Tokens delivered to all ranks together, padding included."""
        return self._samples * self._reading.window

    @property
    def epochs(self) -> dict[str, int]:
        """Name of each source → the epoch that it is in, from 0."""
        places = self._here().places
        return {source.name: place.epoch for source, place in zip(self._sources, places, strict=True)}

    def __len__(self) -> int:
        """Batches of a whole epoch; packed documents are packed for it. A mix has no length."""
        if self._mixture is not None:
            raise TypeError("a mix of sources has no end, and no length")
        count, size = len(self._sources[0].feed.packed), self._share.global_batch_size
        return count // size if self._reading.tail == "drop" else -(-count // size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker, workers = current_worker()
        share = replace(self._share, worker=worker, workers=workers)
        keep_freed_memory()
        self._here()
        first, self._first_batch = self._first_batch, 0
        if not first:
            self._point = self._begin_epoch(self._point)
        self._samples = self._point.samples
        if in_worker():
            self._board.use(self._point.places[0].epoch)
        else:
            self._board.take_over(self._point.places[0].epoch, self._point.samples)
        self._iteration += 1
        iteration = self._iteration
        for point, draw in self._draws(self._point, first, share):
            for number, batch in draw.copy():
                self._point = point
                self._samples = batch["samples"]
                if in_worker():
                    self._seen = draw.first_batch + number + 1
                    if self._samples == draw.end:
                        self._say_what_comes_next()
                yield batch
                if iteration != self._iteration:
                    raise LoaderError(
                        "another iteration of this loader has begun, or a state was loaded: this one cannot go on",
                        fix="make another TokenLoader to read the same data beside this one",
                    )
        # Only a single source gets here: a mix has no end.
        self._point = self._sequence.next_epoch(self._sequence.finish_epoch(self._here(), share.global_batch_size))
        self._samples = self._point.samples
        self._seen = 0
        self._board.leave()

    def state_dict(self, batch: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the state: what was delivered, as JSON of at most 1 KB and about 100 bytes a source.

        Args:
            batch: The last batch that was delivered. Needed where batches come from the workers of torch's DataLoader:
                only it tells how many of those that they made were delivered. (StatefulDataLoader has its own state,
                which `load_state_dict` takes, too.)

        Raises:
            LoaderError: batches come from workers, and none was given.
        """
        worker = None
        if in_worker():
            if not self._seen:
                self._point = self._begin_epoch(self._here())
                self._samples = self._point.samples
            worker = WorkerState(*current_worker(), self._seen, self._share.global_batch_size)
        elif batch is None and self._board.in_use:
            raise LoaderError(
                "batches come from DataLoader workers, and only the last one delivered tells how far they got",
                fix="loader.state_dict(batch), with the last batch; or use StatefulDataLoader's state_dict()",
            )
        point = self._here() if batch is None else self._walk(int(batch["samples"]))
        sources = zip(self._sources, point.places, strict=True)
        return LoaderState(
            samples=point.samples,
            order=self._reading.order(),
            sources=tuple(source.state(place) for source, place in sources),
            worker=worker,
        ).to_json()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was taken, on any rank of any number of them, with any batch size and weights.

        Args:
            state: What `state_dict` returned, or the `state_dict` of a StatefulDataLoader with any number of workers.

        Raises:
            LoaderError: the state belongs to other data or another order; the message names both values.
        """
        inner, batches = unwrap(state)
        saved = LoaderState.from_json(inner)
        check_same(saved, LoaderState.from_json(self._fresh_state()))
        for source, there in zip(self._sources, saved.sources, strict=True):
            if not source.feed.has(there.place):
                raise LoaderError(f"the state is not one of a TokenLoader: source {source.name!r} has no {there.place}")
        point = Point(saved.samples, tuple(source.place for source in saved.sources))
        seen = 0
        if saved.worker is not None:
            if in_worker():
                seen = saved.worker.batches
                check_worker(saved.worker, WorkerState(*current_worker(), seen, self._share.global_batch_size))
            point = self._sequence.skip(point, batches, saved.worker.batch_size)
        self._point = self._walked = self._origin = point
        self._samples = point.samples
        self._first_batch = self._seen = seen
        self._iteration += 1
        if in_worker():
            self._board.resume(point.places[0].epoch, point.samples)
            self._say_what_comes_next()
        else:
            self._board.begin(point.places[0].epoch, point.samples)

    def close(self) -> None:
        """Let go of all shards and threads; reading opens them again."""
        for source in self._sources:
            source.corpus.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sources": [source.pinned() for source in self._sources], "_sequence": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._sources = open_sources(state["_sources"], self._reading)
        self._sequence = self._open_sequence()
        register_iterable(type(self))

    def __repr__(self) -> str:
        sources = ", ".join(source.name for source in self._sources)
        share = self._share
        return (
            f"<TokenLoader of {sources}: {share.global_batch_size} windows of {self._reading.window} tokens, "
            f"rank {share.rank} of {share.world_size}, {self._samples} samples delivered>"
        )

    def _open_sequence(self) -> GlobalSequence:
        feeds = [source.feed for source in self._sources]
        return GlobalSequence(feeds, self._mixture, pads=self._reading.tail == "pad")

    def _draws(self, point: Point, first: int, share: Share) -> Iterator[tuple[Point, Draw]]:
        """Yield draws up to the end of the epoch, with where each begins; from object storage one is made ahead."""
        ahead: deque[tuple[Point, Draw]] = deque()
        depth = 0 if all(source.corpus.local for source in self._sources) else 1
        size = share.global_batch_size
        wanted = max(min(-(-_DRAWN_SAMPLES // share.batch_size) * share.workers, _DRAWN_EVERYWHERE // size), 1)
        while count := self._sequence.run(point, size, wanted):
            draw = Draw(self._sources, self._mixture, point, count, first, share)
            draw.prefetch()
            ahead.append((point, draw))
            point, first = self._sequence.advance(point, count), first + -(-count // size)
            if len(ahead) > depth:
                yield ahead.popleft()
        yield from ahead

    def _here(self) -> Point:
        """Return where delivery stands."""
        if self._samples != self._point.samples:
            self._point = self._walk(self._samples)
        return self._point

    def _walk(self, samples: int) -> Point:
        """Return where the sequence stands once so many samples are delivered, from where it was known to stand."""
        known = [point for point in (self._origin, self._walked, self._point) if point.samples <= samples]
        if not known:
            raise LoaderError(
                f"a batch from before the loader's state: {samples} samples delivered, the state has "
                f"{self._origin.samples}"
            )
        nearest = max(known, key=lambda point: point.samples)
        self._walked = self._sequence.walk(nearest, samples, self._share.global_batch_size)
        return self._walked

    def _begin_epoch(self, point: Point) -> Point:
        """Return where an iteration starts: beyond what workers finished, and not at the very end of an epoch."""
        if self._mixture is not None:
            return point
        if self._board.epoch > point.places[0].epoch:
            point = Point(self._board.samples, (Place(self._board.epoch),))
        if not self._sequence.run(point, self._share.global_batch_size, 1):
            point = self._sequence.next_epoch(point)
        return point

    def _say_what_comes_next(self) -> None:
        """Let the workers of the next epoch know where it begins, if this one has no batch left."""
        point = self._here()
        if self._mixture is None and not self._sequence.run(point, self._share.global_batch_size, 1):
            point = self._sequence.next_epoch(point)
            self._board.end_epoch(point.places[0].epoch, point.samples)

    def _fresh_state(self) -> dict[str, Any]:
        sources = tuple(source.state(Place()) for source in self._sources)
        return LoaderState(0, self._reading.order(), sources).to_json()

    def _check_batch(self) -> None:
        """Refuse a global batch that an epoch cannot fill."""
        size = self._share.global_batch_size
        if self._mixture is None and not self._sequence.run(self._point, size, 1):
            raise LoaderError(
                f"a global batch of {size} samples of {self._reading.window} tokens is more than an epoch of "
                f"{self._sources[0].corpus!r} has ({len(self._sources[0].feed.packed)} samples)",
                where=self._sources[0].corpus.uri,
                fix="take a smaller batch or window, tail='pad', or a list of this one source, which has no end",
            )
