"""Shards on any storage, and the table that lists them, without a job around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill import layout
from tokenmill.manifests import ShardTable
from tokenmill.shards import ShardHeader, ShardRows, serialise_shard
from tokenmill.storage.outputs import Storage
from tokenmill.streams import Jagged, StreamSpec


def put_shards(
    storage: Storage, counts: Sequence[int], *, dtype: str = "uint32", seed: int = 0
) -> tuple[ShardTable, list[npt.NDArray[Any]]]:
    """Write one shard of random values for each count, two rows each; return their table and their values."""
    random = np.random.default_rng(seed)
    header = ShardHeader("text", 0, 0, {"ids": StreamSpec(dtype, vocabulary_size=200)}, {}, {"id": "test"}, "f" * 64)
    listed: list[dict[str, Any]] = []
    contents: list[npt.NDArray[Any]] = []
    for split, count in enumerate(counts):
        values = random.integers(0, 200, count).astype(dtype)
        rows = ShardRows(
            ordinals=np.arange(2),
            documents=np.arange(2),
            positions=np.zeros(2, np.int32),
            keys=["a", "b"],
            metadata={},
            streams={"ids": Jagged.from_lengths(values, np.array([count // 3, count - count // 3]))},
        )
        shard = serialise_shard(header, rows)
        path = layout.shard("text", split, 0, shard.sha256)
        storage.put(path, shard.pieces)
        listed.append(
            {
                "split": split,
                "part": 0,
                "path": path,
                "sha256": shard.sha256,
                "size_bytes": shard.size_bytes,
                "rows": 2,
                "tokens.ids": count,
                "value_offset.ids": shard.value_offsets["ids"],
                "blocks": shard.blocks.astype("<u4").tobytes(),
            }
        )
        contents.append(values)
    return ShardTable.from_rows(listed, ["ids"]), contents
