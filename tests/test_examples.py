"""The examples that the docs show do what the docs say."""

from __future__ import annotations

from pathlib import Path

from examples.word_lengths import WordLengths
from tokenmill.testing import Case, check_tokenizer

REPOSITORY = Path(__file__).resolve().parent.parent


def test_a_tokenizer_of_ones_own_keeps_the_contract(tmp_path: Path) -> None:
    case = Case(WordLengths(), payloads=["a few words", "", "more of them " * 500], variants=[WordLengths(longest=7)])
    check_tokenizer(case, tmp_path)


def test_the_docs_show_that_tokenizer() -> None:
    source = (REPOSITORY / "examples" / "word_lengths.py").read_text()
    body = source[source.index("class WordLengths(") :].strip()
    assert body in (REPOSITORY / "docs" / "tokenizers.md").read_text()
