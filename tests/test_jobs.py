import copy
import json
from pathlib import Path
from typing import Any

import pydantic
import pytest

from tokenmill import jobs
from tokenmill.errors import JobError
from tokenmill.jobs import Job, Splitting, job_schema, load_job, parse_job

SOURCE = {"name": "docs", "uris": ["data/*.jsonl"]}
SIZE = "should be a number of bytes, or a number with a unit such as 256MB or 1GiB"
FORMATS = "'auto', 'jsonl', 'parquet', 'csv', 'tsv', 'text', 'lines', 'tar', 'warc', 'image', 'audio' or 'llvm-ir'"
TABLE = {"name": "text", "tokenizer": {"id": "bytes"}}
JOB = {"name": "books", "sources": [SOURCE], "tables": [TABLE], "output": "out"}


def job(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(JOB), **changes}


def test_smallest_job() -> None:
    parsed = parse_job(JOB)
    assert parsed.runner.name == "embedded"
    assert parsed.runner.workers == 1
    assert parsed.limits.max_rejected_fraction == 0.01
    assert parsed.sources_of(parsed.tables[0]) == parsed.sources


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        (
            {"wrong": 1},
            ["wrong: no such field (given 1); allowed here: name, sources, tables, output, runner, limits, splitting"],
        ),
        ({"name": 1}, ["name: Input should be a valid string (given 1)"]),
        ({"name": "Bücher"}, ["name: String should match pattern '^[a-z0-9][a-z0-9_-]{0,62}$' (given 'Bücher')"]),
        ({"name": "../up"}, ["name: String should match pattern '^[a-z0-9][a-z0-9_-]{0,62}$' (given '../up')"]),
        ({"output": ""}, ["output: String should have at least 1 character (given '')"]),
        ({"sources": []}, ["sources: should have at least one member (given [])"]),
        ({"sources": "x"}, ["sources: should be a list (given 'x')"]),
        ({"sources": [{**SOURCE, "uris": "x"}]}, ["sources.0.uris: should be a list (given 'x')"]),
        ({"sources": [{**SOURCE, "uris": []}]}, ["sources.0.uris: should have at least one member (given [])"]),
        (
            {"sources": [SOURCE, {**SOURCE, "name": "b", "format": "pdf"}]},
            [f"sources.1.format: Input should be {FORMATS} (given 'pdf')"],
        ),
        (
            {"sources": [{**SOURCE, "url": "x"}]},
            [
                "sources.0.url: no such field (given 'x'); "
                "allowed here: name, modality, uris, format, fields, metadata, where, encoding, background, channels, "
                "segments"
            ],
        ),
        (
            {"sources": [{**SOURCE, "fields": {"body": "x"}}]},
            ["sources.0.fields.body: no such field (given 'x'); allowed here: text, image, audio, llvm_ir, id"],
        ),
        (
            {"sources": [{**SOURCE, "modality": "video"}]},
            ["sources.0.modality: Input should be 'text', 'image', 'audio' or 'llvm-ir' (given 'video')"],
        ),
        (
            {"sources": [{**SOURCE, "format": "image"}]},
            [
                "sources.0: format 'image' holds no text; "
                "`modality: text` takes auto, jsonl, parquet, csv, tsv, text, lines, tar or warc"
            ],
        ),
        (
            {"sources": [{**SOURCE, "modality": "image", "format": "jsonl"}]},
            ["sources.0: format 'jsonl' holds no image; `modality: image` takes auto, image, tar or parquet"],
        ),
        (
            {"sources": [{**SOURCE, "fields": {"image": "x"}}]},
            [
                "sources.0: `fields.image` is for sources of `modality: image`; one of `modality: text` has "
                "`fields.text`"
            ],
        ),
        (
            {"sources": [{**SOURCE, "modality": "image", "fields": {"text": "caption"}}]},
            [
                "sources.0: `fields.text` is for sources of `modality: text`; one of `modality: image` has "
                "`fields.image`"
            ],
        ),
        (
            {"sources": [{**SOURCE, "background": [0, 0, 0]}]},
            ["sources.0: `background` is for sources of `modality: image`"],
        ),
        (
            {"sources": [{**SOURCE, "modality": "audio", "background": [0, 0, 0]}]},
            ["sources.0: `background` is for sources of `modality: image`"],
        ),
        (
            {"sources": [{**SOURCE, "modality": "audio", "format": "warc"}]},
            ["sources.0: format 'warc' holds no audio; `modality: audio` takes auto, audio, tar or parquet"],
        ),
        (
            {"sources": [{**SOURCE, "modality": "audio", "fields": {"image": "x"}}]},
            [
                "sources.0: `fields.image` is for sources of `modality: image`; one of `modality: audio` has "
                "`fields.audio`"
            ],
        ),
        (
            {"sources": [{**SOURCE, "modality": "image", "fields": {"audio": "x"}}]},
            [
                "sources.0: `fields.audio` is for sources of `modality: audio`; one of `modality: image` has "
                "`fields.image`"
            ],
        ),
        (
            {"sources": [{**SOURCE, "channels": "each"}]},
            ["sources.0: `channels` is for sources of `modality: audio`"],
        ),
        (
            {"sources": [{**SOURCE, "modality": "image", "segments": {}}]},
            ["sources.0: `segments` is for sources of `modality: audio`"],
        ),
        (
            {"sources": [{**SOURCE, "modality": "audio", "channels": "left"}]},
            ["sources.0.channels: Input should be 'mix', 'first' or 'each' (given 'left')"],
        ),
        (
            {"sources": [{**SOURCE, "modality": "audio", "segments": {"max": 3}}]},
            [
                "sources.0.segments.max: no such field (given 3); "
                "allowed here: min_seconds, max_seconds, pause_seconds, threshold, pad_seconds"
            ],
        ),
        (
            {"sources": [{**SOURCE, "modality": "audio", "segments": {"min_seconds": 3, "max_seconds": 5}}]},
            ["sources.0.segments: `min_seconds` is 3.0, more than half of `max_seconds`, which is 5.0"],
        ),
        (
            {"sources": [{**SOURCE, "modality": "audio", "segments": {"pad_seconds": 0.3}}]},
            [
                "sources.0.segments: `pad_seconds` is 0.3, more than half of `pause_seconds`, which is 0.5: segments "
                "would overlap"
            ],
        ),
        (
            {"sources": [{**SOURCE, "modality": "audio", "segments": {"pad_seconds": 8, "pause_seconds": 20}}]},
            ["sources.0.segments: `pad_seconds` is 8.0, more than a quarter of `max_seconds`, which is 30.0"],
        ),
        (
            {"limits": {"max_audio_seconds": 0}},
            ["limits.max_audio_seconds: Input should be greater than 0 (given 0)"],
        ),
        (
            {"sources": [{**SOURCE, "modality": "image", "background": [0, 0, 256]}]},
            ["sources.0.background.2: Input should be less than or equal to 255 (given 256)"],
        ),
        (
            {"limits": {"max_pixels": 0}},
            ["limits.max_pixels: Input should be greater than or equal to 1 (given 0)"],
        ),
        (
            {"sources": [{**SOURCE, "metadata": {"n": "int"}}]},
            ["sources.0.metadata.n: Input should be 'string', 'int64', 'float64' or 'bool' (given 'int')"],
        ),
        ({"sources": [{**SOURCE, "metadata": "n"}]}, ["sources.0.metadata: should be a mapping (given 'n')"]),
        ({"sources": [SOURCE, SOURCE]}, ["job: source names must differ: docs is given more than once"]),
        ({"tables": [TABLE, TABLE]}, ["job: table names must differ: text is given more than once"]),
        (
            {"tables": [{**TABLE, "sources": ["q"]}]},
            ["job: table 'text' names unknown sources ['q']; the job has ['docs']"],
        ),
        (
            {"tables": [{**TABLE, "name": "rejects"}]},
            ["job: table names ['rejects'] are reserved: directories of the dataset are called so"],
        ),
        (
            {"tables": [{**TABLE, "name": "takedowns"}]},
            ["job: table names ['takedowns'] are reserved: directories of the dataset are called so"],
        ),
        (
            {"tables": [{**TABLE, "tokenizer": {}}]},
            ["tables.0: tokenizer needs an 'id'; `tokenmill tokenizers` lists the known ones"],
        ),
        ({"tables": [{**TABLE, "tokenizer": "bytes"}]}, ["tables.0.tokenizer: should be a mapping (given 'bytes')"]),
        ({"tables": [{"name": "text"}]}, ["tables.0.tokenizer: is required and missing"]),
        (
            {"tables": [{**TABLE, "device": "gpu"}]},
            [r"tables.0.device: String should match pattern '^(auto|cpu|cuda(:\d+)?)$' (given 'gpu')"],
        ),
        ({"runner": None}, ["runner: should be a mapping (given None)"]),
        ({"runner": {"workers": 0}}, ["runner.workers: Input should be greater than or equal to 1 (given 0)"]),
        (
            {"runner": {"options": ["--x=1"]}},
            ["runner: `options` and `accelerator` are for Beam runners given by name; the embedded takes none"],
        ),
        (
            {"runner": {"name": "FlinkRunner", "workers": 8}},
            ["runner: `workers` is for the embedded runner; FlinkRunner takes its number from `options`"],
        ),
        (
            {"runner": {"partition_bytes": 10}},
            ["runner.partition_bytes: Input should be greater than or equal to 1000000 (given 10)"],
        ),
        (
            {"limits": {"max_rejected_fraction": 1.5}},
            ["limits.max_rejected_fraction: Input should be less than or equal to 1 (given 1.5)"],
        ),
        (
            {"limits": {"max_item_bytes": "5GB"}},
            ["limits.max_item_bytes: Input should be less than or equal to 2000000000 (given '5GB')"],
        ),
        (
            {"limits": {"max_item_bytes": "12 parsecs", "max_metadata_bytes": -1}},
            [
                f"limits.max_item_bytes: {SIZE} (given '12 parsecs')",
                f"limits.max_metadata_bytes: {SIZE} (given -1)",
            ],
        ),
        (
            {"splitting": {"split_bytes": 1}},
            ["splitting.split_bytes: Input should be greater than or equal to 4096 (given 1)"],
        ),
        (
            {"splitting": {"part_bytes": 1}},
            ["splitting.part_bytes: Input should be greater than or equal to 1024 (given 1)"],
        ),
    ],
)
def test_a_wrong_field_is_refused_with_path_value_and_what_is_allowed(
    changes: dict[str, Any], lines: list[str]
) -> None:
    with pytest.raises(JobError) as caught:
        parse_job(job(**changes), where="job.yaml")
    assert caught.value.what.splitlines() == ["the job is not valid:", *(f"  {line}" for line in lines)]
    assert caught.value.where == "job.yaml"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["name", "sources", "tables", "output"])
