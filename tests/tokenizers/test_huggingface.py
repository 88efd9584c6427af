from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Tokenizer

from tests.tokenizers.vocabularies import tokenizer_json
from tokenmill.contract import resolve
from tokenmill.errors import AssetError
from tokenmill.testing import Case, check_tokenizer
from tokenmill.tokenizers import huggingface_engine
from tokenmill.tokenizers.huggingface import HuggingFaceTokenizer
from tokenmill.tokenizers.probe import PROBE_TEXTS

TEXTS = ["Hello, world!", "日本語 text", "a b c " * 500 + "end", "def f(x):\n\treturn 1"]


def small(path: Path, **changes: Any) -> str:
    """A byte-level BPE with a BOS that its post-processor adds, a special and an added token."""
    names = list(huggingface_engine._byte_level_alphabet())
    vocabulary = {name: number for number, name in enumerate([*names, "he", "ll", "hell", "hello"])}
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": text, "special": special}
            | {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
            for number, text, special in [(260, "<s>", True), (261, "<plain>", False)]
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [260], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocabulary,
            "merges": ["h e", "l l", "he ll", "hell o"],
        },
    }
    path.write_text(json.dumps(content | changes))
    return str(path)


def encoded(tokenizer: HuggingFaceTokenizer, text: str) -> list[int]:
    found = tokenizer.load().encode([text])
    assert not found.failures
    ids: list[int] = found.streams["ids"][0].tolist()
    return ids


def test_contract(tmp_path: Path) -> None:
    path = small(tmp_path / "tokenizer.json")
    other = small(tmp_path / "other.json", added_tokens=[])

    def moved(directory: Path) -> HuggingFaceTokenizer:
        return HuggingFaceTokenizer(tokenizer_json=small(directory / "copy.json"))

    variants = [
        HuggingFaceTokenizer(tokenizer_json=path, allowed_special="all"),
        HuggingFaceTokenizer(tokenizer_json=path, add_special_tokens=True),
        HuggingFaceTokenizer(tokenizer_json=path, max_document_bytes=5000),
        HuggingFaceTokenizer(tokenizer_json=other),
    ]
    (tmp_path / "moved").mkdir()
    case = Case(HuggingFaceTokenizer(tokenizer_json=path), TEXTS, variants, moved=moved)
    check_tokenizer(case, tmp_path / "moved")


@pytest.fixture(scope="module")
def real() -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(tokenizer_json=str(tokenizer_json()))


@pytest.fixture(scope="module")
def reference() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(tokenizer_json()))
    tokenizer.encode_special_tokens = True
    return tokenizer


def test_a_real_one_takes_the_fast_engine(real: HuggingFaceTokenizer, reference: Tokenizer) -> None:
    assert real.notes() == []
    size = 1 + max(reference.get_vocab(with_added_tokens=True).values())
    assert real.streams()["ids"].vocabulary_size == size
    for text in PROBE_TEXTS:
        assert encoded(real, text) == reference.encode(text, add_special_tokens=False).ids


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_has_the_librarys_ids(real: HuggingFaceTokenizer, reference: Tokenizer, text: str) -> None:
    assert encoded(real, text) == reference.encode(text, add_special_tokens=False).ids


def test_special_tokens_are_explicit(tmp_path: Path) -> None:
    path = small(tmp_path / "tokenizer.json")
    text = "<s>hello<plain>"
    names = list(huggingface_engine._byte_level_alphabet())
    spelled = [names.index(character) for character in "<s>"]
    assert encoded(HuggingFaceTokenizer(tokenizer_json=path), text) == [*spelled, 259, 261]
    assert encoded(HuggingFaceTokenizer(tokenizer_json=path, allowed_special="all"), text) == [260, 259, 261]
    assert encoded(HuggingFaceTokenizer(tokenizer_json=path, add_special_tokens=True), "hello") == [260, 259]
    assert encoded(HuggingFaceTokenizer(tokenizer_json=path, add_special_tokens=True), "") == [260]


def test_truncation_and_padding_are_turned_off_and_noted(tmp_path: Path) -> None:
    path = small(
        tmp_path / "tokenizer.json",
        truncation={"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        padding={
            "strategy": {"Fixed": 9},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "!",
        },
    )
    tokenizer = HuggingFaceTokenizer(tokenizer_json=path)
    assert encoded(tokenizer, "hello" * 5) == [259] * 5
    notes = tokenizer.notes()
    assert [name in " ".join(notes) for name in ("truncation", "padding")] == [True, True]


