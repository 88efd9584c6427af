from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from tests.statistics import cases
from tokenmill.statistics import MergedStatistics, merge_parts
from tokenmill.statistics.render import details, labels, render_markdown, render_text, rows
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


@pytest.fixture
def pictures() -> dict[str, Any]:
    part = cases.golden_picture_part()
    return summarize(merge_parts([("photos", part), ("drawings", part)], cases.IMAGE_SPECS))


def test_lengths_errors_and_bands_are_shown_where_there_are_any(pictures: dict[str, Any]) -> None:
    text, markdown = shown(pictures, 80), render_markdown(pictures)
    assert [row[:2] for row in rows(pictures)[-2:]] == [["all", "books"], ["all", "ids"]]
    found = details(pictures)
    assert [detail.title for detail in found] == [
        "Lengths of books",
        "Lengths of ids and errors reached (2 unknown)",
        "Ids of books by codebook",
        "Ids of ids by place in the row",
    ]
    assert found[1].rows[-1] == ("all", "82", "100%", "0.012", "0.0834")
    assert found[2].rows[0] == ("0", "2490", "9", "0", "100%", "3.17", "9")
    for detail in found:
        assert detail.title in text
        assert f"### {detail.title}" in markdown
        for row in detail.rows:
            assert list(row) in [line.split() for line in text.splitlines()]
            assert "| " + " | ".join(row) + " |" in markdown
    for form in (text, markdown):
        assert "outcome: 28 fixed, 26 met, 28 capped" in form
        assert "top outcome" not in form
    assert all(len(line) <= 80 for line in text.splitlines())


def test_text_is_shown_as_ever(summary: dict[str, Any]) -> None:
    assert details(summary) == []
    assert labels(summary) == []
    assert "###" not in render_markdown(summary)


def test_a_table_of_no_images_is_shown() -> None:
    summary = summarize(MergedStatistics.start(cases.IMAGE_SPECS))
    assert (details(summary), labels(summary)) == ([], [])
    assert "outcome" not in shown(summary)


def test_a_table_of_nothing_is_shown() -> None:
    summary = summarize(MergedStatistics.start({"ids": StreamSpec("uint16", vocabulary_size=9)}))
    assert rows(summary) == [["all", "ids", "0", "0", "0B", "0", "–", "–", "–", "–", "–", "0%"]]
    assert "Rejected" not in render_markdown(summary)
    assert "top" not in shown(summary)