def test_required_fields(name: str) -> None:
    value = job()
    del value[name]
    with pytest.raises(JobError, match=f"  {name}: is required and missing"):
        parse_job(value)


def test_nan_is_no_fraction() -> None:
    with pytest.raises(JobError, match="max_rejected_fraction"):
        parse_job(job(limits={"max_rejected_fraction": float("nan")}))


def test_a_long_value_is_not_printed_whole() -> None:
    with pytest.raises(JobError) as caught:
        parse_job(job(tables={"x" * 10_000: 1}))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("given", "size"),
    [("256MB", 256_000_000), ("1MiB", 1 << 20), ("1.5 GB", 1_500_000_000), (4096, 4096), ("64kb", 64_000)],
)
def test_sizes(given: Any, size: int) -> None:
    assert parse_job(job(limits={"max_item_bytes": given})).limits.max_item_bytes == size


def test_metadata_as_a_list_is_strings() -> None:
    parsed = parse_job(job(sources=[{**SOURCE, "metadata": ["title", "author"]}]))
    assert parsed.sources[0].metadata == {"title": "string", "author": "string"}


def test_tables_cover_the_named_sources_in_the_jobs_order() -> None:
    parsed = parse_job(
        job(
            sources=[SOURCE, {**SOURCE, "name": "b"}, {**SOURCE, "name": "c"}],
            tables=[{**TABLE, "sources": ["c", "docs"]}],
        )
    )
    assert [source.name for source in parsed.sources_of(parsed.tables[0])] == ["docs", "c"]


