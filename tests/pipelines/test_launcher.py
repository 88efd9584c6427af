"""The launcher process: what its owner sees of it, whatever happens to it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines import Launcher, RunRequest
from tests.datasets import job_of, write_jsonl
from tokenmill.errors import RunError
from tokenmill.planning import make_plan
from tokenmill.storage.outputs import Storage


def request(tmp_path: Path, **changes: Any) -> RunRequest:
    write_jsonl(tmp_path / "in" / "a.jsonl", [{"id": f"{n}", "text": "x" * 1000} for n in range(50)])
    job = job_of(str(tmp_path / "out"), tmp_path / "in")
    plan = make_plan(Storage.open(job.output), job).plan
    return RunRequest(
        **{"output": job.output, "generation": 1, "first_split": 0, "last_split": len(plan.splits), **changes}
    )


def test_several_runs_after_another_and_events_that_come_at_once(tmp_path: Path) -> None:
    asked = request(tmp_path)
    with Launcher() as launcher:
        launcher.load([({"id": "no-such-tokenizer"}, "cpu"), ({"id": "bytes"}, "cpu")])
        for _ in range(3):
            seen = []
            for event in launcher.run(asked, poll_seconds=0.1):
                time.sleep(1)  # the owner is busy; meanwhile all events have come
                seen.append(event)
            assert [event["event"] for event in seen if event] == ["started", "done"]
        assert launcher.alive
    assert not launcher.alive


def test_a_killed_launcher_is_reported(tmp_path: Path) -> None:
    asked = request(tmp_path)
    with Launcher() as launcher:
        os.kill(launcher.pid, signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(RunError, match="the launcher process") as caught:
                list(launcher.run(asked))
            assert "run the job again" in str(caught.value.fix)
            assert not launcher.alive


def test_closing_a_run_early_kills_all_of_it(tmp_path: Path) -> None:
    with Launcher() as launcher:
        events = launcher.run(request(tmp_path, workers=2), poll_seconds=0.05)
        processes = [psutil.Process(launcher.pid)]
        for event in events:
            processes += psutil.Process(launcher.pid).children(recursive=True)
            if event is not None:
                break
        events.close()  # type: ignore[attr-defined]  # a generator
        _, alive = psutil.wait_procs(processes, timeout=10)
        assert not alive
        assert not launcher.alive


def test_the_launcher_dies_with_its_owner(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from pipelines import Launcher\n"
        "launcher = Launcher()\n"
        "print(launcher.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
    assert owner.stdout is not None
    launcher = psutil.Process(int(owner.stdout.readline()))
    time.sleep(0.2)
    owner.kill()
    owner.communicate()
    launcher.wait(timeout=30)


def test_importing_pipelines_imports_no_beam() -> None:
    command = (
        "import sys, pipelines; sys.exit(', '.join({'apache_beam', 'prefect', 'pyarrow'} & set(sys.modules)) or None)"
    )
    subprocess.run([sys.executable, "-c", command], check=True)


def test_lines_that_come_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with Launcher() as launcher, ours, theirs, monkeypatch.context() as patch:
        patch.setattr(launcher, "_socket", ours)
        data = b"".join(json.dumps({"event": name, "text": "x" * 9000}).encode() + b"\n" for name in "abc")
        theirs.sendall(data[:100])
        assert launcher._next_event(0.01) is None
        theirs.sendall(data[100:])
        assert [launcher._next_event(1)["event"] for _ in range(3)] == ["a", "b", "c"]  # type: ignore[index]
        assert launcher._next_event(0.01) is None
        theirs.close()
        launcher._process.kill()
        with pytest.raises(RunError, match="launcher process ended"):
            launcher._next_event(1)
