"""Image autoencoders, loaded: pixels to latents, or to a quantizer's codes, and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tokenmill.quantizers.quantizer import Quantizer
from tokenmill.tokenizers.latent_scales import LatentScales
from tokenmill.tokenizers.pixel_values import from_pixels, to_pixels
from tokenmill.tokenizers.precision import Precision


class LatentModel:
    """An autoencoder on a device.

    Args:
        model: AutoencoderTiny, AutoencoderKL or AutoencoderDC of diffusers, on the CPU.
        precision: Of its weights and arithmetic.
        device: Where it runs.
        quantizer: Of each cell's latents, or None.
        scales: By which latents are normalised for the quantizer, or None.
    """

    def __init__(
        self,
        model: Any,
        precision: Precision,
        device: torch.device,
        quantizer: Quantizer | None = None,
        scales: LatentScales | None = None,
    ) -> None:
        self._dtype: torch.dtype = getattr(torch, precision)
        # Module's own `to`: diffusers' would log that it keeps no module in float32.
        self._model: Any = torch.nn.Module.to(model, device, self._dtype)
        self._quantizer = quantizer
        self._means = torch.tensor(scales.means if scales else 0.0, device=device)
        self._deviations = torch.tensor(scales.deviations if scales else 1.0, device=device)

    def encode(self, pixels: Tensor) -> Tensor:
        """From uint8 `[tile, row, column, channel]` to float16 `[tile, row, column, channel]`, or the codes' int64."""
        latents = self.latents(pixels)
        if self._quantizer is None:
            return latents.half()
        vectors = (latents - self._means) / self._deviations
        codes = self._quantizer.encode(vectors.reshape(-1, vectors.shape[-1]))
        return codes.reshape(*vectors.shape[:-1], -1)

    def latents(self, pixels: Tensor) -> Tensor:
        """From uint8 `[tile, row, column, channel]` to the model's own, float32 `[tile, row, column, channel]`."""
        found = self._model.encode(from_pixels(pixels, self._dtype))
        if "latent_dist" in found:  # AutoencoderKL: a distribution's mean, so that an image has one row of latents
            latents: Tensor = found.latent_dist.mode()
        else:
            latents = found.latents if "latents" in found else found.latent
        return latents.float().permute(0, 2, 3, 1)

    def decode(self, cells: Tensor) -> Tensor:
        """From what `encode` returned, `[tile, row, column, …]`, to uint8 `[tile, row, column, channel]`."""
        if self._quantizer is None:
            latents = cells.float()
        else:
            vectors = self._quantizer.decode(cells.reshape(-1, cells.shape[-1]).long())
            latents = vectors.reshape(*cells.shape[:-1], -1) * self._deviations + self._means
        return to_pixels(self._model.decode(latents.permute(0, 3, 1, 2).to(self._dtype)).sample)
