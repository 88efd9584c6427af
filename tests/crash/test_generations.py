"""A second generation makes only what is new; what was published before stays as it was, byte and time."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash.compare import manifests, published
from tests.crash.corpus import Corpus
from tests.crash.run_job import execute_here
from tokenmill import layout
from tokenmill.manifests import read_manifest, read_shard_table
from tokenmill.storage.outputs import Storage


@pytest.fixture
def growing(small: Corpus, tmp_path: Path) -> Corpus:
    """A copy of the small corpus that a test may change."""
    directory = tmp_path / "growing"
    shutil.copytree(small.directory, directory, copy_function=shutil.copy2)
    return replace(small, directory=directory)


def _versions(storage: Storage) -> dict[str, tuple[str, object]]:
    return {entry.path: (entry.version, entry.modified) for entry in storage.list()}


def _only_added(before: dict[str, tuple[str, object]], storage: Storage) -> set[str]:
    """Return what is new on storage; everything that was there is as it was."""
    after = _versions(storage)
    assert {path: after.get(path) for path in before} == before
    return after.keys() - before.keys()


def test_grown_corpus(root: str, growing: Corpus) -> None:
    made = execute_here(growing.job(root))["made"]
    storage = Storage.open(root)
    first = published(root, growing.keys)
    before = _versions(storage)
    reader = read_manifest(storage)

    grown = growing.add_file("added.jsonl.zst", 7, 40)
    counts = execute_here(grown.job(root))

    assert counts["kept"] == made
    assert counts["made"] > 0
    new = _only_added(before, storage)
    assert sum(layout.parse_receipt(path) is not None for path in new) == counts["made"]
    assert manifests(root) == [1, 2]
    second = published(root, grown.keys)
    for table, shards in first.shards.items():
        assert second.shards[table][: len(shards)] == shards
        assert len(second.shards[table]) > len(shards)
    assert published(root, growing.keys, generation=1) == first
    for opened in reader.tables.values():  # one who has opened generation 1 before goes on reading it
        assert all(storage.stat(row["path"]) is not None for row in read_shard_table(storage, opened).rows())
    assert execute_here(grown.job(root))["made"] == 0


def test_added_table(root: str, growing: Corpus) -> None:
    made = execute_here(growing.job(root, tables=["text"]))["made"]
    storage = Storage.open(root)
    first = published(root, growing.keys)
    before = _versions(storage)
    counts = execute_here(growing.job(root, tables=["text", "late"]))
    assert counts == {"made": made, "kept": made}
    assert not [path for path in _only_added(before, storage) if path.startswith("text/")]
    second = published(root, growing.keys)
    assert second.shards["text"] == first.shards["text"]
    assert [shard[:2] for shard in second.shards["late"]] == [shard[:2] for shard in first.shards["text"]]
    assert published(root, growing.keys, generation=1) == first


def test_grown_before_the_first_was_finished(root: str, growing: Corpus) -> None:
    """Generation 1 was begun and never published; generation 2 takes over its parts."""
    job = growing.job(root)
    began = execute_here(job, [0])["made"]
    grown = growing.add_file("added.jsonl", 8, 30)
    counts = execute_here(grown.job(root))
    assert counts["kept"] == began
    assert manifests(root) == [2]
    other = f"{root}-in-two-steps"
    added = grown.directory / "web" / "added.jsonl"
    aside = added.rename(grown.directory / "aside.jsonl")
    execute_here(growing.job(other))
    aside.rename(added)
    execute_here(grown.job(other))
    assert published(root, grown.keys) == published(other, grown.keys)


def test_killed_between_generations(root: str, growing: Corpus) -> None:
    """Killed with generation 2 planned and half made: readers see generation 1, and the next run completes it."""
    execute_here(growing.job(root))
    first = published(root, growing.keys)
    grown = growing.add_file("added.jsonl.zst", 7, 40)
    execute_here(grown.job(root), [0])
    assert manifests(root) == [1]
    assert published(root, growing.keys) == first
    execute_here(grown.job(root))
    assert manifests(root) == [1, 2]
    published(root, grown.keys)
