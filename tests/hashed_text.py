"""A small tokenizer whose rows carry the SHA-256 of their texts, and datasets made with it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from tests.datasets import build_dataset, job_of, write_jsonl
from tokenmill import registry
from tokenmill.contract import Encoded, Encoder, Failure, Tokenizer
from tokenmill.dataset import open_dataset
from tokenmill.ir.streams import MODULE_STREAMS, SHA256
from tokenmill.jobs import Job
from tokenmill.streams import Jagged, StreamSpec


class HashedTextTokenizer(Tokenizer):
    """A text's bytes as ids, the text's SHA-256, and at will a heavy stream; texts with the word `refuses` fail."""

    id: ClassVar[str] = "hashed-text"

    refuses: str = ""
    heavy_bytes: int = 0

    def streams(self) -> dict[str, StreamSpec]:
        heavy = {"heavy": StreamSpec("uint8", vocabulary_size=256)} if self.heavy_bytes else {}
        return {"ids": StreamSpec("uint8", vocabulary_size=256), SHA256: MODULE_STREAMS[SHA256], **heavy}

    def load(self, device: str = "cpu") -> Encoder:
        return _Encoder(self)


class _Encoder:
    def __init__(self, tokenizer: HashedTextTokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, payloads: Sequence[str]) -> Encoded:
        refuses, specs = self._tokenizer.refuses, self._tokenizer.streams()
        refused = [index for index, text in enumerate(payloads) if refuses and refuses in text]
        texts = [text.encode() for index, text in enumerate(payloads) if index not in refused]
        rows = {
            "ids": [np.frombuffer(text, np.uint8) for text in texts],
            SHA256: [np.frombuffer(hashlib.sha256(text).digest(), np.uint8) for text in texts],
            "heavy": [np.zeros(self._tokenizer.heavy_bytes, np.uint8)] * len(texts),
        }
        failures = tuple(Failure(index, "refused", "no") for index in refused)
        return Encoded({name: Jagged.from_rows(rows[name], spec) for name, spec in specs.items()}, failures)


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it known beside the tokenizers that are installed, in this process."""
    installed = list(entry_points(group=registry.GROUP))
    entry = EntryPoint("hashed-text", "tests.hashed_text:HashedTextTokenizer", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints([*installed, entry]).select(group=group))


#: Key → text, in the order of the rows: two files, of several parts each.
TEXTS: dict[str, dict[str, str]] = {
    "a.jsonl": {f"a{n}": "again " * 150 if n % 4 == 1 else f"a {n} " * 150 for n in range(20)},
    "b.jsonl": {f"b{n}": "again " * 150 if n % 5 == 2 else f"a {n} " * 150 if n < 7 else f"b {n}" for n in range(20)},
}
KEYS = [key for texts in TEXTS.values() for key in texts]


def expected(texts: dict[str, str] | None = None) -> dict[str, str]:
    """Return which keys repeat which, found the slow way."""
    known: dict[str, str] = {}
    repeats = {}
    for key, text in ({k: t for found in TEXTS.values() for k, t in found.items()} if texts is None else texts).items():
        if text in known:
            repeats[key] = known[text]
        known.setdefault(text, key)
    return repeats


def hashed_job(root: str, inputs: Path, **changes: Any) -> Job:
    """Write the texts and return a job over them: the table `hashed`, and `text` without digests."""
    for name, texts in TEXTS.items():
        write_jsonl(inputs / name, [{"id": key, "text": text} for key, text in texts.items()])
    tables = [
        {"name": "hashed", "tokenizer": {"id": "hashed-text"}},
        {"name": "text", "tokenizer": {"id": "bytes"}},
    ]
    splitting = {"split_bytes": 10_000, "part_bytes": 3000}
    return job_of(root, inputs, **{"tables": tables, "splitting": splitting, **changes})


def hashed_dataset(root: str, inputs: Path, **changes: Any) -> Job:
    """Build the dataset of `hashed_job` in this process."""
    job = hashed_job(root, inputs, **changes)
    build_dataset(job)
    return job


def repeats_of(root: str, generation: int | None = None) -> dict[str, str]:
    """Return which keys of the table `hashed` repeat which."""
    table = open_dataset(root, generation=generation)["hashed"]
    keys, found = [row.key for row in table], table.known_duplicates()
    return {keys[row]: keys[of] for row, of in zip(found.rows.tolist(), found.of.tolist(), strict=True)}
