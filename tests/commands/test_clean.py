import os
import time
from pathlib import Path

import pytest

from tests.commands.conftest import Run
from tokenmill import layout

ORPHAN = layout.shard("text", 0, 0, "f" * 64)


@pytest.fixture
def orphan(root: str) -> Path:
    path = Path(root) / ORPHAN
    path.write_bytes(b"orphan")
    then = time.time() - 2 * 3600
    os.utime(path, (then, then))
    return path


def test_it_only_looks_unless_told_to_delete(run: Run, root: str, orphan: Path) -> None:
    ran = run("clean", root)
    assert ran.code == 0
    assert f"{ORPHAN}  6 B" in ran.out
    assert "nothing was removed: pass --delete" in ran.out
    assert orphan.exists()
    document = run("clean", root, "--json").json
    assert [file["path"] for file in document["files"]] == [ORPHAN]
    assert document["removed"] is None
    assert orphan.exists()


def test_delete(run: Run, root: str, orphan: Path) -> None:
    ran = run("clean", root, "--delete")
    assert ran.code == 0
    assert "removed 1 files (6 B) and 0 uploads" in ran.out
    assert not orphan.exists()
    assert run("verify", root).code == 0
    assert "nothing to remove" in run("clean", root, "--delete").out
    assert run("clean", root, "--delete", "--json").json["removed"] == {
        "files": 0, "size_bytes": 0, "uploads": 0, "kept": 0,
    }  # fmt: skip


@pytest.mark.parametrize(("age", "found"), [("3h", 0), ("1d", 0), ("7300s", 0), ("119m", 1), ("0s", 1)])
def test_age(run: Run, root: str, orphan: Path, age: str, found: int) -> None:
    assert len(run("clean", root, "--older-than", age, "--json").json["files"]) == found


def test_a_damaged_manifest(run: Run, root: str, orphan: Path) -> None:
    (Path(root) / layout.manifest(1)).write_text("{}")
    ran = run("clean", root, "--delete")
    assert ran.code == 4
    assert orphan.exists()
