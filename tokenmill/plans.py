"""Plans: the frozen description of one generation of a dataset, from which every worker works.

A plan holds the job, the resolved tokenizers and the environment; its splits lie beside it in a columnar file.
Making a plan is `planning`'s business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill import layout
from tokenmill.contract import ResolvedTokenizer
from tokenmill.devices import wants_accelerator
from tokenmill.errors import CorruptionError, DatasetError
from tokenmill.job_sources import Source
from tokenmill.jobs import Job, Table
from tokenmill.receipts import Receipt
from tokenmill.sealed import seal, unseal
from tokenmill.sources.splits import InputFile, Split
from tokenmill.storage.outputs import Storage
from tokenmill.takedown_lists import Takedown, read_takedown

#: Plans of datasets from which nothing was taken down are of format 1: they lack the last two members.
FORMAT = 2

_FILE = pa.struct([("path", pa.string()), ("size_bytes", pa.int64()), ("version", pa.string())])
_SPLITS_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("kind", pa.string()),
        ("files", pa.list_(_FILE)),
        ("start", pa.int64()),
        ("stop", pa.int64()),
        ("input_bytes", pa.int64()),
    ],
    metadata={"tokenmill": b'{"splits_format":1}'},
)


class SplitTable(Sequence[Split]):
    """The splits of a plan in their order; a split's index here is its number in every file name."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table.combine_chunks()

    @classmethod
    def from_splits(cls, splits: Sequence[Split]) -> SplitTable:
        """Make a table of splits."""
        columns = {
            "source": [split.source for split in splits],
            "kind": [split.kind for split in splits],
            "files": [
                [{"path": f.path, "size_bytes": f.size_bytes, "version": f.version} for f in split.files]
                for split in splits
            ],
            "start": [split.start for split in splits],
            "stop": [split.stop for split in splits],
            "input_bytes": [split.input_bytes for split in splits],
        }
        return cls(pa.table(columns, schema=_SPLITS_SCHEMA))

    @classmethod
    def from_bytes(cls, data: bytes) -> SplitTable:
        """Read what `to_bytes` wrote."""
        return cls(pa.ipc.open_file(pa.BufferReader(data)).read_all())

    def to_bytes(self) -> bytes:
        """Return the splits as an Arrow IPC file."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, self._table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_table(self._table)
        return bytes(sink.getvalue())

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = self._table.slice(index, 1).to_pylist()[0]
        return Split(
            source=row["source"],
            kind=row["kind"],
            files=tuple(InputFile(**file) for file in row["files"]),
            start=row["start"],
            stop=row["stop"],
            input_bytes=row["input_bytes"],
        )

    @cached_property
    def sources(self) -> list[str]:
        """The source's name of every split."""
        return list(self._table["source"].to_pylist())

    @cached_property
    def input_bytes(self) -> npt.NDArray[np.int64]:
        """int64 `[split]`: the cost of reading each split, in bytes as stored."""
        return np.asarray(self._table["input_bytes"].to_numpy(), np.int64)

    def files(self) -> dict[str, dict[str, InputFile]]:
        """Return every input file: source → path → file."""
        found: dict[str, dict[str, InputFile]] = {}
        for source, files in zip(self.sources, self._table["files"].to_pylist(), strict=True):
            known = found.setdefault(source, {})
            for file in files:
                known[file["path"]] = InputFile(**file)
        return found

    def extended(self, splits: Sequence[Split]) -> SplitTable:
        """Return these splits followed by new ones."""
        return SplitTable(pa.concat_tables([self._table, SplitTable.from_splits(splits)._table]))


@dataclass(frozen=True)
class PlannedTable:
    """A table of a plan: its sources by name and its resolved tokenizer."""

    name: str
    sources: tuple[str, ...]
    tokenizer: ResolvedTokenizer
    device: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "sources": list(self.sources),
            "tokenizer": self.tokenizer.to_json(),
            "device": self.device,
        }


