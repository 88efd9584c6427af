"""What verification makes of takedowns: nothing where all is well, and a line for each thing that is not."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.takedown_cases import KEYS, dataset
from tokenmill import layout
from tokenmill.manifests import read_manifest
from tokenmill.receipts import Receipt
from tokenmill.sealed import seal, unseal
from tokenmill.shard_checks import Problem
from tokenmill.storage.outputs import Storage
from tokenmill.takedown_lists import key_digests, read_takedown, write_takedown
from tokenmill.takedowns import take_down
from tokenmill.verification import verify


@pytest.fixture(scope="session")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset from which keys were taken; copy it before you change it."""
    directory = tmp_path_factory.mktemp("taken")
    job = dataset(str(directory / "out"), directory / "in")
    take_down(Storage.open(job.output), KEYS)
    return directory / "out"


@pytest.fixture
def root(taken: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy"
    shutil.copytree(taken, copy)
    return copy


def test_a_dataset_with_a_takedown_is_whole(taken: Path) -> None:
    report = verify(str(taken))
    assert report.problems == []
    (note,) = report.notes
    assert note.startswith("earlier generations (1) may hold keys that were taken down: `tokenmill clean ")


def add_to_list(root: Path, key: str) -> None:
    """Add a key to the newest list, as if it had been on it all along."""
    storage = Storage.open(str(root))
    found = read_takedown(storage, 1)
    for path in (root / "takedowns").iterdir():
        path.unlink()
    write_takedown(storage, replace(found, digests=np.unique([*found.digests, *key_digests(found.salt, [key])])))
    plan = root / layout.plan(2)
    value = unseal(plan.read_bytes(), "x")
    value["takedown"]["sha256"] = hashlib.sha256((root / layout.takedown(1)).read_bytes()).hexdigest()
    plan.write_bytes(seal(value))


def test_a_key_that_is_present_is_found_in_every_table(root: Path) -> None:
    add_to_list(root, "a4")
    problems = verify(str(root)).problems
    assert [problem.path.partition("/")[0] for problem in problems] == ["text", "framed"]
    assert {problem.what for problem in problems} == {"holds 1 keys that were taken down (list 1)"}
    assert all("/shards/" in problem.path for problem in problems)


def test_a_reject_of_such_a_key_is_found(root: Path) -> None:
    add_to_list(root, "other")
    problems = verify(str(root)).problems
    assert len(problems) == 2
    assert all(problem.path.startswith("rejects/") for problem in problems)


def test_a_list_that_is_not_carried_out_yet(root: Path) -> None:
    storage = Storage.open(str(root))
    found = read_takedown(storage, 1)
    digests = np.unique([*found.digests, *key_digests(found.salt, ["a4"])])
    write_takedown(storage, replace(found, number=2, digests=digests))
    report = verify(storage)
    assert {problem.what for problem in report.problems} == {"holds 1 keys that were taken down (list 2)"}
    assert any("takedown 2 is recorded and not carried out" in note for note in report.notes)


def forge(root: Path, change: Callable[[Receipt], Receipt]) -> str:
    """Rewrite the receipt of a part from which something was taken, with a seal that holds."""
    for path in sorted((root / "text/receipts").glob("*.1.json")):
        receipt = Receipt.from_bytes(path.read_bytes(), str(path))
        if receipt.taken_down == 1:
            path.write_bytes(change(receipt).to_bytes())
            return f"text/receipts/{path.name}"
    raise AssertionError("no such receipt")


@pytest.mark.parametrize(
    ("taken_down", "what"),
    [
        (0, "has neither a row nor a reject (1 such items)"),
        (2, "has neither a row nor a reject (1 such items; 2 were taken down)"),
    ],
)
def test_what_was_taken_is_accounted_for(root: Path, taken_down: int, what: str) -> None:
    path = forge(root, lambda receipt: replace(receipt, taken_down=taken_down))
    first, second = verify(str(root)).problems
    assert first.path == path
    assert first.what.endswith(what)
    assert second.path == read_manifest(Storage.open(str(root))).tables["text"].shards["path"]
    assert second.what == f"{5 + taken_down} items were taken down; the manifest says 6"


def test_more_is_said_to_be_taken_than_is_missing(root: Path) -> None:
    for path in sorted((root / "framed/receipts").glob("*.0.json")):
        if not path.with_name(path.name.replace(".0.", ".1.")).exists():
            break
    receipt = Receipt.from_bytes(path.read_bytes(), "x")
    path.write_bytes(replace(receipt, takedown=1, taken_down=3).to_bytes())
    problems = verify(str(root)).problems
    assert problems[0] == Problem(
        f"framed/receipts/{path.name}", "says that 3 items were taken down; all of them are here"
    )
    assert len(problems) == 2


@pytest.mark.parametrize("with_plans", [True, False])
def test_without_the_lists(root: Path, with_plans: bool) -> None:
    """Readers do not need them, so a copy may lack them together with the plans."""
    shutil.rmtree(root / "takedowns")
    if not with_plans:
        shutil.rmtree(root / "plans")
    report = verify(str(root))
    assert any("takedowns/ is absent" in note for note in report.notes)
    assert {problem.path for problem in report.problems} == ({layout.takedown(1)} if with_plans else set())


def test_every_damaged_list_is_one_problem(root: Path) -> None:
    for path in sorted((root / "takedowns").iterdir()):
        data = path.read_bytes()
        path.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
        report = verify(str(root))
        assert {problem.path for problem in report.problems} == {f"takedowns/{path.name}"}
        assert len(report.problems) == 1
        path.write_bytes(data)
    assert verify(str(root)).problems == []
