from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from tests.quantizers.cases import CONFIGS
from tokenmill.quantizers import FiniteScalarConfig, QuantizerConfig, ResidualConfig
from tokenmill.quantizers.config import BaseQuantizerConfig

ADAPTER: TypeAdapter[BaseQuantizerConfig] = TypeAdapter(QuantizerConfig)


@pytest.mark.parametrize("kind", CONFIGS)
def test_configs_survive_json_and_are_told_apart_by_kind(kind: str) -> None:
    config = CONFIGS[kind]
    assert ADAPTER.validate_python(config.model_dump(mode="json")) == config
    # As a tokenizer's `to_json` has it, which leaves out what is a default.
    assert ADAPTER.validate_python(config.model_dump(mode="json", exclude_defaults=True)) == config
    assert type(ADAPTER.validate_json(config.model_dump_json())) is type(config)


@pytest.mark.parametrize(
    ("kind", "sizes", "dtype", "bits", "nested"),
    [
        ("vq", (50,), "uint8", 5.643856, False),
        ("residual", (40, 30, 20), "uint8", 14.550747, True),
        ("product", (30, 30, 30), "uint8", 14.720672, False),
        ("fsq", (160,) * 4, "uint8", 29.287712, False),
        ("lfq", (64, 64), "uint8", 12.0, False),
        ("bsq", (16, 16, 16), "uint8", 12.0, False),
        ("additive", (30, 30, 30), "uint8", 14.720672, True),
        ("graph-anchor", (30, 40) * 3, "uint8", 30.686457, True),
    ],
)
def test_what_follows_from_the_sizes(
    kind: str, sizes: tuple[int, ...], dtype: str, bits: float, *, nested: bool
) -> None:
    config = CONFIGS[kind]
    assert config.codebook_sizes == sizes
    assert config.vocabulary_size == max(sizes)
    assert config.stream_dtype == dtype
    assert config.bits == pytest.approx(bits, abs=1e-6)
    assert config.nested is nested
    assert config.dimension == 12


def test_one_size_serves_all_codebooks_of_a_residual_quantizer() -> None:
    config = ResidualConfig(dimension=4, codebook_size=1024, codebooks=8)
    assert config.codebook_sizes == (1024,) * 8
    assert config.stream_dtype == "uint16"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"kind": "residual", "dimension": 4, "codebook_size": 8}, "codebooks is missing"),
        ({"kind": "residual", "dimension": 4, "codebook_size": [8, 8], "codebooks": 3}, "names 2 codebooks"),
        ({"kind": "product", "dimension": 4, "codebook_size": 8, "codebooks": 3}, "into 3 equal parts"),
        ({"kind": "fsq", "levels": [256, 256, 256]}, "more codebooks"),
        ({"kind": "fsq", "levels": [2, 3]}, "symmetric"),
        ({"kind": "fsq", "levels": [3], "scale": 0.0}, "greater than 0"),
        ({"kind": "lfq", "bits_a_codebook": 21}, "less than or equal to 20"),
        ({"kind": "graph-anchor", "dimension": 4, "anchors": 2, "relations": 2}, "of only 2 anchors"),
        ({"kind": "vq", "dimension": 4, "codebook_size": 1}, "greater than or equal to 2"),
        ({"kind": "vq", "dimension": 4, "codebook_size": 8, "metric": "l1"}, "cosine"),
        ({"kind": "pq", "dimension": 4}, "graph-anchor"),
    ],
)
def test_configs_that_cannot_work_are_refused(value: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ADAPTER.validate_python(value)


def test_projected_vectors_have_a_dimension_of_their_own() -> None:
    assert FiniteScalarConfig(levels=(8, 8)).dimension == 2
    assert FiniteScalarConfig(levels=(8, 8), projected_from=64).dimension == 64


def test_configs_and_statistics_need_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from tokenmill.errors import MissingExtraError\n"
        "from tokenmill.quantizers import CodebookUse, LookupFreeConfig\n"
        "config = LookupFreeConfig(bits_a_codebook=2)\n"
        "use = CodebookUse(config.codebook_sizes); use.add([[3]]); use.summary()\n"
        "try: config.build()\n"
        "except MissingExtraError as error: print(error)\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "need the package torch" in printed
    assert "tokenmill[networks]" in printed
