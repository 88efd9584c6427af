"""What statistics say of modules, as JSON and as it is shown."""

from __future__ import annotations

from typing import Any

import pytest

from tests.statistics import cases
from tests.statistics.test_render import shown
from tokenmill.statistics import merge_parts
from tokenmill.statistics.module_details import module_details, module_lines
from tokenmill.statistics.render import details, render_markdown, rows
from tokenmill.statistics.summary import summarize

LONG_NAME = b"_ZN" + b"long" * 40 + b"E"


@pytest.fixture
def summary() -> dict[str, Any]:
    c = cases.module_part([cases.Compiled(1, (4, 10), ((b"puts", 3), (LONG_NAME, 1)), 2)] * 2)
    rust = cases.module_part([cases.Compiled(2, (11, 75, 10), ((b"puts", 5),))])
    return summarize(merge_parts([("c", c), ("rust", rust)], cases.MODULE_SPECS))


def test_a_summary_says_what_modules_are_made_of(summary: dict[str, Any]) -> None:
    modules = summary["overall"]["modules"]
    assert (modules["stored_bytes"], modules["text_bytes"]) == (1240, 4960)
    assert (modules["functions_defined"], modules["functions_declared"], modules["global_values"]) == (7, 4, 9)
    assert (modules["instructions"], modules["calls"]) == (124, 13)
    lengths = modules["instructions_per_function"]
    assert (lengths["p50"], lengths["max"]) == (10, 75)
    assert lengths["mean"] == pytest.approx(124 / 7, rel=1e-5)
    assert list(modules["opcodes"].items()) == [("ret", 105), ("br", 11), ("invoke", 8)]
    assert modules["types"] == {"void": 133}
    assert modules["called"][0] == {"name": "puts", "calls": 11, "share": pytest.approx(11 / 13, rel=1e-5)}
    assert modules["called_is_complete"] is True
    assert modules["repeated_modules"] == {"distinct": 2, "copies": 1, "fraction": 0.333333, "exact": True}
    assert modules["repeated_functions"] == {"distinct": 4, "copies": 3, "fraction": 0.428571, "exact": True}
    assert summary["sources"]["c"]["modules"]["repeated_modules"]["fraction"] == 0.5


def test_a_summary_says_what_tokens_take(summary: dict[str, Any]) -> None:
    streams = summary["overall"]["streams"]
    assert streams["ids"]["modules"] == {"tokens_per_instruction": 2.0, "text_bytes_per_token": 20.0}
    assert {name for name, stream in streams.items() if not stream.get("about_rows")} == {"ids"}


def test_modules_are_shown_by_source(summary: dict[str, Any]) -> None:
    modules, functions, tokens, called = details(summary)
    assert modules.rows == [
        ("c", "2", "280B", "1120B", "50%", "6", "4"),
        ("rust", "1", "960B", "3840B", "0%", "3", "0"),
        ("all", "3", "1240B", "4960B", "33%", "9", "4"),
    ]
    assert functions.rows[-1] == ("all", "7", "43%", "124", "10", "17.7", "11", "75")
    assert tokens.rows[0] == ("c", "56", "2.00", "20.00")
    assert called.rows[0] == ("puts", "11", "85%")
    assert called.rows[1][0].startswith("_ZNlonglong")
    assert len(called.rows[1][0]) == 58
    assert module_lines(summary) == [("opcodes", "ret 85%, br 8.9%, invoke 6.5%"), ("types", "void 100%")]
    assert "opcodes: ret 85%, br 8.9%, invoke 6.5%" in render_markdown(summary)
    text = shown(summary)
    assert all(len(line) <= 80 for line in text.splitlines())
    for cell in (cell for detail in details(summary) for row in [detail.columns, *detail.rows] for cell in row):
        assert cell in text


def test_what_describes_modules_is_not_shown_as_tokens(summary: dict[str, Any]) -> None:
    assert [row[:2] for row in rows(summary)] == [["c", "ids"], ["rust", "ids"], ["all", "ids"]]


def test_several_streams_of_tokens_have_a_row_each(summary: dict[str, Any]) -> None:
    for counts in (summary["overall"], *summary["sources"].values()):
        counts["streams"]["more"] = counts["streams"]["ids"]
    tokens = module_details(summary)[2]
    assert [row[0] for row in tokens.rows] == ["c, ids", "c, more", "rust, ids", "rust, more", "all, ids", "all, more"]


def test_estimates_and_the_rest_are_marked(summary: dict[str, Any]) -> None:
    modules = summary["overall"]["modules"]
    modules["repeated_functions"]["exact"] = False
    modules["opcodes"] = {f"opcode{n}": 5 for n in range(15)}
    assert module_details(summary)[1].rows[-1][2] == "≈43%"
    assert module_lines(summary)[0][1].endswith("opcode11 6.7%, others 20%")


def test_a_table_of_no_modules_is_shown() -> None:
    summary = summarize(merge_parts([("c", cases.module_part([]))], cases.MODULE_SPECS))
    modules, functions, tokens = details(summary)
    assert modules.rows[0] == ("c", "0", "0B", "0B", "–", "0", "0")
    assert functions.rows[0] == ("c", "0", "–", "0", "–", "–", "–", "–")
    assert tokens.rows[0] == ("c", "0", "–", "–")
    assert module_lines(summary) == []
