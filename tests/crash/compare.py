"""What two runs of one job must agree on, read back from storage with pyarrow alone."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tokenmill import layout
from tokenmill.manifests import Manifest, read_manifest, read_shard_table
from tokenmill.storage.outputs import Storage


@dataclass(frozen=True)
class Contents:
    """A published dataset: what must not depend on how it came about.

    Attributes:
        fingerprint: The manifest's, of the whole dataset.
        shards: Table → (split, part, checksum) of its shards, in order.
        statistics: Table → checksum of its merged statistics.
        summaries: Table → its summary.
    """

    fingerprint: str
    shards: Mapping[str, tuple[tuple[int, int, str], ...]]
    statistics: Mapping[str, str]
    summaries: Mapping[str, Mapping[str, Any]]


def published(output: str, keys: Counter[str], generation: int | None = None) -> Contents:
    """Read a dataset and check it whole.

    Every shard has the bytes that the manifest says; every key is in every table exactly as often as it should be; the
    shards on storage are those of the manifest and no others.
    """
    storage = Storage.open(output)
    manifest = read_manifest(storage, generation)
    shards = {}
    for name, table in manifest.tables.items():
        rows = read_shard_table(storage, table).rows()
        found: Counter[str] = Counter()
        for row in rows:
            data = storage.read(row["path"])
            assert hashlib.sha256(data).hexdigest() == row["sha256"], f"{row['path']} is not what was published"
            found.update(pa.ipc.open_file(io.BytesIO(data)).read_all()["key"].to_pylist())
        missing, surplus = keys - found, found - keys
        assert not missing, f"{len(missing)} keys are missing, such as {sorted(missing)[:5]}"
        assert not surplus, f"{len(surplus)} keys are there too often, such as {sorted(surplus)[:5]}"
        assert table.rows == keys.total()
        if generation is None:
            there = {entry.path for entry in storage.list(f"{name}/shards")}
            assert there == {row["path"] for row in rows}, "there are shards that the manifest does not name"
        shards[name] = tuple((row["split"], row["part"], row["sha256"]) for row in rows)
    return Contents(
        manifest.fingerprint,
        shards,
        {name: table.statistics["sha256"] for name, table in manifest.tables.items()},
        {name: _counts(table.summary) for name, table in manifest.tables.items()},
    )


def receipts(output: str, table: str) -> dict[tuple[int, int], list[int]]:
    """Return the attempts at each (split, part) of a table that have a receipt."""
    found: dict[tuple[int, int], list[int]] = {}
    for entry in Storage.open(output).list(f"{table}/receipts"):
        name = layout.parse_receipt(entry.path)
        assert name is not None
        found.setdefault((name.split, name.part), []).append(name.attempt)
    return {place: sorted(attempts) for place, attempts in sorted(found.items())}


def manifests(output: str) -> list[int]:
    """Return the generations that are published."""
    found = (layout.parse_generation(entry.path) for entry in Storage.open(output).list("manifests"))
    return sorted(number for number in found if number is not None)


def manifest_of(output: str, generation: int | None = None) -> Manifest:
    """Return a manifest."""
    return read_manifest(Storage.open(output), generation)


def _counts(summary: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in summary.items() if key != "seconds"}
