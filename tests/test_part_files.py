"""Which receipt counts where several are created."""

from dataclasses import replace

from tests.test_receipts import a_receipt
from tokenmill import layout
from tokenmill.part_files import create_receipt
from tokenmill.receipts import Receipt, latest_receipt
from tokenmill.storage.outputs import Storage


def attempts(storage: Storage) -> list[str]:
    return sorted(entry.path for entry in storage.list("text/receipts/"))


def test_the_first_attempt_counts(any_root: str) -> None:
    storage = Storage.open(any_root)
    first = create_receipt(storage, a_receipt(), 0, lambda _: True)
    other = replace(a_receipt(), attempt_id="1" * 32)
    assert create_receipt(storage, other, 0, lambda _: True) == first
    assert len(attempts(storage)) == 1
    assert create_receipt(storage, other, 1, lambda _: True).attempt_id == other.attempt_id
    assert attempts(storage) == [layout.receipt(a_receipt(attempt=attempt).name) for attempt in (0, 1)]


def test_a_receipt_that_will_not_do_is_superseded(any_root: str) -> None:
    storage = Storage.open(any_root)

    def heeds(receipt: Receipt) -> bool:
        return receipt.takedown >= 2

    create_receipt(storage, a_receipt(), 0, lambda _: True)
    create_receipt(storage, replace(a_receipt(), takedown=1), 1, lambda _: True)
    mine = create_receipt(storage, replace(a_receipt(), takedown=2, taken_down=1), 0, heeds)
    assert mine.name.attempt == 2
    latest = latest_receipt(storage, "text", 7, 3)
    assert latest is not None
    assert latest.receipt == mine
    assert create_receipt(storage, replace(a_receipt(), takedown=3, attempt_id="2" * 32), 0, heeds) == mine
