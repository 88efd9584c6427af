"""Quantizers: from vectors to codes and back, one family for tokenizers of one's own; nothing here needs torch yet.

from tokenmill.quantizers import ResidualConfig
from tokenmill.tokenizers.networks import load_weights

config = ResidualConfig(dimension=128, codebooks=8, codebook_size=1024)
quantizer = config.build(load_weights("codebooks.safetensors"))
codes = quantizer.encode(vectors)  # int64 [vector, 8]
vectors = quantizer.decode(codes[:, :4])  # coarser: the first four codebooks
"""

from tokenmill.quantizers.config import (
    AdditiveConfig,
    BinarySphericalConfig,
    FiniteScalarConfig,
    GraphAnchorConfig,
    LookupFreeConfig,
    ProductConfig,
    QuantizerConfig,
    ResidualConfig,
    VectorConfig,
)
from tokenmill.quantizers.use import CodebookUse

__all__ = [
    "AdditiveConfig",
    "BinarySphericalConfig",
    "CodebookUse",
    "FiniteScalarConfig",
    "GraphAnchorConfig",
    "LookupFreeConfig",
    "ProductConfig",
    "QuantizerConfig",
    "ResidualConfig",
    "VectorConfig",
]
