"""Modules of LLVM IR as sources: folders, tar, and Parquet as ComPile publishes it, some rows of it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.sources.corpora import write
from tokenmill.errors import InputError, JobError
from tokenmill.ir.ir_file import IrFile, IrOptions
from tokenmill.job_sources import Source
from tokenmill.jobs import parse_job
from tokenmill.sources.formats import file_format
from tokenmill.sources.items import Cursor, ItemBatch
from tokenmill.sources.limits import ReadLimits
from tokenmill.sources.planning import plan_source
from tokenmill.sources.reading import open_split

LIMITS = ReadLimits(max_ir_text_bytes=1000, max_ir_memory_bytes=2000, max_ir_seconds=3.0)
WHERE = {"language": ["c", "c++"], "license_expression": ["MIT"]}


def source(**changes: Any) -> Source:
    return Source.model_validate({"name": "s", "modality": "llvm-ir", "uris": ["x"], **changes})


def compile_table() -> bytes:
    """Return a Parquet file of the columns that ComPile has, in row groups of 3."""
    rows = 20
    table = pa.table(
        {
            "content": pa.array([b"module %d" % row if row != 8 else None for row in range(rows)], pa.binary()),
            "license_expression": ["MIT" if row % 4 else None for row in range(rows)],
            "license_source": ["spack"] * rows,
            "license_files": [[{"file": "COPYING"}]] * rows,
            "package_source": [f"package {row}" for row in range(rows)],
            "language": [("c", "c++", "rust")[row % 3] for row in range(rows)],
        }
    )
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=3)
    return file.getvalue()


def batches(tmp_path: Path, files: dict[str, bytes], start: Cursor = Cursor(), **changes: Any) -> list[ItemBatch]:  # noqa: B008
    asked = source(**changes)
    root, inputs = write(tmp_path, files)
    (split,) = plan_source(asked, root, inputs, 1 << 30)
    with open_split(asked, root, split, LIMITS) as reader:
        return list(reader.batches(start))


def test_files_are_known_by_their_ending(tmp_path: Path) -> None:
    assert file_format(source(), "a/b.bc").format == "llvm-ir"
    assert file_format(source(), "a/b.ll.zst").compression == "zst"
    found = batches(tmp_path, {"a.bc": b"BC", "b.ll": b"text", "c.bc": b""})
    payloads = [payload for batch in found for payload in batch.payloads]
    assert payloads == [IrFile(data, IrOptions(1000, 2000, 3.0)) for data in (b"BC", b"text", b"")]
    with pytest.raises(InputError, match="holds no llvm-ir"):
        file_format(source(), "a.jpg")


def test_tar(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in {"a.bc": b"1", "a.json": b'{"language": "c"}', "b.ll": b"2", "c.txt": b"3"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    (batch,) = batches(tmp_path, {"x.tar": file.getvalue()}, metadata=["json.language"])
    assert [payload.data for payload in batch.payloads] == [b"1", b"2"]
    assert batch.metadata == {"json.language": ["c", None]}
    assert [reject.reason for reject in batch.rejects] == ["missing_field"]


def test_parquet_as_compile_has_it(tmp_path: Path) -> None:
    found = batches(tmp_path, {"x.parquet": compile_table()}, metadata=["language", "license_files"])
    assert [payload.data for batch in found for payload in batch.payloads] == [
        b"module %d" % row for row in range(20) if row != 8
    ]
    assert found[0].metadata["license_files"][0] == '[{"file":"COPYING"}]'
    assert [(reject.reason, reject.locator) for batch in found for reject in batch.rejects] == [
        ("null_ir", "x.parquet#row=8")
    ]


def test_rows_that_are_not_asked_for_are_no_items(tmp_path: Path) -> None:
    files = {"x.parquet": compile_table()}
    rows = [row for row in range(20) if row % 4 and row % 3 != 2]
    found = batches(tmp_path, files, where=WHERE, metadata=["package_source"])
    items = [
        (int(ordinal), int(end), locator, package)
        for batch in found
        for ordinal, end, locator, package in zip(
            batch.ordinals, batch.ends, batch.locators, batch.metadata["package_source"], strict=True
        )
    ]
    assert items == [(n, row + 1, f"x.parquet#row={row}", f"package {row}") for n, row in enumerate(rows)]
    for ordinal, end, *_ in items:  # reading resumes after any item with the next one
        rest = batches(tmp_path, files, Cursor(ordinal + 1, end), where=WHERE, metadata=["package_source"])
        assert [int(number) for batch in rest for number in batch.ordinals] == list(range(ordinal + 1, len(rows)))
    assert batches(tmp_path, files, where={"language": ["swift"]}) == []


def test_where_needs_columns_that_are_there_and_parquet(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no column"):
        batches(tmp_path, {"x.parquet": compile_table()}, where={"tongue": ["c"]})
    with pytest.raises(InputError, match="for Parquet files"):
        batches(tmp_path / "other", {"x.bc": b"BC"}, where=WHERE)


def test_fields_and_limits_are_for_this_modality() -> None:
    job = {
        "name": "j",
        "sources": [{"name": "s", "uris": ["x"], "fields": {"llvm_ir": "code"}}],
        "tables": [{"name": "t", "tokenizer": {"id": "bytes"}}],
        "output": "out",
    }
    with pytest.raises(JobError, match=r"`fields\.llvm_ir` is for sources of `modality: llvm-ir`"):
        parse_job(job)
    text = parse_job({**job, "sources": [{"name": "s", "uris": ["x"]}]}).model_dump(mode="json")
    assert "llvm_ir" not in text["sources"][0]["fields"]
    assert "where" not in text["sources"][0]
    assert not [name for name in text["limits"] if "_ir_" in name]
    modules = parse_job({**job, "sources": [{"name": "s", "uris": ["x"], "modality": "llvm-ir", "where": WHERE}]})
    assert ReadLimits.of(modules.limits).max_ir_seconds == 120.0
    assert modules.model_dump(mode="json")["sources"][0]["where"] == WHERE
