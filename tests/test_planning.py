"""What a second run does with an output: resume, a new generation, or a refusal that names the difference."""

import threading
from pathlib import Path
from typing import Any

import pytest

from tests.datasets import build_dataset, job_of, run_splits, write_jsonl
from tests.test_encoders import write_ranks
from tokenmill import planning
from tokenmill.devices import table_environment
from tokenmill.errors import ChangedError, InputError, JobError, TokenizerError
from tokenmill.jobs import Job
from tokenmill.manifests import read_manifest, read_shard_table
from tokenmill.planning import PlannedRun, draft_plan, make_plan
from tokenmill.plans import write_plan as write_plan_of
from tokenmill.storage.outputs import Storage
from tokenmill.takedown_lists import Takedown, key_digests, write_takedown

RECORDS = [{"id": f"d{n}", "text": f"text {n} " * 50, "title": "t", "year": n} for n in range(30)]


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "in" / "a.jsonl", RECORDS)
    write_jsonl(tmp_path / "in" / "b.jsonl", RECORDS[:10])
    return tmp_path / "in"


@pytest.fixture
def output(tmp_path: Path) -> str:
    return str(tmp_path / "out")


def plan_of(job: Job, **options: Any) -> PlannedRun:
    return make_plan(Storage.open(job.output), job, **options)


def shards_of(output: str) -> list[tuple[int, int, str]]:
    storage = Storage.open(output)
    table = read_manifest(storage).tables["text"]
    return [(row["split"], row["part"], row["sha256"]) for row in read_shard_table(storage, table).rows()]


def test_a_first_run_plans_generation_1(inputs: Path, output: str) -> None:
    run = plan_of(job_of(output, inputs))
    assert (run.plan.generation, run.resumed, run.new_splits, len(run.plan.splits)) == (1, False, 1, 1)
    assert run.plan.roots == {"docs": str(inputs)}
    assert [file.path for file in run.plan.splits[0].files] == ["a.jsonl", "b.jsonl"]


def test_drafting_writes_nothing(inputs: Path, output: str) -> None:
    job = job_of(output, inputs)
    draft_plan(Storage.open(output), job)
    assert not Path(output).exists()


def test_the_same_job_resumes(inputs: Path, output: str) -> None:
    plan_of(job_of(output, inputs))
    run = plan_of(job_of(output, inputs, runner={"workers": 7}, limits={"max_rejected_fraction": 0.5}))
    assert (run.plan.generation, run.resumed, run.new_splits) == (1, True, 0)


def test_new_files_make_a_generation_that_keeps_what_is_there(inputs: Path, output: str) -> None:
    build_dataset(job_of(output, inputs))
    before = shards_of(output)
    write_jsonl(inputs / "c.jsonl", RECORDS[10:])
    write_jsonl(inputs / "0.jsonl", RECORDS[5:])  # sorts first, and comes last all the same
    run = plan_of(job_of(output, inputs))
    assert (run.plan.generation, run.resumed, run.new_splits, len(run.plan.splits)) == (2, False, 1, 2)
    manifest = build_dataset(job_of(output, inputs))
    assert manifest.generation == 2
    assert manifest.tables["text"].rows == 40 + 45
    assert shards_of(output)[: len(before)] == before
    assert {path.stem for path in Path(output, "manifests").glob("*.json")} == {"000001", "000002"}


def test_a_new_table_makes_a_generation(inputs: Path, output: str) -> None:
    build_dataset(job_of(output, inputs))
    before = shards_of(output)
    tables = [
        {"name": "text", "tokenizer": {"id": "bytes"}},
        {"name": "framed", "tokenizer": {"id": "bytes", "eos": True}},
    ]
    run = plan_of(job_of(output, inputs, tables=tables))
    assert (run.plan.generation, run.new_splits) == (2, 0)
    manifest = build_dataset(job_of(output, inputs, tables=tables))
    assert manifest.tables["framed"].tokens["ids"] == manifest.tables["text"].tokens["ids"] + 40
    assert shards_of(output) == before


