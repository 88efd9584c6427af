"""Start-up: where each second goes between the command and the first part, and what importing costs.

Imports are measured in processes of their own (CPU and wall time, and the heaviest subtrees by `-X importtime`). The
moments of a real run come from outside it: the process tree in /proc (launcher, driver, workers), the dataset's files
(the plan, the first receipt) and the Prefect server (the flow run and its tasks). Linux only.

Python must keep bytecode: an environment without it (`PYTHONDONTWRITEBYTECODE`, packages installed uncompiled) compiles
a thousand modules anew in every process, which doubles start-up and says nothing about the program. Such an environment
is refused, unless --allow-uncompiled.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks import measuring

IMPORTS = {
    "nothing": "pass",
    "flows.command": "import flows.command",
    "prefect (flow, task)": "from prefect import flow, task",
    "flows.tokenize_corpus": "import flows.tokenize_corpus",
    "apache_beam": "import apache_beam",
    "pipelines.launcher_main": "import pipelines.launcher_main",
    "launcher, encoder loaded": (
        "import pipelines.launcher_main as l; l._load({'id': 'tiktoken', 'vocabulary': 'o200k_base'}, 'cpu')"
    ),
}
IMPORT_LINE = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \|( *)(\S+)")


def uncompiled() -> list[str]:
    """Return the heavy packages whose bytecode is not kept."""
    missing = []
    for package in ("prefect", "apache_beam", "pydantic", "numpy"):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None or not Path(importlib.util.cache_from_source(spec.origin)).exists():
            missing.append(package)
    return missing


def measure_import(code: str, repeats: int, environment: dict[str, str]) -> dict[str, float]:
    """Return the median wall and CPU seconds of a process that runs a line."""
    runs = [measuring.run_command([sys.executable, "-c", code], environment) for _ in range(repeats)]
    return {
        "seconds": measuring.median([run.seconds for run in runs]),
        "cpu_seconds": measuring.median([run.cpu_seconds for run in runs]),
    }


def heaviest(code: str, count: int, environment: dict[str, str]) -> list[tuple[str, float]]:
    """Return the heaviest packages under an import, by their modules' own milliseconds."""
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code],
        cwd=measuring.REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    own: dict[str, float] = {}
    for match in map(IMPORT_LINE.match, process.stderr.splitlines()):
        if match is not None:
            package = match[4].split(".")[0]
            own[package] = own.get(package, 0.0) + int(match[1]) / 1000
    return sorted(own.items(), key=lambda item: -item[1])[:count]


class Moments:
    """Watches a run from outside and notes when things first happen, in seconds since its start."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path, began: float) -> None:
        self.seen: dict[str, float] = {}
        self._process, self._output, self._began = process, output, began
        self._watch = measuring.TreeWatch(process.pid)
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def finish(self) -> dict[str, float]:
        """Wait for the run's end and return the moments."""
        self._thread.join()
        return self.seen

    def _look(self) -> None:
        import psutil

        known: set[int] = set()
        while self._process.poll() is None:
            try:
                for child in psutil.Process(self._process.pid).children(recursive=True):
                    if child.pid not in known and (role := self._watch.role(child.pid)) != "other":
                        known.add(child.pid)
                        self._note(f"{role} process begins", child.create_time())
            except (psutil.Error, OSError, IndexError):
                pass
            for what, pattern in (("plan written", "plans/*.json"), ("first receipt", "*/receipts/*.json")):
                if what not in self.seen and (found := next(self._output.glob(pattern), None)) is not None:
                    self._note(what, found.stat().st_mtime)
            time.sleep(0.02)

    def _note(self, what: str, moment: float) -> None:
        self.seen.setdefault(what, moment - self._began)


