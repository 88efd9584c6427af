"""Cutting long texts is exact: compared with tiktoken on nasty texts, with sizes so tiny that every text is long."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import regex  # type: ignore[import-untyped]
import tiktoken
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tokenizers.vocabularies import one_piece, ranks, tiktoken_encoding
from tokenmill.tokenizers.long_text import CL100K, GPT2, O200K, ByteLevelPairs, Cutter, Family, Ids, merge
from tokenmill.tokenizers.rank_files import PATTERNS
from tokenmill.tokenizers.tiktoken_engine import _CL100K_SCANNED, _GPT2_SCANNED

CASES: dict[str, tuple[str, str, Family]] = {
    "o200k": ("o200k_base", PATTERNS["o200k_base"], O200K),
    "cl100k": ("cl100k_base", PATTERNS["cl100k_base"], CL100K),
    "cl100k, older spelling": ("cl100k_base", _CL100K_SCANNED, CL100K),
    "gpt2": ("cl100k_base", PATTERNS["r50k_base"], GPT2),
    "gpt2, older spelling": ("o200k_base", _GPT2_SCANNED, GPT2),
}

# Each alphabet is a fight over one rule: contractions, what punctuation takes along, capitals after caseless letters …
ALPHABETS = (
    *("a", "ab", "abAB的é'", "aA", "的", "的aA", "AB", "'ls", "'lLrReEvV", "ſ's", "ǅaA", "aʰ的\u0301A", "ก\u0e31าa"),
    *(" ", "\n", " \n", "\t \r\n", "\x1c \n", "\x85\u2028 \n a", " \u3000\n", "a\u3000"),
    *("!", "!/", "/\n", "/\n ", "!a", "!\n a", "=-", "\u0301!", "\u0301A"),
    *("7", "7a", "77 ", "²7", "ab1+/"),
    *("aAbB1 .,\n'/\t的é\u0301!", "abcdefghijklmnopqrstuvwxyz", "的是不我有一"),
)
runs = st.builds(
    lambda alphabet, picks: "".join(alphabet[pick % len(alphabet)] for pick in picks),
    st.sampled_from(ALPHABETS),
    st.lists(st.integers(0, 25), min_size=1, max_size=80),
)
edges = st.sampled_from(["", "的", "a", "A", "B", "l", "'", "'ll", "!", "/", "\n", " ", "\u0301", "é", "ʰ", "7"])
one_long_run = st.builds(
    lambda first, character, count, last: first + character * count + last,
    edges,
    st.sampled_from("A l的!/7\n\u0301="),
    st.integers(10, 80),
    edges,
)
texts = st.one_of(st.lists(runs, min_size=1, max_size=4).map("".join), one_long_run)


@cache
def encoding(case: str) -> tuple[tiktoken.Encoding, ByteLevelPairs]:
    vocabulary, pattern, _ = CASES[case]
    made = tiktoken.Encoding(case, pat_str=pattern, mergeable_ranks=ranks(vocabulary), special_tokens={})
    return made, ByteLevelPairs(ranks(vocabulary))


def cutter(case: str, piece: int, chunk: int) -> Cutter:
    reference, pairs = encoding(case)

    def encode(text: str) -> Ids:
        return np.array(reference.encode_ordinary(text), np.uint32)

    return Cutter(CASES[case][2], encode, lambda: pairs, piece, chunk)


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=texts, piece=st.sampled_from([8, 16, 40]), chunk=st.sampled_from([4, 8, 12, 20]))
def test_ids_are_the_whole_texts(case: str, text: str, piece: int, chunk: int) -> None:
    assert cutter(case, piece, chunk).encode(text).tolist() == encoding(case)[0].encode_ordinary(text)


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("o200k", "的" + "A" * 60 + "b"),  # capitals that belong to a lower-case word
        ("o200k", "a" + "的" * 60 + "ABCd"),  # caseless letters that do not reach the capitals, and those that do
        ("o200k", "的" * 60 + "ABCd"),
        ("o200k", "!\n" + "/" * 40 + "!!!!" * 5),  # slashes that an earlier pre-token takes along
        ("o200k", "!!" + "\n" * 50 + "  \n"),  # newlines likewise
        ("cl100k", "'" + "l" * 60),  # a contraction at the start of a run of letters
        ("cl100k", "x" + " \n" * 30 + "    "),
        ("gpt2", "7" * 100),
    ],
)
def test_texts_that_rules_exist_for(case: str, text: str) -> None:
    expected = encoding(case)[0].encode_ordinary(text)
    for piece in (8, 16, 33):
        for chunk in (4, 5, 8, 13, 20):
            assert cutter(case, piece, chunk).encode(text).tolist() == expected, (piece, chunk)


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=texts, piece=st.sampled_from([8, 16, 40]))
def test_short_pre_tokens_are_short(case: str, text: str, piece: int) -> None:
    if cutter(case, piece, 8).has_short_pre_tokens(text):
        assert max(map(len, regex.findall(CASES[case][1], text))) <= piece


def test_ordinary_text_has_short_pre_tokens() -> None:
    words = "The quick brown fox, 1234 times.\n" * 30
    assert cutter("o200k", 40, 8).has_short_pre_tokens(words)
    for run in ("x" * 100, " " * 100, "的" * 100):
        assert not cutter("o200k", 40, 8).has_short_pre_tokens(words + run + words)


def test_pieces_stay_short() -> None:
    """The point of it all: on ordinary text and on giant pre-tokens no call is longer than was asked for."""
    longest = 0
    reference, pairs = encoding("o200k")

    def encode(text: str) -> Ids:
        nonlocal longest
        longest = max(longest, len(text))
        return np.array(reference.encode_ordinary(text), np.uint32)

    words = "The quick brown fox, 1234 times.\n" * 300
    for text in (
        words,
        "x" * 9000,
        " " * 9000,
        "\n" * 9000,
        "的" * 9000,
        "!?" * 4500,
        "7" * 9000,
        "A" * 9000,
        "aZ9+/" * 1800,
    ):
        Cutter(O200K, encode, lambda: pairs, 1000, 300).encode(text)
    assert longest <= 1000


@pytest.mark.parametrize("vocabulary", ["o200k_base", "cl100k_base"])
@pytest.mark.parametrize("character", [" ", "a", "=", "的"])
def test_a_giant_pre_token_equals_bytes_encoded_without_the_pattern(vocabulary: str, character: str) -> None:
    case = "o200k" if vocabulary == "o200k_base" else "cl100k"
    text = character * 30_000
    assert np.array_equal(cutter(case, 4096, 1024).encode(text), one_piece(vocabulary, text))


@settings(max_examples=300, deadline=None)
@given(st.text("abAB 的é!\n", max_size=40))
def test_merge_is_tiktokens_byte_pair_encoding(text: str) -> None:
    vocabulary = ranks("o200k_base")
    piece = text.encode()
    if piece:
        expected = tiktoken_encoding("o200k_base")._core_bpe.encode_single_piece(piece)
        assert [vocabulary[part] for part in merge(piece, vocabulary)] == expected
