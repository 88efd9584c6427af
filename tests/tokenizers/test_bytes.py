from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.errors import TokenizerError
from tokenmill.testing import Case, check_tokenizer
from tokenmill.tokenizers.bytes import BytesTokenizer

TEXTS = ["Hello", "日本語 🪿", "x" * 5000, "\x00\n"]


@pytest.mark.parametrize("added", [{}, {"bos": True}, {"eos": True}, {"bos": True, "eos": True}])
def test_contract(added: dict[str, bool], tmp_path: Path) -> None:
    tokenizer = BytesTokenizer(**added)
    variants = [
        BytesTokenizer(bos=bos, eos=eos)
        for bos in (False, True)
        for eos in (False, True)
        if (bos, eos) != (tokenizer.bos, tokenizer.eos)
    ]
    check_tokenizer(Case(tokenizer, TEXTS, variants, empty_tokens=len(added)), tmp_path)


@given(st.lists(st.text(), max_size=5))
def test_ids_are_the_bytes(texts: list[str]) -> None:
    encoded = BytesTokenizer().load().encode(texts)
    assert encoded.streams["ids"].values.dtype == np.uint8
    assert [encoded.streams["ids"][index].tobytes() for index in range(len(texts))] == [text.encode() for text in texts]


def test_bos_and_eos_lie_above_the_bytes() -> None:
    for bos, eos, expected in [(True, False, [256, 97]), (False, True, [97, 256]), (True, True, [256, 97, 257])]:
        tokenizer = BytesTokenizer(bos=bos, eos=eos)
        spec = tokenizer.streams()["ids"]
        assert (spec.dtype, spec.vocabulary_size) == ("uint16", 256 + bos + eos)
        assert tokenizer.load().encode(["a"]).streams["ids"][0].tolist() == expected
        assert tokenizer.token_classes().special == tuple(range(256, 256 + bos + eos))


def test_invalid_utf8_decodes_with_replacements() -> None:
    assert BytesTokenizer().decoder().decode({"ids": np.frombuffer(b"a\xff\xe6\x97", np.uint8)}) == "a\ufffd\ufffd"


def test_ids_have_printable_forms() -> None:
    tokenizer = BytesTokenizer(bos=True, eos=True)
    assert tokenizer.token_text([97, 10, 255, 256, 257]) == ["a", "<0x0A>", "<0xFF>", "<bos>", "<eos>"]


def test_surrogates_fail_alone() -> None:
    encoded = BytesTokenizer().load().encode(["a", "\udcff", "b"])
    assert [(failure.index, failure.reason) for failure in encoded.failures] == [(1, "invalid_unicode")]
    assert encoded.streams["ids"].values.tobytes() == b"ab"


def test_a_gpu_is_refused() -> None:
    with pytest.raises(TokenizerError, match="'cpu'"):
        BytesTokenizer().load("cuda")


def test_a_document_of_any_size_passes() -> None:
    encoded = BytesTokenizer(eos=True).load().encode(["é" * 5_000_000])
    assert encoded.streams["ids"].lengths.tolist() == [10_000_001]
