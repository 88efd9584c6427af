"""The frames of a table, shard by shard: one stream's values, or several streams' side by side, laid out as tokens.

Between `values`, which knows single values, and `corpus`, which knows documents: here a shard is a run of frames, and
its tokens are what a layout makes of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.loader.layouts import EvenLayout, Layout
from tokenmill.loader.values import ShardValues
from tokenmill.shard_files import ShardBytes

#: Codes that are copied at a time where not all of them are laid out: they stay in the processor's cache.
_COPIED_CODES = 1 << 15


class FrameValues(ShardValues):
    """Frames of codes, from one stream or several: what `ShardValues` is, with a frame in place of a value.

    Args:
        streams: The values of each stream, and how many of them a frame has.
        dtype: One that all of them fit.
    """

    def __init__(self, streams: Sequence[tuple[ShardValues, int]], dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.streams = tuple(streams)
        self.width = sum(width for _, width in streams)

    def read(self, shard: int, start: int, stop: int) -> npt.NDArray[Any]:
        """Return frames start … stop - 1 of a shard, `[frame, code]`; see `ShardValues.read`."""
        found = [values.read(shard, start * width, stop * width).reshape(-1, width) for values, width in self.streams]
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)

    def gather(self, shards: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> None:
        """Copy equally many frames from each of some starts, `[run]`, to `out` `[run, frame, code]`, contiguous."""
        runs, frames, _ = out.shape
        if len(self.streams) == 1:
            values, width = self.streams[0]
            values.gather(shards, starts * width, out.reshape(runs, frames * width))
            return
        begin = 0
        for values, width in self.streams:
            part = np.empty((runs, frames * width), out.dtype)
            values.gather(shards, starts * width, part)
            out[:, :, begin : begin + width] = part.reshape(runs, frames, width)
            begin += width

    def shard_bytes(self, shard: int) -> ShardBytes:
        """Return a shard's bytes, to open its columns from."""
        return self.streams[0][0].shard_bytes(shard)

    def prefetch(self, pieces: Iterable[tuple[int, int, int]]) -> None:
        """Take note of frames (shard, start, stop) that will be read soon, in the order of need; never blocks."""
        rows = list(pieces)
        for values, width in self.streams:
            values.prefetch((shard, start * width, stop * width) for shard, start, stop in rows)

    def close(self) -> None:
        """Let go of what is held; reading opens it again."""
        for values, _ in self.streams:
            values.close()


def gather_steps(
    values: ShardValues,
    layout: Layout,
    shards: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    out: npt.NDArray[np.int64],
) -> None:
    """Lay out equally many steps from each of some starts, each in its shard, whose frames are laid out end to end.

    Args:
        values: The frames.
        layout: How they are laid out; an even layout, or tokens as they are.
        shards: int64 `[run]`.
        starts: int64 `[run]`, steps of the shards.
        out: int64 `[run, step, …]`, contiguous.
    """
    if not (isinstance(values, FrameValues) and isinstance(layout, EvenLayout)):
        values.gather(shards, starts, out)
        return
    phases = starts % layout.steps_per_frame
    if layout.whole and len(values.streams) == 1:
        # A step's tokens are values of the stream, in order.
        step_values = values.width // layout.steps_per_frame
        values.streams[0][0].gather(shards, starts * step_values, out.reshape(len(out), out.shape[1] * step_values))
        layout.add_offsets(phases, out)
        return
    for phase in np.unique(phases).tolist():
        runs = np.flatnonzero(phases == phase)
        count = -(-(phase + out.shape[1]) // layout.steps_per_frame)
        together = max(_COPIED_CODES // (count * values.width), 1)
        for begin in range(0, len(runs), together):
            some = runs[begin : begin + together]
            codes = np.empty((len(some), count, values.width), values.dtype)
            values.gather(shards[some], starts[some] // layout.steps_per_frame, codes)
            neighbours = int(some[-1]) - int(some[0]) + 1 == len(some)
            target = out[some[0] : some[-1] + 1] if neighbours else np.empty((len(some), *out.shape[1:]), np.int64)
            layout.cut_many(codes, phase, target)
            layout.add_offsets(phases[some], target)
            if not neighbours:
                out[some] = target
