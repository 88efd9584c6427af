"""Manifests: the files published last, each of which makes one generation of a dataset whole.

A manifest holds totals, tokenizers and summaries, and points to one columnar table of shards per table, in reading
order. The newest manifest is the dataset. Making one is `publication`'s business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill import layout
from tokenmill.contract import ResolvedTokenizer
from tokenmill.duplicates import Duplicates
from tokenmill.errors import CorruptionError, DatasetError
from tokenmill.plans import newest_generation
from tokenmill.sealed import unseal
from tokenmill.storage.outputs import Storage
from tokenmill.streams import StreamSpec

FORMAT = 1
_SHARDS_METADATA = {"tokenmill": b'{"shards_format":1}'}


class ShardTable:
    """The shards of a table in reading order (split, then part), as columns; usable at 10^6 shards.

    Columns: `split`, `part` int64; `path`, `sha256` string; `size_bytes`, `rows` int64; per stream
    `tokens.<stream>` and `value_offset.<stream>` int64; `blocks` binary, the little-endian uint32 CRC-32 of each
    `shards.BLOCK_BYTES`.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]], streams: Sequence[str]) -> ShardTable:
        """Make a table from one mapping a shard, with the columns above."""
        fields = [
            ("split", pa.int64()),
            ("part", pa.int64()),
            ("path", pa.string()),
            ("sha256", pa.string()),
            ("size_bytes", pa.int64()),
            ("rows", pa.int64()),
        ]
        for stream in streams:
            fields += [(f"tokens.{stream}", pa.int64()), (f"value_offset.{stream}", pa.int64())]
        schema = pa.schema([*fields, ("blocks", pa.binary())], metadata=_SHARDS_METADATA)
        return cls(pa.Table.from_pylist(list(rows), schema=schema))

    @classmethod
    def from_bytes(cls, data: bytes) -> ShardTable:
        """Read what `to_bytes` wrote."""
        return cls(pa.ipc.open_file(pa.BufferReader(data)).read_all())

    def to_bytes(self) -> bytes:
        """Return the table as an Arrow IPC file."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, self.table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_table(self.table)
        return bytes(sink.getvalue())

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def column(self, name: str) -> npt.NDArray[np.int64]:
        """Return an integer column as int64 `[shard]`."""
        return np.asarray(self.table[name].to_numpy(), np.int64)

    @cached_property
    def row_ends(self) -> npt.NDArray[np.int64]:
        """int64 `[shard]`: number of rows up to and including each shard."""
        return np.cumsum(self.column("rows"))

    def path(self, index: int) -> str:
        """Return the path of a shard."""
        return str(self.table["path"][index].as_py())

    def blocks(self, index: int) -> npt.NDArray[np.uint32]:
        """Return uint32 `[block]`, the checksums of a shard's blocks."""
        return np.frombuffer(self.table["blocks"][index].as_py(), "<u4")

    def rows(self) -> list[dict[str, Any]]:
        """Return the shards as mappings, without their block checksums."""
        return list(self.table.drop_columns(["blocks"]).to_pylist())


@dataclass(frozen=True)
class ManifestTable:
    """A published table: its tokenizer, totals, summary, and where its shards and statistics are listed.

    `duplicates`, where its list of duplicates is, is None for tables whose rows have no digests.
    """

    name: str
    tokenizer: ResolvedTokenizer
    sources: tuple[str, ...]
    metadata: Mapping[str, str]
    fingerprint: str
    rows: int
    tokens: Mapping[str, int]
    size_bytes: int
    shards: Mapping[str, Any]
    statistics: Mapping[str, Any]
    rejected: int
    summary: Mapping[str, Any]
    taken_down: int = 0
    duplicates: Mapping[str, Any] | None = None

    @property
    def streams(self) -> Mapping[str, StreamSpec]:
        """The streams of a row."""
        return self.tokenizer.streams

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "tokenizer": self.tokenizer.to_json(),
            "sources": list(self.sources),
            "metadata": dict(self.metadata),
            "fingerprint": self.fingerprint,
            "rows": self.rows,
            "tokens": dict(self.tokens),
            "size_bytes": self.size_bytes,
            "shards": dict(self.shards),
            "statistics": dict(self.statistics),
            "rejected": self.rejected,
            "summary": dict(self.summary),
            **({"taken_down": self.taken_down} if self.taken_down else {}),
            **({"duplicates": dict(self.duplicates)} if self.duplicates is not None else {}),
        }


