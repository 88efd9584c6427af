"""Memory: the peak of every process of `python -m flows run`, on corpora made to be hard on it.

Cases: random words (no two alike, so that no cache helps), one document of 100 MB with and without spaces, a million
tiny documents, and the planning of 100,000 splits (one file cut small, and as many files), which must take 60 s at
most. Targets: 500 MB a worker (a long document may add ten times its size), 400 MB in the launcher.

Two figures a process: its resident high-water mark (VmHWM, exact, but pages that forked workers share count in full
in each), and its proportional set size (PSS, sampled, shared pages divided by those who share them). The verdict is on
the higher one, VmHWM. Linux only.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from benchmarks import measuring
from benchmarks.measuring import MB

WORKER_BYTES, LAUNCHER_BYTES, PLAN_SECONDS = 500 * MB, 400 * MB, 60.0
LETTERS = b"abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Case:
    """A corpus that is hard on memory.

    Attributes:
        make: Writes the corpus into a folder.
        document_bytes: Size of its one long document, whose ten-fold a worker may add.
        splitting: Of the job.
    """

    make: Callable[[Path, float], None]
    document_bytes: int = 0
    splitting: dict[str, Any] | None = None
    plan_only: bool = False


def letters(count: int, seed: int) -> bytes:
    """Return random lower-case letters."""
    table = bytes(LETTERS[byte % 26] for byte in range(256))
    return random.Random(seed).randbytes(count).translate(table)


def words(count_bytes: int, seed: int) -> str:
    """Return random words of 3 to 12 letters with a space after each, so many bytes in all."""
    source, made, size = letters(count_bytes, seed), [], 0
    chooser = random.Random(seed)
    while size < count_bytes:
        length = chooser.randint(3, 12)
        made.append(source[size : size + length])
        size += length + 1
    return b" ".join(made)[:count_bytes].decode()


def write_lines(path: Path, texts: Any) -> None:
    """Write documents as JSONL."""
    with open(path, "wb") as file:
        for number, text in enumerate(texts):
            file.write(orjson.dumps({"id": str(number), "text": text}, option=orjson.OPT_APPEND_NEWLINE))


def make_random_words(folder: Path, scale: float) -> None:
    """Write 300 MB of random words in documents of 100 kB, four files."""
    for part in range(4):
        write_lines(folder / f"{part}.jsonl", (words(100_000, part * 10_000 + n) for n in range(int(750 * scale))))


def make_spaced(folder: Path, scale: float) -> None:
    """Write one document of 100 MB of random words."""
    write_lines(folder / "0.jsonl", [words(int(100 * MB * scale), 1)])


def make_unbroken(folder: Path, scale: float) -> None:
    """Write one document of 100 MB of random letters without a space."""
    write_lines(folder / "0.jsonl", [letters(int(100 * MB * scale), 1).decode()])


def make_tiny(folder: Path, scale: float) -> None:
    """Write a million documents of a few letters, two files."""
    for part in range(2):
        write_lines(folder / f"{part}.jsonl", (f"tiny {n}" for n in range(int(500_000 * scale))))


def make_many_splits(folder: Path, scale: float) -> None:
    """Write a file that splits of 4096 bytes cut into 100,000."""
    write_lines(folder / "0.jsonl", (words(4_060, n) for n in range(int(100_000 * scale))))


def make_many_files(folder: Path, scale: float) -> None:
    """Write 100,000 files, each large enough to be a split of its own."""
    for number in range(int(100_000 * scale)):
        below = folder / f"{number % 100:02}"
        below.mkdir(exist_ok=True)
        (below / f"{number}.jsonl").write_bytes(orjson.dumps({"id": str(number), "text": "a" * 4_200}) + b"\n")


SMALL_SPLITS = {"split_bytes": 4096}
CASES = {
    "300 MB of random words": Case(make_random_words),
    "one document of 100 MB, random words": Case(make_spaced, document_bytes=100 * MB),
    "one document of 100 MB without a space": Case(make_unbroken, document_bytes=100 * MB),
    "a million tiny documents": Case(make_tiny),
    "100,000 splits of one file (plan)": Case(make_many_splits, splitting=SMALL_SPLITS, plan_only=True),
    "100,000 splits of as many files (plan)": Case(make_many_files, splitting=SMALL_SPLITS, plan_only=True),
}

# What the flow's first task does, alone: so that a plan's time is not lost in that of 100,000 tiny parts.
PLAN = """
import sys, time
from tokenmill.jobs import load_job
from tokenmill.planning import make_plan
from tokenmill.storage.outputs import Storage
job = load_job(sys.argv[1])
start = time.perf_counter()
run = make_plan(Storage.open(job.output), job)
print(len(run.plan.splits), time.perf_counter() - start)
"""


def run_case(
    case: Case, name: str, scratch: Path, workers: int, scale: float, environment: dict[str, str]
) -> dict[str, Any]:
    """Make a case's corpus, run it, remove it; return its figures."""
    shutil.rmtree(scratch, ignore_errors=True)
    corpus, out = scratch / "corpus", scratch / "dataset"
    corpus.mkdir(parents=True)
    case.make(corpus, scale)
    more = {"splitting": case.splitting} if case.splitting else {}
    tokenizer = {"id": "tiktoken", "vocabulary": "o200k_base"}
    job = measuring.write_job(
        scratch / "job.yaml", [f"{corpus}/**/*.jsonl"], out, tokenizer=tokenizer, workers=workers, **more
    )
    start = time.perf_counter()
    command = (
        [sys.executable, "-c", PLAN, str(job)] if case.plan_only else [sys.executable, "-m", "flows", "run", str(job)]
    )
    run, watch = measuring.run_watched(command, environment)
    roles = ("flow", "launcher", "driver", "worker")
    figures: dict[str, Any] = {
        "case": name,
        "seconds": time.perf_counter() - start,
        "resident": {role: watch.highest(role).resident for role in roles},
        "proportional": {role: watch.highest(role).proportional for role in roles},
        "processes": [(peak.role, peak.resident, peak.proportional) for peak in watch.peaks.values()],
    }
    absent = [role for role in ("launcher", "driver") if not case.plan_only and not figures["resident"][role]]
    if absent:
        raise RuntimeError(f"no {', '.join(absent)} was seen: the process tree is not what measuring.TreeWatch knows")
    # A corpus of one split has work for one worker, and that is then the driver itself.
    figures["working"] = "worker" if figures["resident"]["worker"] else "driver"
    if case.plan_only:
        splits, seconds = run.output.split()
        figures |= {"splits": int(splits), "plan_seconds": float(seconds)}
    shutil.rmtree(scratch)
    return figures


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--scratch", type=Path, required=True, help="folder to make and remove")
    parser.add_argument("--case", action="append", choices=sorted(CASES), help="default: all")
    parser.add_argument("--scale", type=float, default=1.0, help="below 1: smaller corpora, to try the script")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()

    rows, results = [], []
    with measuring.prefect_server() as environment:
        for name in options.case or CASES:
            case = CASES[name]
            scratch = options.scratch / "memory"
            figures = run_case(case, name, scratch, options.workers, options.scale, environment)
            results.append(figures)
            resident, proportional = figures["resident"], figures["proportional"]
            if case.plan_only:
                met = measuring.verdict(figures["plan_seconds"], PLAN_SECONDS)
                detail = f"{figures['splits']:,} splits in {figures['plan_seconds']:.1f} s (≤ {PLAN_SECONDS:.0f})"
                # Planning happens in the flow's process.
                launcher = measuring.verdict(resident["flow"], LAUNCHER_BYTES)
            else:
                allowed = WORKER_BYTES + 10 * int(case.document_bytes * options.scale)
                working = figures["working"]
                met = measuring.verdict(resident[working], allowed)
                detail = f"≤ {allowed / MB:.0f} MB a worker (here the {working})"
                highest = max(resident[role] for role in ("flow", "launcher", "driver") if role != working)
                launcher = measuring.verdict(highest, LAUNCHER_BYTES)
            cells = [
                f"{resident[r] / MB:.0f} / {proportional[r] / MB:.0f}" for r in ("worker", "flow", "launcher", "driver")
            ]
            rows.append([name, *cells, detail, met, launcher])
            print(rows[-1], flush=True)
    headings = [
        "case",
        "worker, MB (VmHWM / PSS)",
        "flow",
        "launcher",
        "driver",
        "target",
        "verdict",
        "launcher ≤ 400 MB",
    ]
    measuring.report({"machine": measuring.machine(), "cases": results}, measuring.table(headings, rows), options.json)


if __name__ == "__main__":
    main()
