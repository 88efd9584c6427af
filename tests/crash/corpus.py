"""A corpus for tests that kill things: the same bytes every time, mixed formats, uneven files, dozens of parts."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from tokenmill.jobs import Job, parse_job

_WORDS = (  # noqa: SIM905 - reads better than forty quoted words
    "the of and to crash part shard receipt split резюме часть 字 令牌 語料 كلمة जानकारी νερό façade größer naïve "
    "function return 0x1f 😀 — … tokens are numbers and numbers are kept"
).split()
#: Every file's time of change; what the corpus is must not depend on when it was made.
_MODIFIED_NS = 1_700_000_000_000_000_000

Document = tuple[str, str]


@dataclass(frozen=True)
class Corpus:
    """A corpus on disk and what a run of it must give.

    Attributes:
        directory: Where its files are.
        keys: How often each key must be in every table.
        part_bytes: A size of parts that makes dozens of them.
        split_bytes: A size of splits that cuts the larger files.
    """

    directory: Path
    keys: Counter[str]
    part_bytes: int
    split_bytes: int

    def job(self, output: str, *, tables: Sequence[str] = ("text", "framed"), **changes: Any) -> Job:
        """Return a job over the corpus; `changes` replace top-level members."""
        tokenizers: dict[str, dict[str, Any]] = {
            "text": {"id": "bytes"},
            "framed": {"id": "bytes", "bos": True, "eos": True},
            "late": {"id": "bytes", "eos": True},
        }
        value: dict[str, Any] = {
            "name": "crash",
            "sources": [
                {
                    "name": "web",
                    "uris": [f"{self.directory}/web/**"],
                    "fields": {"text": "text", "id": "id"},
                    "metadata": ["language"],
                },
                {"name": "notes", "uris": [f"{self.directory}/notes/**"], "fields": {"text": "text", "id": "id"}},
            ],
            "tables": [{"name": name, "tokenizer": tokenizers[name]} for name in tables],
            "output": output,
            "limits": {"max_rejected_fraction": 0.2},
            "splitting": {"split_bytes": self.split_bytes, "part_bytes": self.part_bytes},
        }
        return parse_job({**value, **changes})

    def add_file(self, name: str, seed: int, count: int) -> Corpus:
        """Add a file to the source `web`, and return the grown corpus."""
        documents = _documents(random.Random(seed), f"{name}-", count)
        _jsonl(self.directory / "web" / name, documents)
        return replace(self, keys=self.keys + Counter(key for key, _ in documents))


def make_corpus(directory: Path, *, megabytes: float, parts: int = 70) -> Corpus:
    """Write about so many megabytes of text, in files from a few bytes to a third of the whole; about so many parts."""
    rng = random.Random(20_240_229)
    keys: Counter[str] = Counter()
    total = megabytes * 1e6
    shares = {
        "web/long.jsonl.zst": 0.34,
        "web/cut.jsonl": 0.22,
        "web/columns.parquet": 0.2,
        "web/deep/other.jsonl": 0.12,
        "web/deep/packed.jsonl.zst": 0.09,
        "notes/a.jsonl": 0.01,
        "notes/b.jsonl": 0.015,
        "notes/c.jsonl.zst": 0.004,
        "notes/one.jsonl": 0.0,
    }
    for name, share in shares.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        documents = _documents(rng, name.replace("/", "-") + "-", max(1, int(total * share / _MEAN_BYTES)))
        if name.startswith("notes/"):
            documents.append(documents[0])  # keys may be there twice in the input: then they are twice in the table
        keys.update(key for key, _ in documents)
        if path.suffix == ".parquet":
            _parquet(path, documents)
        else:
            _jsonl(path, documents, broken=name.startswith(("notes/", "web/deep/")))
    part_bytes = int(total / parts)
    return Corpus(directory, keys, part_bytes, max(4096, part_bytes * 4))


_MEAN_BYTES = 2600


def _documents(rng: random.Random, prefix: str, count: int) -> list[Document]:
    sentences = [" ".join(rng.choices(_WORDS, k=rng.randrange(3, 30))) + ". " for _ in range(200)]
    lengths = rng.choices([0, 1, 4, 12, 60, 400], weights=[2, 10, 30, 40, 17, 1], k=count)
    return [(f"{prefix}{i}", "".join(rng.choices(sentences, k=length))) for i, length in enumerate(lengths)]


def _jsonl(path: Path, documents: Sequence[Document], *, broken: bool = False) -> None:
    lines = [json.dumps({"id": key, "text": text, "language": key[-1]}, ensure_ascii=False) for key, text in documents]
    if broken:
        lines.insert(len(lines) // 2, '{"id": "broken", "text": ')
        lines.append('{"id": "without text"}')
    data = ("\n".join(lines) + "\n").encode()
    path.write_bytes(zstandard.ZstdCompressor(level=1).compress(data) if path.suffix == ".zst" else data)
    os.utime(path, ns=(_MODIFIED_NS, _MODIFIED_NS))


def _parquet(path: Path, documents: Sequence[Document]) -> None:
    columns = {
        "id": [key for key, _ in documents],
        "text": [text for _, text in documents],
        "language": [key[-1] for key, _ in documents],
    }
    pq.write_table(pa.table(columns), path, row_group_size=max(1, len(documents) // 9), compression="snappy")
    os.utime(path, ns=(_MODIFIED_NS, _MODIFIED_NS))
