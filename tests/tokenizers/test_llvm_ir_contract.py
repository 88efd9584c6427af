"""The contract of tokenizers, for that of LLVM IR: both modes, and choices of what a module's text keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.ir.samples import TEXT, compiled
from tests.tokenizers.llvm_ir_texts import small_vocabulary
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.ir_file import IrFile
from tokenmill.testing import Case, check_tokenizer
from tokenmill.tokenizers.llvm_ir import LlvmIrTokenizer

CANONICAL = {
    "all": Canonical(),
    "no debug information": Canonical(debug=False),
    "bare": Canonical(debug=False, local_names=False, comments=False, source_paths=False, target_attributes=False),
}
PAYLOADS = [
    IrFile(b"@x = global i32 0\n"),
    IrFile(TEXT),
    *(IrFile(compiled(name)) for name in ("c-debug-clang14.bc", "c-names-clang19.bc", "rust-rustc1.95.bc")),
]
#: A module of nothing. Its text is empty, and one token says so.
EMPTY = IrFile(b'target triple = ""\n')


def case(tokenizer: LlvmIrTokenizer, **changes: Any) -> Case:
    """Return the case of a tokenizer: modules decode to their canonical text."""
    texts = [payload.module(tokenizer.canonical).text.decode() for payload in PAYLOADS]
    other: dict[str, Any] = tokenizer.model_dump()
    variants = [
        LlvmIrTokenizer.model_validate({**other, "mode": "line" if tokenizer.mode == "lexeme" else "lexeme"}),
        LlvmIrTokenizer.model_validate({**other, "canonical": {"comments": not tokenizer.canonical.comments}}),
    ]
    return Case(tokenizer, PAYLOADS, variants, decodes_to=texts, empty=EMPTY, empty_tokens=1, **changes)


@pytest.mark.parametrize("mode", ["line", "lexeme"])
@pytest.mark.parametrize("canonical", CANONICAL.values(), ids=list(CANONICAL))
def test_the_packaged_vocabulary(mode: str, canonical: Canonical, tmp_path: Path) -> None:
    tokenizer = LlvmIrTokenizer.model_validate({"mode": mode, "canonical": canonical})
    check_tokenizer(case(tokenizer, moved=lambda directory: moved(tokenizer, directory)), tmp_path)


def test_a_vocabulary_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "vocabulary").write_bytes(small_vocabulary().to_bytes())
    (tmp_path / "moved").mkdir()
    tokenizer = LlvmIrTokenizer(vocabulary=str(tmp_path / "vocabulary"))
    check_tokenizer(case(tokenizer, moved=lambda directory: moved(tokenizer, directory)), tmp_path / "moved")


def moved(tokenizer: LlvmIrTokenizer, directory: Path) -> LlvmIrTokenizer:
    """Return the same tokenizer with its vocabulary elsewhere."""
    (asset,) = tokenizer.assets().values()
    path = directory / "vocabulary.bin"
    source = tokenizer.vocabulary or Path(__file__).parents[2] / "tokenmill/tokenizers/llvm_ir/vocabulary.bin"
    path.write_bytes(Path(source).read_bytes())
    assert asset.sha256
    return tokenizer.model_copy(update={"vocabulary": str(path)})
