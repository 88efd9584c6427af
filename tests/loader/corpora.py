"""Datasets for the loader's tests whose shards hold documents of given lengths, written directly in milliseconds.

Any lengths are possible, also shards of no rows. Ids count up through the table, so that no two tokens are alike; codes
do so modulo the codebooks' size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tokenmill import layout
from tokenmill.canonical import digest
from tokenmill.contract import ResolvedTokenizer
from tokenmill.duplicates import Duplicates
from tokenmill.manifests import Manifest, ManifestTable, ShardTable
from tokenmill.sealed import seal
from tokenmill.shards import ShardHeader, ShardRows, serialise_shard
from tokenmill.streams import Jagged, StreamSpec

IDS = StreamSpec("uint32", vocabulary_size=1_000_000)
#: Where pieces of documents end in `ids`; some are empty, and some documents have none.
ENDS = StreamSpec("uint16", ("piece",), ends_of="ids")
#: A value for each piece; many have one in common.
KINDS = StreamSpec("uint64", ("piece",))
CODEBOOK_SIZE = 1009


def coded(codebooks: int, frame_hz: float = 1.0, dtype: str = "uint16") -> StreamSpec:
    """Codes (frame, codebook) of a codec."""
    shape = (None, codebooks)
    return StreamSpec(dtype, ("frame", "codebook"), shape, CODEBOOK_SIZE, bands="codebook", frame_hz=frame_hz)


#: A ragged codec of four codebooks, two of them of one rate.
RAGGED = {"codes_4": coded(1, 1.0), "codes_2": coded(2, 2.0, "int32"), "codes_1": coded(1, 4.0)}
#: An id of that vocabulary that no token has.
SEPARATOR = 999_999


def write_corpus(
    root: Path,
    shards: Sequence[Sequence[int]],
    *,
    streams: Mapping[str, StreamSpec] | None = None,
    tokenizer: str = "counting",
    first_id: int = 0,
    duplicates: Mapping[int, int] | None = None,
) -> str:
    """Publish a table `text`; returns the dataset's uri.

    Args:
        root: Where; a directory that need not exist.
        shards: For every shard the lengths of its documents, in tokens.
        streams: The streams, all of these lengths, or more where `frame_hz` says so, or ends in them; default `ids`.
        tokenizer: Another name gives another fingerprint.
        first_id: Id of the first token.
        duplicates: Rows that are said to repeat an earlier one, and that one; default nothing is said.
    """
    specs = streams or {"ids": IDS}
    fingerprint = digest({"tokenizer": tokenizer, "streams": {name: spec.to_json() for name, spec in specs.items()}})
    listed: list[dict[str, Any]] = []
    rows = tokens = 0
    for split, lengths in enumerate(shards):
        content = ShardRows(
            ordinals=np.arange(len(lengths)),
            documents=np.arange(len(lengths)),
            positions=np.zeros(len(lengths), np.int32),
            keys=[f"doc-{rows + number}" for number in range(len(lengths))],
            metadata={},
            streams={name: _counting(first_id + tokens, lengths, spec) for name, spec in specs.items()},
        )
        header = ShardHeader("text", split, 0, specs, {}, {"id": tokenizer}, fingerprint)
        shard = serialise_shard(header, content)
        path = layout.shard("text", split, 0, shard.sha256)
        _write(root / path, b"".join(shard.pieces))
        listed.append(
            {
                "split": split,
                "part": 0,
                "path": path,
                "sha256": shard.sha256,
                "size_bytes": shard.size_bytes,
                "rows": len(lengths),
                "blocks": shard.blocks.astype("<u4").tobytes(),
                **{f"tokens.{name}": len(stream.values) for name, stream in content.streams.items()},
                **{f"value_offset.{name}": offset for name, offset in shard.value_offsets.items()},
            }
        )
        rows += len(lengths)
        tokens += sum(lengths)
    table = ShardTable.from_rows(listed, list(specs)).to_bytes()
    sha256 = hashlib.sha256(table).hexdigest()
    path = layout.manifest_shards(1, "text", sha256)
    _write(root / path, table)
    published = ManifestTable(
        name="text",
        tokenizer=ResolvedTokenizer({"id": tokenizer}, {"id": tokenizer}, {}, specs, fingerprint),
        sources=("docs",),
        metadata={},
        fingerprint=digest({"tokenizer": fingerprint, "shards": [shard["sha256"] for shard in listed]}),
        rows=rows,
        tokens={name: sum(shard[f"tokens.{name}"] for shard in listed) for name in specs},
        size_bytes=sum(shard["size_bytes"] for shard in listed),
        shards={"path": path, "sha256": sha256, "count": len(listed)},
        statistics={},
        rejected=0,
        summary={},
        duplicates=None if duplicates is None else _write_duplicates(root, duplicates),
    )
    manifest = Manifest(1, "test", "2026-01-01T00:00:00+00:00", published.fingerprint, {"text": published}, "", "0")
    _write(root / layout.manifest(1), seal(manifest.to_json()))
    return str(root)


def _write_duplicates(root: Path, duplicates: Mapping[int, int]) -> dict[str, str]:
    pairs = np.array(sorted(duplicates.items()), np.int64).reshape(-1, 2)
    data = Duplicates(pairs[:, 0].copy(), pairs[:, 1].copy()).to_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    path = layout.manifest_duplicates(1, "text", sha256)
    _write(root / path, data)
    return {"path": path, "sha256": sha256}


def _counting(first: int, lengths: Sequence[int], spec: StreamSpec) -> Jagged:
    """Rows whose tokens count up; of codes, those of every frame in order; of pieces, where some end."""
    if spec.dims == ENDS.dims:
        drawn = np.random.default_rng(first)
        rows = [np.sort(drawn.integers(0, length + 1, drawn.integers(0, 5))) for length in lengths]
        for row, length in zip(rows, lengths, strict=True):
            row[-1:] = drawn.choice([length, *row[-1:]])
        return Jagged.from_rows(rows if spec.ends_of else [row % 5 for row in rows], spec)
    if len(spec.dims) == 1:
        values = np.arange(first, first + sum(lengths)).astype(spec.dtype)
        return Jagged.from_lengths(values, np.array(lengths, np.int64))
    width, rate = spec.shape[1] or 0, round(spec.frame_hz or 1)
    codes = np.arange(first * rate * width, (first + sum(lengths)) * rate * width) % (spec.vocabulary_size or 1)
    shapes = [(length * rate, width) for length in lengths]
    return Jagged(codes.astype(spec.dtype), np.array(shapes, np.int64).reshape(-1, 2))


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
