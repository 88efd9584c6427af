"""The arithmetic of tokenizers that are neural networks, for configs, which must not need torch."""

from __future__ import annotations

from typing import Literal

Precision = Literal["float32", "bfloat16", "float16"]
"""Of a network's weights and arithmetic; part of a table's identity, for codes may differ."""
