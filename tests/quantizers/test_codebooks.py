"""Nearest-code quantizers, against brute force and against the library whose states they load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from vector_quantize_pytorch import GroupedResidualVQ, ResidualVQ, VectorQuantize

from tests.quantizers.cases import DIMENSION, draw, fitted
from tokenmill.errors import TokenizerError
from tokenmill.quantizers import ProductConfig, ResidualConfig, VectorConfig
from tokenmill.quantizers.quantizer import Quantizer
from tokenmill.tokenizers.networks import load_weights


def trained(module: Any, steps: int = 30) -> Any:
    """Train a module of the library for a few steps, its global random numbers seeded."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam([*module.parameters(), torch.nn.Parameter(torch.zeros(1))], lr=1e-2)
    for step in range(steps):
        quantized, _, loss = module.train()(draw(600, seed=100 + step).unsqueeze(0))
        optimizer.zero_grad()
        (loss.sum() + (quantized - draw(600, seed=100 + step)).square().mean()).backward()
        optimizer.step()
    return module.eval()


def check_same(quantizer: Quantizer, vectors: Tensor, codes: Tensor, decoded: Tensor) -> None:
    """Check against the library's codes and vectors; nearly equal distances may fall the other way, once in 1,000."""
    ours = quantizer.encode(vectors)
    same = (ours == codes).all(dim=1)
    assert same.float().mean() > 0.999
    assert torch.allclose(quantizer.decode(codes), decoded, atol=1e-5)
    errors = [(quantizer.decode(which) - vectors).square().sum(dim=1) for which in (ours, codes)]
    assert torch.allclose(errors[0], errors[1], rtol=1e-2)


CONFIGS: list[tuple[VectorConfig | ResidualConfig | ProductConfig, Any]] = [
    (
        VectorConfig(dimension=DIMENSION, codebook_size=64),
        lambda: VectorQuantize(DIMENSION, 64, kmeans_init=True, threshold_ema_dead_code=2),
    ),
    (
        VectorConfig(dimension=DIMENSION, codebook_size=64, metric="cosine", codebook_dimension=5),
        lambda: VectorQuantize(DIMENSION, 64, codebook_dim=5, use_cosine_sim=True),
    ),
    (
        VectorConfig(dimension=DIMENSION, codebook_size=64, codebook_dimension=4),
        lambda: VectorQuantize(DIMENSION, 64, codebook_dim=4, learnable_codebook=True, ema_update=False),
    ),
    (
        ResidualConfig(dimension=DIMENSION, codebook_size=32, codebooks=4),
        lambda: ResidualVQ(dim=DIMENSION, num_quantizers=4, codebook_size=32, kmeans_init=True),
    ),
    (
        ResidualConfig(dimension=DIMENSION, codebook_size=(32, 16), codebook_dimension=6),
        lambda: ResidualVQ(dim=DIMENSION, codebook_size=(32, 16), codebook_dim=6),
    ),
    (
        ResidualConfig(dimension=DIMENSION, codebook_size=32, codebooks=3),
        lambda: ResidualVQ(dim=DIMENSION, num_quantizers=3, codebook_size=32, shared_codebook=True),
    ),
    (
        ProductConfig(dimension=DIMENSION, codebook_size=32, codebooks=3),
        lambda: GroupedResidualVQ(dim=DIMENSION, groups=3, num_quantizers=1, codebook_size=32, kmeans_init=True),
    ),
]


@pytest.mark.parametrize(("config", "make"), CONFIGS)
def test_codebooks_that_the_library_trained_give_its_codes(
    config: VectorConfig | ResidualConfig | ProductConfig, make: Any, tmp_path: Path
) -> None:
    module = trained(make())
    vectors = draw(4000, seed=7)
    with torch.inference_mode():
        decoded, codes, _ = module(vectors.unsqueeze(0))
    if isinstance(config, ProductConfig):
        codes = codes[:, 0, :, 0].T
    elif isinstance(config, VectorConfig):
        codes = codes[0].unsqueeze(1)
    else:
        codes = codes[0]
    # Cloned: a file holds a codebook that layers share once for each.
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assert len(codes.unique()) > 8
    save_file(state, tmp_path / "codebook.safetensors")
    check_same(config.build(load_weights(tmp_path / "codebook.safetensors")), vectors, codes, decoded[0])


@pytest.mark.parametrize(("config", "make"), CONFIGS)
def test_fitted_states_load_into_the_library(config: VectorConfig | ResidualConfig | ProductConfig, make: Any) -> None:
    if getattr(config, "codebook_dimension", None) is not None:
        with pytest.raises(TokenizerError, match="leave out codebook_dimension"):
            config.fit(draw(1000))
        return
    module = make()
    module.load_state_dict(config.fit(draw(1000), iterations=3))
    vectors = draw(500, seed=1)
    before, _, _ = module.eval()(vectors.unsqueeze(0))
    # Averages and sizes are those of the codes, so that training goes on from there.
    after, _, _ = trained(module, steps=3)(vectors.unsqueeze(0))
    errors = [(decoded[0] - vectors).square().mean() for decoded in (before, after)]
    assert errors[1] < 1.1 * errors[0]


def test_vq_takes_the_nearest_code() -> None:
    quantizer = fitted("vq")
    codes = quantizer.decode(torch.arange(50).unsqueeze(1))
    vectors = draw(1000, seed=8)
    distances = (vectors.double().unsqueeze(1) - codes.double()).square().sum(dim=2)
    assert torch.equal(quantizer.encode(vectors)[:, 0], distances.argmin(dim=1))


def test_cosine_takes_the_code_of_the_nearest_direction() -> None:
    quantizer = fitted("vq-cosine")
    codes = quantizer.decode(torch.arange(50).unsqueeze(1))
    assert torch.allclose(codes.norm(dim=1), torch.ones(50))
    vectors = draw(1000, seed=8)
    wanted = (vectors.double() @ codes.double().T).argmax(dim=1)
    assert torch.equal(quantizer.encode(vectors)[:, 0], wanted)
    assert torch.equal(quantizer.encode(1000 * vectors)[:, 0], wanted)


def test_product_takes_the_nearest_code_of_each_part() -> None:
    quantizer = fitted("product")
    books = quantizer.decode(torch.arange(30).unsqueeze(1).expand(-1, 3)).double()
    vectors = draw(1000, seed=8)
    codes = quantizer.encode(vectors)
    for part in range(3):
        span = slice(4 * part, 4 * part + 4)
        distances = (vectors[:, None, span].double() - books[:, span]).square().sum(dim=2)
        assert torch.equal(codes[:, part], distances.argmin(dim=1))


def test_residual_takes_the_nearest_code_to_what_is_left() -> None:
    quantizer = fitted("residual")
    vectors = draw(1000, seed=8)
    codes = quantizer.encode(vectors)
    first = quantizer.decode(torch.zeros(1, 1, dtype=torch.int64)).double()
    left = vectors.double()
    for number, size in enumerate((40, 30, 20)):
        prefixes = torch.zeros(size, number + 1, dtype=torch.int64)
        prefixes[:, number] = torch.arange(size)
        before = quantizer.decode(prefixes[:1, :number]).double() if number else torch.zeros_like(first)
        book = quantizer.decode(prefixes).double() - before
        distances = (left.unsqueeze(1) - book).square().sum(dim=2)
        chosen = distances.gather(1, codes[:, number : number + 1])[:, 0]
        assert torch.allclose(chosen, distances.amin(dim=1), rtol=1e-5)
        left = left - book[codes[:, number]]
