"""The whole run is killed, parent first, at random moments: nothing of it lives on, and the next run completes it."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.crash.compare import manifests, published
from tests.crash.conftest import Undisturbed, WarmLauncher
from tests.crash.corpus import Corpus
from tests.crash.processes import GONE_SECONDS, job_process, seconds_until_gone
from tokenmill.jobs import Job

_OTHER_WORKERS = (1, 3, 4)


def _kill_after(job: Job, directory: Path, seconds: float, after: str | None = None) -> str | None:
    """Run a job and kill its parent so long after its start, or after an event; returns the phase that was hit.

    None where the run was over before.
    """
    with job_process(job, directory, workers=2) as process:
        if after is not None:
            process.until(after)
        time.sleep(seconds)
        family = process.family()
        if not process.running:
            return None
        process.kill()
        left = seconds_until_gone(family)
        assert left < GONE_SECONDS, f"after {left} s there still are {family}"
        process.finish()
        last = process.events[-1]["event"] if process.events else "starting"
        return None if last == "published" else str(last)


def _resumes(job: Job, corpus: Corpus, undisturbed: Undisturbed, launcher: WarmLauncher, workers: int) -> None:
    launcher.run(job, workers)
    assert published(job.output, corpus.keys) == undisturbed.contents
    assert manifests(job.output) == [1]


@pytest.mark.parametrize("after", ["planning", "started"])
def test_killed_in_a_phase(
    after: str,
    tmp_path: Path,
    corpus: Corpus,
    undisturbed: Undisturbed,
    launcher: WarmLauncher,
    rng: random.Random,
) -> None:
    job = corpus.job(str(tmp_path / "out"))
    names = list(undisturbed.phases)
    length = undisturbed.phases[names[names.index(after) + 1]] - undisturbed.phases[after]
    _kill_after(job, tmp_path, rng.uniform(0, length), after)
    _resumes(job, corpus, undisturbed, launcher, rng.choice(_OTHER_WORKERS))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_random_moments(
    tmp_path: Path, corpus: Corpus, undisturbed: Undisturbed, launcher: WarmLauncher, rng: random.Random
) -> None:
    hit: Counter[str] = Counter()
    for number in range(200):
        job = corpus.job(str(tmp_path / f"out{number}"))
        phase = _kill_after(job, tmp_path, rng.uniform(0, undisturbed.process_seconds))
        if phase is None:
            continue
        hit[phase] += 1
        _resumes(job, corpus, undisturbed, launcher, rng.choice(_OTHER_WORKERS))
        if hit.total() >= 24:
            break
    print(f"kills of the run: {hit.total()}, in {dict(hit)}")  # noqa: T201
    assert hit.total() >= 20


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("after", ["launched", "planning", "running", "started", "publishing"])
def test_killed_at_random_moments_of_a_phase(
    after: str, tmp_path: Path, corpus: Corpus, undisturbed: Undisturbed, launcher: WarmLauncher, rng: random.Random
) -> None:
    """The phases that write are short, beside the imports; so each gets kills of its own."""
    names = list(undisturbed.phases)
    length = undisturbed.phases[names[names.index(after) + 1]] - undisturbed.phases[after]
    kills = 0
    for number in range(60):
        job = corpus.job(str(tmp_path / f"out{number}"))
        if _kill_after(job, tmp_path, rng.uniform(0, length), after) is None:
            continue
        kills += 1
        _resumes(job, corpus, undisturbed, launcher, rng.choice(_OTHER_WORKERS))
        if kills == 8:
            break
    print(f"kills of the run after {after!r}: {kills}")  # noqa: T201
    assert kills >= 5


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_again_and_again(
    tmp_path: Path, corpus: Corpus, undisturbed: Undisturbed, launcher: WarmLauncher, rng: random.Random
) -> None:
    """Each run goes on from where the killed one before it was, until one is let through."""
    job = corpus.job(str(tmp_path / "out"))
    kills = 0
    for _ in range(12):
        start, end = undisturbed.phases["started"], undisturbed.process_seconds
        if _kill_after(job, tmp_path, rng.uniform(start, end)) is None:
            break
        kills += 1
    print(f"kills of one run, one after another: {kills}")  # noqa: T201
    _resumes(job, corpus, undisturbed, launcher, 3)
