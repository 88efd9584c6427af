"""The transformer block that KARL's encoder and decoder are made of, under the names of its published weights.

Pre-normalised, with full attention and a GELU between the two layers of its MLP. A mask speaks of keys and is one row
an image: it is broadcast over heads and queries, so that no layout of heads can mix images of a batch.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F  # noqa: N812  the name that everyone knows it by
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention with one projection to queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, sequence: Tensor, visible: Tensor | None) -> Tensor:
        """Attend.

        Args:
            sequence: `[batch, place, width]`.
            visible: bool `[batch, place]`, the places that may be looked at; None for all.

        Returns:
            `[batch, place, width]`.
        """
        batch, places, width = sequence.shape
        projected = F.linear(sequence, self.in_proj_weight, self.in_proj_bias)
        # [projection, batch, head, place, channel]
        query, key, value = projected.view(batch, places, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mask = None if visible is None else visible[:, None, None, :].expand(batch, 1, places, places)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        result: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(batch, places, width))
        return result


class Block(nn.Module):
    """Attention, then an MLP, each added to its input."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, hidden), gelu=nn.GELU(), c_proj=nn.Linear(hidden, width))
        )

    def forward(self, sequence: Tensor, visible: Tensor | None = None) -> Tensor:
        """Return `[batch, place, width]` from the same; `visible` as in `Attention`."""
        sequence = sequence + self.attn(self.ln_1(sequence), visible)
        result: Tensor = sequence + self.mlp(self.ln_2(sequence))
        return result
