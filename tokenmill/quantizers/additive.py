"""Additive quantization: a vector as the sum of one code from each codebook, the codes chosen by beam search.

Babenko and Lempitsky, "Additive Quantization for Extreme Vector Compression", CVPR 2014. The codebooks are gone
through in their order, which the paper leaves free: so the first codes alone decode to a coarser vector.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tokenmill.quantizers.config import AdditiveConfig
from tokenmill.quantizers.exact import Codes, smallest
from tokenmill.quantizers.quantizer import Quantizer, load_tensors

#: Entries of the largest table of scores that is held at once: 32 MiB.
_LARGEST_TABLE = 1 << 22


class AdditiveQuantizer(Quantizer):
    """`additive`. `state` is `codebooks`, float32 `[codebook, code, dimension]`."""

    def __init__(self, config: AdditiveConfig, state: Mapping[str, Tensor] | None, device: torch.device) -> None:
        super().__init__(config, device)
        shape = (config.codebooks, config.codebook_size, config.dimension)
        self._codebooks = load_tensors(state, {"codebooks": shape}, device)["codebooks"]
        self._search = [Codes(codebook) for codebook in self._codebooks]
        self._config = config

    def _encode(self, vectors: Tensor) -> Tensor:
        step = max(1, _LARGEST_TABLE // (self._config.beam * self._config.codebook_size))
        return torch.cat([self._beam_search(part) for part in torch.split(vectors, step)])

    def _beam_search(self, vectors: Tensor) -> Tensor:
        """Return the codes of the best sum found: int64 `[vector, codebook]`."""
        count, size = len(vectors), self._config.codebook_size
        # What each partial sum leaves over [vector, sum, component], how much less it is than the vector, squared
        # [vector, sum], and its codes [vector, sum, codebook].
        left = vectors.unsqueeze(1)
        error = torch.zeros((count, 1), dtype=torch.float64, device=self.device)
        codes = torch.empty((count, 1, 0), dtype=torch.int64, device=self.device)
        for codebook, search in zip(self._codebooks, self._search, strict=True):
            sums = left.shape[1]
            scores = search.scores(left.reshape(count * sums, -1)).reshape(count, sums, size)
            scores = scores.add_(error.unsqueeze(2)).reshape(count, sums * size)
            kept = smallest(scores, min(self._config.beam, sums * size))
            parent, code = kept // size, kept % size
            error = scores.gather(1, kept)
            left = _take(left, parent) - codebook[code]
            codes = torch.cat([_take(codes, parent), code.unsqueeze(2)], dim=2)
        return codes[:, 0]

    def _decode(self, codes: Tensor) -> Tensor:
        decoded = self._codebooks[0][codes[:, 0]]
        for number in range(1, codes.shape[1]):
            decoded = decoded + self._codebooks[number][codes[:, number]]
        return decoded


def _take(values: Tensor, indices: Tensor) -> Tensor:
    """Return `values[vector, indices[vector, sum]]` of `[vector, sum, …]`."""
    return values.gather(1, indices.unsqueeze(2).expand(-1, -1, values.shape[2]))
