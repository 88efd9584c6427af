"""Items are read from their source again: those that are still there, whatever became of the others."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tests.datasets import build_dataset, job_of, write_jsonl
from tests.mosaics import mosaic_job, register, write_pictures
from tokenmill.dataset import open_dataset
from tokenmill.errors import ChangedError, DatasetError, InputError
from tokenmill.images.image_file import ImageFile
from tokenmill.replaying import read_again
from tokenmill.storage.outputs import Storage


def test_lines_are_found_by_number_and_key(tmp_path: Path) -> None:
    records = [{"id": f"r{n}", "text": f"text {n} " * 300} for n in range(40)]
    build_dataset(job_of(str(tmp_path / "out"), write_jsonl(tmp_path / "in/a.jsonl", records).parent))
    storage = Storage.open(str(tmp_path / "out"))
    payloads, errors = read_again(storage, "text", 0, {3: "r3", 30: "r30", 17: "not r17"})
    assert payloads == {3: records[3]["text"], 30: records[30]["text"]}
    assert list(errors) == [17]
    assert isinstance(errors[17], ChangedError)
    with pytest.raises(DatasetError, match="has no split 5"):
        read_again(storage, "text", 5, {0: "r0"})


def test_files_that_are_gone_or_changed_keep_no_others_from_being_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch)
    pictures = write_pictures(tmp_path / "in")
    build_dataset(mosaic_job(tmp_path / "out", pictures))
    keys = {row.ordinal: row.key for row in open_dataset(str(tmp_path / "out"))["mosaic"]}
    assert len(keys) == 6
    before = {name: (pictures / name).read_bytes() for name in keys.values()}
    (pictures / "1.png").unlink()
    (pictures / "4.png").write_bytes(b"another file")
    payloads, errors = read_again(Storage.open(str(tmp_path / "out")), "mosaic", 0, keys)
    assert {keys[ordinal]: payload for ordinal, payload in payloads.items()} == {
        name: ImageFile(before[name]) for name in ("0.png", "2.png", "3.png", "5.png")
    }
    assert {keys[ordinal]: type(error) for ordinal, error in errors.items()} == {
        "1.png": InputError,
        "4.png": ChangedError,
    }


def test_members_of_a_tar_file_are_read_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)
    pictures = write_pictures(tmp_path / "pictures")
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in" / "a.tar", "w") as archive:
        for path in sorted(pictures.iterdir()):
            data = path.read_bytes()
            member = tarfile.TarInfo(f"p{path.name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    build_dataset(mosaic_job(tmp_path / "out", tmp_path / "in"))
    rows = open_dataset(str(tmp_path / "out"))["mosaic"][1:5:3]
    payloads, errors = read_again(
        Storage.open(str(tmp_path / "out")), "mosaic", 0, {row.ordinal: row.key for row in rows}
    )
    assert errors == {}
    assert [payloads[row.ordinal].data for row in rows] == [(pictures / f"{n}.png").read_bytes() for n in (1, 4)]
