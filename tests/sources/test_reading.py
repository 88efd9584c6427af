"""What holds for every format: nothing lost, nothing twice, restart anywhere, and no damage that raises."""

from __future__ import annotations

import tempfile
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sources.corpora import CASES, Case, Document, Result, read_source, read_split, small_pieces, write
from tokenmill.errors import InputError
from tokenmill.sources import reasons
from tokenmill.sources.items import Cursor
from tokenmill.sources.planning import plan_source

_SETTINGS = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
_TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
_ID = st.text("abcdefgh<>:-ä", min_size=1, max_size=8)
_DOCUMENTS = st.lists(st.builds(Document, _TEXT, _ID, st.none() | st.integers(-(1 << 63), (1 << 63) - 1)), max_size=20)


def _allowed(case: Case, documents: list[Document]) -> list[Document]:
    table = {ord(character): None for character in case.forbidden}
    return [Document(d.text.translate(table), d.id, d.number) for d in documents]


def _texts_and_more(case: Case, documents: list[Document]) -> list[tuple[Any, ...]]:
    if case.format == "lines":
        return [(case.name, d.text, ()) for d in documents]
    return [(d.id, d.text, (d.number,)) for d in documents]


def _found(result: Result) -> list[tuple[Any, ...]]:
    return [(item.key, item.text, item.metadata) for item in result.items]


@pytest.mark.parametrize("case", CASES.values(), ids=str)
@given(
    documents=_DOCUMENTS,
    split_bytes=st.integers(1, 400) | st.just(1 << 20),
    chunk_bytes=st.integers(1, 100) | st.just(1 << 20),
    batch_bytes=st.integers(1, 200),
)
@_SETTINGS
def test_the_splits_hold_every_item_once_and_in_order(
    case: Case, documents: list[Document], split_bytes: int, chunk_bytes: int, batch_bytes: int
) -> None:
    documents = _allowed(case, documents)
    with tempfile.TemporaryDirectory() as directory, small_pieces(chunk_bytes, batch_bytes):
        root, files = write(Path(directory), {case.name: case.build(documents)})
        result = read_source(case.source(), root, files, split_bytes)
    assert result.rejects == []
    assert _found(result) == _texts_and_more(case, documents)


@pytest.mark.parametrize("case", CASES.values(), ids=str)
@given(
    documents=_DOCUMENTS,
    split_bytes=st.integers(1, 400) | st.just(1 << 20),
    chunk_bytes=st.integers(1, 100) | st.just(1 << 20),
    damage=st.none() | st.tuples(st.floats(0, 1), st.integers(0, 255)),
)
@_SETTINGS
def test_a_restart_after_any_item_gives_the_rest(
    case: Case, documents: list[Document], split_bytes: int, chunk_bytes: int, damage: tuple[float, int] | None
) -> None:
    content = bytearray(case.build(_allowed(case, documents)))
    if damage is not None and content:
        content[int(damage[0] * (len(content) - 1))] = damage[1]
    source = case.source()
    with tempfile.TemporaryDirectory() as directory, small_pieces(chunk_bytes):
        root, files = write(Path(directory), {case.name: bytes(content), "b/" + case.name: bytes(content)})
        try:
            splits = list(plan_source(source, root, files, split_bytes))
        except InputError:
            assert damage is not None  # a header line, or a footer, without the source's columns
            return
        for split in splits:
            whole = read_split(source, root, split)
            for number, item in enumerate(whole.items):
                rest = read_split(source, root, split, Cursor(item.ordinal + 1, item.end))
                assert rest.items == whole.items[number + 1 :]
                assert rest.rejects == [reject for reject in whole.rejects if reject.ordinal > item.ordinal]


@pytest.mark.parametrize("case", [case for case in CASES.values() if case.tears], ids=str)
@given(documents=_DOCUMENTS, cut=st.floats(0, 1, exclude_max=True), chunk_bytes=st.integers(1, 1000))
@_SETTINGS
def test_a_file_cut_anywhere_keeps_the_items_before(
    case: Case, documents: list[Document], cut: float, chunk_bytes: int
) -> None:
    documents = _allowed(case, documents)
    parts = case.parts(documents)
    size_bytes = int(cut * sum(map(len, parts)))
    with tempfile.TemporaryDirectory() as directory, small_pieces(chunk_bytes):
        root, files = write(Path(directory), {case.name: b"".join(parts)[:size_bytes]})
        try:
            result = read_source(case.source(), root, files)
        except InputError:
            assert case.name.startswith("a.tsv")  # cut in its header line
            return
    if size_bytes in accumulate(map(len, parts), initial=0):
        return  # it looks whole, and what it ends with (half a line, half a sample) like all there is
    expected = _texts_and_more(case, documents)
    assert _found(result) == expected[: len(result.items)]
    if len(result.items) < len(expected) or result.rejects:
        assert result.reasons == [reasons.TORN_FILE]
        assert result.rejects[0].ordinal == len(result.items)
        assert result.rejects[0].lost_items >= 1
        assert 0 <= result.rejects[0].lost_bytes <= size_bytes


@pytest.mark.parametrize("case", CASES.values(), ids=str)
@given(documents=_DOCUMENTS, damages=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4))
@_SETTINGS
def test_no_damage_raises(case: Case, documents: list[Document], damages: list[tuple[float, int]]) -> None:
    content = bytearray(case.build(_allowed(case, documents)))
    for place, value in damages if content else ():
        content[int(place * (len(content) - 1))] = value
    with tempfile.TemporaryDirectory() as directory:
        root, files = write(Path(directory), {case.name: bytes(content)})
        try:
            result = read_source(case.source(), root, files)
        except InputError:
            assert case.name.startswith(("a.csv", "a.tsv")) or case.name.endswith(
                ".parquet"
            )  # in a header line, or in a footer
            return
    assert set(result.reasons) <= set(reasons.REASONS)
