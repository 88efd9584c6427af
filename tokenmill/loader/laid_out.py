"""The streams of a table that a loader reads, opened: how many frames each shard has, and their tokens laid out.

Between `frames`, which knows no tables, and `corpus`, which knows documents and separators.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tokenmill.dataset import Table
from tokenmill.errors import LoaderError
from tokenmill.loader.block_cache import BlockCache
from tokenmill.loader.chosen import ChosenStreams
from tokenmill.loader.frames import FrameValues, gather_steps
from tokenmill.loader.layouts import EvenLayout, TokenLayout
from tokenmill.loader.remote_values import LEAST_MEMORY_BYTES, MEMORY_BYTES, RemoteValues
from tokenmill.loader.values import MAPPED_SHARDS, LocalValues, ShardValues
from tokenmill.shard_files import OpenShard
from tokenmill.shards import BLOCK_BYTES


@dataclass(frozen=True)
class Access:
    """How shards are read; `TokenCorpus` documents the members."""

    check: bool = True
    cache: BlockCache | None = None
    mapped_shards: int = MAPPED_SHARDS
    memory_bytes: int = MEMORY_BYTES
    open_blocks: int = 0
    block_tokens: int = 0


class LaidOutStreams:
    """Streams read side by side, nearly always one, laid out as tokens.

    Args:
        table: The table.
        chosen: Which streams, and how they are laid out.
        access: How shards are read.

    Attributes:
        values: The stream's values, or frames of codes, shard by shard.
        frames: int64 `[shard]`, how many each shard has; of a stream that is no codes, values.

    Raises:
        LoaderError: streams that are to be read together are not equally long.
    """

    def __init__(self, table: Table, chosen: ChosenStreams, access: Access) -> None:
        self._table = table
        self._chosen = chosen
        self._layout = chosen.layout
        self._access = access
        self.frames = self._count_frames()
        opened = [(self._open(name), width) for name, width in chosen.widths.items()]
        self.values = opened[0][0] if isinstance(chosen.layout, TokenLayout) else FrameValues(opened, chosen.dtype)
        #: Whether shards are mapped files.
        self.local = isinstance(opened[0][0], LocalValues)

    @property
    def even(self) -> bool:
        """Whether the tokens of rows laid end to end are those of their frames laid end to end."""
        return isinstance(self._layout, EvenLayout | TokenLayout)

    def gather(self, shards: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], out: npt.NDArray[np.int64]) -> None:
        """Copy tokens of an even layout from some places of shards, as `TokenCorpus.gather` does."""
        gather_steps(self.values, self._layout, shards, starts, out)

    def copy(self, shard: int, origin: int, frames: int, start: int, stop: int, out: npt.NDArray[np.int64]) -> None:
        """Copy tokens start … stop - 1 of the `frames` frames of a shard from frame `origin` on to `out`."""
        first, last = self._layout.needed(start, stop, frames)
        codes = self.values.read(shard, origin + first, origin + last)
        self._layout.cut(codes, first, frames, start, stop, out)

    def needed(self, origin: int, frames: int, start: int, stop: int) -> tuple[int, int]:
        """Return first and last + 1 of the frames of the shard that `copy` reads."""
        first, last = self._layout.needed(start, stop, frames)
        return origin + first, origin + last

    def offsets(self, opened: OpenShard) -> npt.NDArray[np.int64]:
        """Return int64 `[row + 1]`: where the rows of an opened shard begin, in frames."""
        found = []
        for name, width in self._chosen.widths.items():
            offsets = opened.streams[name].offsets
            if width > 1:
                offsets = offsets // width
            elif not self.local:
                offsets = offsets.copy()  # a view would keep all of the shard that was fetched
            found.append(offsets)
        self._require_equal(found, opened.data.where)
        return found[0]

    def _count_frames(self) -> npt.NDArray[np.int64]:
        shards = self._table.shards
        found = [shards.column(f"tokens.{name}") // width for name, width in self._chosen.widths.items()]
        self._require_equal(found, self._table.storage.uri)
        return found[0]

    def _require_equal(self, found: list[npt.NDArray[np.int64]], where: str) -> None:
        if not all(np.array_equal(found[0], other) for other in found[1:]):
            raise LoaderError(
                f"the streams {self._chosen.name} of table {self._table.name!r} are not equally long in time",
                where=where,
                fix="read one of them: stream=…",
            )

    def _open(self, name: str) -> ShardValues:
        storage, shards, access = self._table.storage, self._table.shards, self._access
        dtype, count = self._chosen.dtypes[name], len(self._chosen.widths)
        if not len(shards) or storage.local_path(shards.path(0)) is not None:
            mapped = max(access.mapped_shards // count, 1)
            return LocalValues(storage, shards, name, dtype, check=access.check, mapped_shards=mapped)
        # Blocks that are open are held twice, as half of the memory is for reading ahead.
        block_bytes = int(access.block_tokens * self._chosen.token_bytes) + BLOCK_BYTES
        memory_bytes = max(access.memory_bytes // count, 2 * access.open_blocks * block_bytes + LEAST_MEMORY_BYTES)
        return RemoteValues(storage, shards, name, dtype, cache=access.cache, memory_bytes=memory_bytes)
