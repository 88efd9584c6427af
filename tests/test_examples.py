"""The examples that the docs show do what the docs say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tokenmill
from examples.word_lengths import WordLengths
from tests.datasets import build_dataset
from tokenmill.images.tokenizer import CAPPED
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.ir_file import IrFile
from tokenmill.jobs import load_job
from tokenmill.planning import draft_plan
from tokenmill.storage.outputs import Storage
from tokenmill.testing import Case, check_tokenizer

REPOSITORY = Path(__file__).resolve().parent.parent


def test_a_tokenizer_of_ones_own_keeps_the_contract(tmp_path: Path) -> None:
    case = Case(WordLengths(), payloads=["a few words", "", "more of them " * 500], variants=[WordLengths(longest=7)])
    check_tokenizer(case, tmp_path)


def test_the_docs_show_that_tokenizer() -> None:
    source = (REPOSITORY / "examples" / "word_lengths.py").read_text()
    body = source[source.index("class WordLengths(") :].strip()
    assert body in (REPOSITORY / "docs" / "tokenizers.md").read_text()


@pytest.mark.parametrize("name", ["demo", "images", "audio", "ir"])
def test_the_jobs_can_be_planned(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    job = load_job(REPOSITORY / "examples" / "jobs" / f"{name}.yaml")
    run = draft_plan(Storage.open(str(tmp_path / "out")), job)
    assert len(run.plan.splits) >= len(job.sources)


def test_the_images_of_the_demo_keep_their_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    job = load_job(REPOSITORY / "examples" / "jobs" / "images.yaml")
    build_dataset(job.model_copy(update={"output": str(tmp_path / "out")}))
    table = tokenmill.open(str(tmp_path / "out"))["images"]
    assert len(table) == 24
    assert "captioned" in table.summary["sources"]
    for index, row in enumerate(table):
        height, width, used_height, used_width, *_ = row.streams["geometry"].tolist()
        assert min(height, width) > 0
        assert table.decode(index).size == (used_width, used_height) == (256, 256)
        assert row.streams["error"][0] <= 0.03 or row.streams["outcome"][0] == CAPPED


def test_the_recordings_of_the_demo_become_sound_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    job = load_job(REPOSITORY / "examples" / "jobs" / "audio.yaml")
    build_dataset(job.model_copy(update={"output": str(tmp_path / "out")}))
    dataset = tokenmill.open(str(tmp_path / "out"))
    assert (len(dataset["sound"]), len(dataset["phones"])) == (15, 7)
    for index, row in enumerate(dataset["sound"]):
        sound = dataset["sound"].decode(index)
        assert len(sound.samples) == row.streams["recording"][5]
        level_db = 20 * np.log10(np.sqrt(np.mean(np.square(sound.samples, dtype=np.float64))))
        assert abs(level_db - row.streams["level"][0]) < 3
    assert all(row.streams["durations"].sum() > 0 for row in dataset["phones"])


def test_the_modules_of_the_demo_become_text_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    job = load_job(REPOSITORY / "examples" / "jobs" / "ir.yaml")
    build_dataset(job.model_copy(update={"output": str(tmp_path / "out")}))
    dataset = tokenmill.open(str(tmp_path / "out"))
    line, lexeme = dataset["line"], dataset["lexeme"]
    assert (len(line), len(lexeme)) == (29, 29)
    paths = (REPOSITORY / "examples" / "data" / "ir").glob("*/*/*")
    files = {str(path.relative_to(path.parents[1])): path for path in paths}
    modules: dict[bytes, list[str]] = {}
    for index, row in enumerate(line):
        text = IrFile(files[row.key].read_bytes()).module(Canonical()).text
        assert line.decode(index).encode() == lexeme.decode(index).encode() == text
        assert len(row.streams["ids"]) < len(lexeme[index].streams["ids"]) < len(text)
        modules.setdefault(row.streams["sha256"].tobytes(), []).append(row.key)
    assert [keys for keys in modules.values() if len(keys) > 1] == [["zlib/adler32.bc", "zlib/adler32.ll"]]
