"""A dataset to take keys from, and what tests look at in it afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenmill
from tests.datasets import build_dataset, job_of, write_jsonl
from tokenmill.jobs import Job
from tokenmill.manifests import Manifest, read_shard_table
from tokenmill.statistics.merge import MergedStatistics, read_statistics
from tokenmill.storage.outputs import Storage
from tokenmill.verification import verify

TABLES = [{"name": name, "tokenizer": {"id": "bytes", "eos": name == "framed"}} for name in ("text", "framed")]
KEYS = ["a3", "a17", "twice", "bad"]


def records(prefix: str, count: int) -> list[Any]:
    return [{"id": f"{prefix}{i}", "text": f"{prefix}{i} text. " * (i % 7 * 12), "n": i} for i in range(count)]


def corpus() -> dict[str, list[Any]]:
    """Two files in about six parts each: a key that is there three times, one of a rejected item, a line of nobody."""
    first, second = records("a", 40), records("b", 40)
    first[20:20] = [{"id": "twice", "text": "one of three"}, {"id": "bad", "text": None}, "not json"]
    second[5:5] = [{"id": "twice", "text": "two of three"}]
    second[30:30] = [{"id": "twice", "text": "three of three"}, {"id": "other", "text": None}]
    return {"a.jsonl": first, "b.jsonl": second}


def without(records_: Sequence[Any], keys: Sequence[str]) -> list[Any]:
    return [record for record in records_ if isinstance(record, str) or record["id"] not in keys]


def job_on(root: str, inputs: Path, **changes: Any) -> Job:
    changes = {"tables": TABLES, "source": {"metadata": {"n": "int64"}}, **changes}
    return job_of(root, inputs, splitting={"split_bytes": 8192, "part_bytes": 2048}, **changes)


def dataset(root: str, directory: Path, files: dict[str, list[Any]] | None = None, **changes: Any) -> Job:
    for name, lines in (corpus() if files is None else files).items():
        write_jsonl(directory / name, lines)
    job = job_on(root, directory, **changes)
    build_dataset(job)
    return job


def keys_of(root: str, generation: int | None = None) -> dict[str, list[str]]:
    opened = tokenmill.open(root, generation=generation, check=True)
    return {name: [row.key for row in table] for name, table in opened.tables.items()}


def rows_of(root: str, generation: int | None = None) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of each table, as what they are known by and what they hold."""
    opened = tokenmill.open(root, generation=generation, check=True)
    return {
        name: [
            (
                row.split,
                row.ordinal,
                row.document,
                row.position,
                row.key,
                dict(row.metadata),
                row.streams["ids"].tolist(),
            )
            for row in table
        ]
        for name, table in opened.tables.items()
    }


def shards_of(storage: Storage, manifest: Manifest) -> dict[str, list[tuple[int, int, str]]]:
    """Return split, part and checksum of all shards of each table."""
    return {
        name: [(row["split"], row["part"], row["sha256"]) for row in read_shard_table(storage, table).rows()]
        for name, table in manifest.tables.items()
    }


def merged(storage: Storage, manifest: Manifest, table: str) -> MergedStatistics:
    found = read_statistics(storage.read(manifest.tables[table].statistics["path"]))
    assert isinstance(found, MergedStatistics)
    return found


def files(storage: Storage) -> dict[str, tuple[str, object]]:
    return {entry.path: (entry.version, entry.modified) for entry in storage.list()}


def whole(root: str) -> None:
    assert verify(root).problems == []
