from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.statistics import cases
from tokenmill.errors import CorruptionError, SpecError
from tokenmill.sources.items import Reject
from tokenmill.statistics import MergedStatistics, PartStatistics, merge_parts, read_statistics
from tokenmill.streams import Jagged, StreamSpec

Given = tuple[str, list[cases.Document], list[Reject]]
parts = st.lists(st.tuples(st.sampled_from(["books", "web", "code"]), cases.documents, cases.rejects), max_size=6)


def counted(part: Given) -> tuple[str, PartStatistics]:
    source, documents, rejects = part
    return source, cases.part(documents, rejects)


@cases.whole_parts
@given(parts, st.data())
def test_any_order_and_grouping_gives_equal_statistics_and_equal_bytes(
    given_parts: list[Given], data: st.DataObject
) -> None:
    expected = merge_parts(map(counted, given_parts), cases.SPECS)
    shuffled = data.draw(st.permutations(given_parts))
    groups = [merge_parts([counted(part)], cases.SPECS) for part in shuffled]
    while len(groups) > 1:
        first = groups.pop(data.draw(st.integers(0, len(groups) - 1)))
        second = groups.pop(data.draw(st.integers(0, len(groups) - 1)))
        if data.draw(st.booleans()):
            first = MergedStatistics.from_arrow_bytes(first.to_arrow_bytes())
        first.merge(second)
        groups.append(first)
    merged = groups[0] if groups else MergedStatistics.start(cases.SPECS)
    assert merged == expected
    assert merged.to_arrow_bytes() == expected.to_arrow_bytes()
    assert merged.overall() == expected.overall()


@cases.whole_parts
@given(cases.documents, cases.rejects, st.data())
def test_a_run_in_pieces_has_the_statistics_of_an_unbroken_one(
    documents: list[cases.Document], rejects: list[Reject], data: st.DataObject
) -> None:
    cut, other = sorted(data.draw(st.tuples(st.integers(0, len(documents)), st.integers(0, len(documents)))))
    pieces = [cases.part(documents[:cut], rejects), cases.part(documents[cut:other]), cases.part(documents[other:])]
    files = [piece.to_arrow_bytes() for piece in pieces]
    resumed = merge_parts((("s", PartStatistics.from_arrow_bytes(file)) for file in files), cases.SPECS)
    unbroken = merge_parts([("s", cases.part(documents, rejects))], cases.SPECS)
    assert resumed.to_arrow_bytes() == unbroken.to_arrow_bytes()


@cases.whole_parts
@given(parts)
def test_overall_is_all_sources_as_one(given_parts: list[Given]) -> None:
    merged = merge_parts(map(counted, given_parts), cases.SPECS)
    everything = PartStatistics.start(cases.SPECS)
    for part in given_parts:
        everything.merge(counted(part)[1])
    assert merged.overall() == everything
    assert set(merged.sources) == {source for source, _, _ in given_parts}


def test_both_kinds_are_read_from_bytes_and_paths(tmp_path: Path) -> None:
    part = cases.part([cases.Document(9, (1, 2))])
    merged = merge_parts([("a", part)], cases.SPECS)
    both: list[PartStatistics | MergedStatistics] = [part, merged]
    for number, statistics in enumerate(both):
        path = tmp_path / f"{number}.arrow"
        path.write_bytes(statistics.to_arrow_bytes())
        assert read_statistics(path) == read_statistics(str(path)) == read_statistics(path.read_bytes()) == statistics
    with pytest.raises(CorruptionError, match="not merged ones"):
        MergedStatistics.from_arrow_bytes(part.to_arrow_bytes())
    with pytest.raises(CorruptionError, match="not of a part"):
        PartStatistics.from_arrow_bytes(merged.to_arrow_bytes())
    torn = tmp_path / "torn.arrow"
    torn.write_bytes(b"ARROW1")
    with pytest.raises(CorruptionError, match=r"torn\.arrow"):
        read_statistics(torn)


def test_statistics_of_other_streams_are_refused() -> None:
    merged, other = MergedStatistics.start(cases.SPECS), MergedStatistics.start({"ids": StreamSpec("uint8")})
    with pytest.raises(SpecError):
        merged.merge(other)
    with pytest.raises(SpecError):
        merged.add("a", PartStatistics.start(other.specs))
    assert merged == MergedStatistics.start(cases.SPECS)


def test_memory_does_not_grow_with_the_number_of_parts() -> None:
    specs = {"ids": StreamSpec("uint32", vocabulary_size=200_000)}

    def stored(count: int) -> Iterator[tuple[str, PartStatistics]]:
        for number in range(count):
            ids = ((np.arange(5_000) * (number + 1)) % 200_000).astype(np.uint32)
            part = PartStatistics.start(specs)
            part.add_rows(np.array([7]), {"ids": Jagged.from_lengths(ids, np.array([5_000]))})
            yield "web", PartStatistics.from_arrow_bytes(part.to_arrow_bytes())

    peaks = []
    for count in (3, 60):
        tracemalloc.start()
        merged = merge_parts(stored(count), specs)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert merged.overall().streams["ids"].tokens == count * 5_000
    assert peaks[1] < 1.2 * peaks[0]
