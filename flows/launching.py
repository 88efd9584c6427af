"""Whose launcher a flow uses: the command starts one before Prefect is even imported; a served flow starts its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pipelines import Launcher
from tokenmill.jobs import Job

_started: Launcher | None = None


def start_ahead() -> Launcher:
    """Start a launcher for the run to come: it imports Beam while its owner reads the job and imports Prefect."""
    global _started
    _started = Launcher()
    return _started


def load_encoders(started: Launcher, job: Job) -> None:
    """Let a launcher load the job's encoders."""
    started.load([(table.tokenizer, table.device) for table in job.tables])


@contextlib.contextmanager
def launcher(job: Job) -> Iterator[Launcher]:
    """Give a live launcher: the one started ahead, or a new one that ends with the context."""
    if _started is not None and _started.alive:
        yield _started
        return
    with Launcher() as new:
        load_encoders(new, job)
        yield new
