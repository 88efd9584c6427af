"""What statistics of modules of LLVM IR say, as plain JSON: what they are made of, what repeats, what tokens take."""

from __future__ import annotations

from typing import Any

import numpy as np

from tokenmill.ir.census import OPCODES, TYPES
from tokenmill.statistics.describing import describe, ratio
from tokenmill.statistics.distinct import Distinct
from tokenmill.statistics.modules import ModuleStatistics
from tokenmill.statistics.stream import StreamStatistics


def summarize_modules(modules: ModuleStatistics, top: int) -> dict[str, Any]:
    """Return what is known of the modules of a table.

    Args:
        modules: The merged counts.
        top: How many of the names that are called most to list.
    """
    called = modules.called.most_called(top)
    return {
        "stored_bytes": modules.stored_bytes,
        "text_bytes": modules.text_bytes,
        "functions_defined": modules.defined,
        "functions_declared": modules.declared,
        "global_values": modules.global_values,
        "instructions": modules.instructions,
        "instructions_per_function": describe(modules.lengths),
        "opcodes": _histogram(OPCODES, modules.opcodes),
        "types": _histogram(TYPES, modules.types),
        "repeated_modules": _repeated(modules.modules),
        "repeated_functions": _repeated(modules.functions),
        "calls": modules.called.calls,
        "called": [
            {"name": name.decode("utf-8", "replace"), "calls": count, "share": ratio(count, modules.called.calls)}
            for name, count in called
        ],
        "called_is_complete": modules.called.complete,
    }


def summarize_code(stream: StreamStatistics, modules: ModuleStatistics) -> dict[str, Any]:
    """Return what a stream of tokens takes for the code, as its member `modules`.

    Streams of whole numbers without a vocabulary are no tokens, they describe the row: `about_rows`.
    """
    if stream.spec.vocabulary_size is None:
        return {"about_rows": True} if np.dtype(stream.spec.dtype).kind in "iu" else {}
    return {
        "modules": {
            "tokens_per_instruction": ratio(stream.tokens, modules.instructions),
            "text_bytes_per_token": ratio(modules.text_bytes, stream.tokens),
        }
    }


def _histogram(names: tuple[str, ...], counts: dict[int, int]) -> dict[str, int]:
    """Return counts by name, of what came, the most frequent first; of equally frequent ones in their own order."""
    return {names[place]: count for place, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))}


def _repeated(distinct: Distinct) -> dict[str, Any]:
    """Return how much is a copy of something before; beyond 65,536 different things an estimate."""
    different = distinct.estimate()
    return {
        "distinct": different,
        "copies": distinct.total - different,
        "fraction": ratio(distinct.total - different, distinct.total),
        "exact": distinct.level == 0,
    }
