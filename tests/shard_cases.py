"""Rows and headers that tests of shards, and golden files, share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tokenmill.shards import ShardHeader, ShardRows
from tokenmill.streams import Jagged, StreamSpec

#: One stream of one dimension, and one of two.
STREAMS = {
    "ids": StreamSpec("uint32", vocabulary_size=400_000),
    "grid": StreamSpec("uint16", ("row", "column"), (None, None), 1024),
}


def header(columns: Mapping[str, str], streams: Mapping[str, StreamSpec] | None = None) -> ShardHeader:
    """Return the header of a shard with these metadata columns."""
    return ShardHeader(
        table="text",
        split=7,
        part=3,
        streams=STREAMS if streams is None else streams,
        metadata=columns,
        tokenizer={"id": "made-up", "config": {"é": 1}},
        fingerprint="f" * 64,
    )


HEADER = header({})


def rows_of(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], first: int = 0) -> ShardRows:
    """Lay rows out: each has `key`, `metadata`, `ids` (a list) and `grid` (its shape; the values count up)."""
    count = len(rows)
    grids = [np.arange(row["grid"][0] * row["grid"][1]).reshape(row["grid"]) + index for index, row in enumerate(rows)]
    return ShardRows(
        ordinals=np.arange(first, first + 2 * count, 2),
        documents=np.arange(count) // 2,
        positions=(np.arange(count) % 2).astype(np.int32),
        keys=[row["key"] for row in rows],
        metadata={name: [row["metadata"][name] for row in rows] for name in columns},
        streams={
            "ids": Jagged.from_rows([np.array(row["ids"], np.int64) for row in rows], STREAMS["ids"]),
            "grid": Jagged.from_rows(grids, STREAMS["grid"]),
        },
    )
