"""What people see of a run: a terminal's progress bar, and the artifacts in the Prefect UI."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from uuid import UUID

from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from tokenmill.errors import TokenmillError
from tokenmill.progress import Progress

#: The UI shows minutes, not seconds; every update costs the server a write.
ARTIFACT_SECONDS = 10.0


def describe(progress: Progress) -> str:
    """Return the figures of a progress line."""
    return (
        f"{progress.documents:,} documents  {progress.bytes_per_second / 1e6:.1f} MB/s  "
        f"{progress.tokens_per_second / 1e6:.2f} M tokens/s  {progress.rejected:,} rejected"
    )


class Reporter:
    """Shows progress: always in a Prefect artifact, and on the terminal where there is one."""

    def __init__(self, name: str, bar: Bar | None) -> None:
        self._name = name
        self._bar = bar
        self._task = bar.add_task(name, total=1.0, figures="") if bar is not None else None
        self._artifact: UUID | None = None
        self._told = 0.0

    def show(self, progress: Progress, *, last: bool = False) -> None:
        """Show how far the run is."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=progress.fraction, figures=describe(progress))
        now = time.monotonic()
        if FlowRunContext.get() is None or (now - self._told < ARTIFACT_SECONDS and not last):
            return
        self._told = now
        percent = round(100 * progress.fraction, 1)
        text = describe(progress)
        if self._artifact is None:
            created = create_progress_artifact(progress=percent, key=f"progress-{self._name}", description=text)
            self._artifact = created if isinstance(created, UUID) else None
        else:
            update_progress_artifact(self._artifact, progress=percent, description=text)


@contextlib.contextmanager
def reporting(name: str) -> Iterator[Reporter]:
    """Give a reporter for a run; draws a bar where standard error is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Reporter(name, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console) as bar:
        yield Reporter(name, bar)


def show_errors_as_messages() -> None:
    """Have Prefect log errors of ours as what they say, without the frames of its engine."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logger = logging.getLogger(name)
        if _as_message not in logger.filters:
            logger.addFilter(_as_message)


def _as_message(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, TokenmillError):
        record.msg, record.args, record.exc_info = str(error), (), None
    return True


def publish_summary(name: str, markdown: str) -> None:
    """Leave a dataset's summary in the UI."""
    create_markdown_artifact(markdown=markdown, key=f"summary-{name}", description=f"What {name} holds")
