"""Quantizers that take the nearest code: one codebook, residual, product. States are vector-quantize-pytorch's.

The library's modules hold the tensors; the search is `exact`, because theirs depends on the batch in its last bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from vector_quantize_pytorch import GroupedResidualVQ, ResidualVQ, VectorQuantize

from tokenmill.quantizers.config import ProductConfig, ResidualConfig, VectorConfig
from tokenmill.quantizers.exact import Codes, linear
from tokenmill.quantizers.quantizer import Quantizer, load


class VectorQuantizer(Quantizer):
    """`vq`. `state` is that of the library's `VectorQuantize(dim, codebook_size, codebook_dim, use_cosine_sim)`."""

    def __init__(self, config: VectorConfig, state: Mapping[str, Tensor] | None, device: torch.device) -> None:
        super().__init__(config, device)
        self._module = load(vector_module(config), state, device)
        self._book = _Book(self._module, cosine=config.metric == "cosine")
        self._config = config

    def _encode(self, vectors: Tensor) -> Tensor:
        return self._book.nearest(_project(vectors, self._module, self._module.project_in)).unsqueeze(1)

    def _decode(self, codes: Tensor) -> Tensor:
        return _project(self._book.codes[codes[:, 0]], self._module, self._module.project_out)


class ResidualQuantizer(Quantizer):
    """`residual`. `state` is that of the library's `ResidualVQ(dim, num_quantizers, codebook_size, codebook_dim)`."""

    def __init__(self, config: ResidualConfig, state: Mapping[str, Tensor] | None, device: torch.device) -> None:
        super().__init__(config, device)
        self._module = load(residual_module(config), state, device)
        self._books = [_Book(layer, cosine=config.metric == "cosine") for layer in self._module.layers]
        self._config = config

    def _encode(self, vectors: Tensor) -> Tensor:
        left = _project(vectors, self._module, self._module.project_in)
        codes = []
        for book in self._books:
            nearest = book.nearest(left)
            left = left - book.codes[nearest]
            codes.append(nearest)
        return torch.stack(codes, dim=1)

    def _decode(self, codes: Tensor) -> Tensor:
        decoded = self._books[0].codes[codes[:, 0]]
        for number in range(1, codes.shape[1]):
            decoded = decoded + self._books[number].codes[codes[:, number]]
        return _project(decoded, self._module, self._module.project_out)


class ProductQuantizer(Quantizer):
    """`product`. `state` is that of the library's `GroupedResidualVQ(dim, groups, num_quantizers=1, codebook_size)`."""

    def __init__(self, config: ProductConfig, state: Mapping[str, Tensor] | None, device: torch.device) -> None:
        super().__init__(config, device)
        module = load(product_module(config), state, device)
        self._books = [_Book(group.layers[0], cosine=config.metric == "cosine") for group in module.rvqs]
        self._config = config

    def _encode(self, vectors: Tensor) -> Tensor:
        parts = vectors.chunk(len(self._books), dim=1)
        return torch.stack([book.nearest(part) for book, part in zip(self._books, parts, strict=True)], dim=1)

    def _decode(self, codes: Tensor) -> Tensor:
        return torch.cat([book.codes[codes[:, number]] for number, book in enumerate(self._books)], dim=1)


def vector_module(config: VectorConfig) -> Any:
    """Return the library's module of a config, its codebook unset."""
    return VectorQuantize(
        config.dimension,
        config.codebook_size,
        codebook_dim=config.codebook_dimension,
        use_cosine_sim=config.metric == "cosine",
    )


def residual_module(config: ResidualConfig) -> Any:
    """Return the library's module of a config, its codebooks unset."""
    return ResidualVQ(
        dim=config.dimension,
        codebook_size=config.codebook_sizes,
        codebook_dim=config.codebook_dimension,
        use_cosine_sim=config.metric == "cosine",
    )


def product_module(config: ProductConfig) -> Any:
    """Return the library's module of a config, its codebooks unset."""
    return GroupedResidualVQ(
        dim=config.dimension,
        groups=config.codebooks,
        num_quantizers=1,
        codebook_size=config.codebook_size,
        use_cosine_sim=config.metric == "cosine",
    )


class _Book:
    """A `VectorQuantize`'s codebook: `codes` is float32 `[code, component]`."""

    def __init__(self, module: Any, *, cosine: bool) -> None:
        self.codes: Tensor = module._codebook.embed[0]
        self.nearest = Codes(self.codes, cosine=cosine).nearest


def _project(vectors: Tensor, module: Any, projection: Any) -> Tensor:
    """Return `projection(vectors)`, exactly rounded; the vectors themselves where the module has no projections."""
    return linear(vectors, projection.weight, projection.bias) if module.has_projections else vectors