@dataclass(frozen=True)
class Plan:
    """One generation of a dataset, frozen.

    Attributes:
        generation: Its number, from 1.
        job: The job as it was when the generation was planned.
        roots: Source → the uri that its files' paths are relative to.
        tables: In the job's order.
        environment: Table → versions and device kind that its tokens are made under.
        splits: In order; those of earlier generations come first and keep their numbers.
        takedown: The list of keys that no part may hold; None where nothing was taken down.
        withheld_from: The splits from this number on are left out of this generation: another one planned them, and
            was not finished when keys were taken down. None: all splits belong to it.
    """

    generation: int
    job: Job
    roots: Mapping[str, str]
    tables: tuple[PlannedTable, ...]
    environment: Mapping[str, Mapping[str, str]]
    splits: SplitTable
    takedown: Takedown | None = None
    withheld_from: int | None = None

    @property
    def reach(self) -> int:
        """Number of the first split that does not belong to the generation."""
        return len(self.splits) if self.withheld_from is None else self.withheld_from

    @property
    def takedown_number(self) -> int:
        """Number of the list of keys that no part may hold; 0 where nothing was taken down."""
        return 0 if self.takedown is None else self.takedown.number

    def settles(self, receipt: Receipt) -> bool:
        """Say whether what a receipt names holds no key that was taken down."""
        if self.takedown is None:
            return True
        name = receipt.name
        return self.takedown.settles(
            (name.table, name.split, name.part), self.splits.sources[name.split], receipt.takedown
        )

    def source(self, name: str) -> Source:
        """Return a source of the job by name."""
        return next(source for source in self.job.sources if source.name == name)

    def table(self, name: str) -> PlannedTable:
        """Return a table by name; raises DatasetError listing the tables there are."""
        for table in self.tables:
            if table.name == name:
                return table
        raise DatasetError(f"has no table {name!r}; it has {[table.name for table in self.tables]}")

    def groups(self) -> list[tuple[str, ...]]:
        """Return the tables that one reading of a split serves: those without an accelerator, and those with one."""
        groups: dict[bool, list[str]] = {}
        for table in self.tables:
            groups.setdefault(wants_accelerator(table.device, table.tokenizer), []).append(table.name)
        return [tuple(names) for names in groups.values()]

    def metadata_columns(self, table: PlannedTable) -> dict[str, str]:
        """Return the metadata columns of a table (`metadata_columns`)."""
        return metadata_columns(self.job, table)

    def splits_of(self, table: PlannedTable) -> npt.NDArray[np.int64]:
        """Return the numbers of the splits that a table covers, ascending."""
        covered = set(table.sources)
        reached = self.splits.sources[: self.reach]
        return np.array([i for i, source in enumerate(reached) if source in covered], np.int64)


def metadata_columns(job: Job, table: PlannedTable) -> dict[str, str]:
    """Return the metadata columns of a table: those of its sources in order; a conflict of types was refused."""
    columns: dict[str, str] = {}
    for source in job.sources:
        if source.name in table.sources:
            columns.update(source.metadata)
    return columns


def write_plan(storage: Storage, plan: Plan) -> bool:
    """Write a plan, its splits first; False if this generation already exists."""
    data = plan.splits.to_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    path = layout.splits(plan.generation, sha256)
    storage.put(path, [data])
    value: dict[str, Any] = {
        "format": 1,
        "generation": plan.generation,
        "job": plan.job.model_dump(mode="json"),
        "roots": dict(plan.roots),
        "tables": [table.to_json() for table in plan.tables],
        "environment": {name: dict(value) for name, value in plan.environment.items()},
        "splits": {"path": path, "sha256": sha256, "count": len(plan.splits)},
    }
    if plan.takedown is not None:
        # Not format 1: whoever does not know of takedowns would bring the keys back.
        value["format"] = FORMAT
        value["takedown"] = {"number": plan.takedown.number, "sha256": plan.takedown.sha256}
        value["withheld_from"] = plan.withheld_from
    return storage.create(layout.plan(plan.generation), seal(value))


def read_plan(storage: Storage, generation: int) -> Plan:
    """Read a plan; raises CorruptionError where it, its splits or its takedown list are not what was written."""
    path = layout.plan(generation)
    value = unseal(storage.read(path), path)
    if value["format"] > FORMAT:
        raise CorruptionError("was written by a newer tokenmill", where=path, fix="install a newer tokenmill")
    splits = storage.read(value["splits"]["path"])
    if hashlib.sha256(splits).hexdigest() != value["splits"]["sha256"]:
        raise CorruptionError(
            "does not match the checksum in its plan",
            where=value["splits"]["path"],
            fix="restore the file from a copy, or use a new output",
        )
    return Plan(
        generation=value["generation"],
        job=Job.model_validate(value["job"]),
        roots=value["roots"],
        tables=tuple(
            PlannedTable(
                table["name"],
                tuple(table["sources"]),
                ResolvedTokenizer.from_json(table["tokenizer"]),
                table["device"],
            )
            for table in value["tables"]
        ),
        environment=value["environment"],
        splits=SplitTable.from_bytes(splits),
        takedown=read_takedown(storage, **value["takedown"]) if "takedown" in value else None,
        withheld_from=value.get("withheld_from"),
    )


def newest_generation(storage: Storage, directory: str) -> int | None:
    """Return the newest generation in `plans` or `manifests`, or None where there is none."""
    generations = [layout.parse_generation(entry.path) for entry in storage.list(f"{directory}/")]
    return max((number for number in generations if number is not None), default=None)


def planned_table(table: Table, sources: Sequence[Source], tokenizer: ResolvedTokenizer) -> PlannedTable:
    """Return a job's table as a plan holds it."""
    return PlannedTable(table.name, tuple(source.name for source in sources), tokenizer, table.device)
