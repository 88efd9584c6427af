"""Which rows belong to training and which to validation: decided by a hash of the row's key, the same everywhere.

A key falls into validation where the first 8 bytes of BLAKE2b (digest size 8, the seed in decimal as its key), read as
a little-endian number and divided by 2^64, are below the fraction. Rows of equal keys never part, in any table, dataset
or generation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tokenmill.errors import LoaderError


@dataclass(frozen=True)
class Subset:
    """The training or the validation rows of a table.

    Attributes:
        part: Which of the two.
        fraction: Share of the keys that is validation, between 0 and 1.
        seed: Another seed chooses other keys.
    """

    part: Literal["train", "validation"]
    fraction: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if self.part not in ("train", "validation"):
            raise LoaderError(f"subset {self.part!r} is neither 'train' nor 'validation'")
        if not 0 < self.fraction < 1:
            raise LoaderError(f"the fraction of validation keys is {self.fraction}; it must lie between 0 and 1")

    def __str__(self) -> str:
        return f"{self.part}, fraction {self.fraction}, seed {self.seed}"

    def contains(self, key: str) -> bool:
        """Say whether rows of a key belong to the subset."""
        return bool(self.select([key])[0])

    def select(self, keys: Iterable[str]) -> npt.NDArray[np.bool_]:
        """Return bool `[key]`: which keys belong to the subset."""
        seed = str(self.seed).encode()
        digests = b"".join(hashlib.blake2b(key.encode(), digest_size=8, key=seed).digest() for key in keys)
        validation = np.frombuffer(digests, "<u8") < np.uint64(self.fraction * 2.0**64)
        return validation if self.part == "validation" else ~validation
