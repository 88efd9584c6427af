import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill import layout
from tokenmill.layout import ReceiptName

HASH = "0123456789abcdef" * 4
tables = st.from_regex(re.compile(r"[a-z0-9][a-z0-9_-]{0,12}", re.ASCII), fullmatch=True)
numbers = st.integers(0, 10**9)


@given(tables, numbers, numbers, numbers)
def test_receipts_are_read_back_from_their_names(table: str, split: int, part: int, attempt: int) -> None:
    name = ReceiptName(table, split, part, attempt)
    path = layout.receipt(name)
    assert layout.parse_receipt(path) == name
    assert not layout.is_product(path)


@given(tables, numbers, numbers)
def test_products_are_known_by_their_names(table: str, split: int, part: int) -> None:
    for name in (layout.shard, layout.statistics, layout.rejects):
        path = name(table, split, part, HASH)
        assert layout.is_product(path)
        assert layout.parse_receipt(path) is None
        assert layout.parse_generation(path) is None
        assert HASH[:16] in path
        assert HASH[:17] not in path


@given(st.integers(1, 10**9))
def test_generations_are_read_back_from_their_names(generation: int) -> None:
    for path in (layout.plan(generation), layout.manifest(generation), layout.takedown(generation)):
        assert layout.parse_generation(path) == generation
        assert not layout.is_product(path)
    for path in (
        layout.splits(generation, HASH),
        layout.manifest_shards(generation, "text", HASH),
        layout.manifest_statistics(generation, "text", HASH),
        layout.manifest_duplicates(generation, "text", HASH),
        layout.takedown_keys(generation, HASH),
        layout.takedown_parts(generation, HASH),
    ):
        assert layout.parse_generation(path) is None
        assert not layout.is_product(path)


def test_names() -> None:
    assert layout.plan(1) == "plans/000001.json"
    assert layout.splits(1, HASH) == "plans/000001-0123456789abcdef.splits.arrow"
    assert layout.shard("text", 7, 3, HASH) == "text/shards/000007-0003-0123456789abcdef.arrow"
    assert layout.statistics("text", 7, 3, HASH) == "text/statistics/000007-0003-0123456789abcdef.arrow"
    assert layout.rejects("text", 7, 3, HASH) == "rejects/text-000007-0003-0123456789abcdef.jsonl"
    assert layout.receipt(ReceiptName("text", 7, 3, 1)) == "text/receipts/000007-0003.1.json"
    assert layout.manifest(12) == "manifests/000012.json"
    assert layout.manifest_shards(1, "text", HASH) == "manifests/000001-text-0123456789abcdef.shards.arrow"
    assert layout.manifest_statistics(1, "text", HASH) == "manifests/000001-text-0123456789abcdef.statistics.arrow"
    assert layout.manifest_duplicates(1, "text", HASH) == "manifests/000001-text-0123456789abcdef.duplicates.arrow"
    assert layout.takedown(2) == "takedowns/000002.json"
    assert layout.takedown_keys(2, HASH) == "takedowns/000002-0123456789abcdef.keys.arrow"
    assert layout.takedown_parts(2, HASH) == "takedowns/000002-0123456789abcdef.parts.arrow"


@pytest.mark.parametrize(
    "path",
    [
        "README.md", "text/receipts/x.json", "text/receipts/000000-0000.json", "a/b/receipts/000000-0000.0.json",
        "text/shards/notes.arrow", "plans/latest.json", "plans/000001.json.bak", ".tmp/17-aa", "rejects/notes.jsonl",
        "text/shards/000007-0003-0123456789abcdef.arrow.tmp",
    ],
)  # fmt: skip
def test_foreign_files_are_nobodys(path: str) -> None:
    assert layout.parse_receipt(path) is None
    assert layout.parse_generation(path) is None
    assert not layout.is_product(path)
