"""From a config and its tensors to the quantizer of its kind."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tokenmill.errors import AssetError
from tokenmill.quantizers.additive import AdditiveQuantizer
from tokenmill.quantizers.codebooks import ProductQuantizer, ResidualQuantizer, VectorQuantizer
from tokenmill.quantizers.config import (
    AdditiveConfig,
    BaseQuantizerConfig,
    BinarySphericalConfig,
    FiniteScalarConfig,
    GraphAnchorConfig,
    LookupFreeConfig,
    ProductConfig,
    ResidualConfig,
    VectorConfig,
)
from tokenmill.quantizers.graph_anchor import GraphAnchorQuantizer
from tokenmill.quantizers.quantizer import Quantizer
from tokenmill.quantizers.scalar import BinaryQuantizer, FiniteScalarQuantizer
from tokenmill.tokenizers.networks import network_device


def build(config: BaseQuantizerConfig, state: Mapping[str, Tensor] | None, device: str) -> Quantizer:
    """Make a quantizer: `BaseQuantizerConfig.build` says what of."""
    where = network_device(device, "quantizer")
    if isinstance(config, FiniteScalarConfig):
        return FiniteScalarQuantizer(config, state, where)
    if isinstance(config, LookupFreeConfig | BinarySphericalConfig):
        return BinaryQuantizer(config, state, where)
    if state is None:
        raise AssetError(
            f"{type(config).__name__} has a codebook, and no state was given",
            fix="give the module's state_dict, or what `fit` returned",
        )
    if isinstance(config, VectorConfig):
        return VectorQuantizer(config, state, where)
    if isinstance(config, ResidualConfig):
        return ResidualQuantizer(config, state, where)
    if isinstance(config, ProductConfig):
        return ProductQuantizer(config, state, where)
    if isinstance(config, AdditiveConfig):
        return AdditiveQuantizer(config, state, where)
    assert isinstance(config, GraphAnchorConfig)
    return GraphAnchorQuantizer(config, state, where)
