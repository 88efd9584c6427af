from __future__ import annotations

import json

import numpy as np
import pytest

from tests.quantizers.cases import CONFIGS, draw, fitted
from tokenmill.errors import SpecError
from tokenmill.quantizers import CodebookUse


def test_what_counts_say() -> None:
    use = CodebookUse((4, 3))
    use.add(np.array([[0, 2], [1, 2], [0, 2], [1, 2]], np.uint8))
    assert use.summary() == [
        {"codes": 4, "vectors": 4, "used": 2, "dead": 2, "entropy_bits": 1.0, "perplexity": 2.0},
        {"codes": 3, "vectors": 4, "used": 1, "dead": 2, "entropy_bits": 0.0, "perplexity": 1.0},
    ]


def test_nothing_counted_has_no_entropy() -> None:
    row = {"codes": 4, "vectors": 0, "used": 0, "dead": 4, "entropy_bits": None, "perplexity": None}
    assert CodebookUse((4,)).summary() == [row]


@pytest.mark.parametrize("kind", CONFIGS)
def test_parts_merge_to_the_whole_and_survive_json(kind: str) -> None:
    sizes = CONFIGS[kind].codebook_sizes
    codes = fitted(kind).encode(draw(1000, seed=1))
    whole, merged = CodebookUse(sizes), CodebookUse(sizes)
    whole.add(codes)
    for part in np.array_split(codes.numpy(), 7):
        use = CodebookUse(sizes)
        use.add(part)
        merged.merge(CodebookUse.from_json(json.loads(json.dumps(use.to_json()))))
    assert merged.to_json() == whole.to_json()
    assert merged.summary() == whole.summary()
    assert all(0.2 * row["codes"] < row["perplexity"] <= row["codes"] for row in whole.summary())


def test_codes_of_other_codebooks_are_refused() -> None:
    use = CodebookUse((4, 3))
    for codes in ([[0, 3]], [[-1, 0]]):
        with pytest.raises(SpecError, match=r"\[4, 3\] codes"):
            use.add(codes)
    for shape in ((1, 1), (2,)):
        with pytest.raises(SpecError, match="there are 2 codebooks"):
            use.add(np.zeros(shape, np.int64))
    with pytest.raises(SpecError, match="different sizes"):
        use.merge(CodebookUse((4, 4)))
    assert use.summary()[0]["vectors"] == 0
