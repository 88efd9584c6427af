"""Plain text: a file a document, and a line a document."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from tests.sources.corpora import Result, read_source, write
from tokenmill.job_sources import Source
from tokenmill.sources.limits import ReadLimits


def _read(tmp_path: Path, contents: dict[str, bytes], limits: ReadLimits | None = None, **source: Any) -> Result:
    root, files = write(tmp_path, contents)
    return read_source(Source(name="s", uris=("x",), **source), root, files, limits=limits)


def test_a_file_is_a_document_with_its_path_as_key(tmp_path: Path) -> None:
    contents = {"b/2.txt": b"two\r\n\nlines\0\n", "a/1.txt.gz": gzip.compress("ä".encode()), "c.md": b"\xef\xbb\xbf# c"}
    result = _read(tmp_path, contents, metadata=["lang"])
    assert [(item.key, item.text, item.locator, item.metadata) for item in result.items] == [
        ("a/1.txt.gz", "ä", "a/1.txt.gz:0", (None,)),
        ("b/2.txt", "two\r\n\nlines\0\n", "b/2.txt:0", (None,)),
        ("c.md", "# c", "c.md:0", (None,)),
    ]


def test_an_empty_file_holds_no_document(tmp_path: Path) -> None:
    result = _read(tmp_path, {"a.txt": b"", "b.txt": b"b", "c.txt.gz": b"", "d.txt.gz": gzip.compress(b"")})
    assert (result.texts, result.rejects) == (["b"], [])


def test_encodings(tmp_path: Path) -> None:
    contents = {"a.txt": "grüß".encode("latin-1")}
    assert _read(tmp_path, contents, encoding="latin-1").texts == ["grüß"]
    assert _read(tmp_path, {"a.txt": "日本".encode("utf-16")}, encoding="utf-16").texts == ["日本"]
    assert _read(tmp_path, {"a.txt": "日本\n語".encode("shift_jis")}, encoding="shift_jis", format="lines").texts == [
        "日本",
        "語",
    ]


def test_what_does_not_decode_is_rejected(tmp_path: Path) -> None:
    contents = {"a.txt": b"good", "b.txt": b"b\xffd", "c.txt": b"\xed\xa0\x80", "d.txt": b"good"}
    result = _read(tmp_path, contents)
    assert result.texts == ["good", "good"]
    assert [(reject.key, reject.reason, reject.ordinal) for reject in result.rejects] == [
        ("b.txt", "invalid_utf8", 1),
        ("c.txt", "invalid_utf8", 2),
    ]


@pytest.mark.parametrize(("size_bytes", "reasons"), [(100, []), (101, ["item_too_large"])])
def test_a_large_file_is_rejected(tmp_path: Path, size_bytes: int, reasons: list[str]) -> None:
    contents = {"a.txt": b"x" * size_bytes, "b.txt.gz": gzip.compress(b"x" * size_bytes)}
    assert _read(tmp_path, contents, ReadLimits(max_item_bytes=100)).reasons == reasons * 2


def test_a_line_is_a_document(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbfone\r\n\ntwo \n\xff\n" + b"x" * 101 + b"\nlast"
    result = _read(tmp_path, {"a.txt": data}, ReadLimits(max_item_bytes=100), format="lines", metadata={"n": "int64"})
    assert [(item.ordinal, item.text, item.metadata) for item in result.items] == [
        (0, "one", (None,)),
        (1, "", (None,)),
        (2, "two ", (None,)),
        (5, "last", (None,)),
    ]
    assert [(reject.reason, reject.ordinal, reject.locator) for reject in result.rejects] == [
        ("invalid_utf8", 3, "a.txt:14"),
        ("item_too_large", 4, "a.txt:16"),
    ]


def test_a_torn_text_is_no_document(tmp_path: Path) -> None:
    contents = {"a.txt.gz": gzip.compress(b"lost " * 100)[:-3], "b.txt": b"kept"}
    result = _read(tmp_path, contents)
    assert (result.texts, result.reasons) == (["kept"], ["torn_file"])
