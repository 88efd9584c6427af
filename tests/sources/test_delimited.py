"""CSV and TSV: quotes, header lines, and records that break the rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.sources.corpora import Result, read_source, small_pieces, write, zst
from tokenmill.job_sources import Source
from tokenmill.sources.limits import ReadLimits


def _read(tmp_path: Path, data: bytes, limits: ReadLimits | None = None, name: str = "a.csv", **source: Any) -> Result:
    root, files = write(tmp_path, {name: data})
    return read_source(Source(name="s", uris=("x",), **source), root, files, limits=limits)


def test_quoted_fields_may_hold_anything(tmp_path: Path) -> None:
    data = b'\xef\xbb\xbfid,text\r\n1,"a, ""b""\r\n\nc"\r\n\r\n2,\r\n3,"\0"\r\n'
    result = _read(tmp_path, data, fields={"id": "id"})
    assert [(item.key, item.text) for item in result.items] == [("1", 'a, "b"\r\n\nc'), ("2", ""), ("3", "\0")]
    assert [item.locator for item in result.items] == ["a.csv:12", "a.csv:32", "a.csv:36"]
    assert result.rejects == []


def test_tsv(tmp_path: Path) -> None:
    result = _read(tmp_path, b"text\tid\na,b\t1\n", name="a.tsv", fields={"id": "id"})
    assert [(item.key, item.text) for item in result.items] == [("1", "a,b")]


@pytest.mark.parametrize("data", [b"", b"\n\n", b"text,id\n", b"text,id"])
def test_a_file_without_records_has_no_items(tmp_path: Path, data: bytes) -> None:
    result = _read(tmp_path, data)
    assert (result.items, result.rejects) == ([], [])


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("string", "", ""),
        ("int64", "12", 12),
        ("int64", "", None),
        ("int64", "1.5", "wrong_type"),
        ("int64", str(1 << 63), "wrong_type"),
        ("float64", "1.5", 1.5),
        ("float64", "x", "wrong_type"),
        ("bool", "True", True),
        ("bool", "0", False),
        ("bool", "", None),
        ("bool", "yes", "wrong_type"),
    ],
)
def test_metadata_is_parsed(tmp_path: Path, kind: str, value: str, expected: Any) -> None:
    result = _read(tmp_path, f"text,m\na,{value}\n".encode(), metadata={"m": kind, "absent": kind})
    assert result.reasons + [item.metadata for item in result.items] == [
        expected if expected == "wrong_type" else (expected, None)
    ]


@pytest.mark.parametrize("chunk_bytes", [1, 5, 1 << 20])
def test_records_that_break_the_rules(tmp_path: Path, chunk_bytes: int) -> None:
    bad = [
        (b"too,many,values", "wrong_column_count"),
        (b"few", "wrong_column_count"),
        (b"1,\xff", "invalid_utf8"),
        (b'1,"\xff\nstill quoted"', "invalid_utf8"),
        (b"1,a\rb", "invalid_csv"),
        (b"1," + b"x" * 60, "item_too_large"),
        (b'1,"' + b"x" * 40 + b"\n" + b"y" * 40 + b'\nz"', "item_too_large"),
    ]
    data = b"id,text\n" + b"".join(b"0,good\n" + line + b"\n" for line, _ in bad) + b"0,good\n"
    with small_pieces(chunk_bytes):
        result = _read(tmp_path, data, ReadLimits(max_item_bytes=50))
    assert result.reasons == [reason for _, reason in bad]
    assert [item.ordinal for item in result.items] == list(range(0, 2 * len(bad) + 1, 2))
    assert [reject.ordinal for reject in result.rejects] == list(range(1, 2 * len(bad), 2))
    assert [reject.locator for reject in result.rejects] == [f"a.csv:{data.index(line)}" for line, _ in bad]


def test_a_quote_that_is_never_closed(tmp_path: Path) -> None:
    result = _read(tmp_path, b'text\ngood\n"bad\nbad\n')
    assert (result.texts, result.reasons) == (["good"], ["invalid_csv"])
    assert "never closed" in result.rejects[0].message


def test_a_record_cut_off_within_quotes_is_lost_with_the_tear(tmp_path: Path) -> None:
    data = b"".join(zst(b"text\ngood\n" * 3 + b'"' + b"many\nlines\n" * 1000 + b'"\n'))
    result = _read(tmp_path, data[:-12], name="a.csv.zst")
    assert result.texts[:2] == ["good", "text"]
    assert set(result.texts) <= {"good", "text"}
    assert result.reasons == ["torn_file"]
