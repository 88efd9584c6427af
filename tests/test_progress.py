from pathlib import Path

import pytest

from tests.datasets import job_of, write_jsonl
from tokenmill import layout
from tokenmill.layout import ReceiptName
from tokenmill.parts import process_split
from tokenmill.planning import make_plan
from tokenmill.progress import ProgressCounter
from tokenmill.storage.outputs import Storage


def records(count: int) -> list[dict[str, str]]:
    return [{"id": f"d{n}", "text": "x" * 1000} for n in range(count)]


@pytest.fixture
def counter(tmp_path: Path) -> ProgressCounter:
    for name in "abcd":
        write_jsonl(tmp_path / "in" / f"{name}.jsonl", [*records(100), "bad"])
    splitting = {"split_bytes": 110_000, "part_bytes": 20_000}
    job = job_of(str(tmp_path / "out"), tmp_path / "in", splitting=splitting)
    storage = Storage.open(job.output)
    return ProgressCounter(storage, make_plan(storage, job).plan)


def test_progress_is_counted_from_receipts(counter: ProgressCounter) -> None:
    plan, storage = counter.plan, counter.storage
    assert len(plan.splits) == 4
    assert counter.update().fraction == 0
    for split in range(4):
        process_split(storage, plan, split, ["text"])
        progress = counter.update()
        assert progress.fraction == pytest.approx((split + 1) / 4)
        assert progress.documents == 100 * (split + 1)
        assert progress.tokens == progress.input_bytes == 100_000 * (split + 1)
        assert progress.rejected == split + 1
    assert progress.fraction == 1.0
    assert progress.bytes_per_second > 0
    assert progress.tokens_per_second > 0
    assert progress.remaining_seconds == 0


def test_begun_splits_count_by_their_payload(counter: ProgressCounter) -> None:
    process_split(counter.storage, counter.plan, 0, ["text"])
    parts = list(counter.storage.list("text/receipts/"))
    counter.storage.delete([entry.path for entry in parts if not entry.path.endswith("0000.0.json")])
    progress = counter.update()
    assert 0 < progress.fraction < 0.1
    process_split(counter.storage, counter.plan, 0, ["text"])
    assert counter.update().fraction == pytest.approx(0.25)


def test_a_part_that_was_made_again_counts_once(counter: ProgressCounter) -> None:
    for split in range(4):
        process_split(counter.storage, counter.plan, split, ["text"])
    documents = counter.update().documents
    counter.storage.delete([entry.path for entry in counter.storage.list("text/shards/")])
    process_split(counter.storage, counter.plan, 0, ["text"])
    assert counter.update().documents == documents


def test_a_part_counts_whose_first_receipt_is_damaged(counter: ProgressCounter) -> None:
    storage = counter.storage
    process_split(storage, counter.plan, 0, ["text"])
    path = layout.receipt(ReceiptName("text", 0, 0, 0))
    storage.delete([path])
    storage.create(path, b"damaged")
    for split in range(4):
        process_split(storage, counter.plan, split, ["text"])
    progress = counter.update()
    assert progress.fraction == 1.0
    assert progress.documents == 400


def test_a_resumed_run_does_not_count_the_speed_of_the_first(counter: ProgressCounter) -> None:
    for split in range(4):
        process_split(counter.storage, counter.plan, split, ["text"])
    progress = counter.update()
    assert (progress.fraction, progress.documents) == (1.0, 400)
    assert (progress.bytes_per_second, progress.tokens_per_second, progress.remaining_seconds) == (0, 0, None)


def test_nothing_to_do_is_done(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").touch()
    job = job_of(str(tmp_path / "out"), tmp_path / "in")
    storage = Storage.open(job.output)
    assert ProgressCounter(storage, make_plan(storage, job).plan).update().fraction == 1.0
