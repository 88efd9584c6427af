"""Jobs: the validated description of what to tokenize, with what, and where to.

Read from YAML or given as Prefect parameters. A wrong field is refused with its path, what was given and what is
allowed. Nothing here touches storage or loads a tokenizer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BaseModel,
    ByteSize,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from tokenmill.errors import JobError
from tokenmill.job_sources import (
    FORMATS,
    OF_ONE_MODALITY,
    Fields,
    JobModel,
    Modality,
    Name,
    Segments,
    Source,
    member,
)

#: Default of `splitting.part_bytes` where all sources are images or recordings.
_LARGE_PART_BYTES = 256_000_000
#: Limits that bear on one modality alone.
_LIMITS_OF_ONE_MODALITY: dict[str, Modality] = {
    "max_pixels": "image",
    "max_audio_seconds": "audio",
    "max_audio_bytes": "audio",
    "max_ir_text_bytes": "llvm-ir",
    "max_ir_memory_bytes": "llvm-ir",
    "max_ir_seconds": "llvm-ir",
}


class Table(JobModel):
    """What one tokenizer makes of the items of some sources."""

    name: Name
    """The table's name, by which training code opens it."""
    sources: tuple[str, ...] = ()
    """Names of the sources it covers; default all."""
    tokenizer: dict[str, Any]
    """The tokenizer's `id` and its configuration; `tokenmill tokenizers` lists them."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """Where the tokenizer runs: `auto`, `cpu`, `cuda` or `cuda:<number>`."""

    @model_validator(mode="after")
    def _has_id(self) -> Table:
        if not isinstance(self.tokenizer.get("id"), str):
            raise ValueError("tokenizer needs an 'id'; `tokenmill tokenizers` lists the known ones")
        return self


class Runner(JobModel):
    """Which Beam runner does the work."""

    name: str = "embedded"
    """`embedded` (this machine), or a Beam runner's name (`FlinkRunner`, `SparkRunner`, `DataflowRunner`,
    `PortableRunner`)."""
    workers: Annotated[int, Field(ge=1, le=1024)] = 1
    """Worker processes of the embedded runner."""
    options: tuple[str, ...] = ()
    """Beam pipeline options for other runners, passed through untouched."""
    accelerator: str | None = None
    """Beam's accelerator hint for the tables that run on a GPU, on runners that heed it, passed through untouched:
    `type:nvidia-l4;count:1;install-nvidia-driver` on Dataflow."""
    partition_bytes: Annotated[ByteSize, Field(ge=1_000_000)] = ByteSize(50_000_000_000)
    """A long plan is run in partitions of about this many input bytes, one Prefect task each."""

    @model_validator(mode="after")
    def _fields_agree(self) -> Runner:
        if self.name == "embedded" and (self.options or self.accelerator):
            raise ValueError("`options` and `accelerator` are for Beam runners given by name; the embedded takes none")
        if self.name != "embedded" and "workers" in self.model_fields_set and self.workers > 1:
            raise ValueError(f"`workers` is for the embedded runner; {self.name} takes its number from `options`")
        return self


class Limits(JobModel):
    """What is refused, and when a run gives up."""

    max_rejected_fraction: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Rejected items, as a share of all, above which nothing is published."""
    max_item_bytes: Annotated[ByteSize, Field(ge=1, le=2_000_000_000)] = ByteSize(256_000_000)
    """A larger item is rejected without being read whole."""
    max_metadata_bytes: Annotated[ByteSize, Field(ge=1)] = ByteSize(1_000_000)
    """A larger id or metadata value makes its item a reject."""
    max_pixels: Annotated[int, Field(ge=1, le=1_000_000_000)] = 64_000_000
    """An image of more pixels is rejected before any of them is decoded (decoded, a pixel takes 3 bytes or more)."""
    max_audio_seconds: Annotated[float, Field(gt=0, le=1_000_000)] = 86_400.0
    """A longer recording is rejected, before it is decoded where its header tells."""
    max_audio_bytes: Annotated[ByteSize, Field(ge=1)] = ByteSize(20_000_000_000)
    """A recording that is a file of its own may be so large: it is read as a stream, and `max_item_bytes` is for those
    that are compressed, or lie in tar or Parquet."""
    max_ir_text_bytes: Annotated[ByteSize, Field(ge=1, le=2_000_000_000)] = ByteSize(256_000_000)
    """A module of LLVM IR with a longer text is rejected."""
    max_ir_memory_bytes: Annotated[ByteSize, Field(ge=100_000_000)] = ByteSize(4_000_000_000)
    """Memory that reading a module may take, in a process of its own; one that takes more is rejected."""
    max_ir_seconds: Annotated[float, Field(gt=0, le=86_400)] = 120.0
    """Processor time that reading a module may take; one that takes more is rejected."""


