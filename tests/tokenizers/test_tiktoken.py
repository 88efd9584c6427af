from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.tokenizers.vocabularies import one_piece, ranks, tiktoken_encoding
from tokenmill.contract import Encoded, Encoder, resolve
from tokenmill.errors import AssetError, TokenizerError
from tokenmill.testing import Case, check_tokenizer
from tokenmill.tokenizers import tiktoken as tiktoken_module
from tokenmill.tokenizers import tiktoken_engine
from tokenmill.tokenizers.rank_files import PATTERNS, read_rank_file, well_known_file
from tokenmill.tokenizers.text import TextEncoder
from tokenmill.tokenizers.tiktoken import TiktokenTokenizer

TEXTS = ["", "Hello, world!", "日本語 <|endoftext|> text\n\n", "x = [1, 22, 333]\n" * 50, "é\u0301 ' 'll\r\n"]


@pytest.fixture(scope="module")
def o200k() -> Encoder:
    return TiktokenTokenizer(vocabulary="o200k_base").load()


def ids(encoded: Encoded, index: int = 0) -> list[int]:
    assert not encoded.failures
    found: list[int] = encoded.streams["ids"][index].tolist()
    return found


def rank_file(directory: Path, *more: bytes) -> Path:
    """A small vocabulary: the bytes, and some tokens."""
    tokens = [*(bytes([byte]) for byte in range(256)), *more]
    path = directory / "small.tiktoken"
    path.write_bytes(b"\n".join(base64.b64encode(token) + b" %d" % rank for rank, token in enumerate(tokens)))
    return path


def test_contract(tmp_path: Path) -> None:
    source = rank_file(tmp_path, b"he", b"ll", b"hell", b"hello", b" w")

    def moved(directory: Path) -> TiktokenTokenizer:
        (directory / "copy.tiktoken").write_bytes(source.read_bytes())
        return made(ranks=str(directory / "copy.tiktoken"))

    def made(**changes: Any) -> TiktokenTokenizer:
        fields = {"ranks": str(source), "pattern": "cl100k_base", "special_tokens": {"<a>": 300, "<b>": 301}}
        return TiktokenTokenizer(**(fields | changes))

    variants = [
        made(pattern="o200k_base"),
        made(special_tokens={"<a>": 300, "<b>": 302}),
        made(allowed_special=("<a>",)),
        made(bos="<a>"),
        made(eos="<a>"),
        TiktokenTokenizer(vocabulary="cl100k_base"),
    ]
    (tmp_path / "moved").mkdir()
    check_tokenizer(Case(made(), TEXTS[1:], variants=variants, moved=moved), tmp_path / "moved")


@pytest.mark.parametrize("vocabulary", ["o200k_base", "cl100k_base", "o200k_harmony"])
def test_the_well_known_take_the_fast_engine_and_narrow_ids(vocabulary: str) -> None:
    tokenizer = TiktokenTokenizer(vocabulary=vocabulary)
    assert tokenizer.notes() == []
    spec = tokenizer.streams()["ids"]
    assert (spec.dtype, spec.vocabulary_size) == ("uint32", tiktoken_encoding(vocabulary).n_vocab)


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_has_tiktokens_ids(o200k: Encoder, text: str) -> None:
    assert ids(o200k.encode([text])) == tiktoken_encoding("o200k_base").encode_ordinary(text)


@pytest.mark.parametrize("vocabulary", ["o200k_base", "cl100k_base"])
def test_what_is_known_beforehand_is_so(vocabulary: str) -> None:
    definition = TiktokenTokenizer(vocabulary=vocabulary)._definition()
    text = read_rank_file(Path(definition.path))
    known = tiktoken_engine._KNOWN[hashlib.sha256(text).hexdigest(), definition.pattern]
    assert tiktoken_engine.scanned_pattern(definition.pattern, definition.ranks()) == known.scanned
    assert tiktoken_engine._probe_digest(tiktoken_engine.tiktoken_batch(definition)) == known.probe_digest


def test_white_space_at_the_end_keeps_the_newer_spelling_where_it_matters() -> None:
    pattern = PATTERNS["cl100k_base"]
    assert tiktoken_engine.scanned_pattern(pattern, ranks("cl100k_base")) != pattern
    assert tiktoken_engine.scanned_pattern(pattern, {**ranks("cl100k_base"), b"\n  ": 100256}) == pattern


@pytest.mark.parametrize("allowed", [(), ("<|endoftext|>",), "all"])
def test_special_tokens_are_ordinary_text_unless_allowed(allowed: Any) -> None:
    text = "a<|endoftext|>b<|endofprompt|>" + " lorem ipsum" * 20_000 + "<|endoftext|>" + "x" * 100
    encoding = tiktoken_encoding("cl100k_base")
    encoder = TiktokenTokenizer(vocabulary="cl100k_base", allowed_special=allowed).load()
    names = encoding.special_tokens_set if allowed == "all" else set(allowed)
    for piece in (text, text[:50]):
        assert ids(encoder.encode([piece])) == encoding.encode(piece, allowed_special=names, disallowed_special=())


