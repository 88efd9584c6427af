from pathlib import Path

import pytest

from tests.datasets import build_dataset, job_of, run_splits, write_jsonl
from tokenmill.errors import CorruptionError, DatasetError
from tokenmill.manifests import read_manifest
from tokenmill.sealed import seal, unseal
from tokenmill.storage.outputs import Storage


def test_an_empty_directory_holds_no_dataset(any_root: str) -> None:
    with pytest.raises(DatasetError, match="holds no dataset") as caught:
        read_manifest(Storage.open(any_root))
    assert caught.value.where == any_root


def test_a_begun_dataset_says_so(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in" / "a.jsonl", [{"id": "a", "text": "x"}])
    job = job_of(str(tmp_path / "out"), tmp_path / "in")
    run_splits(job)
    with pytest.raises(DatasetError, match="holds an unfinished dataset") as caught:
        read_manifest(Storage.open(job.output))
    assert "run the job again" in str(caught.value.fix)


def test_the_newest_manifest_is_the_dataset(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in" / "a.jsonl", [{"id": "a", "text": "x"}])
    job = job_of(str(tmp_path / "out"), tmp_path / "in")
    first = build_dataset(job)
    write_jsonl(tmp_path / "in" / "b.jsonl", [{"id": "a", "text": "xyz"}])
    second = build_dataset(job)
    storage = Storage.open(job.output)
    assert read_manifest(storage) == second
    assert read_manifest(storage, 1) == first
    assert first.fingerprint != second.fingerprint
    assert second.tables["text"].streams["ids"].dtype == "uint8"


def test_a_manifest_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in" / "a.jsonl", [{"id": "a", "text": "x"}])
    job = job_of(str(tmp_path / "out"), tmp_path / "in")
    build_dataset(job)
    path = Path(job.output) / "manifests" / "000001.json"
    path.write_bytes(seal({**unseal(path.read_bytes(), "x"), "format": 2}))
    with pytest.raises(CorruptionError, match="newer tokenmill"):
        read_manifest(Storage.open(job.output))
