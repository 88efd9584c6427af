"""Runs of small files: joined batches, positions, and fetching ahead."""

from __future__ import annotations

import gzip
import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.sources.corpora import Document, as_jsonl, as_parquet, as_tar, read_split, write
from tokenmill.errors import InputError
from tokenmill.job_sources import Source
from tokenmill.sources import file_task
from tokenmill.sources.items import Cursor
from tokenmill.sources.limits import ReadLimits
from tokenmill.sources.planning import plan_source
from tokenmill.sources.reading import open_split
from tokenmill.storage.inputs import expand, open_input

_SOURCE = Source(name="s", uris=("x",), fields={"id": "id"})


def _mixed() -> dict[str, bytes]:
    documents = [Document(f"text {number}", f"id {number}") for number in range(7)]
    return {
        "a/1.jsonl": as_jsonl(documents[:2]) + b"bad\n",
        "a/2.jsonl.gz": gzip.compress(as_jsonl(documents[2:3]))[:-1],
        "a/3.jsonl": b"",
        "b.parquet": as_parquet(documents[3:5]),
        "c.jsonl": b"not even JSON\n\n" + as_jsonl(documents[5:]),
        "d.parquet": b"no Parquet",
    }


def test_a_run_reads_one_file_after_another(tmp_path: Path) -> None:
    root, files = write(tmp_path, _mixed())
    (split,) = plan_source(_SOURCE, root, files, 1 << 20)
    whole = read_split(_SOURCE, root, split)
    assert whole.texts == [f"text {number}" for number in range(7)]
    assert [(reject.reason, reject.ordinal, reject.locator) for reject in whole.rejects] == [
        ("invalid_json", 2, whole.rejects[0].locator),
        ("torn_file", 4, whole.rejects[1].locator),
        ("invalid_json", 7, "c.jsonl:0"),
        ("unreadable_file", 10, "d.parquet:0"),
    ]
    assert whole.items[3].locator == "b.parquet#row=0"
    assert whole.items[5].locator == "c.jsonl:15"
    for number, item in enumerate(whole.items):
        rest = read_split(_SOURCE, root, split, Cursor(item.ordinal + 1, item.end))
        assert rest.items == whole.items[number + 1 :]
        assert rest.rejects == [reject for reject in whole.rejects if reject.ordinal > item.ordinal]


def test_batches_of_many_files_are_joined(tmp_path: Path) -> None:
    root, files = write(tmp_path, {f"{number:04}.txt": b"x" * 2000 for number in range(900)})
    source = Source(name="s", uris=("x",))
    (split,) = plan_source(source, root, files, 1 << 30)
    with open_split(source, root, split, ReadLimits()) as reader:
        batches = list(reader.batches())
    assert [len(batch) for batch in batches] == [524, 376]
    assert batches[0].keys[:2] == ["0000.txt", "0001.txt"]


def test_tar_samples_in_runs(tmp_path: Path) -> None:
    contents = {f"{number}.tar": as_tar([Document(f"{number}{letter}") for letter in "ab"]) for number in range(3)}
    root, files = write(tmp_path, contents)
    source = Source(name="s", uris=("x",))
    (split,) = plan_source(source, root, files, 1 << 20)
    assert read_split(source, root, split).texts == ["0a", "0b", "1a", "1b", "2a", "2b"]


def test_remote_files_are_fetched_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    remote = fsspec.filesystem("memory")
    for name, data in _mixed().items():
        remote.pipe_file(f"/corpus/{name}", data)
    try:
        expanded = expand(["memory://corpus"])
        (split,) = plan_source(_SOURCE, expanded.root, expanded.files, 1 << 20)
        openers: list[str] = []

        def opening(uri: str) -> BinaryIO:
            openers.append(threading.current_thread().name)
            return open_input(uri)

        monkeypatch.setattr(file_task, "open_input", opening)
        whole = read_split(_SOURCE, expanded.root, split)
        assert whole.texts == [f"text {number}" for number in range(7)]
        assert whole.reasons == ["invalid_json", "torn_file", "invalid_json", "unreadable_file"]
        assert len(openers) == 6
        assert threading.main_thread().name not in openers
        remote.rm_file("/corpus/c.jsonl")
        with pytest.raises(InputError, match=r"c\.jsonl"):
            read_split(_SOURCE, expanded.root, split)
    finally:
        remote.rm("/corpus", recursive=True)
