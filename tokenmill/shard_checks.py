"""The check of one shard: one reading of its file, in bounded memory, tells whether bytes and contents are right.

Bytes are compared with the checksums in the manifest's table of shards. Intact bytes are then opened as what they
should be: only a fault of the writer shows there. Other files of a dataset are not known here.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill import layout
from tokenmill.canonical import canonical_json
from tokenmill.duplicates import digests_of, has_digests
from tokenmill.errors import CorruptionError, MissingFileError, TokenmillError
from tokenmill.ir.streams import SHA256
from tokenmill.manifests import ManifestTable, ShardTable
from tokenmill.shard_files import OpenShard, OpenStream, ShardBytes
from tokenmill.shards import BLOCK_BYTES, ShardHeader, block_checksums, shard_schema
from tokenmill.storage.outputs import Storage
from tokenmill.storage.uris import join
from tokenmill.streams import StreamSpec


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: in which file, what, and at which byte where that is known."""

    path: str
    what: str
    offset: int | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.what}" + ("" if self.offset is None else f" (at byte {self.offset})")


@dataclass(frozen=True)
class ListedShard:
    """A shard as the manifest's table lists it."""

    split: int
    part: int
    path: str
    sha256: str
    size_bytes: int
    rows: int
    tokens: Mapping[str, int]
    value_offsets: Mapping[str, int]
    blocks: npt.NDArray[np.uint32]


def listed_shards(listed: ShardTable) -> Iterator[ListedShard]:
    """Yield a table's shards, read from its columns a few at a time."""
    streams = [name.removeprefix("tokens.") for name in listed.table.schema.names if name.startswith("tokens.")]
    index = 0
    for batch in listed.table.to_batches(max_chunksize=1024):
        for row in batch.drop_columns(["blocks"]).to_pylist():
            yield ListedShard(
                row["split"],
                row["part"],
                row["path"],
                row["sha256"],
                row["size_bytes"],
                row["rows"],
                {name: row[f"tokens.{name}"] for name in streams},
                {name: row[f"value_offset.{name}"] for name in streams},
                listed.blocks(index),
            )
            index += 1


@dataclass
class CheckedShard:
    """What the check of a shard found.

    Attributes:
        problems: What is wrong.
        bytes: Bytes that were read.
        rows: Rows in it.
        ordinals: int64 `[row]`; None where the shard is not what was published.
        opened: The shard; None in the same case. Values of its streams are not there.
        digests: uint8 `[row * DIGEST_BYTES]`, those of its rows; None in the same case, and where rows have none.
    """

    problems: list[Problem] = field(default_factory=list)
    bytes: int = 0
    rows: int = 0
    ordinals: npt.NDArray[np.int64] | None = None
    opened: OpenShard | None = None
    digests: npt.NDArray[np.uint8] | None = None


def check_shard(storage: Storage, table: ManifestTable, shard: ListedShard) -> CheckedShard:
    """Read a shard once and check everything about it; raises StorageError where the storage fails."""
    checking = _ShardCheck(storage, table, shard)
    checking.run()
    return checking.result


