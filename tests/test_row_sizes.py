"""Input bytes of rows: decoded, read again, or estimated, and never passed off as exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets import job_of, run_splits, write_jsonl
from tokenmill import row_sizes as module
from tokenmill.jobs import Job
from tokenmill.plans import read_plan
from tokenmill.receipts import Receipt, latest_receipt
from tokenmill.row_sizes import row_sizes
from tokenmill.shard_files import OpenShard, open_bytes
from tokenmill.statistics.arrow import decode
from tokenmill.statistics.part import PartStatistics
from tokenmill.storage.outputs import Storage

TEXTS = [f"text {n} ключ " * (n % 5 * 9) for n in range(60)]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    records: list[Any] = [{"id": str(n), "text": text} for n, text in enumerate(TEXTS)]
    records[10:10] = ["not json", {"id": "null", "text": None}]
    write_jsonl(tmp_path / "in/a.jsonl", records)
    job = job_of(str(tmp_path / "out"), tmp_path / "in")
    run_splits(job)
    return job


def sizes_of(job: Job, part: int) -> tuple[list[int], list[int], bool]:
    """Return the sizes that are found, those that are right, and whether the former are said to be exact."""
    storage = Storage.open(job.output)
    latest = latest_receipt(storage, "text", 0, part)
    assert latest is not None
    assert latest.receipt is not None
    receipt: Receipt = latest.receipt
    (reference,) = receipt.shards
    read = decode(storage.read(receipt.statistics.path))
    statistics = PartStatistics.from_decoded(read, None)
    blocks = np.frombuffer(read.extra["blocks"], "<u4")
    data = open_bytes(storage, reference.path, reference.size_bytes, blocks, check_values=True)
    shard = OpenShard(data, reference.value_offsets or {})
    found, exact = row_sizes(read_plan(storage, 1), receipt, shard, statistics)
    right = [len(TEXTS[int(shard.key(row))].encode()) for row in range(len(shard))]
    assert found.dtype == np.int64
    assert found.sum() == statistics.input_bytes
    return found.tolist(), right, exact


def lossy(patch: pytest.MonkeyPatch) -> None:
    """Have decoded texts differ from what was read, as with tokenizers that normalise."""
    patch.setattr("tokenmill.tokenizers.bytes.BytesDecoder.decode", lambda *_: "something else")


@pytest.mark.parametrize("part", [0, 1, 3])
def test_decoded_without_the_source(job: Job, tmp_path: Path, part: int) -> None:
    (tmp_path / "in/a.jsonl").unlink()
    found, right, exact = sizes_of(job, part)
    assert (found, exact) == (right, True)


@pytest.mark.parametrize("part", [0, 1, 3])
@pytest.mark.parametrize("why", ["lossy", "raises", "no text", "no decoder", "another vocabulary"])
def test_read_again_where_decoding_does_not_do(job: Job, monkeypatch: pytest.MonkeyPatch, part: int, why: str) -> None:
    class Panic(BaseException):
        pass

    def panic(*_: object) -> str:
        raise Panic

    module._decoder.cache_clear()
    bytes_module = "tokenmill.tokenizers.bytes"
    if why == "lossy":
        lossy(monkeypatch)
    elif why == "raises":
        monkeypatch.setattr(f"{bytes_module}.BytesDecoder.decode", panic)
    elif why == "no text":
        monkeypatch.setattr(f"{bytes_module}.BytesDecoder.decode", lambda *_: b"")
    elif why == "no decoder":
        monkeypatch.setattr(f"{bytes_module}.BytesTokenizer.decoder", lambda _: None)
    else:
        monkeypatch.setattr(f"{bytes_module}.BytesTokenizer.implementation_version", 99)
    found, right, exact = sizes_of(job, part)
    module._decoder.cache_clear()
    assert (found, exact) == (right, True)


@pytest.mark.parametrize("source", ["gone", "changed"])
def test_estimated_where_neither_does(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    lossy(monkeypatch)
    path = tmp_path / "in/a.jsonl"
    if source == "gone":
        path.unlink()
    else:
        path.write_text(path.read_text() + "\n")
    found, right, exact = sizes_of(job, 1)
    assert not exact
    assert found == right, "of bytes, the number of tokens is the size"
