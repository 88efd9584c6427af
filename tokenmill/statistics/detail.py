"""A small table beside the large one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Detail:
    """A small table of something that not every table has; the first column is text."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
