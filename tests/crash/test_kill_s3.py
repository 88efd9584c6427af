"""The S3 server is killed under a run and comes back: the run survives by its retries, or fails clearly and resumes."""

from __future__ import annotations

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.s3_server import S3Server
from tests.crash.compare import Contents, manifests, published
from tests.crash.conftest import Undisturbed, WarmLauncher
from tests.crash.corpus import Corpus
from tests.crash.processes import job_process
from tokenmill.errors import StorageError
from tokenmill.jobs import Job
from tokenmill.storage import s3_client

_BUCKET = "s3://tokenmill"


def _run_while_server_dies(
    job: Job, launcher: WarmLauncher, server: S3Server, workers: int, seconds: float, away_seconds: float
) -> str | None:
    """Run a job; kill the server so long after its start, and start it again. Returns the phase that was hit.

    The server is started by this thread, as it dies with the thread that started it; the run has a thread of its own.
    """
    phases = ["starting"]
    launcher.get()
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(launcher.run, job, workers, phases.append)
        time.sleep(seconds)
        hit = None if running.done() else phases[-1]
        server.kill()
        time.sleep(away_seconds)
        server.start()
        error = running.exception()
    if error is None:
        return hit
    assert isinstance(error, StorageError)  # clear, and not a traceback from the depths of a client
    assert "start the run again" in str(error)
    return f"{hit}, failed"


def _kill_often(
    kills: int,
    corpus: Corpus,
    undisturbed: Undisturbed,
    launcher: WarmLauncher,
    server: S3Server,
    rng: random.Random,
) -> None:
    launcher.run(corpus.job(f"{_BUCKET}/warm-up"), 2)
    began = time.monotonic()
    launcher.run(corpus.job(f"{_BUCKET}/timed"), 2)
    length = time.monotonic() - began
    hit: Counter[str] = Counter()
    for number in range(kills * 5):
        job = corpus.job(f"{_BUCKET}/out{number}")
        phase = _run_while_server_dies(job, launcher, server, 2, rng.uniform(0, length), rng.uniform(0.5, 3))
        if phase is None:
            continue
        hit[phase] += 1
        launcher.run(job, rng.choice((1, 3)))  # a run that survived is checked, part by part, by the next
        assert published(job.output, corpus.keys) == undisturbed.contents
        assert manifests(job.output) == [1]
        if hit.total() == kills:
            break
    print(f"kills of the S3 server: {hit.total()} in runs of {length:.1f} s, in {dict(hit)}")  # noqa: T201
    assert hit.total() == kills


def test_killed_server(
    small: Corpus, expected: Contents, launcher: WarmLauncher, own_server: S3Server, rng: random.Random
) -> None:
    job = small.job(f"{_BUCKET}/out")
    assert _run_while_server_dies(job, launcher, own_server, 2, rng.uniform(0, 2), 0.5) is not None
    launcher.run(job, 1)
    assert published(job.output, small.keys) == expected


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_killed_servers(
    corpus: Corpus, undisturbed: Undisturbed, launcher: WarmLauncher, own_server: S3Server, rng: random.Random
) -> None:
    _kill_often(22, corpus, undisturbed, launcher, own_server, rng)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_run_and_server_killed_together(
    tmp_path: Path,
    corpus: Corpus,
    undisturbed: Undisturbed,
    launcher: WarmLauncher,
    own_server: S3Server,
    rng: random.Random,
) -> None:
    for number in range(6):
        job = corpus.job(f"{_BUCKET}/both{number}")
        with job_process(job, tmp_path, workers=2) as process:
            process.until("started")
            time.sleep(rng.uniform(0, 3))
            process.kill()
            own_server.kill()
        own_server.start()
        launcher.run(job, rng.choice((1, 3)))
        assert published(job.output, corpus.keys) == undisturbed.contents


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_server_that_stays_away(
    corpus: Corpus, undisturbed: Undisturbed, launcher: WarmLauncher, own_server: S3Server
) -> None:
    """The run gives up after its patience, and says what to do; then it goes on where it was."""
    job = corpus.job(f"{_BUCKET}/out")
    launcher.get()
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(launcher.run, job, 2)
        time.sleep(2)
        own_server.kill()
        killed_at = time.monotonic()
        with pytest.raises(StorageError, match="start the run again"):
            running.result()
        assert time.monotonic() - killed_at < s3_client.RETRY_SECONDS + 30
    own_server.start()
    launcher.run(job, 3)
    assert published(job.output, corpus.keys) == undisturbed.contents
