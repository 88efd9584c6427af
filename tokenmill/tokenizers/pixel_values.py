"""Pixels as networks take and give them: floats in [-1, 1], channels first."""

from __future__ import annotations

import torch
from torch import Tensor


def from_pixels(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """From uint8 `[tile, row, column, channel]` to `[tile, channel, row, column]` in [-1, 1]."""
    return (pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).to(dtype)


def to_pixels(values: Tensor) -> Tensor:
    """From `[tile, channel, row, column]` in [-1, 1] to uint8 `[tile, row, column, channel]`, rounded."""
    scaled = ((values.float() + 1) * 127.5).round().clamp(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).cpu()
