"""Planning: what a split may hold, what is looked at, and what is refused."""

from __future__ import annotations

import io
import time
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sources.corpora import Document, as_parquet, read_source, write
from tokenmill.errors import InputError
from tokenmill.job_sources import Source
from tokenmill.sources.planning import RUN_FILES, SMALL_FILE_BYTES, plan_source
from tokenmill.sources.splits import InputFile, Split

_SOURCE = Source(name="s", uris=("x",))
_BIG = SMALL_FILE_BYTES + 1


def _plan(files: list[InputFile], split_bytes: int = 1 << 20, source: Source = _SOURCE) -> list[Split]:
    return list(plan_source(source, "/nowhere", files, split_bytes))


def test_line_files_are_cut_into_even_ranges() -> None:
    splits = _plan([InputFile("a.jsonl", 10_000_000, "v")], 3_000_000)
    assert [(split.kind, split.start, split.stop) for split in splits] == [
        ("bytes", 0, 2_500_000),
        ("bytes", 2_500_000, 5_000_000),
        ("bytes", 5_000_000, 7_500_000),
        ("bytes", 7_500_000, 10_000_000),
    ]
    assert sum(split.input_bytes for split in splits) == 10_000_000


@pytest.mark.parametrize("name", ["a.jsonl.zst", "a.tar", "a.wet.gz", "a.txt", "dir/A.NDJSON.GZ"])
def test_what_cannot_be_cut_is_a_whole_file(name: str) -> None:
    file = InputFile(name, 10_000_000, "v")
    assert _plan([file]) == [Split("s", "file", (file,), 0, 10_000_000, 10_000_000)]


def test_small_files_of_any_format_run_together() -> None:
    files = [InputFile(f"{number:05}.{'jsonl' if number % 2 else 'txt'}", 10, "v") for number in range(2500)]
    splits = _plan(files)
    assert [len(split.files) for split in splits] == [RUN_FILES, RUN_FILES, 500]
    assert all((split.kind, split.start, split.stop) == ("files", 0, len(split.files)) for split in splits)
    assert [file for split in splits for file in split.files] == files


def test_runs_hold_split_bytes_at_most() -> None:
    splits = _plan([InputFile(f"{number}.txt", 400, "v") for number in range(6)], 1000)
    assert [split.input_bytes for split in splits] == [800, 800, 800]


_FILES = st.lists(
    st.builds(
        InputFile,
        st.sampled_from(["a.jsonl", "b.jsonl.gz", "c.txt", "d.tar"]),
        st.sampled_from([0, 1, 5000, SMALL_FILE_BYTES, _BIG, 10_000_000]),
        st.just("v"),
    ),
    max_size=30,
)


@given(files=_FILES, split_bytes=st.integers(4096, 20_000_000))
def test_every_byte_of_every_file_is_in_one_split(files: list[InputFile], split_bytes: int) -> None:
    files = [InputFile(f"{number:03}{file.path}", file.size_bytes, "v") for number, file in enumerate(files)]
    splits = _plan(files, split_bytes)
    assert splits == _plan(files, split_bytes)
    covered: dict[str, list[tuple[int, int]]] = {}
    for split in splits:
        assert split.input_bytes <= split_bytes or split.kind == "file"
        assert split.input_bytes > 0 or split.kind == "files"
        for file in split.files:
            whole = split.kind == "files"
            covered.setdefault(file.path, []).append((0, file.size_bytes) if whole else (split.start, split.stop))
    assert set(covered) == {file.path for file in files}
    for file in files:
        ranges = sorted(covered[file.path])
        assert (ranges[0][0], ranges[-1][1]) == (0, file.size_bytes)
        assert all(stop == start for (_, stop), (start, _) in pairwise(ranges))


def test_row_groups_are_gathered_up_to_split_bytes(tmp_path: Path) -> None:
    documents = [Document(f"{number:06}" * 1000, str(number)) for number in range(400)]
    data = as_parquet(documents, row_group_size=10, compression="none", use_dictionary=False)
    root, files = write(tmp_path, {"a.parquet": data})
    splits = list(plan_source(_SOURCE, root, files, 300_000))
    assert {split.kind for split in splits} == {"rows"}
    assert [split.start for split in splits][1:] == [split.stop for split in splits][:-1]
    assert (splits[0].start, splits[-1].stop) == (0, 40)
    assert 200_000 < max(split.input_bytes for split in splits) <= 300_000
    assert read_source(_SOURCE, root, files, 300_000).texts == [document.text for document in documents]


