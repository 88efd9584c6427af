"""Speed: `python -m flows run` beside the floor, on one corpus and on four copies of it, in one interleaved run.

Shows the marginal cost (time on the large corpus less time on the small one) against the floor's (target 1.10x), the
whole run on the large corpus against the floor's wall time (target 1.5x), and how long it takes until the first part
begins (target 8 s). The Prefect server is already running when the clock starts; every run writes a fresh output.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks import measuring
from benchmarks.measuring import MB, Run

MARGINAL_RATIO, WHOLE_RATIO, START_SECONDS = 1.10, 1.5, 8.0
CORPORA = ("small", "large")


def run_floor(corpus: Path, out: Path, workers: int) -> tuple[Run, dict[str, Any]]:
    """Run the floor once."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.floor", "--corpus", str(corpus), "--out", str(out)]
    run = measuring.run_command([*command, "--workers", str(workers)])
    shutil.rmtree(out)
    return run, json.loads(run.output)


def run_tokenmill(corpus: Path, out: Path, workers: int, environment: dict[str, str]) -> tuple[Run, float, int]:
    """Run tokenmill once; return the run, the seconds until the first part began, and the tokens."""
    shutil.rmtree(out, ignore_errors=True)
    job = out.parent / f"{out.name}.yaml"
    tokenizer = {"id": "tiktoken", "vocabulary": "o200k_base"}
    measuring.write_job(job, [f"{corpus}/*.jsonl.zst"], out, tokenizer=tokenizer, workers=workers)
    run = measuring.run_job(job, environment)
    start_seconds = measuring.first_part_began(out) - run.began
    tokens = measuring.dataset_tokens(out)
    shutil.rmtree(out)
    return run, start_seconds, tokens


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--small", type=Path, required=True, help="folder of build_corpus.py, one copy")
    parser.add_argument("--large", type=Path, required=True, help="folder of build_corpus.py, four copies")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for outputs; on the corpora's disk")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    corpora = {"small": options.small, "large": options.large}
    options.scratch.mkdir(parents=True, exist_ok=True)

    seconds: dict[str, list[float]] = {f"{who} {size}": [] for who in ("floor", "tokenmill") for size in CORPORA}
    cpu: dict[str, list[float]] = {name: [] for name in seconds}
    starts: list[float] = []
    loads: list[dict[str, Any]] = []
    with measuring.prefect_server() as environment:
        for _ in range(options.repeats):
            loads.append(measuring.machine())
            for size in CORPORA:
                floor, figures = run_floor(corpora[size], options.scratch / "floor", options.workers)
                ours, start, tokens = run_tokenmill(
                    corpora[size], options.scratch / "dataset", options.workers, environment
                )
                if tokens != figures["tokens"]:
                    raise SystemExit(f"tokenmill made {tokens} tokens, the floor {figures['tokens']}")
                for name, run in ((f"floor {size}", floor), (f"tokenmill {size}", ours)):
                    seconds[name].append(run.seconds)
                    cpu[name].append(run.cpu_seconds)
                starts.append(start)

    middle = {name: measuring.median(values) for name, values in seconds.items()}
    sizes = {size: measuring.text_bytes(corpora[size]) for size in CORPORA}
    marginal = {who: middle[f"{who} large"] - middle[f"{who} small"] for who in ("floor", "tokenmill")}
    checks = [
        ("marginal cost, tokenmill / floor", marginal["tokenmill"] / marginal["floor"], MARGINAL_RATIO),
        (
            "whole run on the large corpus, tokenmill / floor",
            middle["tokenmill large"] / middle["floor large"],
            WHOLE_RATIO,
        ),
        ("seconds until the first part begins", measuring.median(starts), START_SECONDS),
    ]
    rows = [
        [
            name,
            f"{middle[name]:.2f}",
            f"{min(values):.2f}–{max(values):.2f}",
            f"{sizes[name.split()[1]] / MB / middle[name]:.1f}",
            f"{measuring.median(cpu[name]):.1f}",
        ]
        for name, values in seconds.items()
    ]
    rows += [
        [f"{who} marginal", f"{value:.2f}", "", f"{(sizes['large'] - sizes['small']) / MB / value:.1f}", ""]
        for who, value in marginal.items()
    ]
    markdown = "\n\n".join(
        (
            measuring.table(["run", "seconds (median)", "range", "MB/s", "CPU seconds"], rows),
            measuring.table(
                ["what", "measured", "target", "verdict"],
                [
                    [what, f"{value:.2f}", f"≤ {target}", measuring.verdict(value, target)]
                    for what, value, target in checks
                ],
            ),
        )
    )
    result = {
        "machine": loads,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "start_seconds": starts,
        "text_bytes": sizes,
        "marginal_seconds": marginal,
        "checks": {what: {"measured": value, "target": target} for what, value, target in checks},
    }
    measuring.report(result, markdown, options.json)


if __name__ == "__main__":
    main()
