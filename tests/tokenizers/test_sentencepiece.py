from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sentencepiece import SentencePieceProcessor

from tests.tokenizers.vocabularies import package_file, sentencepiece_model
from tokenmill.errors import AssetError, TokenizerError
from tokenmill.testing import Case, check_tokenizer
from tokenmill.tokenizers import sentencepiece as module
from tokenmill.tokenizers.probe import PROBE_TEXTS
from tokenmill.tokenizers.sentencepiece import SentencePieceTokenizer

TEXTS = ["Hello, world!", "日本語 text", "a b c " * 500 + "end", "def f(x):\n\treturn 1"]


@pytest.fixture(scope="module")
def model() -> str:
    return str(sentencepiece_model())


@pytest.fixture(scope="module")
def reference(model: str) -> SentencePieceProcessor:
    return SentencePieceProcessor(model_file=model)


def test_contract(model: str, tmp_path: Path) -> None:
    def moved(directory: Path) -> SentencePieceTokenizer:
        (directory / "copy.model").write_bytes(Path(model).read_bytes())
        return SentencePieceTokenizer(model=str(directory / "copy.model"))

    other = str(package_file("mistral_common", "data", "mistral_instruct_tokenizer_240323.model.v3"))
    variants = [
        SentencePieceTokenizer(model=model, bos=True),
        SentencePieceTokenizer(model=model, eos=True),
        SentencePieceTokenizer(model=model, max_document_bytes=1000),
        SentencePieceTokenizer(model=other),
    ]
    check_tokenizer(Case(SentencePieceTokenizer(model=model), TEXTS, variants, moved=moved), tmp_path)


def test_the_probe_texts_have_its_own_ids(model: str, reference: SentencePieceProcessor) -> None:
    encoded = SentencePieceTokenizer(model=model).load().encode(list(PROBE_TEXTS))
    assert not encoded.failures
    for index, text in enumerate(PROBE_TEXTS):
        assert encoded.streams["ids"][index].tolist() == reference.encode(text)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_has_its_own_ids(model: str, reference: SentencePieceProcessor, text: str) -> None:
    encoded = SentencePieceTokenizer(model=model).load().encode([text])
    assert encoded.streams["ids"].values.tolist() == reference.encode(text)


def test_control_symbols_in_text_are_ordinary_and_added_ones_are_not(
    model: str, reference: SentencePieceProcessor
) -> None:
    encoder = SentencePieceTokenizer(model=model, bos=True, eos=True).load()
    encoded = encoder.encode(["<s>a</s>", ""])
    inner = encoded.streams["ids"][0].tolist()[1:-1]
    assert not {reference.bos_id(), reference.eos_id()} & set(inner)
    assert encoded.streams["ids"][0].tolist() == reference.encode("<s>a</s>", add_bos=True, add_eos=True)
    assert encoded.streams["ids"][1].tolist() == [reference.bos_id(), reference.eos_id()]


def test_tokens_are_told_apart(model: str) -> None:
    tokenizer = SentencePieceTokenizer(model=model)
    classes = tokenizer.token_classes()
    assert len(classes.byte_fallback) == 256
    assert classes.unknown == (0,)
    assert classes.special == (1, 2)
    assert tokenizer.token_text([0, 1, classes.byte_fallback[10], 10**6]) == ["<unk>", "<s>", "<0x0A>", "<1000000>"]
    fallback = tokenizer.load().encode(["\U0001fae9"]).streams["ids"].values.tolist()
    assert len(set(fallback) & set(classes.byte_fallback)) >= 3


def test_documents_above_the_limit_are_rejected(model: str) -> None:
    encoded = SentencePieceTokenizer(model=model, max_document_bytes=10).load().encode(["short", "x" * 11, "\ud800"])
    assert [(failure.index, failure.reason) for failure in encoded.failures] == [
        (1, "too_long"),
        (2, "invalid_unicode"),
    ]


def test_a_file_that_is_no_model_is_refused(model: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.model"
    broken.write_bytes(Path(model).read_bytes()[:1000])
    for path in (broken, tmp_path / "absent.model"):
        with pytest.raises(AssetError, match=path.name):
            SentencePieceTokenizer(model=str(path)).load()


def test_symbols_that_the_model_lacks_are_refused(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Without:
        def get_piece_size(self) -> int:
            return 10

        def bos_id(self) -> int:
            return -1

        def eos_id(self) -> int:
            return 2

    monkeypatch.setattr(module, "_load", lambda *_: Without())
    with pytest.raises(TokenizerError, match="no BOS symbol"):
        SentencePieceTokenizer(model=model, bos=True).load()


def test_limits_are_positive(model: str) -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        SentencePieceTokenizer(model=model, max_document_bytes=0)
