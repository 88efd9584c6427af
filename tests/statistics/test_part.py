from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.statistics import cases
from tokenmill.errors import CorruptionError, DatasetError, SpecError, TokenmillError
from tokenmill.sources.items import Reject
from tokenmill.statistics import PartStatistics, arrow, read_statistics
from tokenmill.streams import StreamSpec

GOLDEN = Path(__file__).parent / "golden" / "part-v1.arrow"
GOLDEN_IMAGES = GOLDEN.with_name("part-images-v1.arrow")


@cases.whole_parts
@given(cases.documents, cases.rejects)
def test_counts_are_those_of_a_slow_and_obvious_count(documents: list[cases.Document], rejects: list[Reject]) -> None:
    part = cases.part(documents, rejects)
    assert part.documents == len(documents)
    assert part.input_bytes == sum(document.input_bytes for document in documents)
    assert part.rejected_items == sum(reject.lost_items for reject in rejects)
    assert part.items == part.documents + part.rejected_items
    assert {reason: counts.rejects for reason, counts in part.rejected.items()} == Counter(r.reason for r in rejects)
    for reason, counts in part.rejected.items():
        assert counts.items == sum(reject.lost_items for reject in rejects if reject.reason == reason)
        assert counts.lost_bytes == sum(reject.lost_bytes for reject in rejects if reject.reason == reason)
    tokens = sum(len(document.ids) for document in documents)
    assert {name: stream.tokens for name, stream in part.streams.items()} == {
        "ids": tokens,
        "bytes": tokens,
        "codes": 2 * tokens,
        "latents": 3 * tokens,
    }
    flat = [number for document in documents for number in document.ids]
    expected = {"ids": Counter(flat), "bytes": Counter(n % 251 for n in flat)}
    expected["codes"] = Counter(n % 1024 for n in flat) + Counter(n % 7 for n in flat)
    for name, counter in expected.items():
        unigrams = part.streams[name].unigrams
        assert unigrams is not None
        ids, counts_of_ids = unigrams.sparse()
        assert dict(zip(ids.tolist(), counts_of_ids.tolist(), strict=True)) == counter
    assert part.streams["latents"].unigrams is None


@cases.whole_parts
@given(cases.documents, cases.rejects)
def test_a_file_gives_back_equal_statistics_and_equal_bytes(
    documents: list[cases.Document], rejects: list[Reject]
) -> None:
    part = cases.part(documents, rejects)
    data = part.to_arrow_bytes({"plan": b"x"})
    read = PartStatistics.from_arrow_bytes(data)
    assert read == part
    assert read.to_arrow_bytes({"plan": b"x"}) == data


@cases.whole_parts
@given(cases.documents, cases.rejects, st.integers(1, 9), st.integers(1, 9))
def test_neither_batches_nor_the_order_of_rejects_show_in_the_bytes(
    documents: list[cases.Document], rejects: list[Reject], one: int, other: int
) -> None:
    first = cases.part(documents, rejects, batch_rows=one).to_arrow_bytes()
    assert cases.part(documents, rejects[::-1], batch_rows=other).to_arrow_bytes() == first


def test_extra_metadata_comes_back_whatever_its_order_and_cannot_hide_the_header() -> None:
    part = cases.part([])
    data = part.to_arrow_bytes({"b": b"2", "a": b"\xff"})
    assert data == part.to_arrow_bytes({"a": b"\xff", "b": b"2"})
    assert arrow.decode(data).extra == {"a": b"\xff", "b": b"2"}
    with pytest.raises(ValueError, match=r"tokenmill\.statistics"):
        part.to_arrow_bytes({"tokenmill.statistics": b"{}"})


def test_the_golden_file_is_read_and_written_again_byte_for_byte() -> None:
    read = read_statistics(GOLDEN)
    assert isinstance(read, PartStatistics)
    assert read == cases.golden_part()
    assert arrow.decode(GOLDEN.read_bytes()).extra == cases.GOLDEN_EXTRA
    assert read.to_arrow_bytes(cases.GOLDEN_EXTRA) == GOLDEN.read_bytes()
    assert cases.golden_part().to_arrow_bytes(cases.GOLDEN_EXTRA) == GOLDEN.read_bytes()


def test_the_golden_file_of_images_is_read_and_written_again_byte_for_byte() -> None:
    read = read_statistics(GOLDEN_IMAGES)
    assert read == cases.golden_picture_part()
    assert read.to_arrow_bytes(cases.GOLDEN_EXTRA) == GOLDEN_IMAGES.read_bytes()
    assert cases.golden_picture_part().to_arrow_bytes(cases.GOLDEN_EXTRA) == GOLDEN_IMAGES.read_bytes()


