"""FSQ, LFQ and BSQ, against the library's own forward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from vector_quantize_pytorch import FSQ, LFQ

from tests.quantizers.cases import draw
from tokenmill.errors import AssetError
from tokenmill.quantizers import BinarySphericalConfig, FiniteScalarConfig, LookupFreeConfig


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bound", ["tanh", "clamp"])
@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (3,), (16, 7), (256, 255), (1000,)])
def test_fsq_gives_the_librarys_codes_and_values(levels: tuple[int, ...], bound: Any, *, symmetric: bool) -> None:
    config = FiniteScalarConfig(levels=levels, codebooks=3, bound=bound, symmetric=symmetric)
    quantizer = config.build()
    module = FSQ(levels, num_codebooks=3, preserve_symmetry=symmetric, bound_hard_clamp=bound == "clamp").eval()
    vectors = torch.cat([draw(20_000, config.dimension), 40 * draw(100, config.dimension, seed=1)])
    values, codes = module(vectors.unsqueeze(0))
    ours = quantizer.encode(vectors)
    # The library's tanh may differ in its last bit with the place of a value in its batch.
    assert (ours == codes[0]).float().mean() > 0.99999
    assert torch.equal(quantizer.decode(codes[0]), values[0])
    assert set((ours[:, 0] % levels[0]).tolist()) == set(range(levels[0]))


def test_fsq_levels() -> None:
    values = torch.tensor([[-9.0], [-0.6], [-0.4], [0.0], [0.4], [0.6], [9.0]])
    asymmetric = FiniteScalarConfig(levels=(4,), bound="clamp").build()
    assert asymmetric.decode(torch.arange(4).unsqueeze(1))[:, 0].tolist() == [-1.0, -0.5, 0.0, 0.5]
    odd = FiniteScalarConfig(levels=(3,), bound="clamp").build()
    assert odd.encode(values)[:, 0].tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert odd.decode(torch.arange(3).unsqueeze(1))[:, 0].tolist() == [-1.0, 0.0, 1.0]
    scaled = FiniteScalarConfig(levels=(3,), bound="clamp", scale=10.0).build()
    assert scaled.encode(values)[:, 0].tolist() == [0, 1, 1, 1, 1, 1, 2]
    assert scaled.decode(torch.arange(3).unsqueeze(1))[:, 0].tolist() == [-10.0, 0.0, 10.0]


def test_clamped_symmetric_fsq_is_a_uniform_quantizer() -> None:
    quantizer = FiniteScalarConfig(levels=(9, 16), bound="clamp", symmetric=True, scale=4.0).build()
    vectors = 8 * torch.rand(5000, 2, generator=torch.Generator().manual_seed(0)) - 4
    difference = (quantizer.decode(quantizer.encode(vectors)) - vectors).abs()
    for component, levels in enumerate((9, 16)):
        half_step = 4 / (levels - 1)
        assert 0.9 * half_step < difference[:, component].max() <= half_step * (1 + 1e-5)


def test_two_levels_are_two_signs() -> None:
    quantizer = FiniteScalarConfig(levels=(2, 2), symmetric=True).build()
    vectors = torch.tensor([[-0.1, 0.1], [0.1, -0.1]])
    assert quantizer.decode(quantizer.encode(vectors)).tolist() == [[-1.0, 1.0], [1.0, -1.0]]


@pytest.mark.parametrize("codebooks", [1, 3])
@pytest.mark.parametrize("spherical", [False, True])
def test_signs_are_the_librarys(codebooks: int, *, spherical: bool) -> None:
    kind = BinarySphericalConfig if spherical else LookupFreeConfig
    quantizer = kind(bits_a_codebook=5, codebooks=codebooks).build()
    module = LFQ(
        dim=5 * codebooks, codebook_size=32, num_codebooks=codebooks, keep_num_codebooks_dim=True, spherical=spherical
    ).eval()
    vectors = draw(5000, 5 * codebooks)
    vectors[:10, 0], vectors[10:20, 1] = 0.0, -0.0
    values, codes, _ = module(vectors.unsqueeze(0))
    assert torch.equal(quantizer.encode(vectors), codes[0])
    assert torch.equal(quantizer.decode(codes[0]), values[0])
    lengths = values[0].reshape(-1, codebooks, 5).norm(dim=2)
    assert torch.allclose(lengths, torch.tensor(1.0 if spherical else 5**0.5))


@pytest.mark.parametrize("kind", ["fsq", "lfq", "bsq"])
def test_projections_that_were_trained_are_loaded(kind: str) -> None:
    config: FiniteScalarConfig | LookupFreeConfig | BinarySphericalConfig
    if kind == "fsq":
        config = FiniteScalarConfig(levels=(8, 8, 6), codebooks=2, projected_from=16)
        module = FSQ((8, 8, 6), dim=16, num_codebooks=2)
    else:
        binary = LookupFreeConfig if kind == "lfq" else BinarySphericalConfig
        config = binary(bits_a_codebook=6, codebooks=2, projected_from=16)
        module = LFQ(dim=16, codebook_size=64, num_codebooks=2, spherical=kind == "bsq")
    vectors = draw(5000, 16)
    values, codes, *_ = module.eval()(vectors.unsqueeze(0))
    quantizer = config.build(module.state_dict())
    assert (quantizer.encode(vectors) == codes[0]).float().mean() > 0.999
    assert torch.allclose(quantizer.decode(codes[0]), values[0], atol=1e-6)
    with pytest.raises(AssetError, match=r"lacks project_in\.bias"):
        config.build()


def test_values_next_to_a_threshold_take_the_librarys_side() -> None:
    module = FSQ((7, 8)).eval()
    quantizer = FiniteScalarConfig(levels=(7, 8)).build()
    # One value at a time, where the library has no batch to differ with: around every step of both components.
    grid = torch.linspace(-2.5, 2.5, 2001)
    codes = quantizer.encode(torch.stack([grid, grid], dim=1))[:, 0]
    for place in codes.diff().nonzero()[:, 0].tolist():
        low, high = grid[place], grid[place + 1]
        while (middle := (low + high) / 2) not in (low, high):
            below = quantizer.encode(middle.expand(1, 2))[0, 0] == codes[place]
            low, high = (middle, high) if below else (low, middle)
        for value in (low, high):
            assert module(value.expand(1, 1, 2))[1][0, 0] == quantizer.encode(value.expand(1, 2))[0, 0]
