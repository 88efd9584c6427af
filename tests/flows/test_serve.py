"""A job served as a deployment: the scheduler's way in, which loads the flow by its module and validates parameters."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
from pathlib import Path
from typing import Any

import tokenmill
from tests.flows.conftest import request
from tests.flows.test_command import write_job


def test_a_served_job_runs_when_asked(tmp_path: Path, prefect_environment: dict[str, str]) -> None:
    job = write_job(tmp_path, files=1)
    log = tmp_path / "serve.log"
    command = [sys.executable, "-m", "flows", "serve", str(job), "--cron", "0 2 * * *", "--name", "nightly"]
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, env=prefect_environment, cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT
        ) as server,
    ):
        try:
            until = time.monotonic() + 120
            deployment: dict[str, Any] = {}
            while not deployment and time.monotonic() < until and server.poll() is None:
                try:
                    deployment = request(prefect_environment, "/deployments/name/tokenize-corpus/nightly")
                except urllib.error.HTTPError as error:
                    error.close()
                    time.sleep(0.5)
            assert deployment, log.read_text()
            assert [schedule["schedule"]["cron"] for schedule in deployment["schedules"]] == ["0 2 * * *"]
            run = request(prefect_environment, f"/deployments/{deployment['id']}/create_flow_run", {})
            state = ""
            while state not in ("COMPLETED", "FAILED", "CRASHED") and time.monotonic() < until:
                time.sleep(1)
                state = request(prefect_environment, f"/flow_runs/{run['id']}")["state"]["type"]
            assert state == "COMPLETED", log.read_text()
        finally:
            server.terminate()
            server.wait(30)
    assert len(tokenmill.open(str(tmp_path / "out"))["text"]) == 1000