def test_a_job_survives_json() -> None:
    """As a plan holds it, and as Prefect takes parameters."""
    parsed = parse_job(
        job(
            sources=[
                {**SOURCE, "metadata": {"n": "int64"}, "fields": {"text": "a.b", "id": "c"}},
                {
                    "name": "photos",
                    "modality": "image",
                    "uris": ["p"],
                    "fields": {"image": "x"},
                    "background": [0, 9, 255],
                },
                {
                    "name": "calls",
                    "modality": "audio",
                    "uris": ["c"],
                    "fields": {"audio": "y"},
                    "channels": "each",
                    "segments": {"max_seconds": 12},
                },
            ],
            runner={"name": "FlinkRunner", "options": ["--x"]},
            limits={"max_item_bytes": "1MB"},
        )
    )
    assert Job.model_validate(json.loads(json.dumps(parsed.model_dump(mode="json")))) == parsed


def test_a_job_of_text_says_nothing_of_images() -> None:
    """So that plans of text are, byte for byte, what they were before there were images."""
    assert "image" not in json.dumps(parse_job(JOB).model_dump(mode="json"))
    assert "pixels" not in json.dumps(parse_job(JOB).model_dump(mode="json"))
    for word in ("audio", "channels", "segments"):
        assert word not in json.dumps(parse_job(JOB).model_dump(mode="json"))
    limited = parse_job(job(limits={"max_pixels": 5, "max_audio_seconds": 7, "max_audio_bytes": "1MB"}))
    assert Job.model_validate(limited.model_dump(mode="json")) == limited
    photos = parse_job(job(sources=[{**SOURCE, "modality": "image"}])).model_dump(mode="json")
    assert photos["sources"][0]["background"] == [255, 255, 255]
    assert photos["limits"]["max_pixels"] == 64_000_000
    for word in ("audio", "channels", "segments"):
        assert word not in json.dumps(photos)


