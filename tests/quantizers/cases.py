"""One small quantizer of each kind, and the vectors that they are tested with."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from tokenmill.quantizers import (
    AdditiveConfig,
    BinarySphericalConfig,
    FiniteScalarConfig,
    GraphAnchorConfig,
    LookupFreeConfig,
    ProductConfig,
    ResidualConfig,
    VectorConfig,
)
from tokenmill.quantizers.config import BaseQuantizerConfig
from tokenmill.quantizers.quantizer import Quantizer

DIMENSION = 12

LEARNED: dict[str, BaseQuantizerConfig] = {
    "vq": VectorConfig(dimension=DIMENSION, codebook_size=50),
    "vq-cosine": VectorConfig(dimension=DIMENSION, codebook_size=50, metric="cosine"),
    "residual": ResidualConfig(dimension=DIMENSION, codebook_size=(40, 30, 20)),
    "product": ProductConfig(dimension=DIMENSION, codebooks=3, codebook_size=30),
    "additive": AdditiveConfig(dimension=DIMENSION, codebooks=3, codebook_size=30, beam=5),
    "graph-anchor": GraphAnchorConfig(dimension=DIMENSION, anchors=30, relations=40, nearest=3),
}
FIXED: dict[str, BaseQuantizerConfig] = {
    "fsq": FiniteScalarConfig(levels=(8, 5, 4), codebooks=4),
    "fsq-clamp": FiniteScalarConfig(levels=(7, 2, 4), codebooks=4, bound="clamp", symmetric=True, scale=3.0),
    "lfq": LookupFreeConfig(bits_a_codebook=6, codebooks=2),
    "bsq": BinarySphericalConfig(bits_a_codebook=4, codebooks=3),
}
CONFIGS = LEARNED | FIXED


def draw(count: int, dimension: int = DIMENSION, seed: int = 0) -> Tensor:
    """Return vectors of unequal, related components: float32 `[vector, component]`."""
    generator = torch.Generator().manual_seed(seed)
    # The mix is the same for every seed: other seeds are other vectors of one distribution.
    mix = torch.randn(dimension, dimension, generator=torch.Generator().manual_seed(99)) / math.sqrt(dimension)
    return torch.randn(count, dimension, generator=generator) @ mix


@functools.cache
def fitted(kind: str) -> Quantizer:
    """Return the quantizer of a case, fitted to vectors of `draw`."""
    config = CONFIGS[kind]
    return config.build(config.fit(draw(3000), iterations=8) if kind in LEARNED else None)


def error(quantizer: Quantizer, vectors: Tensor) -> float:
    """Return the mean squared error of decoded vectors."""
    return float((quantizer.decode(quantizer.encode(vectors)) - vectors).square().mean())