def server_moments(url: str, began: float) -> dict[str, float]:
    """Ask the Prefect server when the newest flow run and its tasks began and ended."""
    found: dict[str, float] = {}
    for kind, limit in (("flow_runs", 1), ("task_runs", 20)):
        body = json.dumps({"sort": "START_TIME_DESC" if kind == "flow_runs" else "END_TIME_DESC", "limit": limit})
        request = urllib.request.Request(
            f"{url}/{kind}/filter", data=body.encode(), headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            rows: list[dict[str, Any]] = json.load(answer)
        for row in rows:
            name = "flow run" if kind == "flow_runs" else f"task {row['name'].split('-')[0].split(' ')[0]}"
            for field, what in (("created", "created"), ("start_time", "begins"), ("end_time", "ends")):
                if row.get(field):
                    moment = datetime.fromisoformat(row[field].replace("Z", "+00:00")).timestamp() - began
                    if moment >= 0:
                        found[f"{name} {what}"] = moment
    return found


def watch_run(corpus: Path, scratch: Path, workers: int, environment: dict[str, str]) -> dict[str, float]:
    """Run a job once and return its moments in seconds since the command."""
    out = scratch / "startup"
    shutil.rmtree(out, ignore_errors=True)
    tokenizer = {"id": "tiktoken", "vocabulary": "o200k_base"}
    job = measuring.write_job(
        scratch / "startup.yaml", [f"{corpus}/*.jsonl.zst"], out, tokenizer=tokenizer, workers=workers
    )
    with open(scratch / "startup.log", "wb") as log:
        began = time.time()
        process = subprocess.Popen(
            [sys.executable, "-m", "flows", "run", str(job)],
            cwd=measuring.REPOSITORY,
            env={**os.environ, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        moments = Moments(process, out, began).finish()
    if process.returncode:
        raise SystemExit((scratch / "startup.log").read_text()[-4000:])
    moments["first part begins"] = measuring.first_part_began(out) - began
    moments |= server_moments(environment["PREFECT_API_URL"], began)
    shutil.rmtree(out)
    return moments


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--corpus", type=Path, help="folder of *.jsonl.zst; without it, only imports are measured")
    parser.add_argument("--scratch", type=Path, default=Path(".out/startup"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--allow-uncompiled", action="store_true", help="measure although bytecode is not kept")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    missing = uncompiled()
    if missing and not options.allow_uncompiled:
        raise SystemExit(
            f"no bytecode is kept for {', '.join(missing)}: install with pip, or run `python -m compileall`; "
            "or pass --allow-uncompiled"
        )

    result: dict[str, Any] = {"machine": measuring.machine(), "uncompiled": missing}
    result["imports"] = {name: measure_import(code, options.repeats, quiet) for name, code in IMPORTS.items()}
    result["heaviest"] = {
        name: heaviest(IMPORTS[name], 15, quiet) for name in ("flows.tokenize_corpus", "pipelines.launcher_main")
    }
    parts = [
        measuring.table(
            ["import", "seconds", "CPU seconds"],
            [[n, f"{f['seconds']:.2f}", f"{f['cpu_seconds']:.2f}"] for n, f in result["imports"].items()],
        ),
        *(
            f"Under `{name}`, milliseconds of each package's own modules:\n\n"
            + measuring.table(["package", "ms"], [[package, f"{ms:.0f}"] for package, ms in rows])
            for name, rows in result["heaviest"].items()
        ),
    ]
    if options.corpus is not None:
        with measuring.prefect_server() as environment:
            runs = [
                watch_run(options.corpus, options.scratch, options.workers, environment) for _ in range(options.repeats)
            ]
        names = {name for run in runs for name in run}
        result["runs"] = runs
        result["moments"] = {name: measuring.median([run[name] for run in runs if name in run]) for name in names}
        ordered = sorted(result["moments"].items(), key=lambda item: item[1])
        parts.append(measuring.table(["seconds", "what"], [[f"{moment:.2f}", name] for name, moment in ordered]))
    measuring.report(result, "\n\n".join(parts), options.json)


if __name__ == "__main__":
    main()
