"""Duplicates of rows by their digests: found exactly, and what the file may and may not say."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.duplicates import (
    DIGEST_BYTES,
    DigestCollector,
    Duplicates,
    digests_of,
    find_duplicates,
    has_digests,
)
from tokenmill.errors import CorruptionError
from tokenmill.ir.streams import MODULE_STREAMS
from tokenmill.streams import StreamSpec


def digests(contents: list[bytes]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(b"".join(contents), np.uint8).reshape(-1, DIGEST_BYTES)


def slowly(contents: list[bytes]) -> tuple[list[int], list[int]]:
    first: dict[bytes, int] = {}
    pairs = [(row, first[content]) for row, content in enumerate(contents) if first.setdefault(content, row) != row]
    return [row for row, _ in pairs], [of for _, of in pairs]


def duplicates(rows: list[int], of: list[int]) -> Duplicates:
    return Duplicates(np.array(rows, np.int64), np.array(of, np.int64))


#: Digests that share their first byte, their first half, or their second half with others.
_PIECES = st.sampled_from([b"\0" * 8, b"\0" * 7 + b"\1", b"\x0f" + b"\0" * 7, b"\x10" + b"\0" * 7, b"\xff" * 8])


@given(st.lists(st.builds(bytes.__add__, _PIECES, _PIECES), max_size=60))
def test_every_row_that_repeats_is_found_with_the_first_of_its_kind(contents: list[bytes]) -> None:
    found = find_duplicates(digests(contents))
    assert (found.rows.tolist(), found.of.tolist()) == slowly(contents)
    assert found.rows.dtype == found.of.dtype == np.int64


def test_of_many_rows() -> None:
    numbers = np.random.default_rng(0).integers(0, 15_000, 20_000)
    contents = [hashlib.sha256(str(number).encode()).digest()[:DIGEST_BYTES] for number in numbers]
    found = find_duplicates(digests(contents))
    assert (found.rows.tolist(), found.of.tolist()) == slowly(contents)
    assert 1000 < len(found) < 15_000
    assert (numbers[found.rows] == numbers[found.of]).all()


def test_rows_are_kept_and_survive() -> None:
    found = duplicates([2, 3, 7], [0, 1, 0])
    assert found.kept(0, 8).tolist() == [0, 1, 4, 5, 6]
    assert found.kept(2, 4).tolist() == []
    assert found.kept(3, 8).tolist() == [4, 5, 6]
    assert found.kept(8, 10).tolist() == [8, 9]
    assert found.survivors(np.arange(9)).tolist() == [0, 1, 0, 1, 4, 5, 6, 0, 8]
    none = duplicates([], [])
    assert none.kept(3, 5).tolist() == none.survivors(np.array([3, 4])).tolist() == [3, 4]


@pytest.mark.parametrize("found", [duplicates([], []), duplicates([1], [0]), duplicates([2, 3, 9], [0, 1, 0])])
def test_files_give_back_what_they_were_made_of(found: Duplicates) -> None:
    data = found.to_bytes()
    again = Duplicates.from_bytes(data, "x", 10)
    assert again == found
    assert again.to_bytes() == data
    table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
    assert table.to_pydict() == {"row": found.rows.tolist(), "of": found.of.tolist()}


@pytest.mark.parametrize(
    "false",
    [
        duplicates([10], [0]), duplicates([3, 2], [0, 0]), duplicates([2, 2], [0, 0]), duplicates([2], [2]),
        duplicates([2], [3]), duplicates([2], [-1]), duplicates([2, 3], [0, 2]), duplicates([-1], [-2]),
    ],
)  # fmt: skip
def test_a_list_that_cannot_be_true_is_refused(false: Duplicates) -> None:
    with pytest.raises(CorruptionError, match="x: lists what cannot be duplicates of 10 rows"):
        Duplicates.from_bytes(false.to_bytes(), "x", 10)


def test_other_files_are_refused() -> None:
    data = duplicates([1], [0]).to_bytes()

    def with_metadata(metadata: dict[str, str] | None) -> bytes:
        sink = pa.BufferOutputStream()
        table = pa.table({"row": [1], "of": [0]}).replace_schema_metadata(metadata)
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        return bytes(sink.getvalue())

    for other in (b"", data[:-8], with_metadata(None), with_metadata({"tokenmill": "{}"})):
        with pytest.raises(CorruptionError, match="x: is no list of duplicates"):
            Duplicates.from_bytes(other, "x", 10)
    with pytest.raises(CorruptionError, match="newer tokenmill"):
        Duplicates.from_bytes(with_metadata({"tokenmill": '{"duplicates_format":2}'}), "x", 10)


def test_which_tables_have_digests() -> None:
    assert has_digests(MODULE_STREAMS)
    assert not has_digests({"ids": MODULE_STREAMS["sha256"]})
    assert not has_digests({"sha256": StreamSpec("uint8")})
    assert not has_digests({"sha256": StreamSpec("uint8", ("byte",), (20,))})


def test_digests_are_collected_part_by_part() -> None:
    shas = [hashlib.sha256(text).digest() for text in (b"one", b"two", b"one", b"two", b"three")]
    collector = DigestCollector(5)
    for first, last in ((0, 2), (2, 2), (2, 5)):
        values = np.frombuffer(b"".join(shas[first:last]), np.uint8)
        collector.add(digests_of(values) if last > first else None, last - first, "x")
    assert collector.find() == duplicates([2, 3], [0, 1])


def test_without_the_digests_of_a_part_nothing_is_found() -> None:
    collector = DigestCollector(3)
    collector.add(np.zeros(2 * DIGEST_BYTES, np.uint8), 2, "x")
    collector.add(None, 1, "x")
    assert collector.find() is None
    with pytest.raises(CorruptionError, match="x: has 16 bytes of digests for 2 rows"):
        collector.add(np.zeros(DIGEST_BYTES, np.uint8), 2, "x")
