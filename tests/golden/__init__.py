"""Golden files: one of every kind that a dataset consists of, as each version of its format writes it.

Today's code must read them, and must write the same bytes. A format that changes gets a new version and new files
beside these, which stay readable. `python -m tests.golden` writes files that are missing; it never changes one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.datasets import build_dataset, job_of, write_jsonl
from tests.shard_cases import header, rows_of
from tests.test_receipts import a_receipt
from tokenmill.contract import Asset, ResolvedTokenizer
from tokenmill.duplicates import Duplicates
from tokenmill.jobs import Job, parse_job
from tokenmill.manifests import Manifest, ManifestTable, ShardTable
from tokenmill.plans import Plan, PlannedTable, SplitTable, write_plan
from tokenmill.rejects import RejectLines
from tokenmill.sealed import seal
from tokenmill.shards import SerialisedShard, serialise_shard
from tokenmill.sources.items import Reject
from tokenmill.sources.splits import InputFile, Split
from tokenmill.storage.outputs import Storage
from tokenmill.streams import StreamSpec
from tokenmill.takedown_lists import Takedown, key_digests, read_takedown, write_takedown

DIRECTORY = Path(__file__).parent
COLUMNS = {"title": "string", "year": "int64", "score": "float64", "kept": "bool"}
ROWS: list[dict[str, Any]] = [
    {
        "key": key,
        "metadata": {"title": title, "year": year, "score": score, "kept": kept},
        "ids": [(number * number + 31 * step) % 400_000 for step in range(number * 7 % 23)],
        "grid": (number % 3, 4),
    }
    for number, (key, title, year, score, kept) in enumerate(
        [
            ("ascii", "A title", 1999, 0.5, True),
            ("ключ", None, -5, -0.0, False),
            ("", "", None, float("inf"), None),
            ("duplicate", "日本語", 1 << 62, None, True),
            ("duplicate", "🜁\0end", 0, 1e-300, False),
        ],
        1,
    )
]
TOKENIZER = ResolvedTokenizer(
    config={"id": "made-up", "path": "vocabularies/x"},
    identity={"id": "made-up", "implementation_version": 1, "config": {}, "assets": {"ranks": "ab" * 32}},
    assets={"ranks": Asset("vocabularies/x", "ab" * 32, 1234)},
    streams={"ids": StreamSpec("uint32", vocabulary_size=400_000)},
    fingerprint="c0ffee" + "0" * 58,
)
REJECTS = [
    Reject(3, "ключ", "a b/c.jsonl:100", "invalid_json", "Expecting value: '\"\\x00'"),
    Reject(9, "c.jsonl.gz", "c.jsonl.gz:2000", "torn_file", "the file ends in the middle", 4096, 17),
]
RECORDS: list[dict[str, Any]] = [
    {"id": "en", "text": "Call me Ishmael.", "lang": "en"},
    {"id": "ru", "text": "Все счастливые семьи похожи друг на друга", "lang": None},
    {"id": "empty", "text": "", "lang": "en"},
    {"id": "zh", "text": "道可道,非常道。" * 200, "lang": "zh"},
    {"id": "none", "text": None, "lang": "en"},
]


def shard() -> SerialisedShard:
    """Return the shard."""
    return serialise_shard(header(COLUMNS), rows_of(ROWS, COLUMNS))


def plan() -> Plan:
    """Return the plan."""
    job = parse_job(
        {
            "name": "golden",
            "sources": [
                {
                    "name": "docs",
                    "uris": ["s3://bucket/docs/**/*.jsonl.zst"],
                    "fields": {"text": "body.text", "id": "id"},
                    "metadata": {"title": "string", "year": "int64"},
                },
                {"name": "notes", "uris": ["notes"], "format": "lines", "encoding": "latin-1"},
            ],
            "tables": [{"name": "text", "tokenizer": {"id": "made-up", "path": "vocabularies/x"}}],
            "output": "s3://bucket/out",
            "runner": {"workers": 4},
            "limits": {"max_item_bytes": "1MB"},
            "splitting": {"split_bytes": "256MB", "part_bytes": "64MB"},  # defaults may change, this file may not
        }
    )
    splits = [
        Split("docs", "file", (InputFile("a.jsonl.zst", 10**9, '"etag-1"'),), 0, 10**9, 10**9),
        Split("docs", "files", (InputFile("b.jsonl", 5, '"x"'), InputFile("ü/c.jsonl", 0, '"y"')), 0, 2, 5),
        Split("notes", "bytes", (InputFile("n.txt", 1000, "mtime:1700000000000000000"),), 500, 1000, 500),
    ]
    return Plan(
        generation=2,
        job=job,
        roots={"docs": "s3://bucket/docs", "notes": "/data/notes"},
        tables=(PlannedTable("text", ("docs", "notes"), TOKENIZER, "auto"),),
        environment={"text": {"python": "3.11.9", "device": "cpu"}},
        splits=SplitTable.from_splits(splits),
    )


def takedown() -> Takedown:
    """Return the takedown list."""
    salt = bytes(range(16))
    return Takedown(
        number=3,
        created="2026-01-01T00:00:00+00:00",
        salt=salt,
        digests=np.sort(key_digests(salt, [row["key"] for row in ROWS[:3]])),
        splits=7,
        tables={"text": ("docs", "notes"), "late": ("docs",)},
        parts={("text", 0, 2): 1, ("text", 6, 0): 3, ("late", 0, 2): 3},
    )


def shard_table() -> ShardTable:
    """Return the published list of shards."""
    made = shard()
    row = {
        "split": 7,
        "part": 3,
        "path": "text/shards/000007-0003-0123456789abcdef.arrow",
        "sha256": made.sha256,
        "size_bytes": made.size_bytes,
        "rows": len(ROWS),
        "blocks": made.blocks.astype("<u4").tobytes(),
        "tokens.ids": 100,
        "value_offset.ids": made.value_offsets["ids"],
    }
    return ShardTable.from_rows([row, {**row, "part": 4, "rows": 0, "blocks": b""}], ["ids"])


def manifest() -> Manifest:
    """Return the manifest."""
    table = ManifestTable(
        name="text",
        tokenizer=TOKENIZER,
        sources=("docs", "notes"),
        metadata={"title": "string", "year": "int64"},
        fingerprint="f" * 64,
        rows=5,
        tokens={"ids": 100},
        size_bytes=5000,
        shards={
            "path": "manifests/000002-text-0123456789abcdef.shards.arrow",
            "sha256": "1" * 64,
            "size_bytes": 1,
            "count": 2,
        },
        statistics={
            "path": "manifests/000002-text-0123.statistics.arrow",
            "sha256": "2" * 64,
            "size_bytes": 2,
            "count": 2,
        },
        rejected=18,
        summary={"documents": 5, "entropy_bits": 7.25, "top": [[1, "the"], [2, "é"]]},
    )
    return Manifest(
        generation=2,
        job="golden",
        created="2026-01-01T00:00:00+00:00",
        fingerprint="d" * 64,
        tables={"text": table},
        plan="plans/000002.json",
        tokenmill="0.1.0",
    )


def duplicates() -> Duplicates:
    """Return the list of duplicates."""
    return Duplicates(np.array([2, 3, 1 << 33]), np.array([0, 1, 0]))


def rejects() -> bytes:
    """Return the lines of rejected items."""
    with RejectLines("text", 7, "docs") as lines:
        lines.add(REJECTS)
        return bytes(lines.content())


def files() -> Mapping[str, bytes]:
    """Return what today's code writes, by name of the golden file."""
    with tempfile.TemporaryDirectory() as root:
        write_plan(Storage.open(root), plan())
        written = {path.name: path.read_bytes() for path in Path(root, "plans").iterdir()}
    (splits,) = (name for name in written if name.endswith(".arrow"))
    with tempfile.TemporaryDirectory() as root:
        write_takedown(Storage.open(root), takedown())
        heeding = replace(plan(), takedown=read_takedown(Storage.open(root), 3), withheld_from=2)
        write_plan(Storage.open(root), heeding)
        taken = {"".join(path.suffixes): path.read_bytes() for path in Path(root, "takedowns").iterdir()}
        later_plan = Path(root, "plans", "000002.json").read_bytes()
    table = manifest().tables["text"]
    later = replace(manifest(), takedown=3, tables={"text": replace(table, taken_down=4)})
    path = "manifests/000002-text-0123456789abcdef.duplicates.arrow"
    listed = {"path": path, "sha256": "3" * 64, "size_bytes": 3, "count": 3}
    repeating = replace(manifest(), tables={"text": replace(table, duplicates=listed)})
    return {
        "shard-v1.arrow": b"".join(shard().pieces),
        "receipt-v1.json": a_receipt().to_bytes(),
        "plan-v1.json": written["000002.json"],
        "splits-v1.arrow": written[splits],
        "manifest-v1.json": seal(manifest().to_json()),
        "shards-v1.arrow": shard_table().to_bytes(),
        "duplicates-v1.arrow": duplicates().to_bytes(),
        "rejects-v1.jsonl": rejects(),
        "receipt-v2.json": replace(a_receipt(), takedown=3, taken_down=2, items=102).to_bytes(),
        "plan-v2.json": later_plan,
        "manifest-taken-down-v1.json": seal(later.to_json()),
        "manifest-duplicates-v1.json": seal(repeating.to_json()),
        "takedown-v1.json": taken[".json"],
        "takedown-keys-v1.arrow": taken[".keys.arrow"],
        "takedown-parts-v1.arrow": taken[".parts.arrow"],
    }


def dataset_job(directory: Path) -> Job:
    """Write the inputs of the golden dataset below a directory and return its job."""
    write_jsonl(directory / "in" / "a.jsonl", RECORDS)
    tables = [
        {"name": "text", "tokenizer": {"id": "bytes", "eos": True}},
        {"name": "raw", "tokenizer": {"id": "bytes"}},
    ]
    splitting = {"part_bytes": 1024}
    return job_of(
        str(directory / "out"), directory / "in", source={"metadata": ["lang"]}, splitting=splitting, tables=tables
    )


def write_missing() -> None:
    """Write the golden files that are not there yet."""
    for name, data in files().items():
        if not (DIRECTORY / name).exists():
            (DIRECTORY / name).write_bytes(data)
    kept = DIRECTORY / "dataset-v1"
    if not kept.exists():
        with tempfile.TemporaryDirectory() as root:
            job = dataset_job(Path(root))
            build_dataset(job)
            for entry in Storage.open(job.output).list():
                path = kept / entry.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes((Path(job.output) / entry.path).read_bytes())
