"""The shards of a dataset that are open: as many as a budget of memory allows, those used last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from tokenmill.shard_files import OpenShard


class ShardCache:
    """The shards that are open, least recently used first; they go when what they hold exceeds a budget."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget = budget_bytes
        self._shards: OrderedDict[tuple[str, int], tuple[OpenShard, int]] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()

    def get(self, place: tuple[str, int], open_shard: Callable[[], OpenShard]) -> OpenShard:
        """Return an open shard, opening it where it is not; two threads may open one at once, and one is kept."""
        with self._lock:
            if place in self._shards:
                self._shards.move_to_end(place)
                return self._shards[place][0]
        opened = open_shard()
        with self._lock:
            return self._shards.setdefault(place, (opened, 0))[0]

    def clear(self) -> None:
        """Let go of all of them."""
        with self._lock:
            self._shards.clear()
            self._held = 0

    def charge(self, place: tuple[str, int], shard: OpenShard) -> None:
        """Take note of what a shard holds by now, and let go of others where that is too much."""
        held = shard.data.held_bytes
        with self._lock:
            known = self._shards.get(place)
            if known is None or known[0] is not shard or known[1] == held:
                return
            self._shards[place] = (shard, held)
            self._held += held - known[1]
            while self._held > self._budget and len(self._shards) > 1:
                _, (_, freed) = self._shards.popitem(last=False)
                self._held -= freed
