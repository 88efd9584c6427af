"""`tokenmill train llvm-ir` from modules to a vocabulary that a job tokenizes with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import tokenmill
from tests.commands.conftest import Run
from tests.datasets import build_dataset, job_of
from tests.ir.samples import COMPILED, compiled
from tokenmill.commands import new_file
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.ir_file import IrFile


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Three folders of modules, and a file that is none."""
    for number, name in enumerate(COMPILED):
        folder = tmp_path / "packages" / str(number % 3)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(compiled(name))
    (tmp_path / "packages/broken.ll").write_text("define nothing\n")
    (tmp_path / "packages/notes.txt").write_text("no module")
    return tmp_path / "packages"


def test_a_vocabulary_is_learned_twice_the_same_and_works_in_a_job(run: Run, packages: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / "made/one.bin", tmp_path / "made/two.bin"]
    folders = [str(packages / "0"), str(packages / "1"), str(packages / "2")]
    for output, modules in zip(outputs, ([str(packages)], [*reversed(folders), folders[0]]), strict=True):
        ran = run("train", "llvm-ir", *modules, "--output", str(output), "--vocabulary-size", "8000")
        assert ran.code == 0, ran.err
        assert ran.out == ""
        assert "10 different modules" in ran.err
        assert f"{output}: {output.stat().st_size:,} bytes" in ran.err
        assert ("left out" in ran.err) == (modules == [str(packages)])
        assert "notes.txt" not in ran.err
    assert outputs[0].read_bytes() == outputs[1].read_bytes()

    own: dict[str, Any] = {"id": "llvm-ir", "vocabulary": str(outputs[0])}
    tables = [{"name": "own", "tokenizer": own}, {"name": "packaged", "tokenizer": {"id": "llvm-ir"}}]
    source = {"modality": "llvm-ir", "fields": {}}
    build_dataset(job_of(str(tmp_path / "out"), packages / "*/*.bc", source=source, tables=tables))
    dataset = tokenmill.open(str(tmp_path / "out"))
    table = dataset["own"]
    assert table.tokenizer.fingerprint != dataset["packaged"].tokenizer.fingerprint
    assert table.streams["ids"].vocabulary_size == 8000
    assert len(table) == len(COMPILED)
    for row in table:
        data = (packages / row.key).read_bytes()
        assert table.decode(row).encode() == IrFile(data).module(Canonical()).text


def test_files_of_few_folders_are_packages_each(run: Run, packages: Path, tmp_path: Path) -> None:
    ran = run("train", "llvm-ir", str(packages / "0"), "--output", str(tmp_path / "v.bin"), "--vocabulary-size", "8000")
    assert ran.code == 0
    assert "4 files in 1 folder" in ran.err
    assert "each file counts as a package" in ran.err


def test_an_output_is_never_overwritten(run: Run, packages: Path, tmp_path: Path) -> None:
    output = tmp_path / "vocabulary.bin"
    output.write_bytes(b"mine")
    ran = run("train", "llvm-ir", str(packages), "--output", str(output))
    assert ran.code == 2
    assert "there already" in ran.err
    assert output.read_bytes() == b"mine"


def test_an_output_that_cannot_be_written_is_told_before_the_work(run: Run, packages: Path) -> None:
    ran = run("train", "llvm-ir", str(packages), "--output", "/proc/vocabulary.bin")
    assert ran.code == 3
    assert "/proc/vocabulary.bin: cannot be written" in ran.err
    assert "modules" not in ran.err


def test_a_full_disk(run: Run, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_file, "require_new", lambda path: None)
    monkeypatch.setattr("tokenmill.commands.train_llvm_ir.require_new", lambda path: None)
    arguments = ("--vocabulary-size", "8000", "--output", "/dev/full")
    ran = run("train", "llvm-ir", str(packages), *arguments)
    assert ran.code == 3
    assert "/dev/full: cannot be written: No space left" in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent"], "absent: there is no such file"),
        (["packages/notes.txt"], "there is no module among these files"),
        (["packages", "--vocabulary-size", "5000"], "give 6,"),
        (["packages", "--vocabulary-size", "65537"], "65536"),
        (["packages", "--megabytes", "0"], "--megabytes"),
        ([], "MODULES"),
    ],
)
def test_wrong_usage(
    run: Run, packages: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(packages.parent)
    ran = run("train", "llvm-ir", *arguments, "--output", "vocabulary.bin")
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
    assert not Path("vocabulary.bin").exists()


def test_a_missing_library_is_told_before_the_work(
    run: Run, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    ran = run("train", "llvm-ir", str(packages), "--output", str(tmp_path / "vocabulary.bin"))
    assert ran.code == 2
    assert "pip install 'tokenmill[ir]'" in ran.err
    assert "files in" not in ran.err
