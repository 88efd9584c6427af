"""How a summary of modules of LLVM IR is shown: how much by source, what tokens take, opcodes, types and calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenmill.statistics.detail import Detail
from tokenmill.statistics.figures import decimal, percent, short

_SHOWN = 12
_SHOWN_NAMES = 10
#: So that a row of names and figures fits 80 characters.
_LONGEST_NAME = 58


def module_details(summary: Mapping[str, Any]) -> list[Detail]:
    """Return the tables of modules and of tokens by source, and of calls; none where there are no modules."""
    if "modules" not in summary["overall"]:
        return []
    groups = [*summary["sources"].items(), ("all", summary["overall"])]
    found = [
        Detail(
            "Modules",
            ("source", "modules", "stored", "text", "copies", "globals", "declared"),
            [_modules(source, counts) for source, counts in groups],
        ),
        Detail(
            "Functions",
            ("source", "functions", "copies", "instructions", "per function: p50", "mean", "p95", "max"),
            [_functions(source, counts["modules"]) for source, counts in groups],
        ),
    ]
    coded = [name for name, stream in sorted(summary["overall"]["streams"].items()) if "modules" in stream]
    if coded:
        rows = [
            _tokens(source if len(coded) == 1 else f"{source}, {name}", counts["streams"][name])
            for source, counts in groups
            for name in coded
        ]
        found.append(Detail("Tokens", ("source", "tokens", "tokens/instruction", "bytes of text/token"), rows))
    called = summary["overall"]["modules"]["called"][:_SHOWN_NAMES]
    if called:
        names = [(_shortened(one["name"]), short(one["calls"]), percent(one["share"])) for one in called]
        found.append(Detail("Called most", ("name", "calls", "share"), names))
    return found


def module_lines(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return, by name, lines on the most frequent opcodes and types."""
    modules = summary["overall"].get("modules")
    if modules is None:
        return []
    lines = [(name, modules[name]) for name in ("opcodes", "types") if modules[name]]
    return [(name, _shares(counts)) for name, counts in lines]


def _modules(source: str, counts: Mapping[str, Any]) -> tuple[str, ...]:
    modules = counts["modules"]
    return (
        source,
        short(counts["documents"]),
        short(modules["stored_bytes"]) + "B",
        short(modules["text_bytes"]) + "B",
        _copies(modules["repeated_modules"]),
        short(modules["global_values"]),
        short(modules["functions_declared"]),
    )


def _functions(source: str, modules: Mapping[str, Any]) -> tuple[str, ...]:
    lengths = modules["instructions_per_function"]
    return (
        source,
        short(modules["functions_defined"]),
        _copies(modules["repeated_functions"]),
        short(modules["instructions"]),
        short(lengths["p50"]),
        "–" if lengths["mean"] is None else f"{lengths['mean']:.1f}",
        *(short(lengths[quantile]) for quantile in ("p95", "max")),
    )


def _tokens(name: str, stream: Mapping[str, Any]) -> tuple[str, ...]:
    rates = stream["modules"]
    return (
        name,
        short(stream["tokens"]),
        decimal(rates["tokens_per_instruction"]),
        decimal(rates["text_bytes_per_token"]),
    )


def _copies(repeated: Mapping[str, Any]) -> str:
    return ("" if repeated["exact"] else "≈") + percent(repeated["fraction"])


def _shares(counts: Mapping[str, int]) -> str:
    """Return the largest shares in order, and what all others have together."""
    total = sum(counts.values())
    largest = sorted(counts.items(), key=lambda item: -item[1])
    shown = [f"{name} {percent(count / total)}" for name, count in largest[:_SHOWN]]
    rest = sum(count for _, count in largest[_SHOWN:])
    return ", ".join([*shown, *([f"others {percent(rest / total)}"] if rest else [])])


def _shortened(name: str) -> str:
    half = _LONGEST_NAME // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[-half + 1 :]}"
