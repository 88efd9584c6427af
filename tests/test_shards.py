import datetime
import hashlib
import io
import json
import zlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shard_cases import HEADER, header, rows_of
from tokenmill.errors import CorruptionError
from tokenmill.shards import BLOCK_BYTES, SerialisedShard, block_checksums, parse_header, serialise_shard, shard_schema
from tokenmill.streams import Jagged, StreamSpec

METADATA = {
    "title": ("string", st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)),
    "year": ("int64", st.none() | st.integers(-(1 << 63), (1 << 63) - 1)),
    "score": ("float64", st.none() | st.floats()),
    "kept": ("bool", st.none() | st.booleans()),
}
rows = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
            "metadata": st.fixed_dictionaries({name: values for name, (_, values) in METADATA.items()}),
            "ids": st.lists(st.integers(0, 69_999), max_size=6),
            "grid": st.tuples(st.integers(0, 3), st.integers(0, 3)),
        }
    ),
    max_size=8,
)
COLUMNS = {name: kind for name, (kind, _) in METADATA.items()}


def file_of(shard: SerialisedShard) -> bytes:
    return b"".join(shard.pieces)


@settings(max_examples=40)
@given(rows, st.integers(0, 10**6))
def test_any_rows_open_with_plain_arrow(given_rows: list[dict[str, Any]], first: int) -> None:
    made = rows_of(given_rows, COLUMNS, first)
    shard = serialise_shard(header(COLUMNS), made)
    data = file_of(shard)
    table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
    table.validate(full=True)
    assert table.column_names == [
        "ordinal", "document", "position", "key", "metadata.title", "metadata.year", "metadata.score", "metadata.kept",
        "ids", "grid.shape", "grid",
    ]  # fmt: skip
    assert table["ordinal"].to_pylist() == made.ordinals.tolist()
    assert table["document"].to_pylist() == made.documents.tolist()
    assert table["position"].to_pylist() == made.positions.tolist()
    assert table["key"].to_pylist() == [row["key"] for row in given_rows]
    for name in METADATA:
        expected = [row["metadata"][name] for row in given_rows]
        assert repr(table[f"metadata.{name}"].to_pylist()) == repr(expected)  # NaN is not equal to itself
    assert table["ids"].to_pylist() == [row["ids"] for row in given_rows]
    assert table["grid.shape"].to_pylist() == [list(row["grid"]) for row in given_rows]
    for index in range(len(given_rows)):
        assert table["grid"][index].as_py() == made.streams["grid"][index].reshape(-1).tolist()
    _check_offsets(shard, data, made.streams)


def _check_offsets(shard: SerialisedShard, data: bytes, streams: Any) -> None:
    assert shard.size_bytes == len(data)
    assert shard.sha256 == hashlib.sha256(data).hexdigest()
    for name, offset in shard.value_offsets.items():
        values = streams[name].values
        assert data[offset : offset + values.nbytes] == values.tobytes()
        assert offset % 8 == 0


@settings(max_examples=20)
@given(rows)
def test_reading_gives_zero_copy_views_into_the_file(given_rows: list[dict[str, Any]]) -> None:
    shard = serialise_shard(header(COLUMNS), rows_of(given_rows, COLUMNS))
    buffer = pa.py_buffer(file_of(shard))
    before = pa.total_allocated_bytes()
    reader = pa.ipc.open_file(buffer)
    assert reader.num_record_batches == 1
    batch = reader.get_batch(0)
    for name, offset in shard.value_offsets.items():
        values = batch.column(batch.schema.get_field_index(name)).values
        if len(values):
            assert values.buffers()[1].address == buffer.address + offset
    assert pa.total_allocated_bytes() - before < 1000


@settings(max_examples=20)
@given(rows)
def test_equal_rows_give_equal_bytes_however_they_lie_in_memory(given_rows: list[dict[str, Any]]) -> None:
    made = rows_of(given_rows, COLUMNS)
    first = file_of(serialise_shard(header(COLUMNS), made))
    for name, stream in made.streams.items():  # views at odd places of larger arrays, as growing streams are
        larger = np.concatenate([np.ones(3, stream.values.dtype), stream.values, np.ones(5, stream.values.dtype)])
        object.__setattr__(made.streams[name], "values", larger[3 : 3 + len(stream.values)])
    shard = serialise_shard(header(COLUMNS), made)
    assert file_of(shard) == first
    _check_offsets(shard, first, made.streams)


