"""Small KARL networks of random weights, saved as the published ones are, and images for them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tokenmill.images.geometry import Geometry
from tokenmill.images.image_file import ImageFile
from tokenmill.tokenizers.karl import KarlTokenizer
from tokenmill.tokenizers.karl.network import KarlNetwork, Sizes
from tokenmill.tokenizers.karl.vqgan import VqganSizes

SIZES = Sizes(
    width=96,
    heads=4,
    encoder_layers=2,
    decoder_layers=3,
    hidden=192,
    latents=40,
    grid=(8, 8),
    halting_hidden=24,
    logits_hidden=64,
    vqgan=VqganSizes(channels=32, multipliers=(1, 1, 1, 2, 2), blocks=1, map_channels=32, codes=50),
)
TOKENS = 24


def random_network(sizes: Sizes = SIZES, *, halting_spread: float = 40.0, halting_bias: float = 0.0) -> KarlNetwork:
    """Return a network whose halting probabilities lie as far apart as `halting_spread` says."""
    network = KarlNetwork(sizes)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                fan_in = parameter[0].numel() if parameter.ndim in (2, 4) else 4
                parameter.normal_(0, fan_in**-0.5, generator=generator)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.1, generator=generator)
        network.patch_embed.weight.mul_(4)  # so that images differ in more than a few codes
        network.get_parameter("halting_mlp.2.weight").mul_(halting_spread)
        network.get_parameter("halting_mlp.2.bias").fill_(halting_bias)
        # Dim images, as those are that tests encode: the errors lie among those that can be asked for.
        network.get_parameter("base_tokenizer.vqgan.decoder.conv_out.weight").mul_(0.3)
        network.get_parameter("base_tokenizer.vqgan.decoder.conv_out.bias").fill_(0.2)
    return network.requires_grad_(False).eval()


def save(network: KarlNetwork, path: Path, key: str | None = "ema") -> str:
    """Write the state dict as a training run leaves it: under a key, beside others."""
    state: dict[str, Any] = dict(network.state_dict())
    torch.save(state if key is None else {key: state, "epoch": 3}, path)
    return str(path)


def tokenizer(weights: str, **options: Any) -> KarlTokenizer:
    """Return a config for `SIZES`, of 64-pixel images."""
    fields = {"geometry": Geometry(edge=64), "heads": SIZES.heads, "tokens": TOKENS, "batch_size": 3, **options}
    return KarlTokenizer(weights=weights, **fields)


def image_files(count: int = 5) -> list[ImageFile]:
    """Return PNG files of unequal sizes: a slope in another colour and another direction each, with ever more noise."""
    random = np.random.default_rng(3)
    files = []
    for number in range(count):
        rows, columns = 40 + 30 * number, 120 - 9 * number
        slope = np.add.outer(np.linspace(0, 20 * number, rows), np.linspace(120, 20 * number, columns))[..., None]
        pixels = slope * random.uniform(0.1, 1, 3) + random.uniform(0, 1 + 18 * number, (rows, columns, 3))
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
        files.append(ImageFile(buffer.getvalue()))
    return files
