from pathlib import Path

import pytest

from tests.commands.conftest import Run
from tests.datasets import build_dataset, job_of, write_jsonl
from tokenmill.tokenizers.bytes import BytesTokenizer


def test_json(run: Run, root: str) -> None:
    document = run("head", root, "-n", "3", "--json").json
    assert (document["uri"], document["generation"]) == (root, 1)
    assert {name: len(rows) for name, rows in document["tables"].items()} == {"text": 3, "framed": 3}
    assert document["tables"]["text"][2] == {
        "index": 2,
        "key": "doc-2",
        "split": 0,
        "ordinal": 2,
        "document": 2,
        "position": 0,
        "metadata": {"lang": "en", "score": 1.0},
        "streams": {"ids": {"shape": [14], "dtype": "uint8", "first": list(b"text 2 text 2 ")}},
        "text": "text 2 text 2 ",
    }
    assert document["tables"]["framed"][2]["streams"]["ids"]["first"][0] == 256
    assert document["tables"]["text"][1]["text"] == "žluť\n\x1b[31mred\x1b[0m ☃"


def test_text(run: Run, root: str) -> None:
    ran = run("head", root, "--table", "text", "-n", "3")
    assert ran.code == 0
    assert "Table text: 3 of 39 rows" in ran.out
    assert "framed" not in ran.out
    assert "2  doc-2  (split 0, item 2)" in ran.out
    assert "14 uint8: 116 101 120 116" in ran.out
    assert "text 2 text 2" in ran.out


def test_terminals_are_not_obeyed(run: Run, root: str) -> None:
    out = run("head", root).out
    assert "\x1b" not in out
    assert r"žluť\n\x1b[31mred\x1b[0m ☃" in out


def test_how_many(run: Run, root: str) -> None:
    assert len(run("head", root, "--json").json["tables"]["text"]) == 5
    assert len(run("head", root, "-n", "1000", "--json").json["tables"]["text"]) == 39
    assert run("head", root, "-n", "0", "--json").json["tables"] == {"framed": [], "text": []}


def test_unknown_table(run: Run, root: str) -> None:
    ran = run("head", root, "--table", "nope", "--json")
    assert (ran.code, ran.out) == (1, "")
    assert "no table 'nope'; it has text, framed" in ran.err


def test_what_cannot_be_decoded_is_shown_as_ids(run: Run, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BytesTokenizer, "decoder", lambda self: None)
    ran = run("head", root, "--table", "text", "--json")
    assert ran.code == 0
    assert [row["text"] for row in ran.json["tables"]["text"]] == [None] * 5
    assert ran.err.count("note: not decoded") == 1


def test_long_rows_are_decoded_in_part(run: Run, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "long/a.jsonl", [{"id": "long", "text": "x" * 1_000_000}])
    build_dataset(job_of(str(tmp_path / "out2"), tmp_path / "long"))
    (row,) = run("head", str(tmp_path / "out2"), "--json").json["tables"]["text"]
    assert row["streams"]["ids"]["shape"] == [1_000_000]
    assert set(row["text"]) == {"x"}
    assert len(row["text"]) < 1000
    assert "1,000,000 uint8: 120 120" in run("head", str(tmp_path / "out2")).out


def test_numbers_that_json_lacks(run: Run, tmp_path: Path) -> None:
    (tmp_path / "nan").mkdir()
    (tmp_path / "nan/a.csv").write_text("text,score\nabc,nan\n")
    job = job_of(str(tmp_path / "out3"), tmp_path / "nan", source={"fields": {}, "metadata": {"score": "float64"}})
    build_dataset(job)
    (row,) = run("head", str(tmp_path / "out3"), "--json").json["tables"]["text"]
    assert row["metadata"] == {"score": None}