def test_bos_and_eos_surround_every_document() -> None:
    encoder = TiktokenTokenizer(vocabulary="cl100k_base", bos="<|endofprompt|>", eos="<|endoftext|>").load()
    encoded = encoder.encode(["a b", "", "c"])
    inner = tiktoken_encoding("cl100k_base").encode_ordinary("a b")
    assert ids(encoded, 0) == [100276, *inner, 100257]
    assert ids(encoded, 1) == [100276, 100257]
    assert encoded.streams["ids"].lengths.tolist() == [len(inner) + 2, 2, 3]


def test_long_and_short_texts_keep_their_order(o200k: Encoder) -> None:
    long = "The quick brown fox. " * 5000
    batch = ["one", long, "", "two", "y" * 70_000, "three"]
    encoded = o200k.encode(batch)
    reference = tiktoken_encoding("o200k_base")
    for index, text in enumerate(batch):
        expected = one_piece("o200k_base", text).tolist() if text[:2] == "yy" else reference.encode_ordinary(text)
        assert ids(encoded, index) == expected


def test_texts_are_cut_where_they_are_giant_or_a_pre_token_is(
    o200k: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = o200k._batch.__self__  # type: ignore[attr-defined]
    calls: list[list[int]] = []
    native = engine._batch

    def batch(texts: list[str]) -> Any:
        calls.append(list(map(len, texts)))
        return native(texts)

    monkeypatch.setattr(engine, "_batch", batch)
    words = "The quick brown fox. " * 15_000
    expected = tiktoken_encoding("o200k_base").encode_ordinary(words)
    encoded = o200k.encode(["one", words, "two"])
    assert ids(encoded, 1) == expected
    assert calls == [[3, 315_000, 3]]

    calls.clear()
    assert ids(o200k.encode(["one", "y" * 300_000, "two"]), 1) == one_piece("o200k_base", "y" * 300_000).tolist()
    assert max(map(sum, calls)) < 100_000

    calls.clear()
    monkeypatch.setattr(tiktoken_engine, "WHOLE_CHARACTERS", 300_000)
    assert ids(o200k.encode(["one", words, "two"]), 1) == expected
    assert max(map(sum, calls)) <= tiktoken_engine.LONG_CHARACTERS


@pytest.mark.parametrize("vocabulary", ["o200k_base", "cl100k_base"])
@pytest.mark.parametrize("character", [" ", "\n", "\t"])
def test_a_million_spaces(vocabulary: str, character: str) -> None:
    encoder = TiktokenTokenizer(vocabulary=vocabulary).load()
    text = character * 1_000_000
    assert ids(encoder.encode([text])) == one_piece(vocabulary, text).tolist()


def test_a_million_spaces_agree_with_an_independent_encoder(o200k: Encoder, tmp_path: Path) -> None:
    native = pytest.importorskip("gigatoken.gigatoken_rs", reason="gigatoken is the independent exact encoder here")
    path = tmp_path / "o200k.tiktoken"
    path.write_bytes(read_rank_file(well_known_file("o200k_base")))
    independent = native.BPETokenizer.from_tiktoken(str(path), "o200k", {})
    letters = "".join(np.random.default_rng(0).choice(list("abcdefghijklmnopqrstuvwxyz"), 300_000))
    for text in (" " * 1_000_000, "x" + " " * 500_000 + "\n" * 100_000 + "  y", letters):
        assert ids(o200k.encode([text])) == independent.encode(text).tolist()


def test_what_is_no_text_fails_alone(o200k: Encoder) -> None:
    encoded = o200k.encode(["good", "\ud800", 3, "fine", None])
    assert [(failure.index, failure.reason) for failure in encoded.failures] == [
        (1, "invalid_unicode"),
        (2, "not_text"),
        (4, "not_text"),
    ]
    assert len(encoded.streams["ids"]) == 2


def test_another_pattern_falls_back_and_says_so(tmp_path: Path) -> None:
    path = rank_file(tmp_path, b"ab", b"abc")
    tokenizer = TiktokenTokenizer(ranks=str(path), pattern=r"\w+|(?<=a)b|[^\w]+")
    assert "cut" in " ".join(tokenizer.notes())
    assert ids(tokenizer.load().encode(["abc ab"])) == [257, 32, 256]


def test_a_panic_of_the_engine_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiktoken_engine, "_fastokens", lambda *_: "fastokens is switched off here")
    monkeypatch.setattr(tiktoken_engine, "_FAMILIES", {})
    monkeypatch.setattr(tiktoken_engine, "_KNOWN", {})
    definition = TiktokenTokenizer(vocabulary="o200k_base")._definition()
    engine = tiktoken_engine.Engine(definition)
    assert "fastokens is switched off here" in engine.notes[0]
    encoded = TextEncoder(engine.encode, "uint32").encode(["fine", " " * 1_000_000 + "x", "\ud800"])
    assert [(failure.index, failure.reason) for failure in encoded.failures] == [
        (1, "tokenizer_failed"),
        (2, "invalid_unicode"),
    ]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "exactly one of"),
        ({"vocabulary": "o200k_base", "ranks": "x"}, "exactly one of"),
        ({"vocabulary": "gpt5"}, "o200k_base"),
        ({"vocabulary": "o200k_base", "pattern": "x"}, "has its own"),
        ({"ranks": "x"}, "needs a `pattern`"),
        ({"vocabulary": "o200k_base", "bos": "<s>"}, "not a special token here"),
        ({"vocabulary": "o200k_base", "allowed_special": ["<s>"]}, "not a special token here"),
        ({"vocabulary": "o200k_base", "special_tokens": {"a": 7, "b": 7}}, "distinct ids"),
        ({"vocabulary": "o200k_base", "special_tokens": {"": 7}}, "not empty"),
        (
            {"vocabulary": "o200k_base", "special_tokens": {"<a>": 7, "<a>b": 8}, "allowed_special": "all"},
            "starts with",
        ),
    ],
)
def test_a_wrong_config_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TiktokenTokenizer.model_validate(fields)


