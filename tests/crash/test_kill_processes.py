"""Single processes of a run are killed: the run fails at once and says why, nothing hangs, and the next run resumes."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import psutil
import pytest

from pipelines import Launcher, RunRequest
from tests.crash.compare import manifests, published
from tests.crash.conftest import Undisturbed, WarmLauncher
from tests.crash.corpus import Corpus
from tests.crash.processes import GONE_SECONDS, driver_and_workers, seconds_until_gone
from tokenmill.errors import RunError
from tokenmill.jobs import Job
from tokenmill.planning import make_plan
from tokenmill.storage.outputs import Storage

#: From a kill to the error that tells of it.
PROMPT_SECONDS = 3.0

Victim = Callable[[int], psutil.Process | None]


class Killer(threading.Thread):
    """Kills one process of a run at a moment after the run began, as a context manager around the run.

    Attributes:
        killed_at: When (`time.monotonic`); None where there was nothing to kill.
        family: All processes of the run at that moment.
    """

    def __init__(self, launcher: Launcher, victim: Victim, seconds: float) -> None:
        super().__init__()
        self.killed_at: float | None = None
        self.family: list[psutil.Process] = []
        self._launcher_pid = launcher.pid
        self._victim = victim
        self._moment = time.monotonic() + seconds
        self._over = False

    def run(self) -> None:
        time.sleep(max(0.0, self._moment - time.monotonic()))
        while not self._over:  # a moment before the victim is there means: as soon as it is there
            victim = self._victim(self._launcher_pid)
            if victim is not None:
                try:
                    self.family = psutil.Process(self._launcher_pid).children(recursive=True)
                    victim.kill()
                except psutil.NoSuchProcess:
                    return
                self.killed_at = time.monotonic()
                return
            time.sleep(0.002)

    def __enter__(self) -> Killer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self.join()


def _worker(rng: random.Random) -> Victim:
    def choose(launcher_pid: int) -> psutil.Process | None:
        _, workers = driver_and_workers(launcher_pid)
        return rng.choice(workers) if workers else None

    return choose


def _driver(launcher_pid: int) -> psutil.Process | None:
    return driver_and_workers(launcher_pid)[0]


def _launcher(launcher_pid: int) -> psutil.Process | None:
    return psutil.Process(launcher_pid)


def _run_and_kill(job: Job, launcher: WarmLauncher, workers: int, victim: Victim, seconds: float) -> str | None:
    """Run a job and kill one of its processes; returns the error's text, None where the run was done before."""
    killer = Killer(launcher.get(), victim, seconds)
    error: RunError | None = None
    with killer:
        try:
            launcher.run(job, workers)
        except RunError as raised:
            error = raised
        ended_at = time.monotonic()
    if error is None:
        return None
    assert killer.killed_at is not None, f"nothing was killed, and yet: {error}"
    assert ended_at - killer.killed_at < PROMPT_SECONDS
    assert seconds_until_gone(killer.family) < GONE_SECONDS
    return str(error)


def _duration(job: Job, launcher: WarmLauncher, workers: int) -> float:
    began = time.monotonic()
    launcher.run(job, workers)
    return time.monotonic() - began


def _kill_often(
    kills: int,
    directory: Path,
    corpus: Corpus,
    undisturbed: Undisturbed,
    launcher: WarmLauncher,
    rng: random.Random,
    victim: Victim,
    told: str,
) -> None:
    """Kill at moments spread evenly at random over a run, resume with other numbers of workers, and compare."""
    launcher.run(corpus.job(str(directory / "warm-up")), 2)
    length = _duration(corpus.job(str(directory / "timed")), launcher, 2)
    done: Counter[str] = Counter()
    for number in range(kills * 5):
        job = corpus.job(str(directory / f"out{number}"))
        error = _run_and_kill(job, launcher, rng.choice((2, 3)), victim, rng.uniform(0, length))
        if error is None:
            continue
        assert told in error
        done[error.partition("\n")[0]] += 1
        launcher.run(job, rng.choice((1, 4)))
        assert published(job.output, corpus.keys) == undisturbed.contents
        assert manifests(job.output) == [1]
        if done.total() == kills:
            break
    print(f"kills: {done.total()} in {number + 1} runs of {length:.1f} s")  # noqa: T201
    assert done.total() == kills


def test_killed_worker(
    tmp_path: Path, corpus: Corpus, undisturbed: Undisturbed, launcher: WarmLauncher, rng: random.Random
) -> None:
    job = corpus.job(str(tmp_path / "out"))
    error = _run_and_kill(job, launcher, 2, _worker(rng), rng.uniform(0, 1))
    assert "was killed by SIGKILL" in str(error)
    assert launcher.get().alive
    launcher.run(job, 3)
    assert published(job.output, corpus.keys) == undisturbed.contents


def test_killed_only_worker(
    tmp_path: Path, corpus: Corpus, undisturbed: Undisturbed, launcher: WarmLauncher, rng: random.Random
) -> None:
    """With one worker the driver does the work itself."""
    job = corpus.job(str(tmp_path / "out"))
    assert "the driver process was killed by SIGKILL" in str(_run_and_kill(job, launcher, 1, _driver, 0.5))
    launcher.run(job, 3)
    assert published(job.output, corpus.keys) == undisturbed.contents


@pytest.mark.parametrize("seconds", [pytest.param(0.0, marks=pytest.mark.slow), 0.7])
def test_cancelled(
    seconds: float, tmp_path: Path, corpus: Corpus, undisturbed: Undisturbed, launcher: WarmLauncher
) -> None:
    """Closing a run's iterator kills launcher, driver and workers."""
    job = corpus.job(str(tmp_path / "out"))
    plan = make_plan(Storage.open(job.output), job).plan
    ready = launcher.get()
    events = ready.run(RunRequest(job.output, 1, 0, len(plan.splits), workers=2), poll_seconds=0.05)
    for event in events:
        if event is not None and event["event"] == "started":
            break
    time.sleep(seconds)
    family = [psutil.Process(ready.pid), *psutil.Process(ready.pid).children(recursive=True)]
    events.close()  # type: ignore[attr-defined]
    assert seconds_until_gone(family) < GONE_SECONDS
    assert not ready.alive
    launcher.run(job, 1)
    assert published(job.output, corpus.keys) == undisturbed.contents


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_workers(
    tmp_path: Path, corpus: Corpus, undisturbed: Undisturbed, launcher: WarmLauncher, rng: random.Random
) -> None:
    _kill_often(24, tmp_path, corpus, undisturbed, launcher, rng, _worker(rng), "was killed by SIGKILL")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_drivers(
    tmp_path: Path, corpus: Corpus, undisturbed: Undisturbed, launcher: WarmLauncher, rng: random.Random
) -> None:
    _kill_often(20, tmp_path, corpus, undisturbed, launcher, rng, _driver, "the driver process was killed by SIGKILL")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_launchers(
    tmp_path: Path, corpus: Corpus, undisturbed: Undisturbed, launcher: WarmLauncher, rng: random.Random
) -> None:
    """Each kill costs the next run a new launcher."""
    _kill_often(20, tmp_path, corpus, undisturbed, launcher, rng, _launcher, "the launcher process")
