"""Which modules a vocabulary is learned from: evenly of all folders, each once, in no order that matters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.ir.samples import COMPILED, compiled
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.ir_file import IrFile, IrOptions
from tokenmill.tokenizers.llvm_ir import train_modules
from tokenmill.tokenizers.llvm_ir.training import Sample, TrainingSettings
from tokenmill.tokenizers.llvm_ir.vocabulary import MODES, Vocabulary


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[list[Sample]]:
    """The samples that each call would have learned from."""
    calls: list[list[Sample]] = []

    def learn(samples: list[Sample], settings: TrainingSettings, report: object) -> Vocabulary:
        calls.append(samples)
        return Vocabulary((b" label",), (), {mode: np.empty((0, 2), np.uint16) for mode in MODES})

    monkeypatch.setattr(train_modules, "learn", learn)
    return calls


def module(number: int, stores: int) -> str:
    body = "".join(f"  store i64 {number}, ptr %p\n" for _ in range(stores))
    return f"define void @f{number}(ptr %p) {{\n{body}  ret void\n}}\n"


def train(paths: list[Path], most_text_bytes: int = 10_000_000) -> list[str]:
    said: list[str] = []
    train_modules.train_on_files(paths, TrainingSettings(), said.append, most_text_bytes)
    return said


def test_large_folders_give_as_much_as_others(learned: list[list[Sample]], tmp_path: Path) -> None:
    for folder, count in (("large", 60), ("middle", 30), ("small", 4)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            (tmp_path / folder / f"{number}.ll").write_text(module(1000 * count + number, 100))
    said = train([tmp_path], most_text_bytes=90_000)
    (samples,) = learned
    given = {Path(group).name: sum(sample.group == group for sample in samples) for group in {s.group for s in samples}}
    assert given["small"] == 4
    assert abs(given["large"] - given["middle"]) <= 1
    assert given["large"] > 8
    assert 90_000 <= sum(len(sample.text) for sample in samples) < 95_000
    assert f"the other {94 - len(samples)} would be more than was asked for" in said[-1]
    train([tmp_path / "small", tmp_path / "large", tmp_path / "middle"], most_text_bytes=90_000)
    assert learned[1] == learned[0]


def test_each_text_counts_once(learned: list[list[Sample]], tmp_path: Path) -> None:
    texts = set()
    for number, name in enumerate(COMPILED):
        (tmp_path / str(number)).mkdir()
        for copy in ("a.bc", "b.bc"):
            (tmp_path / str(number) / copy).write_bytes(compiled(name))
        texts.add(IrFile(compiled(name)).module(Canonical()).text)
    train([tmp_path, tmp_path / "0"])
    assert {sample.text for sample in learned[0]} == texts
    assert len(learned[0]) == len(texts)


def test_what_is_left_out_is_told(learned: list[list[Sample]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "good.ll").write_text(module(1, 1))
    (tmp_path / "large-text.ll").write_text(module(2, 3000))
    (tmp_path / "large-file.ll").write_text(module(3, 1) + ";" * 100_000)
    (tmp_path / "broken.bc").write_bytes(b"BC\xc0\xde nothing")
    (tmp_path / "folder.bc").mkdir()
    monkeypatch.setattr(train_modules, "_LARGEST_BYTES", 90_000)
    monkeypatch.setattr(train_modules, "_OPTIONS", IrOptions(max_text_bytes=50_000))
    monkeypatch.setattr(train_modules, "_REPORT_SECONDS", 0.0)
    said = train([tmp_path])
    assert len(learned[0]) == 1
    left_out = sorted(line for line in said if line.startswith("left out"))
    assert [Path(line.split(": ")[1]).name for line in left_out] == ["broken.bc", "large-file.ll", "large-text.ll"]
    assert "at most 90,000" in left_out[1]
    assert any("files read" in line for line in said)


def test_all_threads_are_waited_for_where_reading_ends_early(learned: list[list[Sample]], tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.ll").write_text(module(number, 10))
    train([tmp_path], most_text_bytes=1)
    assert len(learned[0]) == 1
