"""The same graph on every runner that can be had without a JVM: one set of shards, and errors as they were raised."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from pipelines import Launcher, RunRequest
from tests.datasets import job_of, write_jsonl
from tests.test_encoders import write_ranks
from tokenmill.errors import AssetError, ChangedError, CorruptionError, RunError
from tokenmill.jobs import Job
from tokenmill.manifests import read_shard_table
from tokenmill.planning import make_plan
from tokenmill.plans import Plan
from tokenmill.publication import publish
from tokenmill.storage.outputs import Storage

TABLES = [
    {"name": "text", "tokenizer": {"id": "bytes"}},
    {"name": "bpe", "tokenizer": {"id": "tiktoken", "vocabulary": "cl100k_base", "eos": "<|endoftext|>"}},
]
Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    with Launcher() as started:
        started.load([(table["tokenizer"], "auto") for table in TABLES])  # type: ignore[misc]
        yield started


@pytest.fixture(scope="module")
def job_server() -> Iterator[int]:
    """Beam's own job service, in Python."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "apache_beam.runners.portability.local_job_service_main", "--job_port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, "the job service ended"
            assert time.monotonic() < deadline, "the job service does not answer"
            time.sleep(0.1)
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of uneven size, some of them in runs, with a bad line in each."""
    root = tmp_path_factory.mktemp("inputs")
    for number in range(7):
        records = [{"id": f"{number}-{n}", "text": f"Наука и жизнь {n} " * (n % 40)} for n in range(60 * (number + 1))]
        write_jsonl(root / f"{number}.jsonl", [*records, "bad"])
    return root


def planned(inputs: Path, output: Path, **changes: Any) -> tuple[Job, Plan]:
    changes = {"splitting": {"split_bytes": 100_000, "part_bytes": 20_000}, "tables": TABLES, **changes}
    job = job_of(str(output), inputs, **changes)
    return job, make_plan(Storage.open(job.output), job).plan


def run(launcher: Launcher, job: Job, plan: Plan, **request: Any) -> list[dict[str, Any]]:
    asked = {"output": job.output, "generation": plan.generation, "first_split": 0, "last_split": len(plan.splits)}
    return [event for event in launcher.run(RunRequest(**{**asked, **request})) if event is not None]


def shards(job: Job, plan: Plan) -> dict[str, list[tuple[str, str]]]:
    storage = Storage.open(job.output)
    manifest = publish(storage, plan, max_rejected_fraction=1)
    return {
        name: [(row["path"], row["sha256"]) for row in read_shard_table(storage, table).rows()]
        for name, table in manifest.tables.items()
    }


@pytest.fixture(scope="module")
def undisturbed(launcher: Launcher, inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    job, plan = planned(inputs, tmp_path_factory.mktemp("one") / "out")
    assert len(plan.splits) >= 10
    assert run(launcher, job, plan)[-1] == {"event": "done"}
    return shards(job, plan)


@pytest.mark.parametrize("workers", [2, 3])
def test_shards_do_not_depend_on_the_number_of_workers(
    launcher: Launcher, inputs: Path, tmp_path: Path, undisturbed: dict[str, Any], workers: int
) -> None:
    job, plan = planned(inputs, tmp_path / "out")
    events = run(launcher, job, plan, workers=workers)
    assert [event["event"] for event in events] == ["started", "done"]
    assert events[0]["splits"] == len(plan.splits)
    assert shards(job, plan) == undisturbed


def test_a_portable_runner_gives_the_same_shards(
    launcher: Launcher, job_server: int, inputs: Path, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    job, plan = planned(inputs, tmp_path / "out")
    options = (f"--job_endpoint=localhost:{job_server}", "--environment_type=LOOPBACK")
    events = run(launcher, job, plan, runner="PortableRunner", options=options)
    assert events[-1] == {"event": "done"}
    assert shards(job, plan) == undisturbed


@pytest.mark.parametrize("how", ["one worker", "two workers", "portable"])
def test_errors_arrive_as_they_were_raised(
    launcher: Launcher, request: pytest.FixtureRequest, inputs: Path, tmp_path: Path, how: str
) -> None:
    """An input that changes after planning: the owner gets the worker's own error, and the launcher lives on."""
    for path in inputs.iterdir():
        (tmp_path / "in" / path.name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / path.name).write_bytes(path.read_bytes())
    job, plan = planned(tmp_path / "in", tmp_path / "out")
    for path in (tmp_path / "in").iterdir():
        path.write_bytes(path.read_bytes() + b"\n")
    asked: dict[str, Any] = {"workers": 2} if how == "two workers" else {}
    if how == "portable":
        port = request.getfixturevalue("job_server")
        options = (f"--job_endpoint=localhost:{port}", "--environment_type=LOOPBACK")
        asked = {"runner": "PortableRunner", "options": options}
    with pytest.raises(ChangedError, match=r"/in/\d\.jsonl: the input file has changed since it was planned") as caught:
        run(launcher, job, plan, **asked)
    assert caught.value.fix is not None
    assert "Traceback" not in str(caught.value)
    assert launcher.alive


