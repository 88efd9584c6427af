from __future__ import annotations

import itertools

import pytest
import torch

from tests.quantizers.cases import DIMENSION, draw, error
from tokenmill.quantizers import AdditiveConfig, ResidualConfig


def config(beam: int) -> AdditiveConfig:
    return AdditiveConfig(dimension=DIMENSION, codebooks=4, codebook_size=16, beam=beam)


def test_a_beam_of_one_is_the_residual_choice() -> None:
    residual = ResidualConfig(dimension=DIMENSION, codebooks=4, codebook_size=16)
    state = residual.fit(draw(2000), iterations=4)
    books = torch.stack([state[f"layers.{number}._codebook.embed"][0] for number in range(4)])
    vectors = draw(1000, seed=1)
    wanted = residual.build(state)
    greedy = config(1).build({"codebooks": books})
    assert torch.equal(greedy.encode(vectors), wanted.encode(vectors))
    assert torch.equal(greedy.decode(greedy.encode(vectors)), wanted.decode(wanted.encode(vectors)))
    # Of the same codebooks, and then of its own, it codes better than one after the other.
    errors = [error(config(beam).build({"codebooks": books}), vectors) for beam in (1, 4, 16)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.95 * errors[0]
    assert error(config(16).build(config(16).fit(draw(2000), iterations=4)), vectors) < 0.97 * errors[-1]


def test_a_beam_of_all_sums_finds_the_best() -> None:
    small = AdditiveConfig(dimension=DIMENSION, codebooks=3, codebook_size=5, beam=25)
    quantizer = small.build({"codebooks": draw(15, seed=2).reshape(3, 5, DIMENSION)})
    every = torch.tensor(list(itertools.product(range(5), repeat=3)))
    sums = quantizer.decode(every).double()
    vectors = draw(300, seed=3)
    distances = (vectors.double().unsqueeze(1) - sums).square().sum(dim=2)
    assert torch.equal(quantizer.encode(vectors), every[distances.argmin(dim=1)])


def test_sums_that_tie_are_taken_in_order() -> None:
    # Codebooks that are alike: every order of the same codes is the same sum.
    book = draw(6, seed=4)
    quantizer = AdditiveConfig(dimension=DIMENSION, codebooks=2, codebook_size=6, beam=6).build(
        {"codebooks": torch.stack([book, book])}
    )
    codes = torch.tensor([[1, 4], [2, 3], [0, 0]])
    assert quantizer.encode(quantizer.decode(codes)).tolist() == codes.tolist()


@pytest.mark.parametrize("beam", [1, 7])
def test_many_vectors_are_searched_in_pieces(beam: int) -> None:
    wide = AdditiveConfig(dimension=2, codebooks=2, codebook_size=20_000, beam=beam)
    quantizer = wide.build({"codebooks": draw(40_000, 2).reshape(2, 20_000, 2)})
    vectors = draw(230, 2, seed=1)
    assert torch.equal(quantizer.encode(vectors)[-3:], quantizer.encode(vectors[-3:]))