@dataclass(frozen=True)
class Manifest:
    """One published generation.

    Attributes:
        generation: Its number.
        job: The job's name.
        created: When it was published, ISO 8601 in UTC.
        fingerprint: Of the whole dataset: of its tables' fingerprints.
        tables: Name → table.
        plan: Path of its plan.
        tokenmill: Version that published it.
        takedown: Number of the takedown list whose keys it does not hold; 0: nothing was taken down.
    """

    generation: int
    job: str
    created: str
    fingerprint: str
    tables: Mapping[str, ManifestTable]
    plan: str
    tokenmill: str
    takedown: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, ready to be sealed."""
        return {
            "format": FORMAT,
            "generation": self.generation,
            "job": self.job,
            "created": self.created,
            "fingerprint": self.fingerprint,
            "tables": {name: table.to_json() for name, table in self.tables.items()},
            "plan": self.plan,
            "tokenmill": self.tokenmill,
            **({"takedown": self.takedown} if self.takedown else {}),
        }


def read_manifest(storage: Storage, generation: int | None = None) -> Manifest:
    """Read a manifest, by default the newest.

    Raises:
        DatasetError: where nothing is published here.
        CorruptionError: where the manifest is not what was written.
    """
    if generation is None:
        generation = newest_generation(storage, "manifests")
        if generation is None:
            begun = newest_generation(storage, "plans") is not None
            raise DatasetError(
                "holds an unfinished dataset: a plan, and no manifest yet" if begun else "holds no dataset",
                where=storage.uri,
                fix="run the job again to finish it" if begun else "check the uri: a dataset has a folder 'manifests'",
            )
    path = layout.manifest(generation)
    value = unseal(storage.read(path), path)
    if value["format"] != FORMAT:
        raise CorruptionError("was written by a newer tokenmill", where=path, fix="install a newer tokenmill")
    tables = {
        name: ManifestTable(
            name=name,
            tokenizer=ResolvedTokenizer.from_json(table["tokenizer"]),
            sources=tuple(table["sources"]),
            metadata=table["metadata"],
            fingerprint=table["fingerprint"],
            rows=table["rows"],
            tokens=table["tokens"],
            size_bytes=table["size_bytes"],
            shards=table["shards"],
            statistics=table["statistics"],
            rejected=table["rejected"],
            summary=table["summary"],
            taken_down=table.get("taken_down", 0),
            duplicates=table.get("duplicates"),
        )
        for name, table in value["tables"].items()
    }
    return Manifest(
        generation=value["generation"],
        job=value["job"],
        created=value["created"],
        fingerprint=value["fingerprint"],
        tables=tables,
        plan=value["plan"],
        tokenmill=value["tokenmill"],
        takedown=value.get("takedown", 0),
    )


def read_shard_table(storage: Storage, table: ManifestTable) -> ShardTable:
    """Read a table's list of shards; raises CorruptionError where it is not the published one."""
    return ShardTable.from_bytes(_read_named(storage, table.shards))


def read_duplicates(storage: Storage, table: ManifestTable) -> Duplicates | None:
    """Read a table's list of duplicates; None where it has none.

    Raises CorruptionError where it is not the published one.
    """
    if table.duplicates is None:
        return None
    return Duplicates.from_bytes(_read_named(storage, table.duplicates), table.duplicates["path"], table.rows)


def _read_named(storage: Storage, file: Mapping[str, Any]) -> bytes:
    """Read a file that a manifest names; raises CorruptionError where it is not the one."""
    data = storage.read(file["path"])
    if hashlib.sha256(data).hexdigest() != file["sha256"]:
        raise CorruptionError(
            "does not match the checksum in its manifest", where=file["path"], fix="restore the file from a copy"
        )
    return data
