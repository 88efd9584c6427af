"""Two runs started at once on one output: one set of shards, one manifest, whichever of them dies on the way."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.crash.compare import manifests, published, receipts
from tests.crash.conftest import Undisturbed
from tests.crash.corpus import Corpus
from tests.crash.processes import job_process
from tokenmill.jobs import Job


def _at_once(job: Job, directory: Path, apart_seconds: float, kill_after: float | None = None) -> None:
    """Start two runs a moment apart, with 1 and 2 workers, and kill the first so long after, if at all."""
    with (
        job_process(job, directory, workers=2, wait=True) as first,
        job_process(job, directory, workers=1, wait=True) as second,
    ):
        first.until("ready")
        second.until("ready")
        first.go()
        time.sleep(apart_seconds)
        second.go()
        if kill_after is None:
            assert first.finish() == 0, first.stderr
        else:
            time.sleep(kill_after)
            first.kill()
        assert second.finish() == 0, second.stderr


def _check(job: Job, corpus: Corpus, undisturbed: Undisturbed) -> None:
    assert published(job.output, corpus.keys) == undisturbed.contents
    assert manifests(job.output) == [1]
    for table in ("text", "framed"):
        assert all(attempts == [0] for attempts in receipts(job.output, table).values())


def test_two_runs_at_once(tmp_path: Path, corpus: Corpus, undisturbed: Undisturbed) -> None:
    job = corpus.job(str(tmp_path / "out"))
    _at_once(job, tmp_path, 0.0)
    _check(job, corpus, undisturbed)


@pytest.mark.slow
def test_two_runs_at_once_on_s3(tmp_path: Path, corpus: Corpus, undisturbed: Undisturbed, s3_root: str) -> None:
    job = corpus.job(s3_root)
    _at_once(job, tmp_path, 0.0)
    _check(job, corpus, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_runs_a_moment_apart(
    any_root: str, tmp_path: Path, corpus: Corpus, undisturbed: Undisturbed, rng: random.Random
) -> None:
    for number in range(6):
        job = corpus.job(f"{any_root}-{number}")
        _at_once(job, tmp_path, rng.uniform(0, 1.0))
        _check(job, corpus, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_one_of_two_runs_is_killed(
    any_root: str, tmp_path: Path, corpus: Corpus, undisturbed: Undisturbed, rng: random.Random
) -> None:
    """The other one goes on as if nothing had happened, and leaves the whole dataset."""
    for number in range(6):
        job = corpus.job(f"{any_root}-{number}")
        _at_once(job, tmp_path, rng.uniform(0, 0.5), rng.uniform(0, undisturbed.process_seconds))
        _check(job, corpus, undisturbed)
