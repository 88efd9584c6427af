"""How a summary is shown: the same rows as rich tables for terminals and as Markdown for artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tokenmill.statistics.detail import Detail
from tokenmill.statistics.figures import decimal, percent, short
from tokenmill.statistics.module_details import module_details, module_lines
from tokenmill.statistics.sound_details import duration, sound_details, sound_lines

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
    """Return one row a source and stream of tokens, the overall ones last; the columns are those of the tables."""
    groups = [*summary["sources"].items(), ("all", summary["overall"])]
    return [
        _row(source, name, counts, stream)
        for source, counts in groups
        for name, stream in sorted(counts["streams"].items())
        if not stream.get("about_rows")
    ]


def details(summary: Mapping[str, Any]) -> list[Detail]:
    """Return what is known of recordings, modules, lengths, errors and the use of ids by band, where that is known."""
    streams = summary["overall"]["streams"]
    errors = {stream["errors"]["of"]: stream["errors"] for stream in streams.values() if "errors" in stream}
    found = [
        _lengths(name, stream["octaves"], errors.get(name))
        for name, stream in sorted(streams.items())
        if stream.get("octaves") and "sound" not in stream  # lengths of recordings are told in seconds
    ]
    return (
        sound_details(summary)
        + module_details(summary)
        + found
        + [
            _bands(name, stream["bands"])
            for name, stream in sorted(streams.items())
            if "bands" in stream and stream["bands"]["bands"]
        ]
    )


def labels(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return, for each stream with labels, one line on how many documents have which; those of none are left out."""
    return [
        (name, ", ".join(f"{count:,} {label}" for label, count in stream["labels"].items() if count))
        for name, stream in sorted(summary["overall"]["streams"].items())
        if any(stream.get("labels", {}).values())
    ]


def _lengths(name: str, octaves: Sequence[Mapping[str, Any]], errors: Mapping[str, Any] | None) -> Detail:
    documents = sum(octave["documents"] for octave in octaves)
    reached = {octave["first"]: octave for octave in errors["octaves"]} if errors else {}
    shown = []
    for octave in octaves:
        cells = [_span(octave), f"{octave['documents']:,}", percent(octave["documents"] / documents)]
        if errors:
            at = reached.get(octave["first"], {})
            cells += [_error(at.get(quantile)) for quantile in ("p50", "p95")]
        shown.append(tuple(cells))
    columns = ("tokens", "docs", "share")
    if not errors:
        return Detail(f"Lengths of {name}", columns, shown)
    last = ("all", f"{documents:,}", "100%", *(_error(errors["quantiles"][quantile]) for quantile in ("p50", "p95")))
    unknown = f" ({errors['unknown']:,} unknown)" if errors["unknown"] else ""
    return Detail(f"Lengths of {name} and errors reached{unknown}", (*columns, "error p50", "p95"), [*shown, last])


def _bands(name: str, bands: Mapping[str, Any]) -> Detail:
    shown = [
        (
            _span(band),
            short(band["tokens"]),
            f"{band['used']:,}",
            f"{band['dead']:,}",
            percent(band["used_fraction"]),
            decimal(band["entropy_bits"]),
            short(band["perplexity"]),
        )
        for band in bands["bands"]
    ]
    by = "place in the row" if bands["by"] == "octave" else bands["by"]
    return Detail(
        f"Ids of {name} by {by}", (by.split()[0], "tokens", "used", "dead", "used %", "bits", "perplexity"), shown
    )


