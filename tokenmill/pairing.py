"""Tables side by side: rows that several tables have of the same items, as a recording's acoustic and semantic tokens.

Items are the same where split and ordinal are. An item that one table rejected is left out.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from functools import cached_property, reduce
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np
import numpy.typing as npt

from tokenmill.audio.frames import frame_spans
from tokenmill.errors import DatasetError

if TYPE_CHECKING:
    from tokenmill.dataset import Row, Table


class PairedTables:
    """A sequence of the items that all of some tables have rows of, in the order of splits and items.

    Rows are read when they are asked for. The first use of the length, of a row by its number or of `left_out` opens
    every shard of the tables, without its values, and keeps 8 bytes a row and table.

    Attributes:
        tables: Name → table, in the order in which they were named.
    """

    def __init__(self, tables: Mapping[str, Table], *, distinct: bool = False) -> None:
        """Pair tables, two at least; `Dataset.paired` does."""
        self.tables = dict(tables)
        self._duplicates = next(iter(self.tables.values())).known_duplicates() if distinct else None

    @cached_property
    def rows(self) -> npt.NDArray[np.int64]:
        """int64 `[item, table]`: the number of each item's row in each table."""
        places = [_places(table) for table in self.tables.values()]
        shared = reduce(lambda one, other: one[np.isin(one, other, assume_unique=True)], places)
        rows = np.stack([np.searchsorted(one, shared) for one in places], axis=1)
        if self._duplicates is None:
            return rows
        # The row that all equal ones repeat may itself be missing here.
        _, firsts = np.unique(self._duplicates.survivors(rows[:, 0]), return_index=True)
        return rows[np.sort(firsts)]

    @property
    def left_out(self) -> dict[str, int]:
        """Name → how many rows of the table are of items that another has no row of, or that repeat an earlier one."""
        return {name: len(table) - len(self) for name, table in self.tables.items()}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: SupportsIndex) -> dict[str, Row]:
        """Return the rows of one item by their tables' names."""
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"item {number} of {', '.join(self.tables)}, which have {len(self)} in common")
        rows = self.rows[number].tolist()
        return {name: table[row] for (name, table), row in zip(self.tables.items(), rows, strict=True)}

    def __iter__(self) -> Iterator[dict[str, Row]]:
        """Yield the rows of all items in order, by their tables' names; one shard of each table at a time is held."""
        streams = [table.chosen(self.rows[:, place]) for place, table in enumerate(self.tables.values())]
        for rows in zip(*streams, strict=True):
            yield dict(zip(self.tables, rows, strict=True))

    def spans(self, rows: Mapping[str, Row], each: str, of: str) -> npt.NDArray[np.int64]:
        """Say which frames of one stream fall on each frame of another, of the same recording.

            pairs = dataset.paired("semantic", "acoustic")
            for rows in pairs:
                units, codes = rows["semantic"].streams["units"], rows["acoustic"].streams["codes"]
                spans = pairs.spans(rows, each="semantic.units", of="acoustic.codes")
                codes[spans[3] : spans[4]]  # the acoustic frames that begin during unit 3

        Args:
            rows: What this sequence gave of an item.
            each: `<table>.<stream>`, or a table of which one stream alone runs in time.
            of: The same of the stream whose frames are wanted.

        Returns:
            int64 `[frame + 1]`: frames `spans[n] … spans[n + 1] - 1` of the one fall on frame n of the other. What
            begins after the last frame falls on none.

        Raises:
            DatasetError: where there is no such stream, or it does not run in time.
        """
        (table, stream, frame_hz), (other_table, other_stream, other_hz) = map(self._timed, (each, of))
        frames, other_frames = len(rows[table].streams[stream]), len(rows[other_table].streams[other_stream])
        return frame_spans(frame_hz, frames, other_hz, other_frames)

    def _timed(self, place: str) -> tuple[str, str, float]:
        name, _, stream = place.partition(".")
        timed = {
            (table, one): spec.frame_hz
            for table, found in self.tables.items()
            for one, spec in found.streams.items()
            if spec.frame_hz is not None
        }
        chosen = [(*names, hz) for names, hz in timed.items() if names[0] == name and stream in ("", names[1])]
        if len(chosen) != 1:
            raise DatasetError(
                f"{place!r} is {'not one stream' if chosen else 'no stream'} of these tables that runs in time; "
                f"those are: {', '.join(map('.'.join, timed)) or 'none'}"
            )
        return chosen[0]

    def __repr__(self) -> str:
        return f"<{' and '.join(self.tables)} side by side>"


def _places(table: Table) -> npt.NDArray[np.int64]:
    """Return int64 `[row]`, strictly increasing: split and ordinal of each row in one number."""
    found = [np.empty(0, np.int64)]
    for index in range(len(table.shards)):
        shard = table.open_shard(index)
        found.append((np.int64(shard.header.split) << 40) + shard.ordinals)
    return np.concatenate(found)
