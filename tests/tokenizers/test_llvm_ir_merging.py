"""Merging units to tokens: as byte-pair encoding says, in plain Python."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from tests.tokenizers.llvm_ir_texts import texts
from tokenmill.tokenizers import llvm_ir
from tokenmill.tokenizers.llvm_ir.coding import Coder
from tokenmill.tokenizers.llvm_ir.merging import STRETCH, Merges, expand, merge, merges
from tokenmill.tokenizers.llvm_ir.training import stretches
from tokenmill.tokenizers.llvm_ir.units import LEXEME_START, LINE_START
from tokenmill.tokenizers.llvm_ir.vocabulary import MODES, Mode, Vocabulary


def _reference(units: list[int], pairs: list[tuple[int, int]], made: Merges) -> list[int]:
    tokens = list(units)
    while True:
        ranks = [pairs.index(pair) for pair in itertools.pairwise(tokens) if pair in pairs]
        if not ranks:
            return tokens
        pair, result = pairs[min(ranks)], int(made.results[min(ranks)])
        at = next(at for at in range(len(tokens)) if tuple(tokens[at : at + 2]) == pair)
        tokens[at : at + 2] = [result]


def test_tokens_are_those_of_the_reference() -> None:
    draw = np.random.default_rng(1)
    pairs: list[tuple[int, int]] = []
    for size in range(8, 60):
        pair = (int(draw.integers(size)) % 12, int(draw.integers(8)))
        if pair not in pairs:
            pairs.append(pair)
    made = merges(16, np.array(pairs, np.uint16))
    for _ in range(60):
        units = draw.integers(0, 16, int(draw.integers(1, 3 * STRETCH))).astype(np.uint16)
        flags = (draw.random(len(units)) < 0.05).astype(np.uint8) * 2
        ends = np.append(np.flatnonzero(flags[1:])[::2] + 1, len(units)).astype(np.int64)
        ids, token_ends = np.empty(len(units), np.uint16), np.empty(len(ends), np.int64)
        count = merge(units, flags, 2, ends, made, ids, token_ends)
        expected: list[int] = []
        cuts = [0, *(np.flatnonzero(flags[1:]) + 1).tolist(), len(units)]
        for start, stop in itertools.pairwise(cuts):
            for begin in range(start, stop, STRETCH):
                expected += _reference(units[begin : min(begin + STRETCH, stop)].tolist(), pairs, made)
        assert ids[:count].tolist() == expected
        np.testing.assert_array_equal(expand(ids[:count], made), units)
        for end, token_end in zip(ends, token_ends, strict=True):
            assert len(expand(ids[:token_end], made)) == end


@pytest.mark.parametrize("mode", MODES)
def test_tokens_are_those_of_the_library_that_learned_the_merges(mode: Mode) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    packaged = Path(llvm_ir.__file__).with_name("vocabulary.bin")
    vocabulary = Vocabulary.from_bytes(packaged.read_bytes(), "packaged")
    coder = Coder(vocabulary, mode)
    names = ["".join(chr(0x10000 + unit) for unit in coder.units_of(token).tolist()) for token in range(coder.size)]
    pairs = [(names[left], names[right]) for left, right in vocabulary.merges[mode].tolist()]
    numbers = {name: number for number, name in enumerate(names)}
    library = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=numbers, merges=pairs))
    for text in texts():
        found, flags, _ = coder.units(text)
        cut = stretches(found, flags, LINE_START if mode == "line" else LEXEME_START).split("\n")
        expected = [encoded.ids for encoded in library.encode_batch(cut)]
        assert coder.encode(text).ids.tolist() == list(itertools.chain.from_iterable(expected))


def test_pairs_that_make_the_same_units_make_the_same_token() -> None:
    made = merges(3, np.array([(0, 1), (1, 2), (3, 2), (0, 4)], np.uint16))
    assert made.results.tolist() == [3, 4, 5, 5]
    assert len(made.starts) - 1 == 6


@pytest.mark.parametrize("pairs", [[(0, 9)], [(0, 1), (0, 1)], [(0, 0), *((n, n) for n in range(3, 12))]])
def test_merges_that_cannot_be_are_refused(pairs: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="merge"):
        merges(3, np.array(pairs, np.uint16))