def test_a_new_source_makes_a_generation(inputs: Path, output: str, tmp_path: Path) -> None:
    build_dataset(job_of(output, inputs))
    write_jsonl(tmp_path / "more" / "a.jsonl", RECORDS[:3])
    sources = [
        {"name": "more", "uris": [str(tmp_path / "more")], "fields": {"id": "id"}},
        {"name": "docs", "uris": [str(inputs)], "fields": {"id": "id"}},
    ]
    manifest = build_dataset(job_of(output, inputs, sources=sources))
    assert manifest.generation == 2
    assert manifest.tables["text"].rows == 43
    assert manifest.tables["text"].sources == ("more", "docs")


def test_keys_that_were_taken_down_make_a_generation_without_new_splits(inputs: Path, output: str) -> None:
    """A takedown that was killed when it had recorded its list: the next run carries it out."""
    job = job_of(output, inputs)
    build_dataset(job)
    digests = key_digests(b"salt", ["d3"])
    write_takedown(Storage.open(output), Takedown(1, "", b"salt", digests, 0, {}, {}))
    run = plan_of(job)
    assert (run.plan.generation, run.resumed, run.new_splits, run.plan.takedown_number) == (2, False, 0, 1)
    assert plan_of(job).resumed
    manifest = build_dataset(job)
    assert (manifest.generation, manifest.takedown, manifest.tables["text"].taken_down) == (2, 1, 2)


def test_a_corpus_that_has_moved_is_the_same_corpus(inputs: Path, output: str, tmp_path: Path) -> None:
    """Paths are relative, so that only the root has changed; what is left to do is read from the new place."""
    plan_of(job_of(output, inputs))
    inputs.rename(tmp_path / "moved")
    run = plan_of(job_of(output, tmp_path / "moved"))
    assert (run.plan.generation, run.new_splits) == (2, 0)
    run_splits(job_of(output, tmp_path / "moved"))


def test_a_vocabulary_that_has_moved_is_the_same_vocabulary(inputs: Path, output: str, tmp_path: Path) -> None:
    def job(path: Path) -> Job:
        table = {"name": "text", "tokenizer": {"id": "tiktoken", "ranks": str(path), "pattern": "cl100k_base"}}
        return job_of(output, inputs, tables=[table])

    write_ranks(tmp_path / "one", 300)
    first = build_dataset(job(tmp_path / "one"))
    (tmp_path / "one").rename(tmp_path / "two")
    assert build_dataset(job(tmp_path / "two")).tables["text"].fingerprint == first.tables["text"].fingerprint
    write_ranks(tmp_path / "two", 301)
    with pytest.raises(ChangedError, match=r"tokenizer of table 'text' has changed: assets\.ranks was '.*', is now"):
        plan_of(job(tmp_path / "two"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"splitting": {"part_bytes": 8192}}, "splitting was {.*'part_bytes': 4096.*}, is now {.*'part_bytes': 8192"),
        ({"limits": {"max_item_bytes": 1000}}, "limits.max_item_bytes was 256000000, is now 1000"),
        ({"limits": {"max_metadata_bytes": 1000}}, "limits.max_metadata_bytes was 1000000, is now 1000"),
        ({"limits": {"max_pixels": 1000}}, "limits.max_pixels was 64000000, is now 1000"),
        (
            {"source": {"fields": {"text": "title", "id": "id"}}},
            "source 'docs': fields was {.*'text'.*}, is now {.*'title'",
        ),
        ({"source": {"metadata": ["title"]}}, "source 'docs': metadata was {}, is now {'title': 'string'}"),
        ({"source": {"format": "jsonl"}}, "source 'docs': format was 'auto', is now 'jsonl'"),
        ({"source": {"name": "other"}}, r"the output has sources \['docs'\], which the job no longer names"),
        (
            {"tables": [{"name": "t", "tokenizer": {"id": "bytes"}}]},
            r"has tables \['text'\], which the job no longer names",
        ),
        (
            {"tables": [{"name": "text", "tokenizer": {"id": "bytes", "bos": True}}]},
            r"the tokenizer of table 'text' has changed: config\.bos was .*, is now True \(fingerprint was",
        ),
    ],
)
def test_what_contradicts_the_output_is_refused(
    inputs: Path, output: str, changes: dict[str, Any], message: str
) -> None:
    plan_of(job_of(output, inputs))
    before = sorted(Path(output).rglob("*"))
    with pytest.raises(ChangedError, match=message) as caught:
        plan_of(job_of(output, inputs, **changes))
    assert caught.value.where == output
    assert "new output" in str(caught.value.fix)
    assert sorted(Path(output).rglob("*")) == before


