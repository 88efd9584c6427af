"""Shards: one Arrow IPC file holds the rows of one part of one table, as a single record batch.

A shard describes itself (its schema metadata holds the stream specs and the tokenizer's identity), is read zero-copy
by mmap, and gives any window of tokens by one range read: a stream's values lie end to end. Columns: `ordinal`,
`document`, `position`, `key`, `metadata.<name>` …, then each stream as a large list (its rows' shapes in
`<stream>.shape` where it has more than one dimension). Its bytes depend on its rows alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from isal import isal_zlib

from tokenmill.canonical import canonical_json
from tokenmill.errors import CorruptionError
from tokenmill.streams import Jagged, StreamSpec

FORMAT = 1
#: A checksum covers this many bytes of a shard, so that a reader can check what it read.
BLOCK_BYTES = 1 << 20
_METADATA_TYPES: dict[str, pa.DataType] = {
    "string": pa.large_string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
}
_METADATA_KEY = b"tokenmill"


@dataclass(frozen=True)
class ShardHeader:
    """What a shard says of itself in its schema metadata.

    Attributes:
        table: Name of its table.
        split: Number of its split.
        part: Number of its part within the split.
        streams: The streams of a row.
        metadata: Carried columns and their types.
        tokenizer: The tokenizer's identity (`contract.identity`), whose digest is the fingerprint.
        fingerprint: The tokenizer's fingerprint.
    """

    table: str
    split: int
    part: int
    streams: Mapping[str, StreamSpec]
    metadata: Mapping[str, str]
    tokenizer: Mapping[str, Any]
    fingerprint: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form that goes into the schema."""
        return {
            "format": FORMAT,
            "table": self.table,
            "split": self.split,
            "part": self.part,
            "streams": {name: spec.to_json() for name, spec in self.streams.items()},
            "metadata": dict(self.metadata),
            "tokenizer": dict(self.tokenizer),
            "fingerprint": self.fingerprint,
        }


@dataclass(frozen=True)
class ShardRows:
    """The rows of one shard.

    Attributes:
        ordinals: int64 `[row]`, the item's number in its split.
        documents: int64 `[row]`, number in the split of the document that the item is part of.
        positions: int32 `[row]`, the item's place in that document.
        keys: `[row]`.
        metadata: name → `[row]`.
        streams: name → batch of `row` arrays.
    """

    ordinals: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int32]
    keys: Sequence[str]
    metadata: Mapping[str, Sequence[Any]]
    streams: Mapping[str, Jagged]

    def __len__(self) -> int:
        return len(self.ordinals)


@dataclass(frozen=True)
class SerialisedShard:
    """A shard ready to be stored.

    Attributes:
        pieces: The file's bytes in order; large pieces are views of the streams' own memory.
        size_bytes: Length of all pieces.
        sha256: Of all pieces, in hexadecimal.
        blocks: uint32 `[block]`, CRC-32 of each BLOCK_BYTES of the file.
        value_offsets: stream → byte offset of its first value in the file.
    """

    pieces: list[memoryview]
    size_bytes: int
    sha256: str
    blocks: npt.NDArray[np.uint32]
    value_offsets: dict[str, int]


