from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from tests.statistics import cases
from tokenmill.statistics import MergedStatistics, merge_parts
from tokenmill.statistics.render import render_markdown, render_text, rows
from tokenmill.statistics.summary import summarize
from tokenmill.streams import StreamSpec


def shown(summary: dict[str, Any], width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(render_text(summary, title="t"))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.fixture
def summary() -> dict[str, Any]:
    documents = [cases.Document(9_999, (0, 0, 1)), cases.Document(45_678, tuple(range(2_000)) * 6)]
    part = cases.part(documents, [cases.reject("torn_file", 3)])
    merged = merge_parts([("books", part), ("web", part)], cases.SPECS)
    return summarize(merged, token_text=lambda ids: ["[red]", "a|`b\n", *(str(number) for number in ids[2:])])


def test_both_forms_show_the_same_rows(summary: dict[str, Any]) -> None:
    expected = rows(summary)
    assert len(expected) == 3 * len(cases.SPECS)
    text = [line.split() for line in shown(summary, 120).splitlines()]
    markdown = [line.strip("| ").split(" | ") for line in render_markdown(summary).splitlines()]
    for row in expected:
        assert row in text
        assert row in markdown


def test_figures_are_short_and_right(summary: dict[str, Any]) -> None:
    overall = next(row for row in rows(summary) if row[:2] == ["all", "ids"])
    assert overall == ["all", "ids", "4", "60%", "111kB", "24.0k", "4.64", "3", "12.0k", "12.0k", "10.97", "40%"]
    latents = next(row for row in rows(summary) if row[:2] == ["all", "latents"])
    assert latents[-2:] == ["–", "–"]


def test_a_terminal_of_80_columns_is_wide_enough(summary: dict[str, Any]) -> None:
    lines = shown(summary, 80).splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert not any("…" in line for line in lines)


def test_token_texts_are_never_taken_for_markup(summary: dict[str, Any]) -> None:
    text = shown(summary, 200)
    assert "[red]" in text
    assert "a|`b\\n" in text
    markdown = render_markdown(summary, title="a *table*")
    assert markdown.startswith("## a \\*table\\*\n")
    assert "`[red]`" in markdown
    assert "`` a|`b\\n ``" in markdown
    assert "Rejected: 6 torn\\_file" in markdown


def test_a_table_of_nothing_is_shown() -> None:
    summary = summarize(MergedStatistics.start({"ids": StreamSpec("uint16", vocabulary_size=9)}))
    assert rows(summary) == [["all", "ids", "0", "0", "0B", "0", "–", "–", "–", "–", "–", "0%"]]
    assert "Rejected" not in render_markdown(summary)
    assert "top" not in shown(summary)