def test_errors_before_the_graph_arrive_too(launcher: Launcher, inputs: Path, tmp_path: Path) -> None:
    job, plan = planned(inputs, tmp_path / "out")
    path = Path(job.output) / "plans" / "000001.json"
    path.write_bytes(path.read_bytes().replace(b'"docs"', b'"dogs"', 1))
    with pytest.raises(CorruptionError, match="does not match its own checksum"):
        run(launcher, job, plan)


def test_a_vocabulary_that_changes_between_planning_and_running_is_refused(
    launcher: Launcher, inputs: Path, tmp_path: Path
) -> None:
    write_ranks(tmp_path / "ranks", 256)
    table = {
        "name": "text",
        "tokenizer": {"id": "tiktoken", "ranks": str(tmp_path / "ranks"), "pattern": "cl100k_base"},
    }
    job, plan = planned(inputs, tmp_path / "out", tables=[table])
    write_ranks(tmp_path / "ranks", 300)
    with pytest.raises(AssetError, match=r"asset 'ranks' at .* differs from the planned one"):
        run(launcher, job, plan, workers=2)


def test_an_unknown_runner_is_an_error(launcher: Launcher, inputs: Path, tmp_path: Path) -> None:
    job, plan = planned(inputs, tmp_path / "out")
    with pytest.raises(RunError, match="NoSuchRunner"):
        run(launcher, job, plan, runner="NoSuchRunner")


def test_a_partition_does_its_splits_only(launcher: Launcher, inputs: Path, tmp_path: Path) -> None:
    job, plan = planned(inputs, tmp_path / "out")
    run(launcher, job, plan, first_split=2, last_split=4)
    names = {path.name.split("-")[0] for path in Path(job.output, "text", "receipts").iterdir()}
    assert names == {"000002", "000003"}
    events = run(launcher, job, plan, first_split=2, last_split=2)
    assert (events[0]["splits"], events[-1]["event"]) == (0, "done")


#: A driver whose workers wait, with their first split in hand, until all have one.
RENDEZVOUS = """
import json, os, sys, time
from pathlib import Path
from pipelines.driver import drive
from pipelines.requests import RunRequest
from transforms import tokenize_splits

folder, request = Path(sys.argv[1]), RunRequest.from_json(json.loads(sys.argv[2]))
process_split = tokenize_splits.process_split

def meet(*arguments):
    (folder / str(os.getpid())).touch()
    until = time.monotonic() + 60
    while len(list(folder.iterdir())) < request.workers:
        assert time.monotonic() < until, "the others do not come"
        time.sleep(0.01)
    return process_split(*arguments)

tokenize_splits.process_split = meet
drive(request, lambda event: print(json.dumps(event)), os.getppid())
"""


