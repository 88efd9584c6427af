import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from tokenmill import layout
from tokenmill.errors import CorruptionError
from tokenmill.layout import ReceiptName
from tokenmill.receipts import (
    FileReference,
    Receipt,
    ShardReference,
    file_intact,
    latest_receipt,
    list_receipts,
    newest_names,
    sha256_of,
)
from tokenmill.sealed import seal, unseal
from tokenmill.sources.items import Cursor
from tokenmill.storage.outputs import Storage

SHA = "ab" * 32


def a_receipt(split: int = 7, part: int = 3, attempt: int = 0, table: str = "text") -> Receipt:
    return Receipt(
        name=ReceiptName(table, split, part, attempt),
        fingerprint="f" * 64,
        start=Cursor(100, 1 << 40),
        next=Cursor(200, (1 << 40) + 5),
        final=True,
        shards=(
            ShardReference(
                "text/shards/x.arrow", SHA, 10, '"etag"', 97, {"ids": 1000, "grid": 5}, {"ids": 8, "grid": 64}
            ),
        ),
        statistics=FileReference("text/statistics/x.arrow", SHA, 20),
        rejects=FileReference("rejects/x.jsonl", SHA, 30),
        items=100,
        rejected=3,
        input_bytes=12345,
        environment={"python": "3.11.9", "device": "cpu"},
        seconds=1.5,
        attempt_id="0" * 32,
    )


@pytest.mark.parametrize("receipt", [a_receipt(), replace(a_receipt(), shards=(), rejects=None, final=False)])
def test_receipts_come_back_and_are_small(receipt: Receipt) -> None:
    data = receipt.to_bytes()
    assert Receipt.from_bytes(data, "x") == receipt
    assert len(data) <= 4096


def test_counts() -> None:
    receipt = a_receipt()
    assert receipt.rows == 97
    assert receipt.tokens == 1000
    assert [file.path for file in receipt.files] == [
        "text/shards/x.arrow",
        "text/statistics/x.arrow",
        "rejects/x.jsonl",
    ]
    empty = replace(receipt, shards=(), rejects=None)
    assert (empty.rows, empty.tokens, len(empty.files)) == (0, 0, 1)


def test_every_altered_byte_is_noticed() -> None:
    data = a_receipt().to_bytes()
    for position in range(len(data)):
        with pytest.raises(CorruptionError):
            Receipt.from_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :], "x")


def test_receipts_of_a_newer_version_are_refused() -> None:
    value = unseal(a_receipt().to_bytes(), "x")
    with pytest.raises(CorruptionError, match="newer tokenmill"):
        Receipt.from_bytes(seal({**value, "format": 3, "more": 1}), "x")


def test_the_newest_attempt_counts(any_root: str) -> None:
    storage = Storage.open(any_root)
    assert latest_receipt(storage, "text", 7, 3) is None
    for attempt in range(3):
        receipt = a_receipt(attempt=attempt)
        assert storage.create(layout.receipt(receipt.name), receipt.to_bytes())
        latest = latest_receipt(storage, "text", 7, 3)
        assert latest is not None
        assert (latest.attempt, latest.receipt) == (attempt, receipt)
    storage.create(layout.receipt(ReceiptName("text", 7, 3, 3)), b"{}")
    latest = latest_receipt(storage, "text", 7, 3)
    assert latest is not None
    assert (latest.attempt, latest.receipt) == (3, None)
    names = list(list_receipts(storage, "text"))
    assert sorted(name.attempt for name in names) == [0, 1, 2, 3]
    assert newest_names(names) == [ReceiptName("text", 7, 3, 3)]
    assert list(list_receipts(storage, "other")) == []


def test_newest_names_are_in_reading_order() -> None:
    names = [ReceiptName("t", split, part, attempt) for split in (10, 2) for part in (11, 3) for attempt in (1, 0)]
    assert newest_names(names) == [ReceiptName("t", split, part, 1) for split in (2, 10) for part in (3, 11)]


def test_files_are_checked(any_root: str) -> None:
    storage = Storage.open(any_root)
    entry = storage.put("a/x", [b"content"])
    sha256 = sha256_of(storage, "a/x")
    assert sha256 == "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    file = FileReference("a/x", sha256, 7, entry.version)
    assert file_intact(storage, file, rehash=False)
    assert file_intact(storage, file, rehash=True)
    assert not file_intact(storage, replace(file, size_bytes=8), rehash=False)
    assert not file_intact(storage, replace(file, path="a/y"), rehash=False)
    storage.put("a/x", [b"CONTENT"])
    assert not file_intact(storage, file, rehash=True)
    assert not file_intact(storage, file, rehash=False)


def test_sha256_of_a_large_file_is_read_in_pieces(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    storage.put("x", [bytes(9 << 20)])
    assert sha256_of(storage, "x") == hashlib.sha256(bytes(9 << 20)).hexdigest()
