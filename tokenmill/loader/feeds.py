"""A source's samples in order, epoch after epoch without end, addressed by how far one is from a place in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tokenmill.loader.orders import Order
from tokenmill.loader.packed import PackedSamples, SamplePlan
from tokenmill.loader.permutation import keyed_number


@dataclass(frozen=True, order=True, slots=True)
class Place:
    """A place in a feed: what comes next.

    Attributes:
        epoch: From 0.
        group: Group of the epoch; one beyond the last where the epoch has ended.
        sample: Sample of the group, in the group's order.
    """

    epoch: int = 0
    group: int = 0
    sample: int = 0


@dataclass(frozen=True)
class Feed:
    """What a loader draws from one source.

    Attributes:
        packed: The samples.
        order: Their order.
        key: Names the data and the seed.
        shifts: Whether windows begin elsewhere in every epoch.
        frame_tokens: Tokens of a frame of codes, of which none is cut by that.
    """

    packed: PackedSamples
    order: Order
    key: str
    shifts: bool
    frame_tokens: int = 1

    def has(self, place: Place) -> bool:
        """Say whether there is such a place."""
        groups = self.order.groups(place.epoch)
        if place.sample == 0:
            return place.group <= groups
        return place.group < groups and place.sample < self.order.size(place.epoch, place.group)

    def advance(self, place: Place, count: int) -> Place:
        """Return the place `count` samples further on, in later epochs if need be."""
        for epoch, group, _, last in self._runs(place, count):
            ended = last == self.order.size(epoch, group)
            place = Place(epoch, group + 1) if ended else Place(epoch, group, last)
        return place

    def left(self, place: Place, enough: int) -> int:
        """Return how many samples of the epoch are left from a place on; stops counting where it is `enough`."""
        count = -place.sample
        for group in range(place.group, self.order.groups(place.epoch)):
            count += self.order.size(place.epoch, group)
            if count >= enough:
                break
        return count

    def shift(self, epoch: int) -> int:
        """Return the place at which an epoch's windows begin."""
        if not self.shifts:
            return 0
        place = keyed_number(f"{self.key}/{epoch}/shift") % self.packed.window
        return place - place % self.frame_tokens

    def groups_ahead(self, place: Place) -> Iterator[tuple[int, int, int]]:
        """Yield what the group of a place and the one after it read: (shard, start, stop) in values or frames."""
        epoch, group = place.epoch, place.group
        for _ in range(2):
            if group == self.order.groups(epoch):
                epoch, group = epoch + 1, 0
            for first, last in self.order.spans(epoch, group):
                yield from self.packed.span(first, last, self.shift(epoch))
            group += 1

    def plans(self, place: Place, distances: npt.NDArray[np.int64]) -> Iterator[tuple[int, SamplePlan]]:
        """Find samples, int64 `[sample]` ascending distances from a place: plans for (so many) of them in turn."""
        if not len(distances):
            return
        begin, done = 0, 0
        for epoch, group, first, last in self._runs(place, int(distances[-1]) + 1):
            stop = int(distances.searchsorted(begin + last - first, "left"))
            if stop > done:
                places = distances[done:stop] - begin + first
                numbers = self.order.numbers(epoch, group, places)
                yield stop - done, self.packed.plan(numbers, self.shift(epoch))
            begin, done = begin + last - first, stop

    def _runs(self, place: Place, count: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield the runs (epoch, group, first, last + 1) that the next `count` samples consist of."""
        epoch, group, first = place.epoch, place.group, place.sample
        while count:
            if group == self.order.groups(epoch):
                epoch, group = epoch + 1, 0
            last = min(self.order.size(epoch, group), first + count)
            if last > first:
                yield epoch, group, first, last
                count -= last - first
            group, first = group + 1, 0