@pytest.mark.parametrize("workers", [2, 5])
def test_all_workers_work(inputs: Path, tmp_path: Path, undisturbed: dict[str, Any], workers: int) -> None:
    job, plan = planned(inputs, tmp_path / "out")
    (tmp_path / "workers").mkdir()
    request = json.dumps(RunRequest(job.output, 1, 0, len(plan.splits), workers).to_json())
    command = [sys.executable, "-c", RENDEZVOUS, str(tmp_path / "workers"), request]
    output = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
    assert json.loads(output.splitlines()[-1]) == {"event": "done"}
    assert len(list((tmp_path / "workers").iterdir())) == workers
    assert shards(job, plan) == undisturbed


def test_shards_of_images_do_not_depend_on_the_number_of_workers(launcher: Launcher, tmp_path: Path) -> None:
    """Adaptive lengths, damaged files, and images of very unequal sizes: the same tokens whoever makes them."""
    for number in range(24):
        draws = np.random.default_rng(number)
        height, width = 40 + 61 * (number % 7), 30 + 47 * (number % 5)
        coarse = draws.integers(0, 256, (1 + number % 6, 1 + number % 4, 3), np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        path = tmp_path / "in" / f"{number:02d}.{('png', 'jpg', 'webp')[number % 3]}"
        path.parent.mkdir(exist_ok=True)
        image.save(path)
        if number % 8 == 5:
            path.write_bytes(path.read_bytes()[:-40])
    tokenizer = {"id": "klt", "length": {"policy": "search", "error": 0.02}, "geometry": {"mode": "fit", "edge": 192}}
    made = []
    for workers in (1, 2):
        job, plan = planned(
            tmp_path / "in",
            tmp_path / f"out{workers}",
            source={"modality": "image", "fields": {}},
            splitting={"split_bytes": 30_000, "part_bytes": 12_000},
            tables=[{"name": "images", "tokenizer": tokenizer}],
        )
        assert len(plan.splits) > 2
        assert run(launcher, job, plan, workers=workers)[-1] == {"event": "done"}
        made.append(shards(job, plan))
    assert made[0] == made[1]
    assert len(made[0]["images"]) > 3


@pytest.mark.parametrize("source", [{}, {"channels": "each", "segments": {}}], ids=["whole", "cut"])
def test_shards_of_recordings_do_not_depend_on_the_number_of_workers(
    launcher: Launcher, tmp_path: Path, source: dict[str, Any]
) -> None:
    """Speech of very unequal lengths, of one channel and of two, with silence between, and damaged files."""
    sentence, rate_hz = soundfile.read(Path(__file__).parent.parent / "audio" / "speech.flac", dtype="float32")
    (tmp_path / "in").mkdir()
    for number in range(9):
        samples = np.tile(np.concatenate([sentence[: 48_000 - 9000 * (number % 3)], np.zeros(20_000)]), 1 + number % 2)
        sound = samples if number % 4 else np.stack([samples, samples[::-1]], axis=1)
        path = tmp_path / "in" / f"{number}.{('flac', 'wav', 'ogg')[number % 3]}"
        soundfile.write(path, sound, rate_hz)
        if number % 5 == 3:
            path.write_bytes(path.read_bytes()[:-3000])
    made = []
    for workers in (1, 2):
        job, plan = planned(
            tmp_path / "in",
            tmp_path / f"out{workers}",
            source={"modality": "audio", "fields": {}, **source},
            splitting={"split_bytes": 300_000, "part_bytes": 120_000},
            tables=[{"name": "phones", "tokenizer": {"id": "phones"}}],
        )
        assert len(plan.splits) > 2
        assert run(launcher, job, plan, workers=workers)[-1] == {"event": "done"}
        made.append(shards(job, plan))
    assert made[0] == made[1]
    assert len(made[0]["phones"]) > 3
