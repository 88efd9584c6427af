"""The flow `tokenize-corpus`: plan, run partition after partition, publish. No logic that a test would want."""

# No postponed annotations here: Prefect resolves the flow's parameters where the module has another name.

import time
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.runtime import flow_run

from flows.launching import launcher
from flows.reporting import Reporter, publish_summary, reporting, show_errors_as_messages
from pipelines import RunRequest
from tokenmill.jobs import Job
from tokenmill.partitions import Partition, partitions
from tokenmill.planning import PlannedRun, make_plan
from tokenmill.plans import Plan
from tokenmill.progress import ProgressCounter
from tokenmill.publication import publish
from tokenmill.statistics.render import render_markdown
from tokenmill.storage.outputs import Storage

_PAUSE_POLL_SECONDS = 5.0


@task(name="plan")
def plan_job(job: Job, allow_environment_change: bool) -> PlannedRun:
    """Make or find the plan; refuses what contradicts the output."""
    storage = Storage.open(job.output)
    run = make_plan(storage, job, allow_environment_change=allow_environment_change)
    logger = get_run_logger()
    for note in run.notes:
        logger.warning(note)
    what = "goes on with" if run.resumed else "planned"
    logger.info("%s generation %d: %d splits, %d new", what, run.plan.generation, len(run.plan.splits), run.new_splits)
    return run


@task(name="tokenize", task_run_name="tokenize {partition}", retries=2, retry_delay_seconds=[5, 30])
def run_partition(job: Job, plan: Plan, partition: Partition, reporter: Reporter) -> None:
    """Run one bounded pipeline; a retry goes on from its finished parts."""
    counter = ProgressCounter(Storage.open(job.output), plan)
    request = RunRequest(
        output=job.output,
        generation=plan.generation,
        first_split=partition.first_split,
        last_split=partition.last_split,
        workers=job.runner.workers,
        runner=job.runner.name,
        options=job.runner.options,
        accelerator=job.runner.accelerator,
    )
    reporter.show(counter.update())
    next_look = 0.0
    with launcher(job) as ready:
        for event in ready.run(request):
            for note in event.get("notes", ()) if event else ():
                get_run_logger().warning(note)
            if time.monotonic() >= next_look:
                began = time.monotonic()
                reporter.show(counter.update())
                # Listing receipts must stay a small share of the time, however many there are.
                next_look = time.monotonic() + max(1.0, 20 * (time.monotonic() - began))
    reporter.show(counter.update(), last=True)


@task(name="publish")
def publish_plan(job: Job, plan: Plan) -> dict[str, Any]:
    """Merge the statistics and create the manifest."""
    manifest = publish(
        Storage.open(job.output),
        plan,
        max_rejected_fraction=job.limits.max_rejected_fraction,
        on_progress=get_run_logger().info,
    )
    tables = [render_markdown(table.summary, title=f"Table {name}") for name, table in manifest.tables.items()]
    publish_summary(job.name, "\n".join(tables))
    return {name: {"rows": table.rows, "tokens": dict(table.tokens)} for name, table in manifest.tables.items()}


def wait_while_paused() -> None:
    """Wait as long as somebody has this run paused in the UI (Prefect itself only changes the run's state)."""
    run_id = flow_run.get_id()
    if run_id is None:
        return
    with get_client(sync_client=True) as client:
        while True:
            state = client.read_flow_run(UUID(run_id)).state
            if state is None or state.type not in (StateType.PAUSED, StateType.SCHEDULED):
                return
            time.sleep(_PAUSE_POLL_SECONDS)


@flow(name="tokenize-corpus", flow_run_name="{job.name}", validate_parameters=True)
def tokenize_corpus(job: Job, allow_environment_change: bool = False) -> dict[str, Any]:
    """Tokenize a corpus into token shards: plan it, run its partitions, publish the dataset.

    Args:
        job: What to tokenize, with what, and where to (docs/jobs.md).
        allow_environment_change: Go on with an output that was begun under other library versions.

    Returns:
        Rows and tokens of every table.
    """
    show_errors_as_messages()
    run = plan_job(job, allow_environment_change)
    todo = partitions(run.plan, int(job.runner.partition_bytes))
    with reporting(job.name) as reporter:
        for number, partition in enumerate(todo):
            if number:
                wait_while_paused()
            run_partition(job, run.plan, partition, reporter)
    return publish_plan(job, run.plan)
