"""From a row's codes back to an image, and to a coarser row of fewer codes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from tokenmill.tokenizers.karl.layout import load_network
from tokenmill.tokenizers.karl.network import KarlNetwork
from tokenmill.tokenizers.karl.tokenizer import KarlTokenizer

Row = Mapping[str, npt.NDArray[Any]]


def load_decoder(tokenizer: KarlTokenizer) -> KarlDecoder:
    """Load the network onto the CPU, in float32; raises AssetError."""
    network = load_network(tokenizer.weights, tokenizer.weights_key, tokenizer.heads, tokenizer.tokens)
    return KarlDecoder(network, tokenizer.tokens, tokenizer.grid)


class KarlDecoder:
    """Decodes a row at a time, on the CPU."""

    def __init__(self, network: KarlNetwork, tokens: int, grid: tuple[int, int]) -> None:
        self._network = network
        self._tokens = tokens
        self._grid = grid

    def decode(self, streams: Row) -> Image.Image:
        """Return the image of a row's `positions` and `ids`; a row of none gives what the network holds for likely."""
        places = torch.from_numpy(streams["positions"].astype(np.int64))
        codes = torch.zeros(1, self._tokens, dtype=torch.int64)
        codes[0, places] = torch.from_numpy(streams["ids"].astype(np.int64))
        kept = torch.zeros(1, self._tokens, dtype=torch.bool)
        kept[0, places] = True
        with torch.inference_mode():
            pixels = to_bytes(self._network.decode(codes, kept, self._grid))[0]
        return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())

    def prefix(self, streams: Row, fraction: float) -> dict[str, npt.NDArray[Any]]:
        """Return a row with that fraction of the codes, the first ones, rounded up: at least one where there is one.

        `error` and `outcome` stay as they are: what was recorded of all the codes.
        """
        count = max(math.ceil(len(streams["ids"]) * fraction), 1)
        return {name: values[:count] if name in ("ids", "positions") else values for name, values in streams.items()}


def to_bytes(pixels: Tensor) -> Tensor:
    """Return pixels of [0, 1], clamped and rounded, in uint8."""
    return (pixels.float().clamp(0, 1) * 255).round().to(torch.uint8)
