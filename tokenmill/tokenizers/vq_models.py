"""VQ models, loaded: pixels to codes and back, as each model's own library does it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tokenmill.tokenizers.pixel_values import from_pixels, to_pixels
from tokenmill.tokenizers.precision import Precision


class VqModel:
    """A VQ model on a device.

    Vectors are quantized in float32 whatever the precision of the network before them, for distances in 16 bits would
    choose nearly at random among close codes; and image by image, for a matrix product of another shape may round
    otherwise, and the distances of a whole batch to every code take more memory than the network.

    Args:
        model: Of transformers or diffusers, on the CPU, in float32.
        name: Its architecture, as `config.json` names it.
        precision: Of the network.
        device: Where it runs.
    """

    def __init__(self, model: Any, name: str, precision: Precision, device: torch.device) -> None:
        self._name = name
        self._dtype: torch.dtype = getattr(torch, precision)
        # Module's own `to`: diffusers' would log that it keeps no module in float32.
        self._model: Any = torch.nn.Module.to(model, device, self._dtype)
        self._model.quantize.float()

    def encode(self, pixels: Tensor) -> Tensor:
        """From uint8 `[tile, row, column, channel]` to int64 `[tile, row, column]`."""
        vectors = self._vectors(self._values(pixels)).float()
        codes = [self._quantize(vectors[i : i + 1].clone()) for i in range(len(vectors))]
        return torch.stack(codes).reshape(len(vectors), *vectors.shape[-2:])

    def decode(self, codes: Tensor) -> Tensor:
        """From ids `[tile, row, column]` to uint8 `[tile, row, column, channel]`."""
        codes = codes.long()
        model = self._model
        if self._name == "emu3_vqgan":
            return to_pixels(model.decode(codes))
        if self._name == "janus_vqgan":
            # Its decoder knows one size, that of its training; the network itself takes any.
            model.quantize.quant_state_dims = list(codes.shape[1:])
            return to_pixels(model.decode(codes.flatten(1)))
        shape = (*codes.shape, model.quantize.vq_embed_dim)
        if model.config.lookup_from_codebook:
            return to_pixels(model.decode(codes, force_not_quantize=True, shape=shape).sample)
        vectors = model.quantize.get_codebook_entry(codes, shape=shape)
        return to_pixels(model.decode(vectors, force_not_quantize=True).sample)

    def _values(self, pixels: Tensor) -> Tensor:
        """Normalise pixels as the model's processor does: `[tile, channel, row, column]`."""
        if self._name == "chameleon_vqgan":
            # ChameleonImageProcessor: rescale_factor 0.0078, mean 1, standard deviation 1.
            return (pixels.permute(0, 3, 1, 2).float() * 0.0078 - 1).to(self._dtype)
        # Mean and standard deviation 0.5: Emu3VisionVQImageProcessor (from whose files Emu3ImageProcessor is made),
        # Janus' own generation (its VQ model decodes to [-1, 1]), diffusers' VaeImageProcessor.
        return from_pixels(pixels, self._dtype)

    def _vectors(self, values: Tensor) -> Tensor:
        """Return what the model's `encode` gives its quantizer: `[tile, …, row, column]`."""
        model = self._model
        if self._name == "VQModel":
            vectors: Tensor = model.encode(values).latents
        elif self._name == "emu3_vqgan":
            # A model of video: an image is as many equal frames as it makes one of (Emu3VQVAE.encode).
            frames = values.unsqueeze(1).repeat(1, model.config.temporal_downsample_factor, 1, 1, 1)
            vectors = model.quant_conv(model.encoder(frames).permute(0, 2, 1, 3, 4)).permute(0, 2, 1, 3, 4)
        else:
            vectors = model.quant_conv(model.encoder(values))
        return vectors

    def _quantize(self, vectors: Tensor) -> Tensor:
        found = self._model.quantize(vectors)
        if self._name == "emu3_vqgan":
            codes: Tensor = found
        elif self._name == "VQModel":
            codes = found[2][2]
        else:
            codes = found[2]
        return codes
