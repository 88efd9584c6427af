"""Parquet: column types, damaged row groups, and how much is held."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.sources.corpora import Document, Result, as_parquet, read_source, read_split, write
from tokenmill.job_sources import Source
from tokenmill.sources.items import Cursor
from tokenmill.sources.limits import ReadLimits
from tokenmill.sources.planning import plan_source
from tokenmill.sources.reading import open_split


def _read(tmp_path: Path, table: Any, limits: ReadLimits | None = None, **source: Any) -> Result:
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=2)
    root, files = write(tmp_path, {"a.parquet": file.getvalue()})
    return read_source(Source(name="s", uris=("x",), **source), root, files, limits=limits)


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary()], ids=str
)
def test_text_columns_of_every_type(tmp_path: Path, kind: Any) -> None:
    values = pa.array(["a", "ä", "", None, "日本"], pa.string()).cast(kind)
    result = _read(tmp_path, pa.table({"text": values}))
    assert [(item.ordinal, item.text) for item in result.items] == [(0, "a"), (1, "ä"), (2, ""), (4, "日本")]
    assert [item.locator for item in result.items] == [f"a.parquet#row={row}" for row in (0, 1, 2, 4)]
    assert [(reject.reason, reject.ordinal, reject.locator) for reject in result.rejects] == [
        ("null_text", 3, "a.parquet#row=3")
    ]


def test_dictionaries_are_unpacked(tmp_path: Path) -> None:
    result = _read(tmp_path, pa.table({"text": pa.array(["a", "b", "a"]).dictionary_encode()}))
    assert result.texts == ["a", "b", "a"]


@pytest.mark.parametrize("kind", [pa.binary(), pa.string(), pa.large_string()], ids=str)
def test_bytes_that_are_no_text_are_rejected(tmp_path: Path, kind: Any) -> None:
    raw = pa.array([b"good", b"b\xffd", b"good"], pa.large_binary() if kind == pa.large_string() else pa.binary())
    values = raw if kind == pa.binary() else pa.Array.from_buffers(kind, 3, raw.buffers())
    result = _read(tmp_path, pa.table({"text": values}))
    assert (result.texts, result.reasons) == (["good", "good"], ["invalid_utf8"])


def test_ids_and_metadata(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": ["a", "b", "c"],
            "id": pa.array([1, 2, None], pa.uint64()),
            "score": pa.array([0.5, None, 1], pa.float32()),
            "count": pa.array([1, 2, 3], pa.int8()),
            "tags": [["x", "y"], [], None],
            "huge": pa.array([1, 1 << 63, 1], pa.uint64()),
        }
    )
    metadata = {"score": "float64", "count": "int64", "tags": "string", "absent": "bool"}
    result = _read(tmp_path, table, fields={"id": "id"}, metadata=metadata)
    assert [(item.key, item.metadata) for item in result.items] == [
        ("1", (0.5, 1, '["x","y"]', None)),
        ("2", (None, 2, "[]", None)),
    ]
    assert result.reasons == ["missing_field"]
    assert _read(tmp_path, table, metadata={"huge": "int64"}).reasons == ["wrong_type"]


def test_limits(tmp_path: Path) -> None:
    table = pa.table({"text": ["a" * 100, "b" * 101], "m": ["x" * 11, "y"]})
    result = _read(tmp_path, table, ReadLimits(100, 10), metadata=["m"])
    assert sorted(result.reasons) == ["item_too_large", "metadata_too_large"]


def test_a_damaged_row_group_costs_its_own_rows_only(tmp_path: Path) -> None:
    documents = [Document(f"{number:03}" * 50, str(number)) for number in range(30)]
    data = bytearray(as_parquet(documents, row_group_size=10, compression="none", use_dictionary=False))
    place = data.index(b"014014")
    data[place] ^= 1
    root, files = write(tmp_path, {"a.parquet": bytes(data)})
    source = Source(name="s", uris=("x",))
    for split_bytes in (1, 1 << 20):
        result = read_source(source, root, files, split_bytes)
        assert result.texts == [document.text for document in (*documents[:10], *documents[20:])]
        (reject,) = result.rejects
        assert (reject.reason, reject.lost_items, reject.locator) == ("torn_file", 10, "a.parquet#row=10")
        assert 0 < reject.lost_bytes < len(data)
    ordinals = [item.ordinal for item in result.items]
    assert ordinals == [*range(10), *range(20, 30)]


def test_what_is_no_parquet_is_unreadable(tmp_path: Path) -> None:
    root, files = write(tmp_path, {"a.parquet": b"this is no Parquet file, whatever its name says"})
    result = read_source(Source(name="s", uris=("x",)), root, files)
    assert result.reasons == ["unreadable_file"]
    assert result.rejects[0].lost_bytes == 47


def test_large_row_groups_are_read_in_pieces(tmp_path: Path) -> None:
    texts = pa.array([f"{number:07}" * 700 for number in range(20_000)])  # 98 MB in one row group
    file = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), file, use_dictionary=False, compression="zstd")
    root, files = write(tmp_path, {"a.parquet": file.getvalue()})
    del texts
    source = Source(name="s", uris=("x",))
    (split,) = plan_source(source, root, files, 1 << 30)
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    largest = rows = 0
    with open_split(source, root, split, ReadLimits()) as reader:
        for batch in reader.batches():
            rows += len(batch)
            largest = max(largest, pa.total_allocated_bytes() - before)
            assert int(batch.sizes.sum()) <= 1 << 20
    python_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 20_000
    assert largest < 30_000_000
    assert python_bytes < 10_000_000


def test_restart_in_the_middle_of_a_row_group(tmp_path: Path) -> None:
    documents = [Document(str(number), str(number)) for number in range(100)]
    root, files = write(tmp_path, {"a.parquet": as_parquet(documents, row_group_size=30)})
    source = Source(name="s", uris=("x",))
    for split in plan_source(source, root, files, 1):
        whole = read_split(source, root, split)
        for number, item in enumerate(whole.items):
            rest = read_split(source, root, split, Cursor(item.ordinal + 1, item.end))
            assert rest.items == whole.items[number + 1 :]
