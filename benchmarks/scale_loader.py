"""Scale of the loader: what it takes to open many shards, to read many tokens, and to say where it stands.

- seconds from `TokenLoader(…)` to the first batch on a local dataset of 10^4 shards, in a fresh process after its
  imports (target 1 s), the first time and again;
- memory of a process without torch that reads 10^9 tokens, all fields, one epoch, the highest seen (target 300 MB):
  what smaps_rollup calls private, and what of it is no page of a shard. A page of a mapped file, which is the kernel's
  cache and goes when memory is wanted, counts there as private while only one process has it mapped;
- the state as JSON with 1 and with 10 sources (target 1 KB, and 100 bytes a source);
- an epoch over 10^4 shards where a process may hold 1024 file descriptors.

Linux only. The datasets are made by `build_tokens` below the scratch folder, one at a time, and removed.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import measuring
from benchmarks.measuring import MB

WINDOW, BATCH = 2048, 12
FIRST_BATCH_SECONDS, PRIVATE_BYTES, STATE_BYTES, SOURCE_BYTES = 1.0, 300 * MB, 1000, 100
DESCRIPTORS = 1024
SAMPLED_EVERY = 400  # batches


def private_bytes() -> int:
    """Return the bytes of all pages that no other process has mapped."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Private_"))


def mapped_bytes(below: str) -> int:
    """Return the bytes of pages of files below a folder that no other process has mapped."""
    found, inside = 0, False
    with open("/proc/self/smaps") as file:
        for line in file:
            name, *rest = line.split(None, 5)
            if not name.endswith(":"):  # the line that begins a mapping
                inside = len(rest) == 5 and rest[4].startswith(below)
            elif inside and name.startswith("Private_"):
                found += int(rest[0]) * 1024
    return found


