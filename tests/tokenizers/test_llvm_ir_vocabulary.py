"""The vocabulary's file, and learning one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.ir.samples import COMPILED, compiled
from tests.tokenizers.llvm_ir_texts import small_vocabulary, texts
from tokenmill.errors import AssetError, InputError
from tokenmill.tokenizers.llvm_ir.coding import Coder
from tokenmill.tokenizers.llvm_ir.train_modules import train_on_files
from tokenmill.tokenizers.llvm_ir.training import Sample, TrainingSettings, learn
from tokenmill.tokenizers.llvm_ir.vocabulary import MAGIC, MODES, Vocabulary


def test_a_file_holds_the_vocabulary() -> None:
    vocabulary = small_vocabulary()
    data = vocabulary.to_bytes()
    read = Vocabulary.from_bytes(data, "here")
    assert (read.lexemes, read.names) == (vocabulary.lexemes, vocabulary.names)
    for mode in MODES:
        np.testing.assert_array_equal(read.merges[mode], vocabulary.merges[mode])
    assert read.to_bytes() == data


@pytest.mark.parametrize("at", [0, len(MAGIC) + 3, -5])
def test_a_damaged_file_is_refused(at: int) -> None:
    data = bytearray(small_vocabulary().to_bytes())
    data[at] ^= 1
    with pytest.raises(AssetError, match="here"):
        Vocabulary.from_bytes(bytes(data), "here")


def test_learning_gives_the_same_file_again() -> None:
    samples = [Sample(str(number), text) for number, text in enumerate(texts())]
    settings = TrainingSettings(tokens=8192, lexemes=300, names=60)
    assert learn(samples, settings, lambda _: None).to_bytes() == small_vocabulary().to_bytes()


def test_what_cannot_be_learned_is_said() -> None:
    with pytest.raises(InputError, match="no text"):
        learn([], TrainingSettings(), lambda _: None)
    with pytest.raises(InputError, match="cannot hold"):
        TrainingSettings(tokens=3000)


def test_files_and_folders_are_learned_from(tmp_path: Path) -> None:
    for number, name in enumerate(COMPILED):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).write_bytes(compiled(name))
        (folder / f"again-{name}").write_bytes(compiled(name))
    (tmp_path / "broken.bc").write_bytes(b"BC\xc0\xde nothing")
    said: list[str] = []
    data = train_on_files([tmp_path], TrainingSettings(tokens=8192, lexemes=300, names=60), said.append)
    assert any("broken.bc" in line for line in said)
    vocabulary = Vocabulary.from_bytes(data, "here")
    coder = Coder(vocabulary, "line")
    assert coder.decode(coder.encode(texts()[0]).ids) == texts()[0]
    with pytest.raises(InputError, match="no module"):
        train_on_files([tmp_path / "broken.bc"], TrainingSettings(), said.append)
    with pytest.raises(InputError, match="no such file"):
        train_on_files([tmp_path / "none"], TrainingSettings(), said.append)
