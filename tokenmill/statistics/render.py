"""How a summary is shown: the same rows as a rich table for terminals and as Markdown for artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

# A line break is for terminals, where the columns fit 80 characters. Lengths are documents' tokens.
_COLUMNS = (
    "source",
    "stream",
    "docs",
    "rejects",
    "input",
    "tokens",
    "bytes/\ntoken",
    "length\np50",
    "\np95",
    "\nmax",
    "bits/\ntoken",
    "ids\nused",
)
_TEXT_COLUMNS = 2
_TOP = 10


def rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """Return one row a source and stream, the overall ones last; the columns are those of the tables."""
    groups = [*summary["sources"].items(), ("all", summary["overall"])]
    return [
        _row(source, name, counts, stream)
        for source, counts in groups
        for name, stream in sorted(counts["streams"].items())
    ]


def top_tokens(summary: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return, for each stream with a vocabulary, its most frequent tokens overall and their shares."""
    found = []
    for name, stream in sorted(summary["overall"]["streams"].items()):
        if stream["vocabulary"] is not None and stream["vocabulary"]["top"]:
            tokens = [(_token(token), _percent(token["share"])) for token in stream["vocabulary"]["top"][:_TOP]]
            found.append((name, tokens))
    return found


def rejects(summary: Mapping[str, Any]) -> str | None:
    """Return one line on what was rejected and why; None where nothing was."""
    by_reason = summary["overall"]["rejected"]["by_reason"]
    return ", ".join(f"{count:,} {reason}" for reason, count in by_reason.items()) or None


def render_text(summary: Mapping[str, Any], title: str | None = None) -> Table:
    """Return the summary as a table for a terminal; what was rejected and the top tokens are its caption."""
    table = Table(title=title, caption_justify="left", box=SIMPLE_HEAD, padding=0, pad_edge=False)
    for number, column in enumerate(_COLUMNS):
        table.add_column(column, justify="left" if number < _TEXT_COLUMNS else "right", vertical="bottom")
    for row in rows(summary):
        # Text, not markup: a token or a source may look like "[red]".
        table.add_row(*(Text(cell) for cell in row), style="bold" if row[0] == "all" else None)
    lines = [f"rejected: {line}" for line in [rejects(summary)] if line]
    for name, tokens in top_tokens(summary):
        lines.append(f"top {name}: " + "  ".join(f"{text} {share}" for text, share in tokens))
    table.caption = Text("\n".join(lines)) if lines else None
    return table


def render_markdown(summary: Mapping[str, Any], title: str | None = None) -> str:
    """Return the summary as Markdown."""
    lines = [f"## {_escape(title)}", ""] if title else []
    lines.append("| " + " | ".join(column.replace("/\n", "/").replace("\n", " ").strip() for column in _COLUMNS) + " |")
    lines.append("|" + "".join(" --- |" if number < _TEXT_COLUMNS else " ---: |" for number in range(len(_COLUMNS))))
    lines += ["| " + " | ".join(_escape(cell) for cell in row) + " |" for row in rows(summary)]
    if line := rejects(summary):
        lines += ["", f"Rejected: {_escape(line)}"]
    for name, tokens in top_tokens(summary):
        lines += [
            "",
            f"Most frequent in {_escape(name)}: " + ", ".join(f"{_code(text)} {share}" for text, share in tokens),
        ]
    return "\n".join(lines) + "\n"


def _row(source: str, name: str, counts: Mapping[str, Any], stream: Mapping[str, Any]) -> list[str]:
    lengths, vocabulary = stream["tokens_per_document"], stream["vocabulary"]
    rejected = counts["rejected"]
    return [
        source,
        name,
        _short(counts["documents"]),
        _percent(rejected["fraction"]) if rejected["items"] else "0",
        _short(counts["input_bytes"]) + "B",
        _short(stream["tokens"]),
        _decimal(stream["bytes_per_token"]),
        *(_short(lengths[quantile]) for quantile in ("p50", "p95", "max")),
        _decimal(None if vocabulary is None else vocabulary["entropy_bits"]),
        _percent(None if vocabulary is None else vocabulary["used_fraction"]),
    ]


def _short(value: float | None) -> str:
    """Return a number to three digits at least, with its SI prefix from 10,000 on."""
    if value is None:
        return "–"
    if value < 10_000:
        return f"{value:.0f}"
    for prefix in "kMGT":
        value /= 1000
        if value < 999.5:
            return f"{value:.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f}{prefix}"
    return f"{value / 1000:.0f}P"


def _decimal(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _percent(fraction: float | None) -> str:
    return "–" if fraction is None else f"{100 * fraction:.2g}%" if fraction < 0.1 else f"{100 * fraction:.0f}%"


def _token(token: Mapping[str, Any]) -> str:
    """Return a token's text with what does not print escaped; its id where there is no text."""
    return str(token["id"]) if token["text"] is None else repr(token["text"])[1:-1]


def _escape(text: str) -> str:
    return "".join("\\" + character if character in "\\|`*_[]<>#" else character for character in text)


def _code(text: str) -> str:
    """Return text as a Markdown code span that survives backticks, bars and leading spaces."""
    longest = run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}" if text.strip() != text or "`" in text else f"{fence}{text}{fence}"