def descriptors() -> int:
    """Return the file descriptors that this process holds."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def first_batch(dataset: str) -> dict[str, Any]:
    """Measure the time to the first batch, after the imports."""
    before = time.perf_counter()
    from tokenmill.loader import TokenLoader

    imported = time.perf_counter()
    loader = TokenLoader(dataset, table="text", window=WINDOW, global_batch_size=BATCH)
    opened = time.perf_counter()
    batch = next(iter(loader))
    done = time.perf_counter()
    return {
        "import_seconds": imported - before,
        "open_seconds": opened - imported,
        "seconds": done - imported,
        "tokens": int(batch["ids"].size),
    }


def epoch(dataset: str) -> dict[str, Any]:
    """Read an epoch with all fields, watching private memory and file descriptors."""
    from tokenmill.loader import TokenLoader

    # What the process holds anyway is part of the figure; it is given beside it.
    imported = private_bytes()
    loader = TokenLoader(dataset, table="text", window=WINDOW, global_batch_size=BATCH)
    private = own = held = tokens = 0
    start = time.perf_counter()
    for number, batch in enumerate(loader):
        tokens += batch["ids"].size
        if number % SAMPLED_EVERY == 0 or number == len(loader) - 1:
            now = private_bytes()
            private, own = max(private, now), max(own, now - mapped_bytes(dataset))
            held = max(held, descriptors())
    return {
        "tokens": tokens,
        "seconds": time.perf_counter() - start,
        "import_bytes": imported,
        "private_bytes": private,
        "own_bytes": own,
        "descriptors": held,
        "torch": "torch" in sys.modules,
    }


def state(dataset: str, sources: int) -> dict[str, Any]:
    """Measure the state of a mix of some sources, far into it."""
    from tokenmill.loader import Source, TokenLoader

    mix = [Source(dataset, table="text", weight=number + 1.0, name=f"source-{number:02}") for number in range(sources)]
    loader = TokenLoader(mix, window=WINDOW, global_batch_size=BATCH)
    for number, _ in enumerate(loader):
        if number == 300:
            break
    return {"sources": sources, "bytes": len(json.dumps(loader.state_dict()).encode())}


def run_inner(name: str, dataset: str) -> dict[str, Any]:
    """Be one of the measured processes."""
    if name == "first_batch":
        return first_batch(dataset)
    if name == "epoch":
        return epoch(dataset)
    if name == "descriptors":
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
        return epoch(dataset)
    return state(dataset, int(name.partition(":")[2]))


def child(name: str, dataset: Path) -> dict[str, Any]:
    """Run a measured process and return what it found."""
    run = measuring.run_command([sys.executable, "-m", "benchmarks.scale_loader", "--inner", name, str(dataset)])
    found: dict[str, Any] = json.loads(run.output.strip().splitlines()[-1])
    return found


def build(scratch: Path, tokens: int, shards: int) -> Path:
    """Make a dataset in another process, whose memory is not this one's."""
    out = scratch / f"{tokens}-{shards}"
    shutil.rmtree(out, ignore_errors=True)
    arguments = ["--tokens", str(tokens), "--shards", str(shards), "--out", str(out)]
    measuring.run_command([sys.executable, "-m", "benchmarks.build_tokens", *arguments])
    return out


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--scratch", type=Path, help="folder for 4.2 GB")
    parser.add_argument("--tokens", type=int, default=1_000_000_000, help="of the large dataset, in 125 shards")
    parser.add_argument("--shards", type=int, default=10_000, help="of the other, of 10,000 tokens each")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--inner", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inner:
        print(json.dumps(run_inner(*options.inner)))
        return
    if options.scratch is None:
        parser.error("--scratch is required")
    loads = [measuring.machine()]

    many = build(options.scratch, options.shards * 10_000, options.shards)
    starts = [child("first_batch", many) for _ in range(options.repeats)]
    limited = child("descriptors", many)
    states = [child(f"state:{sources}", many) for sources in (1, 10)]
    shutil.rmtree(many)
    large = build(options.scratch, options.tokens, 125)
    read = child("epoch", large)
    shutil.rmtree(large)
    loads.append(measuring.machine())

    seconds = [start["seconds"] for start in starts]
    checks: list[tuple[str, str, str, bool]] = [
        (
            f"{options.shards:,} shards: s from TokenLoader(…) to the first batch, median",
            f"{measuring.median(seconds):.3f} ({min(seconds):.3f}–{max(seconds):.3f}; imports "
            f"{measuring.median([start['import_seconds'] for start in starts]):.3f} before)",
            f"≤ {FIRST_BATCH_SECONDS}",
            measuring.median(seconds) <= FIRST_BATCH_SECONDS,
        ),
        *(
            (
                f"{read['tokens']:,} tokens read, all fields, without torch: {what}",
                f"{read[key] / MB:.0f} ({read['import_bytes'] / MB:.0f} after imports)",
                f"≤ {PRIVATE_BYTES // MB}",
                read[key] <= PRIVATE_BYTES and not read["torch"],
            )
            for key, what in (("private_bytes", "private MB"), ("own_bytes", "private MB less pages of shards"))
        ),
        *(
            (
                f"state with {found['sources']} sources: bytes of JSON",
                str(found["bytes"]),
                f"≤ {STATE_BYTES + SOURCE_BYTES * found['sources']}",
                found["bytes"] <= STATE_BYTES + SOURCE_BYTES * found["sources"],
            )
            for found in states
        ),
        (
            f"{limited['tokens']:,} tokens of {options.shards:,} shards: file descriptors",
            str(limited["descriptors"]),
            f"< {DESCRIPTORS}",
            limited["descriptors"] < DESCRIPTORS,
        ),
    ]
    rows = [[what, found, target, "met" if met else "MISSED"] for what, found, target, met in checks]
    result = {"machine": loads, "first_batch": starts, "epoch": read, "states": states, "descriptors": limited}
    measuring.report(result, measuring.table(["what", "measured", "target", "verdict"], rows), options.json)


if __name__ == "__main__":
    main()
