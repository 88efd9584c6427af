"""Quantizers without a learned codebook: finite scalar (FSQ), lookup-free (LFQ), binary spherical (BSQ).

Projections and decoding are vector-quantize-pytorch's own modules. Encoding compares with thresholds in place of
computing tanh, whose last bit may differ with a value's place in the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from vector_quantize_pytorch import FSQ, LFQ

from tokenmill.quantizers.config import BinarySphericalConfig, FiniteScalarConfig, LookupFreeConfig
from tokenmill.quantizers.exact import linear
from tokenmill.quantizers.quantizer import Quantizer, load

#: Beyond it, tanh of a float32 is 1; components are compared with thresholds in between.
_LARGEST = 32.0


class FiniteScalarQuantizer(Quantizer):
    """FSQ. `state` is that of the library's `FSQ(levels, num_codebooks=…, keep_num_codebooks_dim=True)`.

    The library rounds `tanh`; the thresholds are the very float32 at which its rounded result steps up, found by
    bisection, and a code is the number of thresholds reached.
    """

    def __init__(self, config: FiniteScalarConfig, state: Mapping[str, Tensor] | None, device: torch.device) -> None:
        super().__init__(config, device)
        module = FSQ(
            config.levels,
            dim=config.dimension,
            num_codebooks=config.codebooks,
            keep_num_codebooks_dim=True,
            preserve_symmetry=config.symmetric,
            bound_hard_clamp=config.bound == "clamp",
        )
        self._thresholds = [thresholds.to(device) for thresholds in _steps(module, config.levels)]
        self._module = load(module, state, device)
        self._config = config

    def _encode(self, vectors: Tensor) -> Tensor:
        # Divided by a tensor: by a number, torch multiplies with a rounded reciprocal on some devices.
        scaled = vectors / torch.full((), self._config.scale, device=self.device)
        components = _project(self._module, scaled)
        components = components.reshape(len(vectors), self._config.codebooks, len(self._config.levels))
        codes = torch.zeros(components.shape[:2], dtype=torch.int64, device=self.device)
        place = 1
        for component, (levels, thresholds) in enumerate(zip(self._config.levels, self._thresholds, strict=True)):
            reached = torch.bucketize(components[..., component].contiguous(), thresholds, right=True)
            codes += place * reached
            place *= levels
        return codes

    def _decode(self, codes: Tensor) -> Tensor:
        decoded: Tensor = self._module.indices_to_codes(codes)
        return decoded * self._config.scale


class BinaryQuantizer(Quantizer):
    """LFQ and BSQ. `state` is that of `LFQ(codebook_size=…, num_codebooks=…, keep_num_codebooks_dim=True)`.

    The library's one buffer, `mask`, says nothing that the sizes do not, and may be left out.
    """

    def __init__(
        self,
        config: LookupFreeConfig | BinarySphericalConfig,
        state: Mapping[str, Tensor] | None,
        device: torch.device,
    ) -> None:
        super().__init__(config, device)
        module = LFQ(
            dim=config.dimension,
            codebook_size=1 << config.bits_a_codebook,
            num_codebooks=config.codebooks,
            keep_num_codebooks_dim=True,
            spherical=isinstance(config, BinarySphericalConfig),
        )
        self._module = load(module, {"mask": module.mask, **(state or {})}, device)
        self._config = config

    def _encode(self, vectors: Tensor) -> Tensor:
        components = _project(self._module, vectors)
        # Bringing a vector to length 1, as BSQ does, changes no sign.
        bits = components.reshape(len(vectors), self._config.codebooks, self._config.bits_a_codebook) > 0
        codes: Tensor = (bits * self._module.mask).sum(dim=-1)
        return codes

    def _decode(self, codes: Tensor) -> Tensor:
        decoded: Tensor = self._module.indices_to_codes(codes)
        return decoded


def _project(module: Any, vectors: Tensor) -> Tensor:
    """Return `module.project_in(vectors)`, exactly rounded: float32 `[vector, component]`."""
    return linear(vectors, module.project_in.weight, module.project_in.bias) if module.has_projections else vectors


def _steps(module: Any, levels: tuple[int, ...]) -> list[Tensor]:
    """Return, for each component, the smallest float32 at which its level is 1, 2 …: ascending `[level - 1]`."""
    components = len(levels)
    wanted = torch.arange(1, max(levels)).unsqueeze(1).expand(-1, components)
    low = torch.full(wanted.shape, _order(-_LARGEST), dtype=torch.int64)
    high = torch.full(wanted.shape, _order(_LARGEST), dtype=torch.int64)
    with torch.inference_mode():
        while bool((high - low > 1).any()):
            middle = (low + high) // 2
            reached = module._scale_and_shift(module.quantize(_float(middle))).round() >= wanted
            low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
    return [_float(high[: count - 1, component]).contiguous() for component, count in enumerate(levels)]


def _order(value: float) -> int:
    """Return the place of a float32 among all: the next larger float is one more."""
    bits = int(torch.tensor(value, dtype=torch.float32).view(torch.int32))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFF)


def _float(order: Tensor) -> Tensor:
    """Return the float32 at each place of `_order`."""
    bits = torch.where(order >= 0, order, -order).to(torch.int32).view(torch.float32)
    return torch.where(order >= 0, bits, -bits)
