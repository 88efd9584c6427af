"""Codebooks from sample vectors, for each kind that has them: states that `build` takes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tokenmill.errors import SpecError, TokenizerError
from tokenmill.quantizers.additive import AdditiveQuantizer
from tokenmill.quantizers.codebooks import product_module, residual_module, vector_module
from tokenmill.quantizers.config import (
    AdditiveConfig,
    BaseQuantizerConfig,
    GraphAnchorConfig,
    ProductConfig,
    ResidualConfig,
    VectorConfig,
)
from tokenmill.quantizers.exact import Codes
from tokenmill.quantizers.graph_anchor import walk
from tokenmill.quantizers.kmeans import MOST_VECTORS_A_CODE, k_means, means, sample

#: Rounds of choosing codes by beam search and then moving every codebook to what its codes should say.
_ADDITIVE_ROUNDS = 4
#: Rounds of making relations of the translations that are wanted: the first knows nothing of what relations fall short.
_RELATION_ROUNDS = 2


def fit(config: BaseQuantizerConfig, vectors: Tensor, *, seed: int, iterations: int) -> dict[str, Tensor]:
    """Make a state: `BaseQuantizerConfig.fit` says what of."""
    if not isinstance(config, VectorConfig | ResidualConfig | ProductConfig | AdditiveConfig | GraphAnchorConfig):
        raise TokenizerError(
            f"{type(config).__name__} has no codebook that k-means could make",
            fix="build it without a state, or with the state of a trained projection",
        )
    if vectors.ndim != 2 or vectors.shape[1] != config.dimension or not bool(vectors.isfinite().all()):
        raise SpecError(f"vectors are {list(vectors.shape)}; fit takes finite ones, [vector, {config.dimension}]")
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        vectors = vectors.to(torch.float32).contiguous()
        if isinstance(config, AdditiveConfig):
            state = _fit_additive(config, vectors, generator, iterations)
        elif isinstance(config, GraphAnchorConfig):
            state = _fit_graph_anchor(config, vectors, generator, iterations)
        else:
            state = _fit_module(config, vectors, generator, iterations)
    # Cloned outside of inference mode: what comes back may be trained further.
    return {name: tensor.cpu().clone() for name, tensor in state.items()}


def _fit_module(
    config: VectorConfig | ResidualConfig | ProductConfig, vectors: Tensor, generator: torch.Generator, iterations: int
) -> dict[str, Tensor]:
    """Fill the codebooks of the library's module, so that training may go on from there."""
    cosine = config.metric == "cosine"
    if isinstance(config, ProductConfig):
        module = product_module(config)
        for group, part in zip(module.rvqs, vectors.chunk(config.codebooks, dim=1), strict=True):
            _fill(group.layers[0], *k_means(part, config.codebook_size, generator, iterations, cosine=cosine))
    elif config.codebook_dimension not in (None, config.dimension):
        raise TokenizerError(
            "k-means makes codes of the vectors' own dimension, not a projection to another",
            fix="leave out codebook_dimension, or train the projection",
        )
    elif isinstance(config, VectorConfig):
        module = vector_module(config)
        _fill(module, *k_means(vectors, config.codebook_size, generator, iterations, cosine=cosine))
    else:
        module = residual_module(config)
        for layer, size in zip(module.layers, config.codebook_sizes, strict=True):
            codes, sizes = k_means(vectors, size, generator, iterations, cosine=cosine)
            _fill(layer, codes, sizes)
            vectors = vectors - codes[Codes(codes, cosine=cosine).nearest(vectors)]
    state: dict[str, Tensor] = module.state_dict()
    return state


def _fill(module: Any, codes: Tensor, sizes: Tensor) -> None:
    """Put codes `[code, component]`, the means of `sizes` `[code]` vectors, into a `VectorQuantize`."""
    book = module._codebook
    book.embed.copy_(codes.unsqueeze(0))
    book.embed_avg.copy_((codes * sizes.unsqueeze(1)).unsqueeze(0))
    book.cluster_size.copy_(sizes.unsqueeze(0))


def _fit_additive(
    config: AdditiveConfig, vectors: Tensor, generator: torch.Generator, iterations: int
) -> dict[str, Tensor]:
    """Start from residual k-means, then choose codes together and move one codebook after the other to its means."""
    vectors = sample(vectors, config.codebook_size * MOST_VECTORS_A_CODE, generator)
    left, books = vectors, []
    for _ in range(config.codebooks):
        book, _sizes = k_means(left, config.codebook_size, generator, iterations)
        left = left - book[Codes(book).nearest(left)]
        books.append(book)
    state = {"codebooks": torch.stack(books)}
    for _ in range(_ADDITIVE_ROUNDS):
        quantizer = AdditiveQuantizer(config, state, vectors.device)
        codes = quantizer.encode(vectors)
        left = vectors - quantizer.decode(codes)
        for book, assigned in zip(books, codes.T, strict=True):
            wanted = left + book[assigned]
            book.copy_(means(wanted, assigned.contiguous(), book)[0])
            left = wanted - book[assigned]
        state = {"codebooks": torch.stack(books)}
    return state


def _fit_graph_anchor(
    config: GraphAnchorConfig, vectors: Tensor, generator: torch.Generator, iterations: int
) -> dict[str, Tensor]:
    anchors, _ = k_means(vectors, config.anchors, generator, iterations)
    nodes = sample(vectors, config.relations * MOST_VECTORS_A_CODE, generator)
    near = anchors[Codes(anchors).nearest_few(nodes, config.nearest)]
    edges = (nodes.unsqueeze(1) - near).flatten(0, 1)
    for _ in range(_RELATION_ROUNDS):
        relations, _ = k_means(edges, config.relations, generator, iterations)
        edges = walk(nodes, near, relations)[0].flatten(0, 1)
    return {"anchors": anchors, "relations": relations}
