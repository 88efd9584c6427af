"""Whatever a run finds half done or damaged, it redoes exactly that, with the same bytes. Beam takes no part in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.crash.compare import Contents, manifests, published, receipts
from tests.crash.conftest import Undisturbed
from tests.crash.corpus import Corpus
from tests.crash.run_job import execute_here
from tokenmill import layout
from tokenmill.errors import CorruptionError, RunError
from tokenmill.layout import ReceiptName
from tokenmill.parts import process_split
from tokenmill.planning import make_plan
from tokenmill.progress import ProgressCounter
from tokenmill.publication import publish
from tokenmill.receipts import Receipt, latest_receipt
from tokenmill.storage.local import LocalStorage
from tokenmill.storage.outputs import Entry, Storage


def _receipt(storage: Storage, table: str, place: tuple[int, int]) -> Receipt:
    latest = latest_receipt(storage, table, *place)
    assert latest is not None
    assert latest.receipt is not None
    return latest.receipt


def _flip(storage: Storage, path: str) -> None:
    """Change one byte in the middle of a file, on storage, behind everybody's back."""
    data = bytearray(storage.read(path))
    data[len(data) // 2] ^= 0x20
    storage.put(path, [bytes(data)])


def _digests(storage: Storage) -> dict[str, str]:
    """Return the checksum of every shard, statistics file, rejects file and receipt, by path."""
    return {
        entry.path: hashlib.sha256(storage.read(entry.path)).hexdigest()
        for entry in storage.list()
        if layout.is_product(entry.path) or layout.parse_receipt(entry.path)
    }


def test_without_beam_it_is_the_same(tmp_path: Path, corpus: Corpus, undisturbed: Undisturbed) -> None:
    job = corpus.job(str(tmp_path / "out"))
    execute_here(job)
    assert published(job.output, corpus.keys) == undisturbed.contents


def test_finished_run_makes_nothing(root: str, small: Corpus) -> None:
    job = small.job(root)
    made = execute_here(job)["made"]
    storage = Storage.open(root)
    before = {entry.path: entry.version for entry in storage.list()}
    assert execute_here(job) == {"made": 0, "kept": made}
    again = {entry.path: entry.version for entry in storage.list() if not entry.path.startswith("manifests/")}
    assert again == {path: version for path, version in before.items() if not path.startswith("manifests/")}


Damage = Callable[[Storage, Receipt], None]
_DAMAGES: dict[str, Damage] = {
    "receipt altered": lambda storage, receipt: _flip(storage, layout.receipt(receipt.name)),
    "receipt cut short": lambda storage, receipt: _cut(storage, layout.receipt(receipt.name)),
    "receipt empty": lambda storage, receipt: _empty(storage, layout.receipt(receipt.name)),
    "receipt deleted": lambda storage, receipt: storage.delete([layout.receipt(receipt.name)]),
    "shard altered": lambda storage, receipt: _flip(storage, receipt.shards[0].path),
    "shard cut short": lambda storage, receipt: _cut(storage, receipt.shards[0].path),
    "shard deleted": lambda storage, receipt: storage.delete([receipt.shards[0].path]),
    "statistics altered": lambda storage, receipt: _flip(storage, receipt.statistics.path),
    "statistics deleted": lambda storage, receipt: storage.delete([receipt.statistics.path]),
    "rejects altered": lambda storage, receipt: _flip(storage, _rejects(receipt)),
    "rejects deleted": lambda storage, receipt: storage.delete([_rejects(receipt)]),
}


def _cut(storage: Storage, path: str) -> None:
    storage.put(path, [storage.read(path)[:-7]])


def _empty(storage: Storage, path: str) -> None:
    storage.put(path, [b""])


def _rejects(receipt: Receipt) -> str:
    assert receipt.rejects is not None
    return receipt.rejects.path


@pytest.mark.parametrize("was_published", [False, True], ids=["before-publication", "after-publication"])
@pytest.mark.parametrize(
    "names",
    [
        *[pytest.param((name,), marks=pytest.mark.slow, id=name) for name in _DAMAGES],
        pytest.param(tuple(_DAMAGES), id="all at once"),
    ],
)
def test_damage_is_noticed_and_mended(
    names: tuple[str, ...], was_published: bool, tmp_path: Path, small: Corpus, expected: Contents
) -> None:
    _check_damage(names, was_published, str(tmp_path / "out"), small, expected)


def test_damage_on_s3_is_noticed_and_mended(s3_root: str, small: Corpus, expected: Contents) -> None:
    _check_damage(tuple(_DAMAGES), True, s3_root, small, expected)


def _check_damage(names: tuple[str, ...], was_published: bool, root: str, small: Corpus, expected: Contents) -> None:
    """Damage a part each: exactly those parts of that table are made again, and their files are what they were."""
    job = small.job(root)
    storage = Storage.open(root)
    execute_here(job, None if was_published else range(len(make_plan(storage, job).plan.splits)))
    before = _digests(storage)
    table = "framed"
    places = receipts(root, table)
    damaged: dict[tuple[int, int], str] = {}
    for name in sorted(names, key=lambda name: not name.startswith("rejects")):
        free = [place for place in places if place not in damaged]
        if name.startswith("rejects"):
            free = [place for place in free if _receipt(storage, table, place).rejects is not None]
        place = free[len(free) // 2]
        _DAMAGES[name](storage, _receipt(storage, table, place))
        damaged[place] = name
    assert _digests(storage) != before

    counts = execute_here(job)

    assert counts == {"made": len(names), "kept": 2 * len(places) - len(names)}
    attempts = receipts(root, table)
    for place, name in damaged.items():
        assert attempts.pop(place) == ([0] if name == "receipt deleted" else [0, 1])
    assert all(found == [0] for found in attempts.values())
    after = _digests(storage)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed <= {layout.receipt(ReceiptName(table, *place, attempt)) for place in damaged for attempt in (0, 1)}
    assert published(root, small.keys) == expected
    assert execute_here(job)["made"] == 0


def test_gap_in_the_receipts(root: str, small: Corpus, expected: Contents) -> None:
    """Parts 0 … k and k + 2 … are there, k + 1 is not; and several such gaps, in both tables."""
    job = small.job(root)
    execute_here(job)
    storage = Storage.open(root)
    storage.delete(entry.path for entry in storage.list("manifests"))
    gone = {
        ReceiptName(table, split, part, 0)
        for table, odd in (("text", 1), ("framed", 0))
        for split, part in receipts(root, table)
        if part % 2 == odd
    }
    storage.delete(layout.receipt(name) for name in gone)
    with pytest.raises(RunError, match="is not complete"):
        publish(storage, make_plan(storage, job).plan, max_rejected_fraction=0.2)
    assert execute_here(job)["made"] == len(gone)
    assert published(root, small.keys) == expected
    assert all(attempts == [0] for attempts in receipts(root, "text").values())


def test_gaps_leave_no_files_open(tmp_path: Path, corpus: Corpus) -> None:
    """A long file with every second part missing is opened anew for each, and closed before the next."""
    job = corpus.job(str(tmp_path / "out"), splitting={"split_bytes": "1GB", "part_bytes": 50_000})
    storage = Storage.open(job.output)
    plan = make_plan(storage, job).plan
    longest = int(np.argmax(plan.splits.input_bytes))
    tables = ["text", "framed"]
    process_split(storage, plan, longest, tables)
    places = [place for place in receipts(job.output, "text") if place[1] % 2]
    assert len(places) > 10
    storage.delete(layout.receipt(ReceiptName(table, *place, 0)) for table in tables for place in places)
    most = 0

    class Counting(LocalStorage):
        def create(self, path: str, data: bytes) -> bool:
            nonlocal most
            files = [_target(link) for link in Path("/proc/self/fd").iterdir()]
            most = max(most, sum(str(corpus.directory) in file for file in files))
            return super().create(path, data)

    assert process_split(Counting(job.output), plan, longest, tables).made == 2 * len(places)
    assert most == 1


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def test_plan_without_parts(root: str, small: Corpus, expected: Contents) -> None:
    job = small.job(root)
    plan = make_plan(Storage.open(root), job)
    assert not plan.resumed
    assert make_plan(Storage.open(root), job).resumed
    execute_here(job)
    assert published(root, small.keys) == expected


def test_splits_of_a_plan_that_was_never_finished(root: str, small: Corpus, expected: Contents) -> None:
    """Killed between a plan's table of splits and the plan: planning goes on as if nothing were there."""
    job = small.job(root)
    storage = Storage.open(root)
    make_plan(storage, job)
    storage.delete([layout.plan(1)])
    assert not make_plan(storage, job).resumed
    execute_here(job)
    assert published(root, small.keys) == expected


def test_altered_plan_is_refused(root: str, small: Corpus) -> None:
    job = small.job(root)
    storage = Storage.open(root)
    execute_here(job)
    splits = next(entry.path for entry in storage.list("plans") if entry.path.endswith(".arrow"))
    for path in (layout.plan(1), splits):
        whole = storage.read(path)
        _flip(storage, path)
        with pytest.raises(CorruptionError, match="restore the file"):
            make_plan(storage, job)
        storage.put(path, [whole])
    assert execute_here(job)["made"] == 0


class _Stops(Exception):
    """The moment at which a process is killed."""


@pytest.mark.parametrize("writes", range(6))
def test_interrupted_publication(writes: int, tmp_path: Path, small: Corpus, expected: Contents) -> None:
    """Killed after so many of publication's writes: two sidecars a table, then the manifest."""
    job = small.job(str(tmp_path / "out"))
    storage = Storage.open(job.output)
    plan = make_plan(storage, job).plan
    execute_here(job, range(len(plan.splits)))

    class Dying(LocalStorage):
        left = writes

        def put(self, path: str, pieces: object) -> Entry:
            self._count()
            return super().put(path, pieces)  # type: ignore[arg-type]

        def create(self, path: str, data: bytes) -> bool:
            self._count()
            return super().create(path, data)

        def _count(self) -> None:
            if self.left == 0:
                raise _Stops
            self.left -= 1

    if writes < 5:
        with pytest.raises(_Stops):
            publish(Dying(job.output), plan, max_rejected_fraction=0.2)
        assert manifests(job.output) == []
    else:
        publish(Dying(job.output), plan, max_rejected_fraction=0.2)
        assert manifests(job.output) == [1]
    sidecars = {entry.path for entry in storage.list("manifests")}
    assert execute_here(job)["made"] == 0
    now = {entry.path for entry in storage.list("manifests")}
    assert sidecars <= now
    assert len(now) == 5
    assert published(job.output, small.keys) == expected


def test_damaged_sidecar_is_mended_and_damaged_manifest_refused(root: str, small: Corpus, expected: Contents) -> None:
    job = small.job(root)
    storage = Storage.open(root)
    execute_here(job)
    for entry in [entry for entry in storage.list("manifests") if entry.path.endswith(".arrow")]:
        _flip(storage, entry.path)
    execute_here(job)
    assert published(root, small.keys) == expected
    _flip(storage, layout.manifest(1))
    with pytest.raises(CorruptionError, match="delete it and run the job again"):
        execute_here(job)
    storage.delete([layout.manifest(1)])
    execute_here(job)
    assert published(root, small.keys) == expected


def test_progress_counts_a_part_made_again_once(tmp_path: Path, small: Corpus) -> None:
    job = small.job(str(tmp_path / "out"))
    execute_here(job)
    storage = Storage.open(job.output)
    plan = make_plan(storage, job).plan
    whole = ProgressCounter(storage, plan).update()
    assert whole.fraction == 1.0
    assert whole.documents == 2 * small.keys.total()
    places = list(receipts(job.output, "text"))
    _flip(storage, layout.receipt(ReceiptName("text", *places[-1], 0)))
    _flip(storage, _receipt(storage, "text", places[3]).shards[0].path)
    execute_here(job)
    again = ProgressCounter(storage, plan).update()
    assert (again.fraction, again.documents, again.tokens) == (1.0, whole.documents, whole.tokens)
