"""`tokenmill verify`: whether every byte of a dataset is the one that was published."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import typer

from tokenmill.commands.output import AsJson, Uri, size, write_json, write_lines
from tokenmill.errors import CorruptionError

if TYPE_CHECKING:
    from tokenmill.verification import VerificationProgress


def verify(uri: Uri, as_json: AsJson = False) -> None:
    """Check every byte and every item of a dataset; the exit code is 4 where anything is wrong."""
    from tokenmill.verification import verify as verify_dataset

    with _progress() as show:
        report = verify_dataset(uri, on_progress=show)
    if as_json:
        write_json(report.to_json())
    else:
        write_lines([str(problem) for problem in report.problems])
        write_lines([f"note: {note}" for note in report.notes])
        read = f"{report.shards:,} shards, {size(report.bytes)}, {report.rows:,} rows, {report.receipts:,} receipts"
        result = "ok" if report.ok else f"{len(report.problems):,} problems"
        write_lines([f"{result}: {read}; generation {report.generation}"])
    if not report.ok:
        raise typer.Exit(CorruptionError.exit_code)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[VerificationProgress], None] | None]:
    """Show a bar where standard error is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading shards", total=None)
        yield lambda progress: bar.update(task, completed=progress.bytes, total=progress.total_bytes)
