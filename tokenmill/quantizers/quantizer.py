"""What a built quantizer is, whatever its kind: checked vectors in, codes out, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tokenmill.errors import AssetError, ItemError, SpecError
from tokenmill.quantizers.config import BaseQuantizerConfig


class Quantizer(ABC):
    """Vectors to codes and back, for inference.

    A vector's codes depend on that vector alone: not on its batch, the number of threads, or the device.

    Args:
        config: Sizes and rules.
        device: Where it computes.
    """

    def __init__(self, config: BaseQuantizerConfig, device: torch.device) -> None:
        self.config = config
        self.device = device
        #: Components of a vector.
        self.dimension = config.dimension
        self._sizes = torch.tensor(config.codebook_sizes, device=device)

    def encode(self, vectors: Tensor) -> Tensor:
        """Quantize vectors.

        Args:
            vectors: float `[vector, dimension]`, on any device; taken as float32.

        Returns:
            int64 `[vector, codebook]`, on the quantizer's device.

        Raises:
            SpecError: The vectors have another shape.
            ItemError: A component is infinite or not a number.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise SpecError(f"vectors are {list(vectors.shape)}; the quantizer takes [vector, {self.dimension}]")
        with torch.inference_mode():
            vectors = vectors.to(self.device, torch.float32).contiguous()
            if not bool(vectors.isfinite().all()):
                raise ItemError("not_finite", "a vector to be quantized has a component that is infinite or no number")
            if not len(vectors):
                return torch.empty((0, len(self._sizes)), dtype=torch.int64, device=self.device)
            return self._encode(vectors)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the vectors that codes stand for.

        Args:
            codes: integers `[vector, codebook]`, on any device. Of a nested kind, the first codebooks' codes alone
                decode to coarser vectors.

        Returns:
            float32 `[vector, dimension]`, on the quantizer's device.

        Raises:
            SpecError: The codes have another shape, or one is none of its codebook's.
        """
        count = codes.shape[1] if codes.ndim == 2 else 0
        if not self._takes(count):
            raise SpecError(f"codes are {list(codes.shape)}; the quantizer takes [vector, {len(self._sizes)}]")
        with torch.inference_mode():
            codes = codes.to(self.device, torch.int64)
            if not bool(((codes >= 0) & (codes < self._sizes[:count])).all()):
                raise SpecError(f"a code is none of its codebook's; they have {self.config.codebook_sizes} codes")
            return self._decode(codes)

    def _takes(self, codebooks: int) -> bool:
        """Whether codes of the first so many codebooks decode."""
        return codebooks == len(self._sizes) or (self.config.nested and 0 < codebooks < len(self._sizes))

    @abstractmethod
    def _encode(self, vectors: Tensor) -> Tensor:
        """Quantize at least one vector, finite, contiguous and on the device."""

    @abstractmethod
    def _decode(self, codes: Tensor) -> Tensor:
        """Decode codes that are in their codebooks."""


def load(module: Any, state: Mapping[str, Tensor] | None, device: torch.device) -> Any:
    """Load a state into a module, for inference; raises AssetError where they do not match."""
    given = dict(state or {})
    wanted = module.state_dict()
    missing, unknown = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    shapes = [name for name in wanted.keys() & given.keys() if wanted[name].shape != given[name].shape]
    what = type(module).__name__.lstrip("_")
    if missing or unknown:
        said = [f"lacks {', '.join(missing[:3])}"] * bool(missing) + [f"has {', '.join(unknown[:3])}"] * bool(unknown)
        raise AssetError(
            f"{what} of this config has other tensors: the state {' and '.join(said)}",
            fix="give the state_dict of that alone, without a prefix, and its sizes in the config",
        )
    if shapes:
        name = min(shapes)
        raise AssetError(
            f"the state's {name} is {list(given[name].shape)}; {what} of this config has {list(wanted[name].shape)}"
        )
    for name, tensor in given.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise AssetError(f"the state's {name} holds a number that is infinite or none")
        if name.endswith(".initted") and not bool(tensor):
            raise AssetError(f"the state's codebook was never made ({name} is false)", fix="train or `fit` it first")
    module.load_state_dict(given)
    return module.eval().requires_grad_(False).to(device)


class _Quantizer(torch.nn.Module):
    """Holds the tensors of a kind that the library lacks."""


def load_tensors(
    state: Mapping[str, Tensor] | None, shapes: Mapping[str, tuple[int, ...]], device: torch.device
) -> dict[str, Tensor]:
    """Return the named tensors of a state as float32 on the device; raises AssetError where they do not match."""
    holder = _Quantizer()
    for name, shape in shapes.items():
        holder.register_buffer(name, torch.empty(shape))
    return dict(load(holder, state, device).named_buffers())
