"""Arithmetic whose result for a row depends on that row alone: on no neighbour, batch size, thread or device.

A matrix product adds in an order that its library chooses by the shapes it sees, so that the last bits of a distance,
and with them the nearest code, may change with the batch. Here factors are rounded to integers times a power of two
of their row, as few bits that every sum of products is exact in float64: then no order of adding gives another
result. All else is elementwise. Rounding costs about what float32 does: 22 bits a factor for 256 components.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Entries of the largest table of scores that is held at once: 32 MiB.
_LARGEST_TABLE = 1 << 22
_MANTISSA_BITS = 53
_EXPONENT_BIAS = 1023


def rounded(values: Tensor) -> Tensor:
    """Round the rows of a matrix so that scalar products of such rows, and sums of their squares, are exact in float64.

    Args:
        values: float `[row, component]`, finite.

    Returns:
        float64 `[row, component]`, in each row whole numbers times one power of two.
    """
    values = values.to(torch.float64)
    bits = (_MANTISSA_BITS - (values.shape[1] - 1).bit_length()) // 2
    exponents = torch.frexp(values.abs().amax(dim=1, keepdim=True)).exponent.to(torch.int64) - bits
    return torch.round(values * _power_of_two(-exponents)) * _power_of_two(exponents)


def squared_lengths(values: Tensor) -> Tensor:
    """Return the squared length of each row `[row, component]`: float64 `[row]`."""
    return rounded(values).square().sum(dim=1)


class Codes:
    """A codebook to be searched.

    Args:
        codebook: float `[code, component]`.
        cosine: Whether the largest scalar product is nearest, in place of the smallest distance.
    """

    def __init__(self, codebook: Tensor, *, cosine: bool = False) -> None:
        self._factors = -2 * rounded(codebook).T
        self._offsets = torch.zeros_like(self._factors[0]) if cosine else squared_lengths(codebook)

    def scores(self, vectors: Tensor) -> Tensor:
        """Return squared distances less the vectors' own squared lengths: float64 `[vector, code]`, least is nearest.

        Args:
            vectors: float32 `[vector, component]`.
        """
        # Not one fused call: only the product is exact, whichever way it is added up.
        return (rounded(vectors) @ self._factors).add_(self._offsets)

    def nearest(self, vectors: Tensor) -> Tensor:
        """Return the nearest code of each vector `[vector, component]`, the first of equals: int64 `[vector]`."""
        step = max(1, _LARGEST_TABLE // len(self._offsets))
        return torch.cat([self.scores(part).argmin(dim=1) for part in torch.split(vectors, step)])

    def nearest_few(self, vectors: Tensor, count: int) -> Tensor:
        """Return the `count` nearest codes, nearest first, of equals the first: int64 `[vector, count]`."""
        step = max(1, _LARGEST_TABLE // len(self._offsets))
        return torch.cat([smallest(self.scores(part), count) for part in torch.split(vectors, step)])


def smallest(scores: Tensor, count: int) -> Tensor:
    """Return where each row's smallest scores lie, smallest first, of equals the first: int64 `[row, count]`.

    `torch.topk` leaves open which of equal scores it takes, and in what order.

    Args:
        scores: `[row, column]`, at least `count` columns.
        count: How many.
    """
    columns = scores.shape[1]
    best = scores.topk(min(count + 1, columns), dim=1, largest=False)
    found = best.indices[:, :count].sort(dim=1).values
    if count < columns:
        tied = (best.values[:, count] == best.values[:, count - 1]).nonzero()[:, 0]
        if len(tied):
            bound = best.values[tied, count - 1].unsqueeze(1)
            below, equal = scores[tied] < bound, scores[tied] == bound
            wanted = count - below.sum(dim=1, keepdim=True)
            found[tied] = (below | (equal & (equal.cumsum(dim=1) <= wanted))).nonzero()[:, 1].reshape(-1, count)
    order = scores.gather(1, found).sort(dim=1, stable=True).indices
    return found.gather(1, order)


def linear(vectors: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return `vectors @ weight.T + bias`: float32 `[vector, output]`."""
    result = rounded(vectors) @ rounded(weight).T
    return (result if bias is None else result + bias.to(torch.float64)).to(torch.float32)


def _power_of_two(exponents: Tensor) -> Tensor:
    """Return 2 to whole exponents between -1022 and 1023, exactly, which `torch.pow` does not promise."""
    return ((exponents + _EXPONENT_BIAS) << (_MANTISSA_BITS - 1)).view(torch.float64)
