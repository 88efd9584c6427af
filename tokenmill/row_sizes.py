"""How many input bytes each row of a shard had: statistics count them, shards do not hold them.

They are found again in one of three ways. Where the tokenizer can decode, the rows are decoded. Otherwise, or where
that does not give back what was read (some tokenizers normalise), the part is read from its source once more, without
tokenizing it. Either counts only if it gives the very sketch that the part's statistics hold. Where neither does, the
sizes are estimated.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.contract import Decoder, resolve
from tokenmill.errors import TokenmillError
from tokenmill.plans import Plan, PlannedTable
from tokenmill.receipts import Receipt
from tokenmill.registry import parse_tokenizer
from tokenmill.shard_files import OpenShard
from tokenmill.sources.limits import ReadLimits
from tokenmill.sources.reading import open_split
from tokenmill.statistics.part import PartStatistics
from tokenmill.statistics.sketch import Sketch


def row_sizes(
    plan: Plan, receipt: Receipt, shard: OpenShard, statistics: PartStatistics
) -> tuple[npt.NDArray[np.int64], bool]:
    """Return int64 `[row]`, the input bytes of a shard's rows, and whether they are exact.

    Args:
        plan: A plan that has the part's split.
        receipt: The part's receipt.
        shard: Its shard; all values must be there.
        statistics: What was counted of it.
    """
    table = plan.table(receipt.name.table)
    known = statistics.bytes_per_document
    sizes = _decoded(table, shard)
    if not _gives(sizes, known):
        sizes = _read(plan, receipt, shard)
    if sizes is not None and _gives(sizes, known):
        return sizes, True
    return _estimated(table, shard, statistics.input_bytes), False


def _gives(sizes: npt.NDArray[np.int64] | None, known: Sketch) -> bool:
    """Say whether sizes are those that were counted."""
    sketch = Sketch()
    if sizes is not None:
        sketch.add(sizes)
    return sizes is not None and sketch == known


def _decoded(table: PlannedTable, shard: OpenShard) -> npt.NDArray[np.int64] | None:
    """Decode all rows; None where the tokenizer is not here, or does not decode to text."""
    sizes = np.empty(len(shard), np.int64)
    try:
        if parse_tokenizer(table.tokenizer.config).modality != "text":
            return None  # what decodes is not the file that was read
        decoder = _decoder(json.dumps(dict(table.tokenizer.config)), table.tokenizer.fingerprint)
        if decoder is None:
            return None
        for row in range(len(shard)):
            payload = decoder.decode({name: stream.row(row) for name, stream in shard.streams.items()})
            if not isinstance(payload, str):
                return None
            sizes[row] = len(payload.encode())
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException:  # noqa: BLE001  a decoder may raise anything, native panics too; there are other ways
        return None
    return sizes


@lru_cache(maxsize=2)  # loading a large vocabulary takes longer than decoding a part
def _decoder(config: str, fingerprint: str) -> Decoder | None:
    tokenizer = parse_tokenizer(json.loads(config))
    return tokenizer.decoder() if resolve(tokenizer).fingerprint == fingerprint else None


def _read(plan: Plan, receipt: Receipt, shard: OpenShard) -> npt.NDArray[np.int64] | None:
    """Read the part's items again; None where the source is not what it was, or cannot be read here."""
    split, limits = plan.splits[receipt.name.split], ReadLimits.of(plan.job.limits)
    last = receipt.next.ordinal
    ordinals: list[npt.NDArray[np.int64]] = []
    sizes: list[npt.NDArray[np.int64]] = []
    try:
        with open_split(plan.source(split.source), plan.roots[split.source], split, limits) as reader:
            for batch in reader.batches(receipt.start):
                ordinals.append(batch.ordinals)
                sizes.append(batch.sizes)
                if len(batch) and batch.ordinals[-1] >= last:
                    break
    except TokenmillError:
        return None
    return _sizes_at(shard.ordinals, ordinals, sizes)


def _sizes_at(wanted: npt.NDArray[np.int64], ordinals: list[Any], sizes: list[Any]) -> npt.NDArray[np.int64] | None:
    read = np.concatenate([np.empty(0, np.int64), *ordinals])
    places = np.searchsorted(read, wanted)
    if len(wanted) and (not len(read) or int(places.max()) >= len(read) or (read[places] != wanted).any()):
        return None
    return np.asarray(np.concatenate([np.empty(0, np.int64), *sizes])[places], np.int64)


def _estimated(table: PlannedTable, shard: OpenShard, input_bytes: int) -> npt.NDArray[np.int64]:
    """Share a part's input bytes out by the rows' values in the first stream; their sum is kept."""
    lengths = np.diff(shard.streams[next(iter(table.tokenizer.streams))].offsets)
    until = np.concatenate([[0], np.cumsum(lengths)]).astype(np.float64)
    shares = np.linspace(0, 1, len(shard) + 1) if until[-1] == 0 else until / until[-1]
    return np.diff(np.rint(shares * input_bytes).astype(np.int64))
