"""Object storage: an epoch of `TokenLoader(shuffle="blocks")` beside s3fs reading the same shards in order.

The S3 server of `infra.s3_server` stands behind `infra.latency_proxy`, 30 ms away; server, proxy and reader share the
machine. Every repetition runs all sides, one after another, each in a process of its own. Token bytes a second count
from the side's first call to its last byte, the loader's constructor included; imports are not. Target: the loader
gives at least 0.8 times what s3fs reads. s3fs needs an environment of its own (`pip install s3fs`).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measuring
from benchmarks.measuring import MB

TARGET_RATIO = 0.8
WINDOW, BATCH = 2048, 32
SIDES = ("s3fs", "loader", "values")
_SPAN_TOKENS = 4 << 20
_OPEN_SPANS = 8


def read_loader(uri: str) -> int:
    """Draw one epoch of batches; return the token bytes as they are stored."""
    from tokenmill.loader import TokenLoader

    loader = TokenLoader(uri, window=WINDOW, global_batch_size=BATCH, shuffle="blocks", fields=("ids",))
    return sum(batch["ids"].size * 4 for batch in loader)


def read_values(uri: str) -> int:
    """Read windows at random inside of spans announced ahead, as the loader does, and do nothing with them."""
    import tokenmill
    from tokenmill.loader.remote_values import RemoteValues

    table = tokenmill.open(uri)["text"]
    values = RemoteValues(table.storage, table.shards, "ids", "uint32")
    random = np.random.default_rng(0)
    spans = [
        (shard, start, min(start + _SPAN_TOKENS, count))
        for shard, count in enumerate(table.shards.column("tokens.ids").tolist())
        for start in range(0, count, _SPAN_TOKENS)
    ]
    spans = [spans[place] for place in random.permutation(len(spans)).tolist()]
    size = 0
    for first in range(0, len(spans), _OPEN_SPANS):
        values.prefetch(spans[first : first + 2 * _OPEN_SPANS])
        windows = [
            (shard, begin, min(begin + WINDOW, stop))
            for shard, start, stop in spans[first : first + _OPEN_SPANS]
            for begin in range(start, stop, WINDOW)
        ]
        for place in random.permutation(len(windows)).tolist():
            size += values.read(*windows[place]).nbytes
    return size


def run_inside(side: str, uri: str) -> None:
    """Measure one of our sides in this process, and print the figures as one line of JSON."""
    if side == "loader":
        import tokenmill.loader
    import tokenmill.storage.s3  # noqa: F401

    began, cpu = time.perf_counter(), time.process_time()
    size = {"loader": read_loader, "values": read_values}[side](uri)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "bytes": size}))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--scratch", type=Path, required=True, help="folder for the server's data; removed at the end")
    parser.add_argument("--s3fs-python", type=Path, help="Python of an environment with s3fs")
    parser.add_argument("--tokens", type=int, default=112 << 20, help="4 bytes each")
    parser.add_argument("--shards", type=int, default=14)
    parser.add_argument("--milliseconds", type=float, default=30.0, help="a round trip to the server")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=["s3fs", "loader"])
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--inside", nargs=2, metavar=("SIDE", "URI"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        run_inside(*options.inside)
        return

    from benchmarks.build_tokens import TABLE, build
    from infra.latency_proxy import LatencyProxy
    from infra.s3_server import S3Server

    commands = {
        "s3fs": [str(options.s3fs_python), "-m", "benchmarks.rival_s3fs"],
        **{
            side: [sys.executable, "-m", "benchmarks.loader_s3", f"--scratch={options.scratch}", "--inside", side]
            for side in ("loader", "values")
        },
    }
    results: dict[str, list[dict[str, Any]]] = {side: [] for side in options.sides}
    machine = measuring.machine()
    try:
        with S3Server(options.scratch) as server, LatencyProxy(server.endpoint, options.milliseconds / 1000) as proxy:
            os.environ.update(server.environment)
            root = f"{server.bucket}/tokens"
            build(f"s3://{root}", tokens=options.tokens, shards=options.shards, mean_document=640)
            environment = {"AWS_ENDPOINT_URL": proxy.endpoint}
            for number in range(options.repeats + 1):  # the first time is for the caches of all
                for side in options.sides:
                    where = f"{root}/{TABLE}" if side == "s3fs" else f"s3://{root}"
                    run = measuring.run_command([*commands[side], where], environment)
                    figures = json.loads(run.output.splitlines()[-1])
                    print(f"{number} {side}: {figures['bytes'] / MB / figures['seconds']:.0f} MB/s", file=sys.stderr)
                    if number:
                        results[side].append(figures)
    finally:
        shutil.rmtree(options.scratch, ignore_errors=True)

    speeds = {side: [run["bytes"] / MB / run["seconds"] for run in runs] for side, runs in results.items()}
    rows = [
        [
            side,
            f"{measuring.median(speeds[side]):.0f}",
            f"{min(speeds[side]):.0f} … {max(speeds[side]):.0f}",
            f"{measuring.median([run['cpu_seconds'] / run['bytes'] * 1e9 for run in runs]):.2f}",
        ]
        for side, runs in results.items()
    ]
    text = measuring.table(["side", "token bytes, MB/s (median)", "lowest … highest", "CPU s/GB, of the reader"], rows)
    ratio = None
    if "s3fs" in speeds and "loader" in speeds:
        # Within a repetition: what else the machine does weighs on both sides.
        ratio = measuring.median([ours / theirs for ours, theirs in zip(speeds["loader"], speeds["s3fs"], strict=True)])
        verdict = measuring.verdict(ratio, TARGET_RATIO, at_least=True)
        text += f"\n\nloader / s3fs: {ratio:.2f}, target {TARGET_RATIO} at least: {verdict}"
    measuring.report({"machine": machine, "runs": results, "ratio": ratio}, text, options.json)


if __name__ == "__main__":
    main()
