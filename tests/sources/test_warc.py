"""WARC and WET: which records are items, and HTTP payloads."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from tests.sources.corpora import Document, Result, as_wet_records, read_source, warc_record, write
from tokenmill.job_sources import Source
from tokenmill.sources.limits import ReadLimits
from tokenmill.sources.planning import plan_source
from tokenmill.sources.reading import open_split

_HTTP = "application/http; msgtype=response"


def _read(tmp_path: Path, data: bytes, limits: ReadLimits | None = None, name: str = "a.warc", **source: Any) -> Result:
    root, files = write(tmp_path, {name: data})
    return read_source(Source(name="s", uris=("x",), **source), root, files, limits=limits)


def _response(body: bytes, headers: bytes = b"", kind: bytes = b"text/plain; charset=utf-8") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\n" + headers + b"\r\n"
    return warc_record("response", head + body, _HTTP, WARC_Record_ID="<r>", WARC_Target_URI="http://x/ä")


def test_only_text_records_are_items(tmp_path: Path) -> None:
    data = b"".join(
        [
            warc_record("warcinfo", b"software: x\r\n", "application/warc-fields"),
            warc_record("conversion", "ä\r\n\r\nb".encode(), "text/plain", WARC_Record_ID="<1>", WARC_Target_URI="u"),
            warc_record("conversion", b"{}", "application/json"),
            warc_record("resource", b"res", "TEXT/PLAIN; x=y", WARC_Record_ID="<2>"),
            warc_record("metadata", b"no", "text/plain"),
            _response(b"<html>", kind=b"text/html"),
            _response("日本".encode()),
            warc_record("response", b"dns", "text/dns"),
        ]
    )
    result = _read(tmp_path, data, metadata=["WARC-Target-URI"])
    assert [(item.key, item.text, item.metadata) for item in result.items] == [
        ("<1>", "ä\r\n\r\nb", ("u",)),
        ("<2>", "res", (None,)),
        ("<r>", "日本", ("http://x/ä",)),
    ]
    assert result.items[0].locator == f"a.warc:{data.index(b'WARC/1.0', 5)}"
    assert result.rejects == []


@pytest.mark.parametrize(
    ("body", "headers", "kind", "text"),
    [
        (b"5\r\nhello\r\n0\r\n\r\n", b"Transfer-Encoding: chunked\r\n", b"text/plain", "hello"),
        (gzip.compress(b"hello"), b"Content-Encoding: gzip\r\n", b"text/plain", "hello"),
        (b"h\xe9", b"", b"text/plain; charset=latin-1", "hé"),
        ("é".encode(), b"", b"text/plain; charset=nonsense", "é"),
        (b"h\xe9", b"", b"text/plain", "invalid_utf8"),
        (b"5zz\r\nhello", b"Transfer-Encoding: chunked\r\n", b"text/plain", "invalid_http"),
        (gzip.compress(bytes(10**6)), b"Content-Encoding: gzip\r\n", b"text/plain", "item_too_large"),
        (b"x" * 100_001, b"", b"text/plain", "item_too_large"),
    ],
)
def test_http_payloads(tmp_path: Path, body: bytes, headers: bytes, kind: bytes, text: str) -> None:
    data = _response(body, headers, kind) + _response(b"after")
    result = _read(tmp_path, data, ReadLimits(max_item_bytes=100_000))
    assert result.texts + result.reasons in ([text, "after"], ["after", text])
    assert all((reject.ordinal, reject.key) == (0, "<r>") for reject in result.rejects)


def test_the_id_may_be_another_header(tmp_path: Path) -> None:
    data = warc_record("conversion", b"a", WARC_Target_URI="u") + warc_record("conversion", b"b")
    result = _read(tmp_path, data, fields={"id": "WARC-Target-URI"})
    assert [item.key for item in result.items] == ["u"]
    assert result.reasons == ["missing_field"]


@pytest.mark.parametrize("data", [b"no WARC file\r\n\r\n" * 100, b"GET / HTTP/1.1\r\n\r\n", b"x" * 200_000])
def test_what_is_no_warc_is_unreadable(tmp_path: Path, data: bytes) -> None:
    assert _read(tmp_path, data).reasons == ["unreadable_file"]


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n"])
def test_an_empty_file_has_no_items(tmp_path: Path, data: bytes) -> None:
    result = _read(tmp_path, data)
    assert (result.items, result.rejects) == ([], [])


def test_garbage_between_records_tears(tmp_path: Path) -> None:
    records = as_wet_records([Document(f"{number:04}") for number in range(10)])
    result = _read(tmp_path, b"".join([*records[:5], b"garbage\r\n\r\n", *records[5:]]))
    assert result.texts == ["0000", "0001", "0002"]
    assert result.reasons == ["torn_file"]
    assert 5 <= result.rejects[0].lost_items <= 9


def test_large_records_are_not_held(tmp_path: Path) -> None:
    data = b"".join(
        [
            warc_record("conversion", b"a" * (30 << 20)),
            _response(b"b" * (30 << 20), kind=b"video/mp4"),
            _response(b"c" * (30 << 20)),
            warc_record("conversion", b"d"),
        ]
    )
    root, files = write(tmp_path, {"a.warc.gz": gzip.compress(data, 1)})
    del data
    source = Source(name="s", uris=("x",), fields={})
    (split,) = plan_source(source, root, files, 1 << 30)
    tracemalloc.start()
    with open_split(source, root, split, ReadLimits(max_item_bytes=1 << 20)) as reader:
        batches = list(reader.batches())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [reject.reason for batch in batches for reject in batch.rejects] == ["item_too_large"] * 2 + [
        "missing_field"
    ]
    assert peak < 8 << 20
