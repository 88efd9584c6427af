"""k-means (Lloyd, "Least squares quantization in PCM", 1982): codebooks from sample vectors, the same every time.

Vectors are taken in pieces, so that memory is bounded; sums are of integers, so that no order of adding matters.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokenmill.errors import TokenizerError
from tokenmill.quantizers.exact import Codes, smallest, squared_lengths

#: Vectors a code that are looked at, drawn from those given; more change little (faiss looks at as many).
MOST_VECTORS_A_CODE = 256


def k_means(
    vectors: Tensor, count: int, generator: torch.Generator, iterations: int, *, cosine: bool = False
) -> tuple[Tensor, Tensor]:
    """Find codes near which the vectors lie.

    Args:
        vectors: float32 `[vector, component]`.
        count: Number of codes.
        generator: On the CPU.
        iterations: Rounds of assigning vectors to codes and moving the codes to their means.
        cosine: Whether vectors count by their direction alone; codes then have length 1.

    Returns:
        The codes, float32 `[code, component]`, and how many vectors they are the mean of, int64 `[code]`.

    Raises:
        TokenizerError: There are fewer vectors than codes.
    """
    if len(vectors) < count:
        raise TokenizerError(f"{count} codes cannot be made of {len(vectors)} vectors", fix="give more vectors")
    vectors = sample(vectors, count * MOST_VECTORS_A_CODE, generator)
    if cosine:
        vectors = torch.nn.functional.normalize(vectors, dim=1)
    codes = vectors[torch.randperm(len(vectors), generator=generator)[:count].to(vectors.device)]
    sizes = torch.ones(count, dtype=torch.int64, device=vectors.device)
    for _ in range(iterations):
        nearest = Codes(codes).nearest(vectors)
        codes, sizes = means(vectors, nearest, codes)
        empty = (sizes == 0).nonzero()[:, 0]
        if len(empty):
            # Codes that nothing is near to go where the vectors are farthest from theirs.
            farthest = smallest(-squared_lengths(vectors - codes[nearest]).unsqueeze(0), len(empty))[0]
            codes[empty], sizes[empty] = vectors[farthest], 1
        if cosine:
            codes = torch.nn.functional.normalize(codes, dim=1)
    return codes, sizes


def sample(vectors: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return at most `count` of the vectors `[vector, component]`, drawn without repetition."""
    if len(vectors) <= count:
        return vectors
    return vectors[torch.randperm(len(vectors), generator=generator)[:count].to(vectors.device)]


def means(vectors: Tensor, assigned: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of the vectors assigned to each code, or the code where there are none, and their numbers.

    Args:
        vectors: float32 `[vector, component]`.
        assigned: int64 `[vector]`, the code of each.
        codes: float32 `[code, component]`.

    Returns:
        float32 `[code, component]` and int64 `[code]`.
    """
    sizes = torch.bincount(assigned, minlength=len(codes))
    unit = float(vectors.abs().max()) * 2.0 ** -(52 - len(vectors).bit_length()) or 1.0
    integers = torch.round(vectors.to(torch.float64) / unit).to(torch.int64)
    sums = torch.zeros(codes.shape, dtype=torch.int64, device=codes.device).index_add_(0, assigned, integers)
    found = (sums.to(torch.float64) * unit / sizes.clamp(min=1).unsqueeze(1)).to(torch.float32)
    return torch.where((sizes > 0).unsqueeze(1), found, codes), sizes
