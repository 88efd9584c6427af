"""The driver of one run: a process of its own, forked from the launcher, that builds the graph and runs it.

It tells its parent what happens as JSON lines: `started`, then `done` or `failed` with an error's parts.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines import graph
from pipelines.embedded import run_embedded
from pipelines.lifetimes import die_with_parent
from pipelines.requests import RunRequest
from tokenmill.encoders import tokenizer_notes
from tokenmill.errors import RunError, TokenmillError
from tokenmill.plans import read_plan
from tokenmill.storage.outputs import Storage
from transforms import PipelineFailure, SplitReference

Tell = Callable[[dict[str, Any]], None]


def drive(request: RunRequest, tell: Tell, parent: int) -> NoReturn:
    """Run a request to its end and leave the process, which ends before if its parent does."""
    die_with_parent(parent)
    try:
        plan = read_plan(Storage.open(request.output), request.generation)
        references = graph.references_of(plan, request)
        tell({"event": "started", "splits": len(references), "notes": tokenizer_notes(plan)})
        if references and request.runner == "embedded":
            run_embedded(request, references, lambda pid, status: _worker_died(tell, pid, status))
        elif references:
            _run_elsewhere(request, references)
    except BaseException as error:  # noqa: BLE001  whatever it is, the parent must hear of it
        tell({"event": "failed", "error": describe(error).to_json()})
        _leave(1)
    tell({"event": "done"})
    _leave(0)


def _run_elsewhere(request: RunRequest, references: Sequence[SplitReference]) -> None:
    """Submit the graph to a distributed runner and wait; the options pass through untouched."""
    options = PipelineOptions([f"--runner={request.runner}", *request.options])
    with beam.Pipeline(options=options) as pipeline:
        graph.build(graph.dealt(pipeline, references), request)


def _worker_died(tell: Tell, pid: int, status: int) -> None:
    error = RunError(
        f"a worker process ({pid}) {how_it_ended(status)}",
        fix="run the job again: it goes on from the finished parts. A worker killed by SIGKILL may have run out of "
        "memory: fewer workers or a smaller splitting.part_bytes help",
    )
    tell({"event": "failed", "error": error.to_json()})
    _leave(1)


def how_it_ended(status: int) -> str:
    """Say in words what a status of `os.waitpid` means."""
    if os.WIFSIGNALED(status):
        return f"was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"ended with status {os.waitstatus_to_exitcode(status)}"


def _leave(status: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def describe(error: BaseException) -> TokenmillError:
    """Return the error of ours that a runner's exception carries, or a RunError with the end of its traceback."""
    if isinstance(error, TokenmillError):
        return error
    text = "".join(traceback.format_exception(error))
    found = PipelineFailure.find(text)
    return found or RunError(f"the pipeline failed:\n{text[-4000:]}")
