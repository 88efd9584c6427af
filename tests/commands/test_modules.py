"""`tokenmill head` on modules of LLVM IR."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tokenmill
from tests.commands.conftest import Run
from tests.datasets import build_dataset, job_of
from tests.ir.samples import MODULES
from tokenmill.commands import modules as shown
from tokenmill.tokenizers.llvm_ir import LlvmIrTokenizer

NO_FUNCTION = 'source_filename = "data.c"\n\n@x = global i32 7\n'


@pytest.fixture
def out(tmp_path: Path) -> str:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.bc").write_bytes((MODULES / "c-clang19.bc").read_bytes())
    (tmp_path / "in/b.ll").write_text(NO_FUNCTION)
    source = {"modality": "llvm-ir", "fields": {}}
    tables = [{"name": "ir", "tokenizer": {"id": "llvm-ir"}}]
    build_dataset(job_of(str(tmp_path / "out"), tmp_path / "in", source=source, tables=tables))
    return str(tmp_path / "out")


def test_what_a_module_is_made_of_and_its_first_function(run: Run, out: str) -> None:
    lines = run("head", out).out.split("\n")
    first = lines[lines.index("0  a.bc  (split 0, item 0)") : lines.index("1  b.ll  (split 0, item 1)")]
    facts = {line.split()[0]: line.split(maxsplit=1)[1] for line in first if len(line.split()) > 1}
    row = tokenmill.open(out)["ir"][0]
    assert facts["sha256"] == row.streams["sha256"].tobytes().hex()
    assert facts["module"].startswith("4,416 bytes stored, ")
    assert "functions: 2 defined" in facts["module"]
    assert facts["opcodes"].startswith(f"{row.streams['opcodes'].sum()}: ")
    assert " load" in facts["opcodes"]
    assert "1 printf" in facts["calls"]
    assert "called_counts" not in facts
    assert any(line.startswith("     define dso_local i32 @classify(") for line in first)
    (tokens,) = (line for line in first if "as tokens: " in line)
    assert tokens.strip().startswith("as tokens: define")
    assert "%{next}" in tokens
    assert " │ " in tokens


def test_a_module_without_functions_is_shown_whole(run: Run, out: str) -> None:
    text = run("head", out).out.split("1  b.ll")[1]
    assert '     source_filename = "data.c"\n' in text
    assert "     @x = global i32 7\n" in text
    assert "0 defined" in text


def test_json_has_the_text_up_to_the_first_functions_end(run: Run, out: str) -> None:
    first, second = run("head", out, "--json").json["tables"]["ir"]
    whole = tokenmill.open(out)["ir"].decode(0)
    assert first["text"] == whole[: whole.index("\n}") + 2]
    assert second["text"] == NO_FUNCTION


def test_of_a_long_first_function_only_numbers_are_shown(run: Run, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "_MOST_TOKENS", 20)
    ran = run("head", out)
    assert ran.code == 0
    assert "classify(" not in ran.out
    assert "@x = global" in ran.out


def test_a_table_of_another_vocabulary_is_shown_as_ids(run: Run, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LlvmIrTokenizer, "assets", lambda self: {})
    ran = run("head", out)
    assert ran.code == 0
    assert ran.err.count("note: not decoded: ") == 1
    assert "as tokens" not in ran.out
    assert "functions: 2 defined" in ran.out


def test_without_the_extra_a_table_is_shown_as_ids(out: str) -> None:
    blocked = "import sys; sys.modules['numba'] = None; from tokenmill.commands import main; main()"
    ran = subprocess.run([sys.executable, "-c", blocked, "head", out], capture_output=True, text=True, check=False)
    assert ran.returncode == 0
    assert "pip install 'tokenmill[ir]'" in ran.stderr
    assert "functions: 2 defined" in ran.stdout
