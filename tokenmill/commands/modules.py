"""What `tokenmill head` shows of modules of LLVM IR: what they are made of, and how their first function begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from tokenmill.commands.output import described, printable
from tokenmill.ir.census import OPCODES, TYPES
from tokenmill.ir.streams import (
    CALLED_COUNTS,
    CALLED_NAMES,
    FUNCTION_HASHES,
    INSTRUCTIONS,
    MODULE,
    MODULE_STREAMS,
    OPCODE_COUNTS,
    SHA256,
    TYPE_COUNTS,
)
from tokenmill.registry import parse_tokenizer

if TYPE_CHECKING:
    import numpy.typing as npt

    from tokenmill.dataset import Row, Table
    from tokenmill.streams import StreamSpec

_MOST_TOKENS = 100_000
_SHOWN_COUNTS = 6
_SHOWN_HASHES = 4
_SHOWN_LINES = 6
_LINE_CHARACTERS = 100
_TOKENS_CHARACTERS = 400
_SHOWN_TOKENS = 24


def beginning(row: Row, specs: Mapping[str, StreamSpec]) -> Row | None:
    """Return a module's row as far as its first function, or the whole of one without; None where that is long."""
    for name, spec in specs.items():
        if spec.ends_of is not None:
            ids, ends = row.streams[spec.ends_of], row.streams[name]
            last = int(ends[0]) if len(ends) else len(ids)
            cut = {**row.streams, spec.ends_of: ids[:last], name: ends[:1]}
            return replace(row, streams=cut) if last <= _MOST_TOKENS else None
    return None


def facts(streams: Mapping[str, npt.NDArray[Any]], specs: Mapping[str, StreamSpec]) -> Iterator[tuple[str, str]]:
    """Yield names and what a row's streams say, those of tokens first."""
    for name, values in streams.items():
        if MODULE_STREAMS.get(name) != specs[name]:
            yield name, described(values, specs[name], name)
        elif name == SHA256:
            yield name, values.tobytes().hex()
        elif name == MODULE:
            stored, text, defined, declared, variables = values.tolist()
            yield (
                name,
                f"{stored:,} bytes stored, {text:,} of text; functions: {defined:,} defined, {declared:,} declared; "
                f"{variables:,} global variables",
            )
        elif name == OPCODE_COUNTS:
            yield name, _counts(OPCODES, values)
        elif name == TYPE_COUNTS:
            yield name, _counts(TYPES, values)
        elif name == CALLED_NAMES:
            called = values.tobytes().decode("utf-8", "backslashreplace").split("\n")[:-1]
            counts = streams[CALLED_COUNTS]
            yield "calls", _listed(called, counts.tolist()) if len(called) == len(counts) else "damaged"
        elif name == FUNCTION_HASHES:
            first = " ".join(f"{value:016x}" for value in values[:_SHOWN_HASHES].tolist())
            yield name, f"{len(values):,}: {first}" + (" …" if len(values) > _SHOWN_HASHES else "")
        elif name == INSTRUCTIONS:
            yield name, described(values, specs[name], name)


def function_lines(table: Table, row: Row, text: str) -> Iterator[str]:
    """Yield the first lines of the first function of a row's beginning, and the tokens that they begin with.

    Args:
        table: The row's table.
        row: The row's beginning.
        text: What it decodes to.
    """
    lines = text[text.find("\ndefine ") + 1 :].split("\n")  # all of it where there is no function
    yield from (printable(line, _LINE_CHARACTERS) for line in islice(lines, _SHOWN_LINES))
    if len(lines) > _SHOWN_LINES:
        yield "…"
    yield f"as tokens: {_tokens(table, row)}"


def _tokens(table: Table, row: Row) -> str:
    """Return the tokens of the first function as people read them, a line between any two."""
    tokenizer = parse_tokenizer(table.tokenizer.config, f"table {table.name!r}")
    ids = next(row.streams[spec.ends_of] for spec in table.streams.values() if spec.ends_of is not None)
    read = tokenizer.token_text(ids.tolist())
    first = next((number for number, token in enumerate(read) if token.startswith("\ndefine")), 0)
    shown = " │ ".join(printable(token.strip("\n") or token) for token in read[first : first + _SHOWN_TOKENS])
    return shown if len(shown) <= _TOKENS_CHARACTERS else f"{shown[:_TOKENS_CHARACTERS]}…"


def _counts(names: Sequence[str], counts: npt.NDArray[Any]) -> str:
    """Return the names that count most, and the sum."""
    order = np.argsort(-counts.astype(np.int64), kind="stable")
    order = order[counts[order] > 0]
    return f"{int(counts.sum()):,}: {_listed([names[place] for place in order], counts[order].tolist())}"


def _listed(names: Sequence[str], counts: Sequence[int]) -> str:
    shown = [f"{count:,} {printable(name, _LINE_CHARACTERS)}" for name, count in zip(names, counts, strict=True)]
    return ", ".join(shown[:_SHOWN_COUNTS]) + (" …" if len(shown) > _SHOWN_COUNTS else "")
