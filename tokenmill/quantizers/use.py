"""How much of its codebooks a quantizer uses: exact counts, merged from any number of workers. Works without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.errors import SpecError
from tokenmill.statistics.describing import entropy_bits


class CodebookUse:
    """How often each code of each codebook came.

    Args:
        codebook_sizes: Number of codes of each codebook, as `QuantizerConfig.codebook_sizes` has them.
    """

    def __init__(self, codebook_sizes: Sequence[int]) -> None:
        #: For each codebook int64 `[code]`.
        self.counts: list[npt.NDArray[np.int64]] = [np.zeros(size, np.int64) for size in codebook_sizes]

    def add(self, codes: npt.ArrayLike) -> None:
        """Count codes.

        Args:
            codes: Integers `[vector, codebook]`: an array, or a tensor on the CPU.

        Raises:
            SpecError: The codes have another shape, or one is none of its codebook's; nothing was counted.
        """
        numbers = np.asarray(codes).astype(np.int64, copy=False)
        if numbers.ndim != 2 or numbers.shape[1] != len(self.counts):
            raise SpecError(f"codes are {list(numbers.shape)}; there are {len(self.counts)} codebooks")
        sizes = [len(counts) for counts in self.counts]
        if ((numbers < 0) | (numbers >= np.array(sizes))).any():
            raise SpecError(f"a code is none of its codebook's; they have {sizes} codes")
        for codebook, counts in enumerate(self.counts):
            counts += np.bincount(numbers[:, codebook], minlength=len(counts))

    def merge(self, other: CodebookUse) -> None:
        """Add another's counts; raises SpecError where its codebooks have other sizes."""
        if [len(counts) for counts in self.counts] != [len(counts) for counts in other.counts]:
            raise SpecError("counts of codebooks of different sizes do not merge")
        for counts, more in zip(self.counts, other.counts, strict=True):
            counts += more

    def summary(self) -> list[dict[str, Any]]:
        """Return what each codebook's counts say.

        Returns:
            For each codebook `codes` (its size), `vectors` counted, `used` and `dead` codes, `entropy_bits` of a code
            and `perplexity`, 2 to that power: how many codes, all as frequent, would say as much. The last two are
            None where nothing was counted.
        """
        rows = []
        for counts in self.counts:
            used = counts[counts > 0]
            bits = entropy_bits(used)
            rows.append(
                {
                    "codes": len(counts),
                    "vectors": int(counts.sum()),
                    "used": len(used),
                    "dead": len(counts) - len(used),
                    "entropy_bits": bits,
                    "perplexity": None if bits is None else 2.0**bits,
                }
            )
        return rows

    def to_json(self) -> dict[str, Any]:
        """Return the counts as JSON, which `from_json` reads back; codes that never came are left out."""
        return {
            "codebooks": [
                {"codes": len(counts), "ids": np.flatnonzero(counts).tolist(), "counts": counts[counts > 0].tolist()}
                for counts in self.counts
            ]
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CodebookUse:
        """Read what `to_json` wrote."""
        use = cls([codebook["codes"] for codebook in value["codebooks"]])
        for counts, codebook in zip(use.counts, value["codebooks"], strict=True):
            counts[codebook["ids"]] = codebook["counts"]
        return use
