"""Builds small datasets for tests through the real functions: plan, every split in this process, publish."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenmill.jobs import Job, parse_job
from tokenmill.manifests import Manifest
from tokenmill.parts import process_split
from tokenmill.planning import make_plan
from tokenmill.plans import Plan
from tokenmill.publication import publish
from tokenmill.storage.outputs import Storage


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any] | str]) -> Path:
    """Write a JSONL file; a record that is a string is a line as it is, such as one that is no JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [record if isinstance(record, str) else json.dumps(record, ensure_ascii=False) for record in records]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def job_of(output: str, inputs: Path | str, **changes: Any) -> Job:
    """Return a job over the files below a directory: one source `docs`, one table `text` of the `bytes` tokenizer.

    Args:
        output: The dataset's root.
        inputs: A directory, file or glob.
        changes: Members of the job to replace; `source`, `splitting` and `limits` are merged into the defaults.
    """
    source = {"name": "docs", "uris": [str(inputs)], "fields": {"id": "id"}, **changes.pop("source", {})}
    value: dict[str, Any] = {
        "name": "test",
        "sources": [source],
        "tables": [{"name": "text", "tokenizer": {"id": "bytes"}}],
        "output": output,
        "splitting": {"split_bytes": 1 << 20, "part_bytes": 4096, **changes.pop("splitting", {})},
        "limits": {"max_rejected_fraction": 1.0, **changes.pop("limits", {})},
    }
    return parse_job({**value, **changes})


def run_splits(job: Job) -> Plan:
    """Plan a job and process every split in this process, without publishing."""
    storage = Storage.open(job.output)
    plan = make_plan(storage, job).plan
    for number, source in enumerate(plan.splits.sources):
        for group in plan.groups():
            tables = [name for name in group if source in plan.table(name).sources]
            if tables:
                process_split(storage, plan, number, tables)
    return plan


def build_dataset(job: Job) -> Manifest:
    """Plan, tokenize and publish a job in this process."""
    plan = run_splits(job)
    return publish(Storage.open(job.output), plan, max_rejected_fraction=job.limits.max_rejected_fraction)