def test_special_ids_that_ranks_have_are_refused() -> None:
    tokenizer = TiktokenTokenizer(vocabulary="cl100k_base", special_tokens={"<a>": 7}, bos="<a>")
    with pytest.raises(TokenizerError, match="rank"):
        tokenizer.streams()


def test_an_absent_or_wrong_file_is_named(tmp_path: Path) -> None:
    absent = TiktokenTokenizer(ranks=str(tmp_path / "absent.tiktoken"), pattern="o200k_base")
    for call in (absent.assets, absent.streams, absent.load):
        with pytest.raises(AssetError, match=r"absent\.tiktoken"):
            call()
    path = rank_file(tmp_path, b"ab")
    path.write_bytes(path.read_bytes() + b"\nYWJj* 300\n")
    with pytest.raises(AssetError, match=r"small\.tiktoken:258"):
        TiktokenTokenizer(ranks=str(path), pattern="o200k_base").load()


def test_a_well_known_file_with_other_content_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = read_rank_file(well_known_file("cl100k_base"))
    path = tmp_path / "cl100k_base.tiktoken"
    monkeypatch.setattr(tiktoken_module, "well_known_file", lambda _: path)
    path.write_bytes(text.replace(b"IQ== 0\n", b"IQ== 100256\n"))
    with pytest.raises(AssetError, match="not the well-known rank file"):
        TiktokenTokenizer(vocabulary="cl100k_base").load()
    path.write_bytes(text.replace(b"\nIw== 2\n", b"\nIw= 2\n"))
    with pytest.raises(AssetError, match=r"cl100k_base\.tiktoken:3"):
        TiktokenTokenizer(vocabulary="cl100k_base").load()


def test_a_pattern_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="pattern"):
        TiktokenTokenizer(ranks=str(rank_file(tmp_path)), pattern="(((").load()


def test_decoding_is_tiktokens(o200k: Encoder) -> None:
    tokenizer = TiktokenTokenizer(vocabulary="o200k_base")
    decoder = tokenizer.decoder()
    reference = tiktoken_encoding("o200k_base")
    some = np.array([200018, *reference.encode_ordinary("é日本 🪿"), 199999, 178], np.uint32)
    for stop in range(len(some) + 1):
        assert decoder.decode({"ids": some[:stop]}) == reference.decode(some[:stop].tolist())


def test_reports_tell_tokens_apart() -> None:
    tokenizer = TiktokenTokenizer(vocabulary="cl100k_base")
    classes = tokenizer.token_classes()
    assert len(classes.byte_fallback) == 256
    assert 100257 in classes.special
    assert tokenizer.token_text([9906, 100257, 100270, 160]) == ["Hello", "<|endoftext|>", "<100270>", "\\xe4"]


def test_the_name_of_a_vocabulary_is_no_location(tmp_path: Path) -> None:
    here = rank_file(tmp_path, b"ab")
    (tmp_path / "b").mkdir()
    there = rank_file(tmp_path / "b", b"ab")
    prints = {resolve(TiktokenTokenizer(ranks=str(path), pattern="o200k_base")).fingerprint for path in (here, there)}
    assert len(prints) == 1