@cases.whole_parts
@given(cases.pictures, cases.pictures, st.integers(1, 9), st.integers(1, 9))
def test_pictures_in_other_batches_parts_and_files_give_equal_bytes(
    first: list[cases.Picture], second: list[cases.Picture], one: int, other: int
) -> None:
    part = cases.picture_part(first + second, batch_rows=one)
    data = part.to_arrow_bytes()
    assert cases.picture_part(first + second, batch_rows=other).to_arrow_bytes() == data
    assert PartStatistics.from_arrow_bytes(data) == part
    read = PartStatistics.from_arrow_bytes(cases.picture_part(second, batch_rows=other).to_arrow_bytes())
    read.merge(cases.picture_part(first))
    assert read == part
    assert read.to_arrow_bytes() == data


def test_which_streams_are_counted_in_which_ways() -> None:
    streams = PartStatistics.start(cases.IMAGE_SPECS).streams
    counted = {
        name: [what for what in ("unigrams", "octaves", "bands", "errors") if getattr(stream, what) is not None]
        for name, stream in streams.items()
    }
    assert counted == {
        "ids": ["unigrams", "octaves", "bands"],
        "books": ["unigrams", "octaves", "bands"],
        "error": ["errors"],
        "outcome": ["unigrams"],
        "geometry": [],
    }


def test_an_error_of_no_stream_is_refused() -> None:
    with pytest.raises(SpecError, match="the error of 'ids'"):
        PartStatistics.start({"error": cases.IMAGE_SPECS["error"]})


@pytest.mark.parametrize(
    "measure", ["documents_by_octave_of_tokens", "tokens_by_band_and_id", "documents_by_tokens_and_error"]
)
def test_counts_of_images_that_are_absent_or_do_not_add_up_are_refused(measure: str) -> None:
    read = arrow.decode(GOLDEN_IMAGES.read_bytes())
    for changed in (None, 1):
        series = []
        for names, (keys, counts) in read.series.items():
            if names[2] != measure or changed is not None:
                series.append(arrow.Series(*names, keys, counts + (changed or 0 if names[2] == measure else 0)))
        with pytest.raises(CorruptionError):
            PartStatistics.from_arrow_bytes(arrow.encode(read.header, series, {}))


def test_tables_with_other_streams_do_not_merge() -> None:
    part = PartStatistics.start({"ids": StreamSpec("uint32", vocabulary_size=10)})
    with pytest.raises(SpecError, match="different tables"):
        part.merge(PartStatistics.start({"ids": StreamSpec("uint32", vocabulary_size=11)}))


def test_merging_leaves_the_other_alone() -> None:
    documents = [cases.Document(5, (1, 2, 3))]
    one, other = cases.part(documents), cases.part(documents, [cases.reject("torn_file")])
    before = other.to_arrow_bytes()
    one.merge(other)
    one.add_rows(*cases.batch(documents))
    one.add_rejects([cases.reject("torn_file")])
    assert other.to_arrow_bytes() == before


def test_what_is_no_statistics_file_is_told_so_with_its_place() -> None:
    for data in (b"", b"nothing", GOLDEN.read_bytes()[:-40]):
        with pytest.raises(CorruptionError, match="where-it-is") as caught:
            PartStatistics.from_arrow_bytes(data, "where-it-is")
        assert caught.value.fix is not None


@cases.whole_parts
@given(st.data())
def test_damaged_bytes_never_escape_as_another_error(data: st.DataObject) -> None:
    damaged = bytearray(GOLDEN.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        read = PartStatistics.from_arrow_bytes(bytes(damaged))
    except TokenmillError:
        return
    # Padding, names and metadata carry no checksum of their own; the counts must still add up.
    assert all(stream.tokens == stream.lengths.total for stream in read.streams.values())


def _rewritten(change: Mapping[str, Any]) -> bytes:
    read = arrow.decode(GOLDEN.read_bytes())
    series = [arrow.Series(*names, keys, counts) for names, (keys, counts) in read.series.items()]
    return arrow.encode({**read.header, **change}, series, {})


def test_counts_that_do_not_add_up_or_are_absent_are_refused() -> None:
    assert PartStatistics.from_arrow_bytes(_rewritten({})) == cases.golden_part()
    changes: list[dict[str, Any]] = [
        {"documents": 41},
        {"input_bytes": 1},
        {"rejected": {"x": {"wrong": 1}}},
        {"streams": None},
    ]
    for change in changes:
        with pytest.raises(CorruptionError):
            PartStatistics.from_arrow_bytes(_rewritten(change))
    with pytest.raises(CorruptionError, match="kind"):
        PartStatistics.from_arrow_bytes(_rewritten({"kind": "other"}))


def test_a_newer_format_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "FORMAT_VERSION", 3)
    data = cases.part([]).to_arrow_bytes()
    monkeypatch.undo()
    with pytest.raises(DatasetError, match="format version 3"):
        PartStatistics.from_arrow_bytes(data)


def test_series_out_of_order_are_refused() -> None:
    header = arrow.decode(GOLDEN.read_bytes()).header
    keys, counts = np.array([2, 1], np.uint32), np.array([1, 1], np.int64)
    with pytest.raises(CorruptionError, match="out of order"):
        arrow.decode(arrow.encode(header, [arrow.Series("", "ids", "tokens_by_id", keys, counts)], {}))