def top_tokens(summary: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return, for each stream with a vocabulary, its most frequent tokens overall and their shares."""
    found = []
    for name, stream in sorted(summary["overall"]["streams"].items()):
        if not stream["vocabulary"] or "labels" in stream or _in_codebooks(stream):
            continue
        if stream["vocabulary"]["top"]:
            tokens = [(_token(token), percent(token["share"])) for token in stream["vocabulary"]["top"][:_TOP]]
            found.append((name, tokens))
    return found


def rejects(summary: Mapping[str, Any]) -> str | None:
    """Return one line on what was rejected and why; None where nothing was."""
    by_reason = summary["overall"]["rejected"]["by_reason"]
    lost = summary["overall"].get("sound", {}).get("rejected_seconds_by_reason", {})
    return ", ".join(f"{count:,} {reason}{_lost(lost.get(reason))}" for reason, count in by_reason.items()) or None


def _lost(seconds: float | None) -> str:
    return f" ({duration(seconds)})" if seconds else ""


def render_text(summary: Mapping[str, Any], title: str | None = None) -> Group:
    """Return the summary as tables for a terminal; what was rejected and the top tokens are the first one's caption."""
    table = Table(title=title, caption_justify="left", box=SIMPLE_HEAD, padding=0, pad_edge=False)
    for number, column in enumerate(_COLUMNS):
        table.add_column(column, justify="left" if number < _TEXT_COLUMNS else "right", vertical="bottom")
    for row in rows(summary):
        # Text, not markup: a token or a source may look like "[red]".
        table.add_row(*(Text(cell) for cell in row), style="bold" if row[0] == "all" else None)
    lines = [f"rejected: {line}" for line in [rejects(summary)] if line]
    lines += [f"{name}: {line}" for name, line in [*sound_lines(summary), *module_lines(summary), *labels(summary)]]
    for name, tokens in top_tokens(summary):
        lines.append(f"top {name}: " + "  ".join(f"{text} {share}" for text, share in tokens))
    table.caption = Text("\n".join(lines)) if lines else None
    return Group(table, *(one for detail in details(summary) for one in (Text(detail.title), _detail_table(detail))))


def _detail_table(detail: Detail) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for number, column in enumerate(detail.columns):
        table.add_column(column, justify="right" if number else "left")
    for row in detail.rows:
        table.add_row(*map(Text, row))
    return table


def render_markdown(summary: Mapping[str, Any], title: str | None = None) -> str:
    """Return the summary as Markdown."""
    lines = [f"## {_escape(title)}", ""] if title else []
    columns = [column.replace("/\n", "/").replace("\n", " ").strip() for column in _COLUMNS]
    lines += _markdown_table(columns, rows(summary), _TEXT_COLUMNS)
    if line := rejects(summary):
        lines += ["", f"Rejected: {_escape(line)}"]
    for name, line in [*sound_lines(summary), *module_lines(summary), *labels(summary)]:
        lines += ["", f"{_escape(name)}: {_escape(line)}"]
    for name, tokens in top_tokens(summary):
        lines += [
            "",
            f"Most frequent in {_escape(name)}: " + ", ".join(f"{_code(text)} {share}" for text, share in tokens),
        ]
    for detail in details(summary):
        lines += ["", f"### {_escape(detail.title)}", "", *_markdown_table(detail.columns, detail.rows, 1)]
    return "\n".join(lines) + "\n"


def _markdown_table(columns: Sequence[str], cells: Sequence[Sequence[str]], text_columns: int) -> list[str]:
    return [
        "| " + " | ".join(map(_escape, columns)) + " |",
        "|" + "".join(" --- |" if number < text_columns else " ---: |" for number in range(len(columns))),
        *("| " + " | ".join(_escape(cell) for cell in row) + " |" for row in cells),
    ]


def _row(source: str, name: str, counts: Mapping[str, Any], stream: Mapping[str, Any]) -> list[str]:
    lengths, vocabulary = stream["tokens_per_document"], stream["vocabulary"]
    rejected = counts["rejected"]
    return [
        source,
        name,
        short(counts["documents"]),
        percent(rejected["fraction"]) if rejected["items"] else "0",
        short(counts["input_bytes"]) + "B",
        short(stream["tokens"]),
        decimal(stream["bytes_per_token"]),
        *(short(lengths[quantile]) for quantile in ("p50", "p95", "max")),
        *_use(vocabulary, stream),
    ]


def _use(vocabulary: Mapping[str, Any] | None, stream: Mapping[str, Any]) -> list[str]:
    """Return the bits a token takes and the share of ids in use; of codebooks of sound, each has its own ids."""
    if vocabulary is None:
        return [decimal(None), percent(None)]
    bits, used = vocabulary["entropy_bits"], vocabulary["used_fraction"]
    if _in_codebooks(stream) and stream["tokens"]:
        books = stream["bands"]["bands"]
        bits = sum(book["entropy_bits"] * book["tokens"] for book in books) / stream["tokens"]
        used = sum(book["used_fraction"] for book in books) / len(books)
    return [decimal(bits), percent(used)]


def _in_codebooks(stream: Mapping[str, Any]) -> bool:
    return "sound" in stream and stream.get("bands", {}).get("by") == "codebook"


def _error(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _span(octave: Mapping[str, Any]) -> str:
    first, last = octave["first"], octave["last"]
    return f"{first:,}" if first == last else f"{first:,} …" if last is None else f"{first:,}–{last:,}"


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
