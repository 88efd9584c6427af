from __future__ import annotations

import pytest
import torch

from tests.quantizers.cases import draw
from tokenmill.errors import SpecError, TokenizerError
from tokenmill.quantizers import VectorConfig
from tokenmill.quantizers.kmeans import k_means, means, sample


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_it_ends_where_every_code_is_the_mean_of_the_vectors_nearest_to_it() -> None:
    vectors = draw(2000, 3)
    codes, sizes = k_means(vectors, 20, seeded(), 200)
    nearest = torch.cdist(vectors.double(), codes.double()).argmin(dim=1)
    assert torch.equal(means(vectors, nearest, codes)[0], codes)
    assert torch.equal(torch.bincount(nearest), sizes)


def test_no_code_dies_while_vectors_differ() -> None:
    # Nearly all vectors are the same, so that nearly all codes begin as one.
    vectors = torch.cat([torch.zeros(500, 4), draw(40, 4)])
    codes, sizes = k_means(vectors, 30, seeded(), 20)
    assert len(set(map(tuple, codes.tolist()))) == 30
    assert sizes.min() >= 1


def test_errors_fall_with_every_few_rounds() -> None:
    vectors = draw(2000)
    errors = []
    for iterations in (0, 1, 3, 10):
        codes, _ = k_means(vectors, 40, seeded(), iterations)
        errors.append(float(torch.cdist(vectors, codes).amin(dim=1).square().mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.8 * errors[0]


def test_means_are_exact_and_their_order_does_not_matter() -> None:
    vectors = draw(3000) * 1e3
    assigned = torch.randint(0, 9, (3000,), generator=seeded())
    codes = draw(10, seed=1)
    found, sizes = means(vectors, assigned, codes)
    order = torch.randperm(3000, generator=seeded())
    again, _ = means(vectors[order], assigned[order], codes)
    assert torch.equal(found, again)
    for code in range(9):
        assert torch.equal(found[code], vectors[assigned == code].double().mean(dim=0).float())
    assert sizes.tolist() == [*torch.bincount(assigned).tolist(), 0]
    assert torch.equal(found[9], codes[9])


def test_directions_are_clustered_by_cosine() -> None:
    vectors = draw(500) * torch.arange(1, 501).unsqueeze(1)
    codes, _ = k_means(vectors, 10, seeded(), 5, cosine=True)
    alike, _ = k_means(vectors / vectors.norm(dim=1, keepdim=True), 10, seeded(), 5, cosine=True)
    assert torch.allclose(codes, alike, atol=1e-5)
    assert torch.allclose(codes.norm(dim=1), torch.ones(10))


def test_samples_are_drawn_without_repetition() -> None:
    vectors = torch.arange(1000.0).unsqueeze(1)
    drawn = sample(vectors, 100, seeded())
    assert len(set(drawn[:, 0].tolist())) == 100
    assert not torch.equal(drawn, vectors[:100])
    assert sample(vectors, 1000, seeded()) is vectors


def test_what_cannot_be_fitted_is_refused() -> None:
    config = VectorConfig(dimension=12, codebook_size=50)
    with pytest.raises(TokenizerError, match="50 codes cannot be made of 49 vectors"):
        config.fit(draw(49))
    with pytest.raises(SpecError, match=r"\[vector, 12\]"):
        config.fit(draw(100, 11))
    with pytest.raises(SpecError, match="finite"):
        config.fit(draw(100) / 0)


def test_a_fitted_state_can_be_trained_on() -> None:
    state = VectorConfig(dimension=12, codebook_size=8).fit(draw(100), iterations=1)
    codes = state["_codebook.embed"].requires_grad_()
    (gradient,) = torch.autograd.grad(codes.square().sum(), codes)
    assert torch.equal(gradient, 2 * codes)
