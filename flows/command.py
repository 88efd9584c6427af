"""Operators' commands. Heavy imports wait until a command needs them: start-up is part of every run."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from tokenmill.errors import TokenmillError
from tokenmill.jobs import job_schema, load_job

app = typer.Typer(
    name="python -m flows",
    help="Run, plan and schedule tokenization jobs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
JobPath = Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job (docs/jobs.md).", show_default=False)]
AllowChange = Annotated[
    bool,
    typer.Option("--allow-environment-change", help="Go on with an output begun under other library versions."),
]


@app.command()
def run(job_path: JobPath, allow_environment_change: AllowChange = False) -> None:
    """Run a job as a Prefect flow: plan it, tokenize, publish. Running it again resumes, or adds what is new."""
    from flows import launching

    with launching.start_ahead() as started:
        job = load_job(job_path)
        launching.load_encoders(started, job)
        _quiet_prefect()
        from flows.tokenize_corpus import tokenize_corpus
        from tokenmill.manifests import read_manifest
        from tokenmill.statistics.render import render_text
        from tokenmill.storage.outputs import Storage

        tokenize_corpus(job, allow_environment_change)
    from rich.console import Console

    console = Console()
    manifest = read_manifest(Storage.open(job.output))
    for name, table in manifest.tables.items():
        console.print(render_text(table.summary, title=f"{job.name}: table {name}, generation {manifest.generation}"))
    console.print(f"Dataset: {job.output}", highlight=False)
    beside = os.path.relpath(Path(sys.executable).with_name("tokenmill"))
    tokenmill = "tokenmill" if shutil.which("tokenmill") else beside
    for command in ("inspect", "head", "verify"):
        console.print(f"  {tokenmill} {command} {job.output}", highlight=False)


@app.command()
def plan(
    job_path: JobPath,
    sample_seconds: Annotated[float, typer.Option(help="How long to measure a sample.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what a run would do: splits, and estimates from a sample. Writes nothing."""
    job = load_job(job_path)
    from rich.console import Console

    from tokenmill.estimates import estimate, render_estimate
    from tokenmill.planning import draft_plan
    from tokenmill.storage.outputs import Storage

    storage = Storage.open(job.output)
    found = estimate(storage, draft_plan(storage, job), job, sample_seconds=sample_seconds)
    if as_json:
        sys.stdout.write(json.dumps(found.to_json(), indent=1) + "\n")
    else:
        Console().print(render_estimate(found))


@app.command()
def serve(
    job_path: JobPath,
    cron: Annotated[str | None, typer.Option(help="When to run it, as a cron expression (UTC): '0 2 * * *'.")] = None,
    name: Annotated[str | None, typer.Option(help="The deployment's name; default the job's.")] = None,
) -> None:
    """Serve a job as a Prefect deployment: scheduled, started and cancelled from the UI. Runs until stopped."""
    job = load_job(job_path)
    _quiet_prefect()
    from prefect.types.entrypoint import EntrypointType

    from flows.tokenize_corpus import tokenize_corpus

    tokenize_corpus.serve(
        name=name or job.name,
        cron=cron,
        parameters={"job": job.model_dump(mode="json")},
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


@app.command()
def schema() -> None:
    """Print the JSON schema of a job, for editors."""
    sys.stdout.write(json.dumps(job_schema(), indent=1) + "\n")


def _quiet_prefect() -> None:
    """Set what must be set before Prefect is imported: no telemetry unless asked for, patience with a slow machine."""
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")


def main() -> None:
    """Run the command; errors of ours become one message and their exit code."""
    try:
        app(standalone_mode=True)
    except TokenmillError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
