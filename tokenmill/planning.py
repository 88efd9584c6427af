"""Planning: from a job, and what its output already holds, to the plan of the generation that has to run.

A first run plans generation 1. A later run over the same inputs resumes the newest generation. New files or tables
make a new generation that keeps the splits, and so the receipts, of the earlier ones; so do keys that were taken down
since. Whatever contradicts the output is refused with the difference named, before anything is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tokenmill.contract import ResolvedTokenizer, resolve
from tokenmill.devices import table_environment
from tokenmill.environment import environment_difference
from tokenmill.errors import ChangedError, JobError
from tokenmill.job_sources import Source
from tokenmill.jobs import Job
from tokenmill.plans import (
    Plan,
    PlannedTable,
    SplitTable,
    metadata_columns,
    newest_generation,
    planned_table,
    read_plan,
    write_plan,
)
from tokenmill.registry import parse_tokenizer
from tokenmill.sources.planning import plan_source
from tokenmill.sources.splits import InputFile, Split
from tokenmill.storage.inputs import expand
from tokenmill.storage.outputs import Storage
from tokenmill.takedown_lists import newest_takedown


@dataclass(frozen=True)
class PlannedRun:
    """What planning found.

    Attributes:
        plan: The plan to run.
        new_splits: Splits that no earlier generation had.
        resumed: Whether the plan was already there, begun or finished by an earlier run.
        notes: What operators should know of the output.
    """

    plan: Plan
    new_splits: int
    resumed: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoundSource:
    """A source with what its uris hold now."""

    source: Source
    root: str
    files: Sequence[InputFile]


def make_plan(storage: Storage, job: Job, *, allow_environment_change: bool = False) -> PlannedRun:
    """Plan a run and freeze the plan on storage; raises ConfigurationError before anything is written."""
    while True:
        run = draft_plan(storage, job, allow_environment_change=allow_environment_change)
        if not storage.supports_exclusive_create():
            note = "this storage ignores exclusive creation: do not start two runs at once on this output"
            run = replace(run, notes=(note,))
        if run.resumed:
            return run
        if write_plan(storage, run.plan):
            # As every worker and every later run reads it: JSON keeps no order of columns, and shards' bytes show one.
            return replace(run, plan=read_plan(storage, run.plan.generation))
        # Another run has planned this generation at the same moment: its plan is the one, if it agrees with the job.


def draft_plan(storage: Storage, job: Job, *, allow_environment_change: bool = False) -> PlannedRun:
    """Plan a run without writing anything."""
    tokenizers = {table.name: resolve(parse_tokenizer(table.tokenizer)) for table in job.tables}
    _check_tables(job, tokenizers)
    found = [_find(source) for source in job.sources]
    tables = tuple(planned_table(table, job.sources_of(table), tokenizers[table.name]) for table in job.tables)
    environment = {table.name: table_environment(table.device, table.tokenizer) for table in tables}

    newest = newest_generation(storage, "plans")
    takedown = newest_takedown(storage)
    if newest is None:
        splits = [split for source in found for split in _splits(source, source.files, job)]
        roots = {source.source.name: source.root for source in found}
        plan = Plan(1, job, roots, tables, environment, SplitTable.from_splits(splits), takedown)
        return PlannedRun(plan, len(splits), resumed=False)

    before = read_plan(storage, newest)
    _check_reading(before.job, job)
    _check_tokenizers(before, tokenizers)
    _check_columns(before, job, tables)
    if not allow_environment_change:
        _check_environment(before, environment)
    new_files = _new_files(before, found)
    roots = {source.source.name: source.root for source in found}
    same_places = roots == before.roots and _places(tables) == _places(before.tables)
    same_takedown = takedown is None or takedown.number == before.takedown_number
    if not any(new_files.values()) and same_places and same_takedown and before.withheld_from is None:
        return PlannedRun(before, 0, resumed=True)
    added = [split for source in found for split in _splits(source, new_files[source.source.name], job)]
    plan = Plan(
        generation=newest + 1,
        job=job,
        roots=roots,
        tables=tables,
        environment=environment,
        splits=before.splits.extended(added),
        takedown=takedown,
    )
    return PlannedRun(plan, len(added), resumed=False)


def _places(tables: Sequence[PlannedTable]) -> dict[str, Any]:
    """Return what workers are told of tables: sources, devices, and configs (a vocabulary may have been moved)."""
    return {table.name: (table.sources, table.device, dict(table.tokenizer.config)) for table in tables}


def _find(source: Source) -> FoundSource:
    expanded = expand(source.uris)
    return FoundSource(source, expanded.root, expanded.files)


def _splits(found: FoundSource, files: Sequence[InputFile], job: Job) -> list[Split]:
    return list(plan_source(found.source, found.root, files, int(job.splitting.split_bytes))) if files else []


def _check_tables(job: Job, tokenizers: Mapping[str, ResolvedTokenizer]) -> None:
    for table in job.tables:
        config = parse_tokenizer(table.tokenizer)
        config.check()
        tokenizer = type(config)
        modality = tokenizer.modality
        if table.device != "auto" and table.device.partition(":")[0] not in tokenizer.devices:
            raise JobError(
                f"tokenizer {tokenizer.id!r} runs on {', '.join(tokenizer.devices)}; the job asks for {table.device}",
                where=f"table {table.name!r}",
            )
        for source in job.sources_of(table):
            if source.modality != modality:
                raise JobError(
                    f"tokenizer {tokenizers[table.name].config['id']!r} takes {modality}; "
                    f"source {source.name!r} holds {source.modality}",
                    where=f"table {table.name!r}",
                )
        columns: dict[str, str] = {}
        for source in job.sources_of(table):
            for name, kind in source.metadata.items():
                if columns.setdefault(name, kind) != kind:
                    raise JobError(
                        f"metadata column {name!r} is {columns[name]} in one source and {kind} in {source.name!r}",
                        where=f"table {table.name!r}",
                        fix="give it one type in every source of the table",
                    )


def _reading(source: Source) -> dict[str, Any]:
    return source.model_dump(mode="json", exclude={"name", "uris"})


def _check_reading(before: Job, now: Job) -> None:
    """Refuse what would make other items of the same files."""
    old = {source.name: source for source in before.sources}
    pairs: list[tuple[str, Any, Any]] = [
        ("splitting", before.splitting.model_dump(mode="json"), now.splitting.model_dump(mode="json")),
        ("limits.max_item_bytes", int(before.limits.max_item_bytes), int(now.limits.max_item_bytes)),
        ("limits.max_metadata_bytes", int(before.limits.max_metadata_bytes), int(now.limits.max_metadata_bytes)),
        ("limits.max_pixels", before.limits.max_pixels, now.limits.max_pixels),
    ]
    for source in now.sources:
        if source.name in old:
            was, given = _reading(old[source.name]), _reading(source)
            pairs += [(f"source {source.name!r}: {field}", was[field], given[field]) for field in was]
    for name, was, given in pairs:
        if was != given:
            raise ChangedError(
                f"{name} was {was!r}, is now {given!r}",
                where=now.output,
                fix="set it back, or give the job a new output",
            )
    missing = [name for name in old if name not in {source.name for source in now.sources}]
    missing_tables = [t.name for t in before.tables if t.name not in {table.name for table in now.tables}]
    for kind, names in (("sources", missing), ("tables", missing_tables)):
        if names:
            raise ChangedError(
                f"the output has {kind} {names}, which the job no longer names",
                where=now.output,
                fix="keep them in the job, or give the job a new output",
            )


def _check_tokenizers(before: Plan, now: Mapping[str, ResolvedTokenizer]) -> None:
    for table in before.tables:
        resolved = now.get(table.name)
        if resolved is not None and resolved.fingerprint != table.tokenizer.fingerprint:
            difference = _first_difference(dict(table.tokenizer.identity), dict(resolved.identity))
            raise ChangedError(
                f"the tokenizer of table {table.name!r} has changed: {difference} (fingerprint was "
                f"{table.tokenizer.fingerprint[:16]}…, is now {resolved.fingerprint[:16]}…)",
                where=before.job.output,
                fix="set it back, give the new tokenizer a table of its own, or give the job a new output",
            )


def _check_columns(before: Plan, job: Job, tables: Sequence[PlannedTable]) -> None:
    """Refuse other metadata columns for a table that is there: its old shards do not have them."""
    now = {table.name: list(metadata_columns(job, table).items()) for table in tables}
    for table in before.tables:
        was = list(before.metadata_columns(table).items())
        given = now.get(table.name, was)
        if was != given:
            raise ChangedError(
                f"the metadata columns of table {table.name!r} were {dict(was)}, are now {dict(given)}",
                where=job.output,
                fix="give its sources the same metadata in the same order, give the new source a table of its own, or "
                "give the job a new output",
            )


def _first_difference(was: Any, now: Any, path: str = "") -> str:
    if isinstance(was, dict) and isinstance(now, dict):
        for key in sorted(was.keys() | now.keys()):
            if was.get(key) != now.get(key):
                return _first_difference(was.get(key), now.get(key), f"{path}.{key}" if path else str(key))
    return f"{path} was {was!r}, is now {now!r}"


def _check_environment(before: Plan, now: Mapping[str, Mapping[str, str]]) -> None:
    for table, environment in before.environment.items():
        difference = environment_difference(dict(environment), dict(now.get(table, environment)))
        if difference is not None:
            raise ChangedError(
                f"table {table!r} was begun in another environment: {difference}",
                where=before.job.output,
                fix="restore that environment, or pass --allow-environment-change to go on in this one",
            )


def _new_files(before: Plan, found: Sequence[FoundSource]) -> dict[str, list[InputFile]]:
    """Return each source's files that the plan does not have; raises ChangedError for changed or missing ones."""
    planned = before.splits.files()
    new: dict[str, list[InputFile]] = {}
    for source in found:
        name = source.source.name
        known = planned.get(name, {})
        now = {file.path: file for file in source.files}
        for path, file in known.items():
            fix = "restore the file, or give the job a new output"
            if path not in now:
                raise ChangedError("was tokenized into this output and is gone", where=f"{source.root}/{path}", fix=fix)
            if now[path] != file:
                was, found_now = (f"{one.size_bytes} bytes, {one.version}" for one in (file, now[path]))
                raise ChangedError(
                    f"has changed: was {was}; is now {found_now}", where=f"{source.root}/{path}", fix=fix
                )
        new[name] = [file for file in source.files if file.path not in known]
    return new