def test_a_job_of_recordings_says_nothing_of_images() -> None:
    calls = parse_job(job(sources=[{**SOURCE, "modality": "audio"}])).model_dump(mode="json")
    assert calls["sources"][0]["channels"] == "mix"
    assert calls["sources"][0]["segments"] is None
    assert calls["limits"]["max_audio_seconds"] == 86_400
    assert "image" not in json.dumps(calls)
    assert "pixels" not in json.dumps(calls)


def test_yaml(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(
        "name: books\n"
        'sources:\n  - {name: books, modality: text, uris: ["a/*.jsonl.zst"], fields: {text: text, id: id}}\n'
        "tables:\n  - {name: text, sources: [books], tokenizer: {id: tiktoken, vocabulary: o200k_base}}\n"
        "output: .out/books\n"
        "runner: {workers: 2}\n"
        "limits: {max_rejected_fraction: 0.01, max_item_bytes: 256MB}\n"
    )
    parsed = load_job(path)
    assert parsed.sources[0].fields.id == "id"
    assert parsed.limits.max_item_bytes == 256_000_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: [", r"not valid YAML: (.|\n)*line 1"),
        (b"\xff\xfe", "not UTF-8 text"),
        (b"- a\n", "a job is a mapping with name, sources, tables and output; this is list"),
        (b"", "this is NoneType"),
        (b"a: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        (b"name: a\nname: b\n", "'name' is given twice"),
    ],
)
def test_files_that_are_no_jobs(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(content)
    with pytest.raises(JobError, match=message) as caught:
        load_job(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_directory(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"none\.yaml: cannot read the job: No such file"):
        load_job(tmp_path / "none.yaml")
    with pytest.raises(JobError, match="cannot read the job: Is a directory"):
        load_job(tmp_path)


def test_schema_describes_every_field() -> None:
    schema = job_schema()
    json.dumps(schema)
    assert schema["title"] == "tokenmill job"
    assert schema["required"] == ["name", "sources", "tables", "output"]
    models = [
        value for value in vars(jobs).values() if isinstance(value, type) and issubclass(value, pydantic.BaseModel)
    ]
    for name, definition in schema["$defs"].items():
        assert definition["additionalProperties"] is False
        assert {model.__name__ for model in models} >= {name}
        for field, value in definition["properties"].items():
            assert value.get("description"), f"{name}.{field} has no description"


@pytest.mark.parametrize(
    ("modalities", "splitting", "part_bytes"),
    [
        (["text"], {}, 32_000_000),
        (["image"], {}, 256_000_000),
        (["image", "image"], {"split_bytes": "1GB"}, 256_000_000),
        (["image"], {"part_bytes": 32_000_000}, 32_000_000),
        (["image", "text"], {}, 32_000_000),
        (["audio"], {}, 256_000_000),
        (["audio", "image"], {}, 256_000_000),
        (["text", "audio"], {}, 32_000_000),
    ],
)
def test_parts_without_text_are_larger(modalities: list[str], splitting: dict[str, Any], part_bytes: int) -> None:
    sources = [
        {"name": f"s{number}", "modality": modality, "uris": ["in"]} for number, modality in enumerate(modalities)
    ]
    tokenizers = {"text": {"id": "bytes"}, "image": {"id": "klt"}, "audio": {"id": "phones"}}
    tables = [
        {"name": f"t{number}", "sources": [f"s{number}"], "tokenizer": tokenizers[modality]}
        for number, modality in enumerate(modalities)
    ]
    made = parse_job({"name": "j", "sources": sources, "tables": tables, "output": "out", "splitting": splitting})
    assert made.splitting.part_bytes == part_bytes
    assert parse_job(made.model_dump(mode="json")) == made
    again = Job(
        name="j", sources=made.sources, tables=made.tables, output="out", splitting=Splitting.model_validate(splitting)
    )
    assert again.splitting.part_bytes == part_bytes
