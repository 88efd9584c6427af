"""`python -m flows` as an operator types it, against a real Prefect server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import tokenmill
from tests.flows.conftest import REPOSITORY, request

JOB = """
name: letters
sources:
  - {{name: letters, uris: ["{corpus}/*.jsonl"], fields: {{text: text, id: id}}}}
tables:
  - {{name: text, tokenizer: {{id: bytes}}}}
output: {output}
runner: {{workers: {workers}, partition_bytes: 1MB}}
splitting: {{split_bytes: 300KB, part_bytes: 100KB}}
"""


def write_job(folder: Path, *, files: int = 3, workers: int = 2) -> Path:
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for number in range(files):
        path = corpus / f"{number}.jsonl"
        if not path.exists():
            lines = [json.dumps({"id": f"{number}-{i}", "text": f"letter {i} " * 60}) for i in range(1000)]
            path.write_text("\n".join(lines) + "\n")
    job = folder / "job.yaml"
    job.write_text(JOB.format(corpus=corpus, output=folder / "out", workers=workers))
    return job


def flows(arguments: list[str], environment: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows", *arguments]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=240, check=False)


def test_a_job_runs_resumes_and_grows(tmp_path: Path, prefect_environment: dict[str, str]) -> None:
    job = write_job(tmp_path)
    first = flows(["run", str(job)], prefect_environment, tmp_path)
    assert first.returncode == 0, first.stderr
    assert "letters: table text, generation 1" in first.stdout
    table = tokenmill.open(str(tmp_path / "out"))["text"]
    assert len(table) == 3000
    assert table[1000].key == "1-0"
    assert table.decode(1000) == "letter 0 " * 60

    runs = request(prefect_environment, "/flow_runs/filter", {"flow_runs": {"name": {"any_": ["letters"]}}})
    assert [run["state"]["type"] for run in runs] == ["COMPLETED"]
    tasks = request(prefect_environment, "/task_runs/filter", {"flow_runs": {"id": {"any_": [runs[0]["id"]]}}})
    names = sorted(task["name"].partition("-")[0] for task in tasks)
    assert names == ["plan", "publish", "tokenize splits 0–4 (1/2)", "tokenize splits 5–8 (2/2)"]
    artifacts = request(
        prefect_environment, "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [runs[0]["id"]]}}}
    )
    by_key = {artifact["key"]: artifact for artifact in artifacts}
    assert float(by_key["progress-letters"]["data"]) == 100.0
    assert "3,000 documents" in by_key["progress-letters"]["description"]
    assert "| letters" in by_key["summary-letters"]["data"]

    again = flows(["run", str(job)], prefect_environment, tmp_path)
    assert again.returncode == 0, again.stderr
    assert tokenmill.open(str(tmp_path / "out")).generation == 1
    write_job(tmp_path, files=4, workers=1)
    grown = flows(["run", str(job)], prefect_environment, tmp_path)
    assert grown.returncode == 0, grown.stderr
    assert tokenmill.open(str(tmp_path / "out")).generation == 2
    assert len(tokenmill.open(str(tmp_path / "out"))["text"]) == 4000


def test_a_refused_job_fails_with_one_message(tmp_path: Path, prefect_environment: dict[str, str]) -> None:
    job = write_job(tmp_path, files=1)
    assert flows(["run", str(job)], prefect_environment, tmp_path).returncode == 0
    job.write_text(job.read_text().replace("{id: bytes}", "{id: bytes, bos: true}"))
    refused = flows(["run", str(job)], prefect_environment, tmp_path)
    assert refused.returncode == 2
    assert "the tokenizer of table 'text' has changed" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_plan_writes_nothing(tmp_path: Path, prefect_environment: dict[str, str]) -> None:
    job = write_job(tmp_path)
    planned = flows(["plan", str(job), "--json", "--sample-seconds", "1"], prefect_environment, tmp_path)
    assert planned.returncode == 0, planned.stderr
    found = json.loads(planned.stdout)
    assert found["splits"] == 9
    assert abs(found["tables"][0]["documents"] - 3000) <= 150
    assert not (tmp_path / "out").exists()
    shown = flows(["plan", str(job), "--sample-seconds", "1"], prefect_environment, tmp_path)
    assert "9 splits" in shown.stdout


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (None, 2, "cannot read the job"),
        ("name: [", 2, "not valid YAML"),
        ("name: x", 2, "sources: is required and missing"),
    ],
)
def test_wrong_jobs(
    tmp_path: Path, prefect_environment: dict[str, str], content: str | None, status: int, message: str
) -> None:
    path = tmp_path / "job.yaml"
    if content is not None:
        path.write_text(content)
    done = flows(["run", str(path)], prefect_environment, tmp_path)
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_schema_is_the_published_one(tmp_path: Path, prefect_environment: dict[str, str]) -> None:
    printed = flows(["schema"], prefect_environment, tmp_path)
    assert json.loads(printed.stdout) == json.loads((REPOSITORY / "docs" / "job.schema.json").read_text())
