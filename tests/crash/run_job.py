"""Runs a job to its end as a flow would, without Prefect: launcher, plan, run, publish. A process made to be killed.

    python -m tests.crash.run_job JOB.json --workers 2

Prints events as JSON lines: the launcher's process id, each phase as it begins, and the end. An error of ours ends
the process with its exit code.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipelines import Launcher, RunRequest
from tokenmill.errors import TokenmillError
from tokenmill.jobs import Job, parse_job
from tokenmill.manifests import Manifest
from tokenmill.parts import process_split
from tokenmill.planning import make_plan
from tokenmill.progress import ProgressCounter
from tokenmill.publication import publish
from tokenmill.storage.outputs import Storage


def execute(job: Job, launcher: Launcher, workers: int, on_phase: Callable[[str], None] | None = None) -> Manifest:
    """Plan, run and publish a job.

    Phases: `planning`, `running`, `started` (the driver has the plan), `publishing`, `published`.
    """
    say = on_phase or (lambda _: None)
    say("planning")
    storage = Storage.open(job.output)
    plan = make_plan(storage, job).plan
    say("running")
    counter = ProgressCounter(storage, plan)
    request = RunRequest(job.output, plan.generation, 0, len(plan.splits), workers=workers)
    for event in launcher.run(request, poll_seconds=0.2):
        if event is None:
            counter.update()
        elif event["event"] == "started":
            say("started")
    say("publishing")
    manifest = publish(storage, plan, max_rejected_fraction=job.limits.max_rejected_fraction)
    say("published")
    return manifest


def execute_here(job: Job, splits: Sequence[int] | None = None) -> dict[str, int]:
    """Do the work of a run in this process, without Beam, and publish it unless only some splits are wanted.

    Returns:
        How many parts were `made` and how many `kept`.
    """
    storage = Storage.open(job.output)
    plan = make_plan(storage, job).plan
    counts = {"made": 0, "kept": 0}
    for split in range(len(plan.splits)) if splits is None else splits:
        source = plan.splits.sources[split]
        tables = [table.name for table in plan.tables if source in table.sources]
        report = process_split(storage, plan, split, tables)
        counts["made"] += report.made
        counts["kept"] += report.kept
    if splits is None:
        publish(storage, plan, max_rejected_fraction=job.limits.max_rejected_fraction)
    return counts


def main() -> None:
    """Run the job named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--wait", action="store_true", help="say `ready`, and begin when a line comes in")
    arguments = parser.parse_args()
    began = time.monotonic()

    def tell(event: str, **more: Any) -> None:
        sys.stdout.write(json.dumps({"event": event, "seconds": time.monotonic() - began, **more}) + "\n")
        sys.stdout.flush()

    job = parse_job(json.loads(arguments.job.read_text()))
    with Launcher() as launcher:
        launcher.load([(table.tokenizer, table.device) for table in job.tables])
        tell("launched", pid=launcher.pid)
        if arguments.wait:
            tell("ready")
            sys.stdin.readline()
        try:
            execute(job, launcher, arguments.workers, tell)
        except TokenmillError as error:
            tell("error", error=error.to_json())
            sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