class _ScannedBytes(ShardBytes):
    """A shard that is read once from start to end; blocks that hold nothing but values are not kept."""

    private = True
    held_bytes = 0

    def __init__(self, where: str, shard: ListedShard) -> None:
        super().__init__(where, shard.size_bytes, shard.blocks)
        self._view = memoryview(mmap.mmap(-1, max(shard.size_bytes, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self._view = self._view[: shard.size_bytes]
        self.buffer = pa.py_buffer(self._view)
        self._present[:] = True

    def keep(self, offset: int, data: bytes) -> None:
        self._view[offset : offset + len(data)] = data

    def _load(self, first: int, last: int) -> None:
        raise AssertionError("everything was scanned")


class _ShardCheck:
    """The check of one shard: read once, in blocks."""

    def __init__(self, storage: Storage, table: ManifestTable, shard: ListedShard) -> None:
        self._storage = storage
        self._table = table
        self._shard = shard
        self._sha256 = bytearray() if has_digests(table.streams) else None
        self.result = CheckedShard()

    def run(self) -> None:
        shard = self._shard
        if shard.path != layout.shard(self._table.name, shard.split, shard.part, shard.sha256):
            self._problem("its name is not that of its table, split, part and checksum")
        try:
            data = _ScannedBytes(join(self._storage.uri, shard.path), shard)
            if not self._scan(data):
                return
            opened = OpenShard(data, shard.value_offsets)
        except (MissingFileError, CorruptionError) as error:
            self._problem(explained(error))
            return
        self._check_contents(opened)
        self.result.rows = len(opened)
        self.result.ordinals = opened.ordinals
        self.result.opened = opened
        if self._sha256 is not None and not self.result.problems:
            self.result.digests = digests_of(np.frombuffer(self._sha256, np.uint8))

    def _problem(self, what: str, offset: int | None = None) -> None:
        self.result.problems.append(Problem(self._shard.path, what, offset))

    def _scan(self, data: _ScannedBytes) -> bool:
        """Read the file once: checksums, and the range of ids. Says whether the bytes are those that were published."""
        shard = self._shard
        entry = self._storage.stat(shard.path)
        if entry is None:
            self._problem("there is no such file")
            return False
        if entry.size_bytes != shard.size_bytes:
            self._problem(f"has {entry.size_bytes} bytes in place of {shard.size_bytes}")
        streams = {name: _ValueRange(name, spec, shard) for name, spec in self._table.streams.items()}
        hasher = hashlib.sha256()
        bad_block: int | None = None
        offset = 0
        with self._storage.open_file(shard.path) as file:
            while block := file.read(BLOCK_BYTES):
                hasher.update(block)
                number = offset // BLOCK_BYTES
                checksum = block_checksums([memoryview(block)])[0]
                if bad_block is None and (number >= len(shard.blocks) or checksum != shard.blocks[number]):
                    bad_block = number
                for name, stream in streams.items():
                    stream.look_at(offset, block)
                    if name == SHA256 and self._sha256 is not None:
                        self._sha256 += stream.part_of(offset, block)
                if offset + len(block) <= shard.size_bytes and not any(
                    stream.start <= offset and offset + len(block) <= stream.stop for stream in streams.values()
                ):
                    data.keep(offset, block)
                offset += len(block)
        self.result.bytes = offset
        if bad_block is not None:
            self._problem("a block does not match its checksum", bad_block * BLOCK_BYTES)
            return False
        if hasher.hexdigest() != shard.sha256:
            self._problem(f"its sha256 is {hasher.hexdigest()}, not {shard.sha256}")
            return False
        for stream in streams.values():
            if stream.problem is not None:
                self._problem(*stream.problem)
        return True

    def _check_contents(self, opened: OpenShard) -> None:
        """Check what intact bytes say: only a fault of the writer shows here."""
        shard, table = self._shard, self._table
        expected = ShardHeader(
            table.name, shard.split, shard.part, table.streams, table.metadata, table.tokenizer.identity,
            table.tokenizer.fingerprint,
        )  # fmt: skip
        if canonical_json(opened.header.to_json()) != canonical_json(expected.to_json()):
            self._problem("what it says of itself is not what the manifest says of its table")
        if _fields(opened.batch.schema) != _fields(shard_schema(opened.header)):
            self._problem("its columns are not those of its streams and metadata")
            return
        try:
            opened.batch.validate(full=True)
        except pa.ArrowInvalid as error:
            self._problem(f"is not valid Arrow data: {error}")
            return
        if len(opened) != shard.rows:
            self._problem(f"has {len(opened)} rows; the manifest says {shard.rows}")
        if not (np.diff(opened.ordinals) > 0).all():
            self._problem("its ordinals do not increase")
        for name, stream in opened.streams.items():
            self._check_stream(name, opened.header.streams[name], stream)

    def _check_stream(self, name: str, spec: StreamSpec, stream: OpenStream) -> None:
        offsets, shard = stream.offsets, self._shard
        lengths = np.diff(offsets)
        if offsets[0] != 0 or (lengths < 0).any() or offsets[-1] != shard.tokens[name]:
            self._problem(f"the offsets of stream {name!r} do not rise from 0 to {shard.tokens[name]}")
            return
        if stream.start != shard.value_offsets[name]:
            what = f"the values of stream {name!r} begin at byte {stream.start}"
            self._problem(f"{what}; the manifest says {shard.value_offsets[name]}")
        if stream.shapes is not None and (stream.shapes.prod(axis=1, dtype=np.int64) != lengths).any():
            self._problem(f"shapes of stream {name!r} are not those of its rows' values")
        shapes = lengths.reshape(-1, 1) if stream.shapes is None else stream.shapes
        for axis, size in enumerate(spec.shape):
            if size is not None and (shapes[:, axis] != size).any():
                self._problem(f"dimension {spec.dims[axis]!r} of stream {name!r} is not {size} in every row")


def _fields(schema: pa.Schema) -> dict[str, pa.Field]:
    """Return a schema's columns by name: their order is the writer's choice."""
    return {field.name: field for field in schema}


class _ValueRange:
    """Where a stream's values lie in a shard, and whether they are ids of its vocabulary.

    Attributes:
        start: First byte.
        stop: Byte behind the last.
        problem: What is wrong with the first bad id, and its byte.
    """

    def __init__(self, name: str, spec: StreamSpec, shard: ListedShard) -> None:
        self._name = name
        self._dtype = np.dtype(spec.dtype)
        self._size = spec.vocabulary_size
        self.start = shard.value_offsets[name]
        self.stop = self.start + shard.tokens[name] * self._dtype.itemsize
        self.problem: tuple[str, int] | None = None

    def part_of(self, offset: int, block: bytes) -> bytes:
        """Return what of the values lies in one block of the file."""
        return block[max(self.start - offset, 0) : max(self.stop - offset, 0)]

    def look_at(self, offset: int, block: bytes) -> None:
        """Check the ids in one block of the file."""
        start, stop = max(self.start, offset), min(self.stop, offset + len(block))
        if self._size is None or self.problem is not None or stop - start < self._dtype.itemsize:
            return
        count = (stop - start) // self._dtype.itemsize
        ids = np.frombuffer(block, self._dtype, count, start - offset)
        if int(ids.max()) < self._size and (self._dtype.kind == "u" or int(ids.min()) >= 0):
            return
        first = int(np.flatnonzero((ids >= self._size) | (ids < 0))[0])
        what = f"stream {self._name!r} holds id {ids[first]}; its vocabulary has {self._size} ids"
        self.problem = (what, start + first * self._dtype.itemsize)


def explained(error: TokenmillError) -> str:
    """Return what is wrong with a file, without the file, which a problem names apart."""
    return "there is no such file" if isinstance(error, MissingFileError) else error.what
