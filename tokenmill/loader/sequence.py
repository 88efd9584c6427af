"""The global sequence of samples, of one source epoch by epoch or of a mix without end, and where one stands in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tokenmill.loader.feeds import Feed, Place
from tokenmill.loader.mixing import Mixture

_COUNTED_SAMPLES = 1 << 20


@dataclass(frozen=True, slots=True)
class Point:
    """A point of the sequence.

    Attributes:
        samples: Samples before it since the run began.
        places: Where each source stands.
    """

    samples: int
    places: tuple[Place, ...]


class GlobalSequence:
    """Samples of all ranks in order.

    Args:
        feeds: The sources' samples.
        mixture: How they are mixed; None where there is one source, which is read epoch by epoch.
        pads: Whether the last batch of an epoch is delivered where it is not full.
    """

    def __init__(self, feeds: Sequence[Feed], mixture: Mixture | None, *, pads: bool) -> None:
        self._feeds = feeds
        self._mixture = mixture
        self._pads = pads

    def run(self, point: Point, batch_size: int, batches: int) -> int:
        """Return how many samples the next batches, at most `batches`, hold; 0 at the end of an epoch.

        A multiple of the batch size, but for the last batch of an epoch where such are padded.
        """
        wanted = batch_size * batches
        if self._mixture is not None:
            return wanted
        left = self._feeds[0].left(point.places[0], wanted)
        full = min(left // batch_size * batch_size, wanted)
        return left if not full and self._pads else full

    def advance(self, point: Point, count: int) -> Point:
        """Return the point `count` samples further on, not beyond an epoch's end."""
        if self._mixture is None:
            return Point(point.samples + count, (self._feeds[0].advance(point.places[0], count),))
        while count:
            some = min(count, _COUNTED_SAMPLES)
            drawn = np.bincount(self._mixture.sources(point.samples, some), minlength=len(self._feeds)).tolist()
            pairs = zip(self._feeds, point.places, drawn, strict=True)
            point = Point(point.samples + some, tuple(feed.advance(place, taken) for feed, place, taken in pairs))
            count -= some
        return point

    def walk(self, point: Point, samples: int, batch_size: int) -> Point:
        """Return the point at which `samples` were delivered, in batches of this size, over epochs' ends."""
        while (count := samples - point.samples) > 0:
            run = self.run(point, batch_size, -(-count // batch_size))
            point = self.advance(point, min(run, count)) if run else self.next_epoch(point)
        return point

    def skip(self, point: Point, batches: int, batch_size: int) -> Point:
        """Return the point `batches` batches further on, not beyond an epoch's end."""
        while batches and (count := self.run(point, batch_size, batches)):
            point = self.advance(point, count)
            batches -= -(-count // batch_size)
        return point

    def finish_epoch(self, point: Point, batch_size: int) -> Point:
        """Return the point after the last batch of the epoch."""
        while count := self.run(point, batch_size, _COUNTED_SAMPLES):
            point = self.advance(point, count)
        return point

    def next_epoch(self, point: Point) -> Point:
        """Return the beginning of the next epoch, of one source; what this one has left is not delivered."""
        return Point(point.samples, (Place(point.places[0].epoch + 1),))