def test_values_are_not_copied() -> None:
    made = rows_of([{"key": "a", "metadata": {}, "ids": list(range(1000)), "grid": (2, 2)}], {})
    shard = serialise_shard(header({}), made)
    made.streams["ids"].values[0] = 77
    offset = shard.value_offsets["ids"]
    assert np.frombuffer(file_of(shard)[offset : offset + 4], np.uint32)[0] == 77


def test_streams_that_share_memory_have_offsets_of_their_own() -> None:
    made = rows_of([{"key": "a", "metadata": {}, "ids": [1, 2, 3], "grid": (0, 0)}], {})
    specs = {"ids": HEADER.streams["ids"], "copy": HEADER.streams["ids"]}
    twice = dict.fromkeys(specs, made.streams["ids"])
    shard = serialise_shard(header({}, specs), type(made)(**{**vars(made), "streams": twice}))
    assert len(set(shard.value_offsets.values())) == 2
    _check_offsets(shard, file_of(shard), twice)


@given(st.lists(st.integers(0, 700_000), max_size=6))
@settings(max_examples=20)
def test_block_checksums_do_not_depend_on_the_pieces(sizes: list[int]) -> None:
    data = np.random.default_rng(len(sizes)).bytes(sum(sizes))
    pieces, start = [], 0
    for size in sizes:
        pieces.append(memoryview(data)[start : start + size])
        start += size
    expected = [zlib.crc32(data[start : start + BLOCK_BYTES]) for start in range(0, len(data), BLOCK_BYTES)]
    assert block_checksums(pieces).tolist() == expected


def test_a_shard_of_several_blocks() -> None:
    made = rows_of(
        [{"key": str(n), "metadata": {}, "ids": list(range(n, n + 300_000)), "grid": (1, 1)} for n in range(3)], {}
    )
    shard = serialise_shard(header({}), made)
    data = file_of(shard)
    assert len(shard.blocks) == -(-len(data) // BLOCK_BYTES) == 4
    assert shard.blocks[1] == zlib.crc32(data[BLOCK_BYTES : 2 * BLOCK_BYTES])


def test_a_shard_describes_itself() -> None:
    schema = shard_schema(header(COLUMNS))
    found = parse_header(schema, "x")
    assert found == header(COLUMNS)
    assert (list(found.streams), list(found.metadata)) == (["ids", "grid"], ["title", "year", "score", "kept"])
    assert schema.field("ids").type == pa.large_list(pa.field("item", pa.uint32(), nullable=False))
    assert schema.field("grid.shape").type == pa.list_(pa.int32(), 2)


def test_other_files_are_no_shards() -> None:
    with pytest.raises(CorruptionError, match="lacks the 'tokenmill' metadata"):
        parse_header(pa.schema([("a", pa.int64())]), "x.arrow")
    newer = {**header({}).to_json(), "format": 99}
    with pytest.raises(CorruptionError, match="shard format 99; this version reads up to 1"):
        parse_header(pa.schema([], metadata={"tokenmill": json.dumps(newer)}), "x.arrow")


def test_float16_latents() -> None:
    spec = StreamSpec("float16", ("token", "channel"), (None, 3))
    made = rows_of([{"key": "a", "metadata": {}, "ids": [1], "grid": (0, 0)}], {})
    latents = Jagged(np.array([0.5, -1, 2, 3, 4, 65504], np.float16), np.array([[2, 3]]))
    shard = serialise_shard(
        header({}, {"latents": spec}), type(made)(**{**vars(made), "streams": {"latents": latents}})
    )
    table = pa.ipc.open_file(io.BytesIO(file_of(shard))).read_all()
    assert table["latents"].to_pylist() == [[0.5, -1, 2, 3, 4, 65504]]
    assert table["latents.shape"].to_pylist() == [[2, 3]]


def test_no_clock_enters_the_bytes() -> None:
    made = rows_of([{"key": "a", "metadata": {}, "ids": [1], "grid": (1, 1)}], {})
    year = str(datetime.datetime.now(datetime.UTC).year).encode()
    assert year not in file_of(serialise_shard(header({}), made))