class Splitting(JobModel):
    """How inputs are cut. Part of a dataset's identity: it cannot change over an old output."""

    split_bytes: Annotated[ByteSize, Field(ge=4096)] = ByteSize(256_000_000)
    """Input bytes a split holds at most, where the format can be cut."""
    part_bytes: Annotated[ByteSize, Field(ge=1024)] = ByteSize(32_000_000)
    """Payload bytes, and 64 for each item, after which a part (one shard a table) ends, at an item's boundary. Default
    256 MB where all sources are images or recordings, whose tokens are few for their bytes."""


class Job(JobModel):
    """A validated description of one dataset: sources, tables, output, runner and limits."""

    name: Name
    """The job's name, shown in the Prefect UI and kept in the manifest."""
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    tables: Annotated[tuple[Table, ...], Field(min_length=1)]
    output: Annotated[str, Field(min_length=1)]
    """Directory or `s3://bucket/prefix` of the dataset."""
    runner: Runner = Runner()
    limits: Limits = Limits()
    splitting: Splitting = Splitting()

    @model_validator(mode="before")
    @classmethod
    def _parts_without_text(cls, value: Any) -> Any:
        """Give a job without text larger parts: an image of megabytes becomes a few hundred bytes of tokens."""
        if not isinstance(value, dict) or not isinstance(value.get("sources"), (list, tuple)):
            return value
        modalities = [
            source.get("modality", "text") if isinstance(source, dict) else getattr(source, "modality", "text")
            for source in value["sources"]
        ]
        splitting = value.get("splitting", {})
        if isinstance(splitting, Splitting):
            splitting = splitting.model_dump(exclude_unset=True)
        without_text = bool(modalities) and all(modality in ("image", "audio") for modality in modalities)
        if not without_text or not isinstance(splitting, dict) or "part_bytes" in splitting:
            return value
        return {**value, "splitting": {**splitting, "part_bytes": _LARGE_PART_BYTES}}

    @model_validator(mode="after")
    def _references(self) -> Job:
        for kind, names in (("source", [s.name for s in self.sources]), ("table", [t.name for t in self.tables])):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{kind} names must differ: {', '.join(twice)} is given more than once")
        known = [source.name for source in self.sources]
        for table in self.tables:
            unknown = [name for name in table.sources if name not in known]
            if unknown:
                raise ValueError(f"table {table.name!r} names unknown sources {unknown}; the job has {known}")
        reserved = {"plans", "rejects", "manifests", "takedowns"} & {table.name for table in self.tables}
        if reserved:
            raise ValueError(f"table names {sorted(reserved)} are reserved: directories of the dataset are called so")
        return self

    @model_serializer(mode="wrap")
    def _without_what_says_nothing(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out fields that came after the first plans, where they say nothing: such plans stay as they were."""
        value: dict[str, Any] = dump(self)
        for source, given in zip(self.sources, value.get("sources", ()), strict=False):
            for name, modality in OF_ONE_MODALITY.items():
                if modality != source.modality:
                    given.pop(name, None)
            for other in FORMATS:
                if other not in ("text", source.modality):
                    given.get("fields", {}).pop(member(other), None)
            if not source.where:
                given.pop("where", None)
        modalities = {source.modality for source in self.sources}
        for name, modality in _LIMITS_OF_ONE_MODALITY.items():
            if modality not in modalities and getattr(self.limits, name) == Limits.model_fields[name].default:
                value.get("limits", {}).pop(name, None)
        if self.runner.accelerator is None:
            value.get("runner", {}).pop("accelerator", None)
        return value

    def sources_of(self, table: Table) -> tuple[Source, ...]:
        """Return the sources that a table covers, in the job's order."""
        return tuple(s for s in self.sources if not table.sources or s.name in table.sources)


#: What pydantic says in Python's terms, in those of a YAML file.
_MESSAGES = {
    "byte_size": "should be a number of bytes, or a number with a unit such as 256MB or 1GiB",
    "byte_size_unit": "should be a number of bytes, or a number with a unit such as 256MB or 1GiB",
    "dict_type": "should be a mapping",
    "model_type": "should be a mapping",
    "too_short": "should have at least one member",
    "tuple_type": "should be a list",
}


class _Loader(yaml.SafeLoader):
    """Reads YAML as SafeLoader does, but for a member that is given twice: of that YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and key.value != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def load_job(path: str | Path) -> Job:
    """Read a job from a YAML file; raises JobError with every wrong field's path, value and what is allowed."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise JobError(f"cannot read the job: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise JobError(f"the job is not UTF-8 text: {error}", where=str(path)) from error
    try:
        value = yaml.load(text, _Loader)  # noqa: S506  a SafeLoader
    except yaml.YAMLError as error:
        raise JobError(f"not valid YAML: {error}", where=str(path)) from error
    return parse_job(value, where=str(path))


def parse_job(value: Any, *, where: str = "job") -> Job:
    """Validate a job given as plain values (YAML's, or Prefect parameters'); raises JobError as `load_job` does."""
    if not isinstance(value, dict):
        given = type(value).__name__
        raise JobError(f"a job is a mapping with name, sources, tables and output; this is {given}", where=where)
    try:
        return Job.model_validate(value)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        lines = [_explain(problem) for problem in problems if not _follows_from_another(problem)]
        raise JobError(
            "the job is not valid:\n" + "\n".join(f"  {line}" for line in lines),
            where=where,
            fix="`python -m flows schema` prints what is allowed",
        ) from error


def _follows_from_another(problem: Any) -> bool:
    """Tell whether a list is said to be too short only because pydantic left out its wrong members."""
    return problem["type"] == "too_short" and bool(len(problem["input"]) >= problem["ctx"]["min_length"])


def _explain(problem: Any) -> str:
    path = ".".join(str(step) for step in problem["loc"]) or "job"
    if problem["type"] == "missing":
        return f"{path}: is required and missing"
    if problem["type"] == "extra_forbidden":
        allowed = ", ".join(_allowed(problem["loc"]))
        return f"{path}: no such field (given {problem['input']!r}); allowed here: {allowed}"
    given = problem.get("input")
    if problem["type"] == "value_error":
        message = str(problem["ctx"]["error"])
        return f"{path}: {message}" if isinstance(given, dict) else f"{path}: {message} (given {given!r})"
    message = _MESSAGES.get(problem["type"], problem["msg"])
    shown = repr(given)
    return f"{path}: {message} (given {shown if len(shown) < 80 else type(given).__name__})"


def _allowed(location: tuple[Any, ...]) -> list[str]:
    """Return the names of the fields beside the last step of an error's location."""
    model: type[BaseModel] = Job
    nested: dict[str, type[BaseModel]] = {
        "sources": Source,
        "tables": Table,
        "runner": Runner,
        "limits": Limits,
        "splitting": Splitting,
        "fields": Fields,
        "segments": Segments,
    }
    for step in location[:-1]:
        if isinstance(step, str) and step in nested:
            model = nested[step]
    return list(model.model_fields)


def job_schema() -> dict[str, Any]:
    """Return the JSON schema of a job, for editors."""
    schema = Job.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "tokenmill job"
    return schema