def test_other_metadata_columns_in_a_new_source_are_refused(inputs: Path, output: str, tmp_path: Path) -> None:
    """The shards that are there do not have the column."""
    write_jsonl(tmp_path / "more" / "a.jsonl", RECORDS[:3])
    sources = [
        {"name": "docs", "uris": [str(inputs)], "fields": {"id": "id"}},
        {"name": "more", "uris": [str(tmp_path / "more")], "metadata": ["title"]},
    ]
    plan_of(job_of(output, inputs))
    with pytest.raises(ChangedError, match=r"metadata columns of table 'text' were {}, are now {'title': 'string'}"):
        plan_of(job_of(output, inputs, sources=sources))


def test_another_order_of_metadata_is_refused(inputs: Path, output: str) -> None:
    plan_of(job_of(output, inputs, source={"metadata": ["title", "year"]}))
    with pytest.raises(ChangedError, match="metadata columns"):
        plan_of(job_of(output, inputs, source={"metadata": ["year", "title"]}))


def test_a_changed_and_a_missing_file_are_refused(inputs: Path, output: str) -> None:
    job = job_of(output, inputs)
    plan_of(job)
    content = (inputs / "b.jsonl").read_bytes()
    write_jsonl(inputs / "b.jsonl", RECORDS[:9])
    with pytest.raises(ChangedError, match=r"in/b\.jsonl: has changed: was \d+ bytes, mtime:\d+; is now \d+ bytes"):
        plan_of(job)
    (inputs / "b.jsonl").unlink()
    with pytest.raises(ChangedError, match=r"in/b\.jsonl: was tokenized into this output and is gone"):
        plan_of(job)
    (inputs / "b.jsonl").write_bytes(content)  # the same content, written again
    with pytest.raises(ChangedError, match="has changed"):
        plan_of(job)


def test_another_environment_needs_a_word(inputs: Path, output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(output, inputs)
    plan_of(job)
    original = table_environment
    monkeypatch.setattr(planning, "table_environment", lambda *table: {**original(*table), "numpy": "99.0"})
    with pytest.raises(ChangedError, match=r"begun in another environment: numpy was .*, is now 99\.0") as caught:
        plan_of(job)
    assert "--allow-environment-change" in str(caught.value.fix)
    assert plan_of(job, allow_environment_change=True).resumed


def test_a_configuration_that_cannot_work_is_refused_before_anything_is_written(inputs: Path, output: str) -> None:
    for changes, kind, message in (
        ({"tables": [{"name": "text", "tokenizer": {"id": "tiktokn"}}]}, TokenizerError, "did you mean 'tiktoken'"),
        ({"tables": [{"name": "text", "tokenizer": {"id": "bytes"}, "device": "cuda"}]}, JobError, "runs on cpu"),
        ({"source": {"uris": ["/no/such/file"]}}, InputError, "/no/such/file: no file matches"),
    ):
        with pytest.raises(kind, match=message):
            plan_of(job_of(output, inputs, **changes))
    assert not Path(output).exists()


def test_one_column_of_two_types_is_refused(inputs: Path, output: str) -> None:
    sources = [
        {"name": "a", "uris": [str(inputs)], "metadata": {"year": "int64"}},
        {"name": "b", "uris": [str(inputs)], "metadata": {"year": "string"}},
    ]
    with pytest.raises(JobError, match="'year' is int64 in one source and string in 'b'"):
        plan_of(job_of(output, inputs, sources=sources))


def test_of_runs_that_plan_at_once_all_have_the_same_plan(inputs: Path, output: str) -> None:
    job = job_of(output, inputs)
    found: list[PlannedRun] = []
    threads = [threading.Thread(target=lambda: found.append(plan_of(job))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(not run.resumed for run in found) == 1
    assert {run.plan.generation for run in found} == {1}


def test_a_loser_with_another_job_is_refused(inputs: Path, output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = write_plan_of

    def write_plan(storage: Storage, plan: Any) -> bool:
        monkeypatch.setattr(planning, "write_plan", original)
        plan_of(job_of(output, inputs, splitting={"part_bytes": 8192}))
        return original(storage, plan)

    monkeypatch.setattr(planning, "write_plan", write_plan)
    with pytest.raises(ChangedError, match="splitting was"):
        plan_of(job_of(output, inputs))