def shard_schema(header: ShardHeader) -> pa.Schema:
    """Return the Arrow schema of a table's shards."""
    fields = [
        pa.field("ordinal", pa.int64(), nullable=False),
        pa.field("document", pa.int64(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("key", pa.large_string(), nullable=False),
    ]
    fields += [pa.field(f"metadata.{name}", _METADATA_TYPES[kind]) for name, kind in header.metadata.items()]
    for name, spec in header.streams.items():
        if len(spec.dims) > 1:
            fields.append(pa.field(f"{name}.shape", pa.list_(pa.int32(), len(spec.dims)), nullable=False))
        value = pa.field("item", pa.from_numpy_dtype(np.dtype(spec.dtype)), nullable=False)
        fields.append(pa.field(name, pa.large_list(value), nullable=False))
    return pa.schema(fields, metadata={_METADATA_KEY: canonical_json(header.to_json())})


def serialise_shard(header: ShardHeader, rows: ShardRows) -> SerialisedShard:
    """Lay rows out as an Arrow IPC file, without copying the streams' values."""
    schema = shard_schema(header)
    columns: list[pa.Array] = [
        pa.array(rows.ordinals),
        pa.array(rows.documents),
        pa.array(rows.positions),
        pa.array(rows.keys, pa.large_string()),
    ]
    columns += [pa.array(rows.metadata[name], _METADATA_TYPES[kind]) for name, kind in header.metadata.items()]
    values: dict[int, list[str]] = {}
    for name, spec in header.streams.items():
        stream = rows.streams[name]
        if len(spec.dims) > 1:
            flat = pa.array(stream.shapes.astype(np.int32).reshape(-1))
            columns.append(pa.FixedSizeListArray.from_arrays(flat, len(spec.dims)))
        offsets = np.zeros(len(stream) + 1, np.int64)
        np.cumsum(stream.lengths, out=offsets[1:])
        array = pa.array(stream.values)
        if len(stream.values):
            values.setdefault(array.buffers()[1].address, []).append(name)
        list_type = schema.field(name).type
        columns.append(pa.LargeListArray.from_arrays(pa.array(offsets), array, type=list_type))
    sink = _Pieces()
    with pa.ipc.new_file(pa.PythonFile(sink, mode="w"), schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))

    hasher = hashlib.sha256()
    value_offsets = dict.fromkeys(header.streams, 0)
    offset = 0
    pieces = []
    for piece in sink.pieces:
        view = memoryview(piece)
        if isinstance(piece, pa.Buffer) and values.get(piece.address):
            value_offsets[values[piece.address].pop(0)] = offset
        hasher.update(view)
        pieces.append(view)
        offset += len(view)
    return SerialisedShard(pieces, offset, hasher.hexdigest(), block_checksums(pieces), value_offsets)


def block_checksums(pieces: Sequence[memoryview]) -> npt.NDArray[np.uint32]:
    """Return uint32 `[block]`: the CRC-32 of each BLOCK_BYTES of the concatenated pieces."""
    checksums: list[int] = []
    checksum, filled = 0, 0
    for piece in pieces:
        start = 0
        while start < len(piece):
            stop = min(len(piece), start + BLOCK_BYTES - filled)
            checksum = isal_zlib.crc32(piece[start:stop], checksum)
            filled += stop - start
            start = stop
            if filled == BLOCK_BYTES:
                checksums.append(checksum)
                checksum, filled = 0, 0
    if filled:
        checksums.append(checksum)
    return np.array(checksums, np.uint32)


class _Pieces:
    """A file-like sink that keeps what is written as it came, so that Arrow's buffers are never copied."""

    closed = False

    def __init__(self) -> None:
        self.pieces: list[bytes | pa.Buffer] = []

    def write(self, piece: bytes | pa.Buffer) -> int:
        self.pieces.append(piece)
        return len(piece)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


def parse_header(schema: pa.Schema, where: str) -> ShardHeader:
    """Read a shard's schema metadata; raises CorruptionError where it is not a shard that this version can read."""
    raw = (schema.metadata or {}).get(_METADATA_KEY)
    if raw is None:
        raise CorruptionError("is an Arrow file, but not a shard: it lacks the 'tokenmill' metadata", where=where)
    value = json.loads(raw)
    if value["format"] > FORMAT:
        raise CorruptionError(
            f"has shard format {value['format']}; this version reads up to {FORMAT}",
            where=where,
            fix="install a newer tokenmill",
        )
    # The columns have the order that the plan gave them; canonical JSON has forgotten it.
    streams = {name: StreamSpec.from_json(value["streams"][name]) for name in schema.names if name in value["streams"]}
    carried = [name.removeprefix("metadata.") for name in schema.names if name.startswith("metadata.")]
    return ShardHeader(
        table=value["table"],
        split=value["split"],
        part=value["part"],
        streams=streams,
        metadata={name: value["metadata"][name] for name in carried},
        tokenizer=value["tokenizer"],
        fingerprint=value["fingerprint"],
    )
