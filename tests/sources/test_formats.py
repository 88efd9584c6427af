"""Formats by ending."""

from __future__ import annotations

import pytest

from tokenmill.job_sources import Source, SourceFormat
from tokenmill.sources.formats import file_format

_SOURCE = Source(name="s", uris=("x",))


@pytest.mark.parametrize(
    ("path", "format", "compression"),
    [
        ("a.jsonl", "jsonl", "none"),
        ("x.y/a.b.c.JSONL.ZST", "jsonl", "zst"),
        ("a.ndjson.gz", "jsonl", "gz"),
        ("a.parquet", "parquet", "none"),
        ("a.csv.xz", "csv", "xz"),
        ("a.tsv.bz2", "tsv", "bz2"),
        ("a.md", "text", "none"),
        ("a.tgz", "tar", "gz"),
        ("a.tar.zst", "tar", "zst"),
        ("CC-MAIN-2024.warc.wet.gz", "warc", "gz"),
        ("a.wet", "warc", "none"),
    ],
)
def test_endings(path: str, format: SourceFormat, compression: str) -> None:  # noqa: A002
    found = file_format(_SOURCE, path)
    assert (found.format, found.compression) == (format, compression)
    assert found.divisible == (path == "a.jsonl")


@pytest.mark.parametrize("path", ["a", "a.txt", "a.gz", ".gz", "a.b.zst"])
def test_a_given_format_leaves_the_compression_to_the_ending(path: str) -> None:
    found = file_format(Source(name="s", uris=("x",), format="lines"), path)
    assert found.format == "lines"
    assert found.compression == {"gz": "gz", "st": "zst"}.get(path[-2:] if "." in path[1:] else "", "none")
