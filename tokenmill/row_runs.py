"""How far to fetch ahead where rows of a shard are read in order."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tokenmill.shard_files import OpenShard
from tokenmill.shards import BLOCK_BYTES

#: Most bytes of one stream that are fetched ahead.
_AHEAD_BYTES = 8 << 20


def runs_worth_fetching(shard: OpenShard, rows: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Cut rows of a shard, which increase, into runs whose values, and those between them, are worth one fetch."""
    extents = [(stream.offsets * stream.values.itemsize)[[rows, rows + 1]] for stream in shard.streams.values()]
    far = np.zeros(len(rows) - 1, np.bool_)
    for starts, stops in extents:
        far |= starts[1:] - stops[:-1] > BLOCK_BYTES
    breaks = [*(np.flatnonzero(far) + 1).tolist(), len(rows)]
    first = 0
    while first < len(rows):
        last = breaks[bisect_right(breaks, first)]
        for starts, stops in extents:
            last = min(last, int(np.searchsorted(stops, starts[first] + _AHEAD_BYTES, side="right")))
        last = max(last, first + 1)
        yield rows[first:last]
        first = last