def test_an_engine_that_differs_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small(tmp_path / "tokenizer.json")
    original = huggingface_engine._fastokens

    def wrong(definition: huggingface_engine.Definition) -> Any:
        fast = original(definition)
        assert not isinstance(fast, str)

        def encode(texts: list[str]) -> Any:
            ids, lengths = fast(texts)
            return ids + 1, lengths

        return encode

    monkeypatch.setattr(huggingface_engine, "_fastokens", wrong)
    tokenizer = HuggingFaceTokenizer(tokenizer_json=path)
    assert "differ" in tokenizer.notes()[0]
    assert encoded(tokenizer, "hello") == [259]


def test_an_engine_that_does_not_take_the_file_is_noted(tmp_path: Path) -> None:
    path = small(
        tmp_path / "words.json", model={"type": "WordLevel", "vocab": {"a": 0, "[UNK]": 1}, "unk_token": "[UNK]"}
    )
    content = json.loads(Path(path).read_text())
    content |= {"added_tokens": [], "post_processor": None, "pre_tokenizer": {"type": "Whitespace"}, "decoder": None}
    Path(path).write_text(json.dumps(content))
    tokenizer = HuggingFaceTokenizer(tokenizer_json=path)
    assert encoded(tokenizer, "a b a") == [0, 1, 0]
    assert tokenizer.token_classes().unknown == (1,)
    assert tokenizer.notes()


def test_a_unigram_file_is_read(tmp_path: Path) -> None:
    model = {
        "type": "Unigram",
        "unk_id": 0,
        "vocab": [["<unk>", 0.0], ["a", -1.0], ["<0x0A>", -2.0]],
        "byte_fallback": True,
    }
    path = small(tmp_path / "unigram.json", model=model, added_tokens=[], post_processor=None, pre_tokenizer=None)
    header = huggingface_engine.read_header(path, 0)
    assert (header.vocabulary_size, header.unknown, header.byte_fallback) == (3, (0,), (2,))


def test_tokens_are_told_apart(tmp_path: Path) -> None:
    tokenizer = HuggingFaceTokenizer(tokenizer_json=small(tmp_path / "tokenizer.json"))
    classes = tokenizer.token_classes()
    assert len(classes.byte_fallback) == 256
    assert classes.special == (260,)
    assert tokenizer.token_text([259, 260, 999]) == ["hello", "<s>", "<999>"]


def test_documents_above_the_limit_are_rejected(tmp_path: Path) -> None:
    path = small(tmp_path / "tokenizer.json")
    found = (
        HuggingFaceTokenizer(tokenizer_json=path, max_document_bytes=10).load().encode(["hello", "x" * 11, "\ud800"])
    )
    assert [(failure.index, failure.reason) for failure in found.failures] == [(1, "too_long"), (2, "invalid_unicode")]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "exactly one of"),
        ({"tokenizer_json": "a", "hub_id": "b/c", "revision": "0" * 40}, "exactly one of"),
        ({"hub_id": "b/c"}, "needs a `revision`"),
        ({"hub_id": "b/c", "revision": "main"}, "pattern"),
        ({"tokenizer_json": "a", "revision": "0" * 40}, "needs a `revision`"),
    ],
)
def test_a_wrong_config_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        HuggingFaceTokenizer.model_validate(fields)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model": {"vocab": {"a": "x"}}}', '{"model": 3}'])
def test_a_file_that_is_no_tokenizer_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text(content)
    tokenizer = HuggingFaceTokenizer(tokenizer_json=str(tmp_path / "broken.json"))
    for call in (tokenizer.streams, tokenizer.load):
        with pytest.raises(AssetError, match=r"broken\.json"):
            call()


def test_a_pinned_revision_in_the_cache_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    revision = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "models--org--model" / "snapshots" / revision
    snapshot.mkdir(parents=True)
    small(snapshot / "tokenizer.json")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    tokenizer = HuggingFaceTokenizer(hub_id="org/model", revision=revision)
    assert tokenizer.assets()["tokenizer.json"].location == f"hub:org/model@{revision}/tokenizer.json"
    local = HuggingFaceTokenizer(tokenizer_json=str(snapshot / "tokenizer.json"))
    assert resolve(tokenizer).fingerprint == resolve(local).fingerprint
    assert encoded(tokenizer, "hello") == [259]
