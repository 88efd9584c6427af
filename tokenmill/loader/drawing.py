"""Drawing batches: the samples of some batches of one rank and worker, found together, and copied one batch at a time.

The sequence of all samples is cut into global batches; a rank has a run of each, a DataLoader worker some of them.
Which samples those are is found for many batches at once, so that numpy's cost of a call is spread over thousands.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.errors import LoaderError
from tokenmill.loader.batches import BatchBuilder
from tokenmill.loader.mixing import Mixture
from tokenmill.loader.packed import SamplePlan
from tokenmill.loader.sequence import Point
from tokenmill.loader.sources import OpenSource

#: Tokens that are copied at a time where batches are smaller, 1 MB of ids.
_COPIED_TOKENS = 1 << 17


@dataclass(frozen=True)
class Share:
    """Which part of each global batch, and which batches, are drawn here.

    Attributes:
        global_batch_size: Samples of a batch on all ranks together.
        rank: Number of this rank.
        world_size: Number of ranks.
        worker: Number of this DataLoader worker.
        workers: Number of workers.
    """

    global_batch_size: int
    rank: int
    world_size: int
    worker: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise LoaderError(f"rank {self.rank} of {self.world_size} ranks; ranks count from 0")
        if self.global_batch_size < 1 or self.global_batch_size % self.world_size:
            raise LoaderError(
                f"a global batch of {self.global_batch_size} samples cannot be dealt to {self.world_size} ranks evenly"
            )

    @property
    def batch_size(self) -> int:
        """Samples of a batch on one rank."""
        return self.global_batch_size // self.world_size


class Draw:
    """Consecutive global batches, of which this share's are ready to be copied.

    Args:
        sources: The sources.
        mixture: How they are mixed; None where there is one source, which has an end.
        point: Where the sequence stands.
        count: Samples to draw on all ranks together; the last batch may not be full.
        first_batch: Number of the first batch, which decides whose worker's it is.
        share: Whose samples to find.
    """

    def __init__(
        self,
        sources: Sequence[OpenSource],
        mixture: Mixture | None,
        point: Point,
        count: int,
        first_batch: int,
        share: Share,
    ) -> None:
        self._sources = sources
        self._places = point.places
        #: Samples delivered to all ranks together once all batches are.
        self.end = point.samples + count
        self._first = point.samples
        self.first_batch = first_batch
        self._share = share
        size = share.global_batch_size
        batches = -(-count // size)
        #: Which of the batches are this worker's.
        self.batches = range((share.worker - first_batch) % share.workers, batches, share.workers)
        starts = np.asarray(self.batches, np.int64) * size + share.rank * share.batch_size
        own = (starts[:, None] + np.arange(share.batch_size)).reshape(-1)
        own = own[own < count]  # only in the last batch are some missing, at its end
        self._mixed = mixture is not None
        drawn = None if mixture is None else mixture.sources(point.samples, count)
        self._parts: list[_SourcePart] = []
        for number, source in enumerate(sources):
            if drawn is None:
                slots, distances = None, own
            else:
                slots = np.flatnonzero(drawn[own] == number)
                distances = (np.cumsum(drawn == number) - 1)[own[slots]]
            plans = list(source.feed.plans(point.places[number], distances))
            self._parts.append(_SourcePart(number, slots, len(distances), plans))

    def copy(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield this worker's batches in turn: the number among all of the draw, and the arrays by name."""
        share = self._share
        packed = self._sources[0].feed.packed
        step_shape = packed.corpus.step_shape
        together = max(_COPIED_TOKENS // (share.batch_size * packed.window * math.prod(step_shape)), 1)
        for index in range(0, len(self.batches), together):
            numbers = self.batches[index : index + together]
            rows = len(numbers) * share.batch_size
            builder = BatchBuilder(len(numbers), share.batch_size, packed.window, packed.fields, step_shape)
            drawn_from = self._fill(builder, index * share.batch_size, rows)
            for place, (number, batch) in enumerate(zip(numbers, builder.finish(), strict=True)):
                batch["samples"] = min(self._first + (number + 1) * share.global_batch_size, self.end)
                if drawn_from is not None:
                    batch["sources"] = drawn_from[place * share.batch_size : (place + 1) * share.batch_size]
                yield number, batch

    def _fill(self, builder: BatchBuilder, first: int, count: int) -> npt.NDArray[np.int32] | None:
        """Copy own samples first … first + count - 1; returns their sources, int32 `[row]`, where they are mixed."""
        drawn_from = np.full(count, -1, np.int32) if self._mixed else None
        filled = 0
        for part in self._parts:
            rows = part.fill(first, first + count, builder)
            filled += len(rows)
            if drawn_from is not None:
                drawn_from[rows] = part.number
        for row in range(filled, count):
            builder.pad(row, 0, self._sources[0].feed.packed.pad_id)
        return drawn_from

    def prefetch(self) -> None:
        """Let sources on object storage fetch what these batches need, and in block order what comes after it."""
        for part in self._parts:
            source = self._sources[part.number]
            if source.corpus.local:
                continue
            if source.feed.order.in_blocks:
                pieces = source.feed.groups_ahead(self._places[part.number])
            else:
                pieces = itertools.chain.from_iterable(plan.pieces() for _, plan in part.plans)
            source.corpus.values.prefetch(pieces)


@dataclass(frozen=True)
class _SourcePart:
    """What a draw takes from one source: plans for its samples in turn, and which of all own samples they are.

    Attributes:
        number: Of the source.
        slots: int64 `[sample]`, places among all own samples; None where it is all of them.
        count: Number of samples.
        plans: How many samples each plan has, and the plan.
    """

    number: int
    slots: npt.NDArray[np.int64] | None
    count: int
    plans: Sequence[tuple[int, SamplePlan]]

    def fill(self, first: int, last: int, builder: BatchBuilder) -> Sequence[int]:
        """Copy the samples whose slots are first … last - 1; returns the rows that they went to."""
        rows: Sequence[int]
        if self.slots is None:
            begin, end = first, min(last, self.count)
            rows = range(end - begin)
        else:
            begin, end = self.slots.searchsorted([first, last]).tolist()
            rows = (self.slots[begin:end] - first).tolist()
        at = done = 0
        for count, plan in self.plans:
            stop = min(end, at + count)
            if begin + done < stop and at <= begin + done:
                take = stop - begin - done
                plan.fill(range(begin + done - at, stop - at), rows[done : done + take], builder)
                done += take
            at += count
        return rows
