"""What every kind of quantizer keeps."""

from __future__ import annotations

import pytest
import torch

from tests.quantizers.cases import CONFIGS, DIMENSION, FIXED, LEARNED, draw, error, fitted
from tokenmill.errors import AssetError, ItemError, SpecError, TokenizerError
from tokenmill.quantizers import VectorConfig


@pytest.mark.parametrize("kind", CONFIGS)
def test_codes_and_vectors_have_their_shapes(kind: str) -> None:
    quantizer, sizes = fitted(kind), CONFIGS[kind].codebook_sizes
    codes = quantizer.encode(draw(500, seed=1))
    assert codes.shape == (500, len(sizes))
    assert codes.dtype == torch.int64
    assert codes.min() >= 0
    assert (codes < torch.tensor(sizes)).all()
    assert (codes.amax(dim=0) >= torch.tensor(sizes) // 2).all()
    decoded = quantizer.decode(codes)
    assert decoded.shape == (500, DIMENSION)
    assert decoded.dtype == torch.float32
    assert quantizer.encode(draw(0)).shape == (0, len(sizes))
    assert quantizer.decode(codes[:0]).shape == (0, DIMENSION)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_vectors_codes_depend_on_no_other_vector(kind: str) -> None:
    quantizer = fitted(kind)
    vectors = draw(700, seed=2)
    # Vectors for which codes tie, or nearly: none at all, decoded ones, midpoints, and one unit in the last place off.
    decoded = quantizer.decode(quantizer.encode(vectors[:50]))
    midpoints = (decoded[:49] + decoded[1:]) / 2
    beside = torch.nextafter(midpoints, torch.full_like(midpoints, torch.inf))
    vectors = torch.cat([vectors, torch.zeros(5, DIMENSION), decoded, midpoints, beside])
    codes = quantizer.encode(vectors)
    for size in (1, 3, 64):
        parts = [quantizer.encode(part) for part in torch.split(vectors, size)]
        assert torch.equal(torch.cat(parts), codes)
    order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(0))
    assert torch.equal(quantizer.encode(vectors[order]), codes[order])
    strided = torch.cat([vectors, vectors], dim=1)[:, :DIMENSION]
    assert torch.equal(quantizer.encode(strided), codes)


@pytest.mark.parametrize("kind", ["vq", "vq-cosine", "product", "fsq-clamp", "lfq", "bsq"])
def test_decoded_vectors_have_the_codes_that_they_were_decoded_from(kind: str) -> None:
    quantizer = fitted(kind)
    codes = quantizer.encode(draw(500, seed=3))
    assert torch.equal(quantizer.encode(quantizer.decode(codes)), codes)


@pytest.mark.parametrize("kind", ["residual", "additive", "graph-anchor"])
def test_more_codebooks_decode_closer(kind: str) -> None:
    quantizer = fitted(kind)
    vectors = draw(500, seed=4)
    codes = quantizer.encode(vectors)
    counts = range(2, 7, 2) if kind == "graph-anchor" else range(1, 4)
    errors = [float((quantizer.decode(codes[:, :count]) - vectors).square().mean()) for count in counts]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.85 * errors[0]


@pytest.mark.parametrize("kind", [kind for kind in LEARNED if kind != "vq-cosine"])
def test_fitted_codebooks_beat_codes_that_are_vectors_themselves(kind: str) -> None:
    config = CONFIGS[kind]
    untrained = config.build(config.fit(draw(3000), iterations=0))
    assert error(fitted(kind), draw(1000, seed=5)) < 0.9 * error(untrained, draw(1000, seed=5))


@pytest.mark.parametrize("kind", LEARNED)
def test_fitting_is_deterministic(kind: str) -> None:
    config = CONFIGS[kind]
    one, again, other = (config.fit(draw(1500), seed=seed, iterations=2) for seed in (3, 3, 4))
    assert one.keys() == again.keys()
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", FIXED)
def test_what_has_no_codebook_is_not_fitted(kind: str) -> None:
    with pytest.raises(TokenizerError, match="no codebook"):
        CONFIGS[kind].fit(draw(100))


@pytest.mark.parametrize("kind", LEARNED)
def test_a_codebook_is_needed(kind: str) -> None:
    with pytest.raises(AssetError, match="no state was given"):
        CONFIGS[kind].build()


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_no_vector_or_no_code_is_refused(kind: str) -> None:
    quantizer, books = fitted(kind), len(CONFIGS[kind].codebook_sizes)
    with pytest.raises(SpecError, match=r"takes \[vector, 12\]"):
        quantizer.encode(draw(3, 11))
    with pytest.raises(SpecError, match=r"takes \[vector, 12\]"):
        quantizer.encode(draw(1)[0])
    for value in (torch.nan, torch.inf):
        vectors = draw(3)
        vectors[1, 4] = value
        with pytest.raises(ItemError, match="infinite or no number") as caught:
            quantizer.encode(vectors)
        assert caught.value.reason == "not_finite"
    with pytest.raises(SpecError, match="codes are"):
        quantizer.decode(torch.zeros(2, books + 1, dtype=torch.int64))
    with pytest.raises(SpecError, match="codes are"):
        quantizer.decode(torch.zeros(2, 0, dtype=torch.int64))
    for wrong in (-1, CONFIGS[kind].codebook_sizes[-1]):
        codes = torch.zeros(2, books, dtype=torch.int64)
        codes[1, -1] = wrong
        with pytest.raises(SpecError, match="none of its codebook's"):
            quantizer.decode(codes)


@pytest.mark.parametrize("kind", ["product", "fsq", "lfq"])
def test_codes_of_kinds_that_are_not_nested_come_whole(kind: str) -> None:
    with pytest.raises(SpecError, match="codes are"):
        fitted(kind).decode(torch.zeros(2, 1, dtype=torch.int64))


def test_anchors_come_with_their_relations() -> None:
    with pytest.raises(SpecError, match="codes are"):
        fitted("graph-anchor").decode(torch.zeros(2, 3, dtype=torch.int64))


def test_states_of_something_else_are_refused() -> None:
    config = VectorConfig(dimension=DIMENSION, codebook_size=8)
    state = config.fit(draw(100), iterations=1)
    with pytest.raises(AssetError, match=r"lacks _codebook\.embed"):
        config.build({name: tensor for name, tensor in state.items() if name != "_codebook.embed"})
    with pytest.raises(AssetError, match=r"has model\._codebook\.cluster_size"):
        config.build({f"model.{name}": tensor for name, tensor in state.items()})
    with pytest.raises(AssetError, match=r"size is \[1, 8\]; VectorQuantize of this config has \[1, 9\]"):
        VectorConfig(dimension=DIMENSION, codebook_size=9).build(state)
    with pytest.raises(AssetError, match="never made"):
        config.build({**state, "_codebook.initted": torch.tensor(False)})
    with pytest.raises(AssetError, match="infinite or none"):
        config.build({**state, "_codebook.embed": torch.full((1, 8, DIMENSION), torch.nan)})
    with pytest.raises(TokenizerError, match="'cpu' and 'cuda'"):
        config.build(state, device="tpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", CONFIGS)
def test_codes_are_the_same_on_a_gpu(kind: str) -> None:
    config = CONFIGS[kind]
    state = config.fit(draw(3000), iterations=8) if kind in LEARNED else None
    vectors = draw(2000, seed=6)
    assert torch.equal(config.build(state, device="cuda").encode(vectors).cpu(), fitted(kind).encode(vectors))
