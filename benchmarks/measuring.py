"""What the benchmarks share: timed child processes, watched process trees, a Prefect server, jobs, tables of figures.

Standard library only, so that a rival's own environment can import it; psutil is imported where a tree is watched.
"""

from __future__ import annotations

import contextlib
import ctypes
import gzip
import importlib.util
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MB = 1_000_000
_PR_SET_CHILD_SUBREAPER = 36
REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Run:
    """A command that ran to its end.

    Attributes:
        seconds: Wall time.
        cpu_seconds: User and system time of the command and all that it waited for; after `adopt_orphans`, of all that
            it began.
        began: Unix time of its start.
        output: The end of what it printed on standard output.
    """

    seconds: float
    cpu_seconds: float
    began: float
    output: str


@dataclass
class Peak:
    """The most memory that a process was seen to hold, in bytes.

    Attributes:
        role: flow, launcher, driver, worker, reader (of LLVM IR) or other.
        resident: The kernel's own high-water mark (VmHWM): shared pages count in full in every process.
        proportional: PSS, sampled: a page shared by n processes counts as 1/n in each.
    """

    role: str
    resident: int = 0
    proportional: int = 0


def run_command(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Run:
    """Run a command in the repository's root and wait; raises RuntimeError with its errors where it fails."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        began, start = time.time(), time.perf_counter()
        before, others = os.times(), _children()
        process = subprocess.Popen(
            list(command), cwd=REPOSITORY, env={**os.environ, **(environment or {})}, stdout=out, stderr=errors
        )
        status = process.wait()
        seconds = time.perf_counter() - start
        for orphan in _children() - others:
            os.waitpid(orphan, 0)
        after = os.times()
        texts = []
        for file in (out, errors):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        if status:
            raise RuntimeError(f"{' '.join(command)} ended with {status}:\n{texts[0][-2000:]}\n{texts[1][-4000:]}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(seconds, cpu, began, texts[0][-20_000:])


def adopt_orphans() -> None:
    """Become the parent of what commands leave behind, which would not be waited for: its time is counted too."""
    if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError("this kernel lets no process adopt others")


def _children() -> set[int]:
    """Return the children of this process."""
    found = Path("/proc/self/task").glob("*/children")
    return {int(pid) for children in found for pid in children.read_text().split()}


class TreeWatch:
    """Watches the memory of a process and all its descendants while a context lasts."""

    def __init__(self, pid: int, hz: float = 20.0, proportional_every: int = 5) -> None:
        self.peaks: dict[int, Peak] = {}
        self._pid = pid
        self._interval_seconds = 1 / hz
        self._proportional_every = proportional_every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> TreeWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def highest(self, role: str) -> Peak:
        """Return the highest figures of any process of a role."""
        found = [peak for peak in self.peaks.values() if peak.role == role]
        return Peak(role, max((p.resident for p in found), default=0), max((p.proportional for p in found), default=0))

    def _watch(self) -> None:
        import psutil

        number = 0
        while not self._stop.wait(self._interval_seconds):
            with contextlib.suppress(psutil.Error):
                root = psutil.Process(self._pid)
                for process in (root, *root.children(recursive=True)):
                    self._look(process.pid, number % self._proportional_every == 0)
            number += 1

    def _look(self, pid: int, proportional: bool) -> None:
        with contextlib.suppress(OSError, ValueError, IndexError):
            peak = self.peaks.get(pid) or Peak("other")
            if peak.role == "other":
                peak.role = self.role(pid)
            status = Path(f"/proc/{pid}/status").read_text()
            if "VmHWM:" not in status:
                return
            peak.resident = max(peak.resident, _kilobytes(status, "VmHWM:"))
            if proportional:
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                peak.proportional = max(peak.proportional, _kilobytes(rollup, "Pss:"))
            self.peaks[pid] = peak

    def role(self, pid: int) -> str:
        """Return what a process is; `other` also where it has been forked and is not yet what it will be."""
        if pid == self._pid:
            return "flow"
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"tokenmill.ir.zygote" in command:
            return "reader"
        if b"pipelines.launcher_main" not in command:
            return "other"
        # The launcher forks a driver for a run, and that its workers: all have the launcher's command line.
        depth, above = 1, _parent(pid)
        while above != self._pid and above > 1:
            depth, above = depth + 1, _parent(above)
        return {1: "launcher", 2: "driver"}.get(depth, "worker")


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _kilobytes(text: str, name: str) -> int:
    return int(text.split(name, 1)[1].split(None, 1)[0]) * 1024


def run_watched(command: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[Run, TreeWatch]:
    """Run a command as `run_command` does, and watch the memory of its process tree."""
    with tempfile.TemporaryFile() as out:
        began, start = time.time(), time.perf_counter()
        process = subprocess.Popen(
            list(command),
            cwd=REPOSITORY,
            env={**os.environ, **(environment or {})},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        with TreeWatch(process.pid) as watch:
            status = process.wait()
        seconds = time.perf_counter() - start
        out.seek(0)
        text = out.read().decode(errors="replace")
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with {status}:\n{text[-4000:]}")
    return Run(seconds, 0.0, began, text[-20_000:]), watch


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def prefect_server() -> Iterator[dict[str, str]]:
    """Run a Prefect server with a fresh home; gives the environment variables by which a flow finds it."""
    home = tempfile.mkdtemp(prefix="prefect-home-")
    port = free_port()
    environment = {
        "PREFECT_HOME": home,
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    with open(Path(home) / "server.log", "wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            env={**os.environ, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 120
        while not _healthy(f"http://127.0.0.1:{port}/api/health"):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    "the Prefect server did not start:\n" + (Path(home) / "server.log").read_text()[-3000:]
                )
            time.sleep(0.1)
        yield environment
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        shutil.rmtree(home, ignore_errors=True)


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def rank_file(vocabulary: str, folder: Path) -> Path:
    """Write a well-known rank file, as the package bpe-openai ships it, decompressed; return its path."""
    spec = importlib.util.find_spec("bpe_openai")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("the package bpe-openai is not installed")
    packed = Path(spec.submodule_search_locations[0]) / "data" / f"{vocabulary}.tiktoken.gz"
    path = folder / f"{vocabulary}.tiktoken"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    return path


def text_bytes(corpus: Path) -> int:
    """Return the bytes of text in a corpus that build_corpus.py made, all copies together."""
    manifest = json.loads((corpus / "manifest.json").read_text())
    copies = len(list(corpus.glob("*.jsonl.zst"))) / len(manifest["file_bytes"])
    return int(manifest["bytes"] * copies)


def write_job(
    path: Path, uris: Sequence[str], output: Path, *, tokenizer: Mapping[str, Any], workers: int, **more: Any
) -> Path:
    """Write a job of one source and one table called `text`, as JSON, which YAML reads."""
    job = {
        "name": "benchmark",
        "sources": [{"name": "text", "modality": "text", "uris": list(uris), "fields": {"text": "text", "id": "id"}}],
        "tables": [{"name": "text", "tokenizer": dict(tokenizer)}],
        "output": str(output),
        "runner": {"workers": workers},
        **more,
    }
    path.write_text(json.dumps(job, indent=1))
    return path


def run_job(job: Path, environment: Mapping[str, str]) -> Run:
    """Run a job by the operators' command."""
    return run_command([sys.executable, "-m", "flows", "run", str(job)], environment)


def first_part_began(output: Path) -> float:
    """Return the Unix time at which the first part of a dataset began: a receipt's time, less what the part took."""
    begins = []
    for receipt in output.glob("*/receipts/*.json"):
        seconds = _find(json.loads(receipt.read_bytes()), "seconds")
        if seconds is not None:
            begins.append(receipt.stat().st_mtime - seconds)
    if not begins:
        raise RuntimeError(f"{output} holds no receipt")
    return min(begins)


def _find(value: Any, name: str) -> float | None:
    if isinstance(value, dict):
        if isinstance(value.get(name), (int, float)):
            return float(value[name])
        return next((found for inner in value.values() if (found := _find(inner, name)) is not None), None)
    return None


def dataset_tokens(output: Path) -> int:
    """Return the tokens of the table `text` of a published dataset, by its manifest."""
    import tokenmill

    return sum(int(count) for count in tokenmill.open(str(output)).manifest.tables["text"].tokens.values())


def machine() -> dict[str, Any]:
    """Describe the machine and how busy it is now."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "",
    )
    return {
        "cpu": model or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "load_1_minute": os.getloadavg()[0],
    }


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def verdict(value: float, target: float, *, at_least: bool = False) -> str:
    """Say whether a figure meets its target."""
    return "met" if (value >= target if at_least else value <= target) else "MISSED"


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def report(result: Mapping[str, Any], markdown: str, path: Path | None) -> None:
    """Print the tables, and write the figures as JSON where a path is given."""
    print(markdown, flush=True)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1, default=asdict_or_text) + "\n")


def asdict_or_text(value: Any) -> Any:
    """Turn what JSON does not know into what it does."""
    return asdict(value) if hasattr(value, "__dataclass_fields__") else str(value)