def test_a_damaged_footer_is_left_to_the_reader(tmp_path: Path) -> None:
    data = as_parquet([Document("x" * _BIG)], compression="none")
    root, files = write(tmp_path, {"a.parquet": data[:-100]})
    (split,) = plan_source(_SOURCE, root, files, 1 << 30)
    assert split.kind == "file"
    result = read_source(_SOURCE, root, files)
    assert result.reasons == ["torn_file"]
    assert result.rejects[0].lost_bytes == len(data) - 100


def test_columns_that_are_not_there_are_refused(tmp_path: Path) -> None:
    root, files = write(tmp_path, {"a.parquet": as_parquet([Document("x")])})
    for fields, message in [
        ({"text": "body"}, "no column 'body'; the columns are skipped .int8., text .string., id .large_string."),
        ({"text": "number"}, "column 'number' holds int64, no text"),
        ({"text": "text.deeper"}, "no column 'text.deeper'"),
        ({"text": "text", "id": "key"}, "no column 'key'"),
    ]:
        source = Source(name="s", uris=("x",), fields=fields)
        with pytest.raises(InputError, match=message) as caught:
            list(plan_source(source, root, files, 1 << 20))
        assert "fields." in str(caught.value)


def test_a_header_line_without_the_columns_is_refused(tmp_path: Path) -> None:
    root, files = write(tmp_path, {"a.csv": b"1,hello\n2,you\n"})
    with pytest.raises(InputError, match="names no column 'text'; it has '1', 'hello'"):
        list(plan_source(_SOURCE, root, files, 1 << 20))
    root, files = write(tmp_path, {"a.csv": b"text,text\n2,you\n"})
    with pytest.raises(InputError, match="more than one column 'text'"):
        list(plan_source(_SOURCE, root, files, 1 << 20))


@pytest.mark.parametrize("name", ["a.json", "a", "b.gz", "c.docx.zst", "dir.jsonl/noending"])
def test_an_unknown_ending_is_refused_with_those_known(name: str) -> None:
    with pytest.raises(InputError, match=r"\.jsonl .*\.parquet .*\.zst") as caught:
        _plan([InputFile(name, 1, "v")])
    assert "`format`" in str(caught.value)
    assert name in str(caught.value)
    given_format = Source(name="s", uris=("x",), format="jsonl")
    assert len(_plan([InputFile(name, 1, "v")], source=given_format)) == 1


def test_parquet_inside_of_a_compression_is_refused() -> None:
    with pytest.raises(InputError, match="decompress it"):
        _plan([InputFile("a.parquet.gz", 1, "v")])


@pytest.mark.parametrize(
    ("encoding", "format", "message"),
    [("utf-9", "text", "no character encoding 'utf-9'"), ("utf-16", "lines", "lines cannot be found")],
)
def test_encodings_that_cannot_work_are_refused(encoding: str, format: str, message: str) -> None:  # noqa: A002
    source = Source.model_validate({"name": "s", "uris": ["x"], "format": format, "encoding": encoding})
    with pytest.raises(InputError, match=message):
        _plan([InputFile("a", 1, "v")], source=source)


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(InputError, match=r"a\.parquet"):
        _plan([InputFile("a.parquet", 100, "v")])


def test_planning_hundred_thousand_splits_is_quick() -> None:
    files = [InputFile(f"{number:06}.jsonl.zst", 10_000_000, "v") for number in range(100_000)]
    begun = time.perf_counter()
    assert len(_plan(files)) == 100_000
    assert time.perf_counter() - begun < 30


def test_struct_columns_are_found_with_dots(tmp_path: Path) -> None:
    table = pa.table({"document": [{"body": "a", "n": 1}, {"body": "b", "n": 2}, None]})
    file = io.BytesIO()
    pq.write_table(table, file)
    root, files = write(tmp_path, {"a.parquet": file.getvalue()})
    source = Source(name="s", uris=("x",), fields={"text": "document.body"}, metadata={"document.n": "int64"})
    result = read_source(source, root, files)
    assert [(item.text, item.metadata) for item in result.items] == [("a", (1,)), ("b", (2,))]
    assert result.reasons == ["null_text"]
