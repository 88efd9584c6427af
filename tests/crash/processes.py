"""Real processes, killed with SIGKILL, and a watch on what they leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from tokenmill.jobs import Job

REPOSITORY = Path(__file__).resolve().parents[2]
#: Within this time nothing of a killed run may be left.
GONE_SECONDS = 2.0


class JobProcess:
    """`run_job` in a process of its own; its events are read as they come."""

    def __init__(self, job: Job, directory: Path, *, workers: int, wait: bool = False) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"job-{time.monotonic_ns()}.json"
        path.write_text(job.model_dump_json())
        self.events: list[dict[str, Any]] = []
        self._errors = path.with_suffix(".err")
        with open(self._errors, "wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.crash.run_job", str(path), f"--workers={workers}"]
                + (["--wait"] if wait else []),
                cwd=REPOSITORY,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    def until(self, name: str) -> dict[str, Any]:
        """Wait for an event; fails if the process ends before it."""
        while True:
            event = self._next()
            assert event is not None, f"ended before {name!r}: {self.events[-1:]}\n{self.stderr}"
            if event["event"] == name:
                return event

    def go(self) -> None:
        """Let a process that waits begin."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        self._process.stdin.flush()

    def finish(self) -> int:
        """Wait for the end and return the exit status (negative: the signal)."""
        while self._next() is not None:
            pass
        return self._process.wait()

    def kill(self) -> None:
        """Kill this process, and nothing else."""
        self._process.kill()
        self._process.wait()

    def family(self) -> list[psutil.Process]:
        """Return the launcher, the driver and the workers, as far as they are there."""
        try:
            return psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    @property
    def stderr(self) -> str:
        """What it has written to standard error."""
        return self._errors.read_text(errors="replace")[-4000:]

    def close(self) -> None:
        """Kill it with all its descendants, and close the pipes."""
        for process in [*self.family()]:
            _quietly(process.kill)
        if self.running:
            self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _next(self) -> dict[str, Any] | None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            return None
        self.events.append(json.loads(line))
        return self.events[-1]


@contextmanager
def job_process(job: Job, directory: Path, *, workers: int, wait: bool = False) -> Iterator[JobProcess]:
    """Run a job in a process that is gone, with all that it started, when the context ends."""
    process = JobProcess(job, directory, workers=workers, wait=wait)
    try:
        yield process
    finally:
        process.close()


def seconds_until_gone(processes: Sequence[psutil.Process], limit_seconds: float = 20.0) -> float:
    """Wait until processes are gone; returns how long that took, infinity where some stay."""
    began = time.monotonic()
    while any(_alive(process) for process in processes):
        if time.monotonic() - began > limit_seconds:
            return float("inf")
        time.sleep(0.01)
    return time.monotonic() - began


def driver_and_workers(launcher_pid: int) -> tuple[psutil.Process | None, list[psutil.Process]]:
    """Return what runs below a launcher: the driver, and the workers that the driver has forked."""
    try:
        drivers = psutil.Process(launcher_pid).children()
        return (drivers[0], drivers[0].children()) if drivers else (None, [])
    except psutil.NoSuchProcess:
        return None, []


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _quietly(action: Callable[[], None]) -> None:
    with suppress(psutil.NoSuchProcess):
        action()
