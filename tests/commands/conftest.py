"""A dataset to run commands on, and a way to run them in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.datasets import build_dataset, job_of, write_jsonl
from tests.toy_codec import register, sound_job, write_sounds
from tokenmill import commands


@dataclass(frozen=True)
class Ran:
    """What a command left: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as exactly one JSON document."""
        return json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `tokenmill` with arguments, in this process."""
    monkeypatch.delenv("TOKENMILL_DEBUG", raising=False)

    def run_command(*arguments: str) -> Ran:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["tokenmill", *arguments])
        with pytest.raises(SystemExit) as left:
            commands.main()
        captured = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return Ran(left.value.code, captured.out, captured.err)

    return run_command


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """The dataset's input: 40 items, one of which is broken, one hostile to terminals."""
    records: list[Any] = [{"id": f"doc-{i}", "text": f"text {i} " * i, "lang": "en", "score": i / 2} for i in range(40)]
    records[1] = {"id": "doc-1", "text": "žluť\n\x1b[31mred\x1b[0m ☃", "lang": None, "score": None}
    records[7] = "{broken"
    return write_jsonl(tmp_path / "in/a.jsonl", records).parent


@pytest.fixture
def root(tmp_path: Path, inputs: Path) -> str:
    """A published dataset of two tables."""
    tables = [
        {"name": "text", "tokenizer": {"id": "bytes"}},
        {"name": "framed", "tokenizer": {"id": "bytes", "bos": True}},
    ]
    source = {"metadata": {"lang": "string", "score": "float64"}}
    build_dataset(job_of(str(tmp_path / "out"), inputs, source=source, tables=tables, name="books"))
    return str(tmp_path / "out")


@pytest.fixture
def sounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A published dataset of recordings, in `out`: four of 0.2 s, 0.4 s …, and a damaged one. They are in `in`."""
    register(monkeypatch)
    build_dataset(sound_job(tmp_path / "out", write_sounds(tmp_path / "in")))
    return tmp_path
