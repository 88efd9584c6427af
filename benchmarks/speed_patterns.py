"""Speed of patterns and of documents within rows, beside the same ids read as a stream of one dimension, row by row.

Both are streams of one table: all sides copy the same values from files in the page cache, and a batch of each has
equally many ids, or one frame's less. Passes take turns in one process, each next to one of the stream that it is
compared with, and only their ratio counts: it holds on a machine that others use. Delayed rows are put together
document by document, and are compared with a stream whose documents have separators, which is read in the same way.
Documents within rows are thirty times as short as rows: what they cost is said of them.
Target: flat and parallel patterns of all codebooks at 0.8 of the tokens a CPU second, or more.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import build_tokens, measuring
from tokenmill.loader import Delayed, Flat, Parallel, TokenLoader

WINDOW, BATCH, CODEBOOKS, TARGET = 2048, 12, 8, 0.8
FIELDS = ("ids", "document_ids", "positions", "cu_seqlens")
#: Side → ids of a step, the side it is compared with, whether there is a target, and how it is read.
SIDES: dict[str, tuple[int, str, bool, Mapping[str, Any]]] = {
    "flat": (1, "plain", True, {"pattern": Flat()}),
    "flat, frames cut": (1, "plain", True, {"pattern": Flat(), "window": WINDOW - 1}),
    "flat, 4 codebooks": (1, "plain", False, {"pattern": Flat(4)}),
    "parallel": (8, "plain", True, {"pattern": Parallel()}),
    "parallel, 4 codebooks": (4, "plain", False, {"pattern": Parallel(4)}),
    "delayed": (8, "separated", False, {"pattern": Delayed()}),
    "delayed, 4 codebooks": (4, "separated", False, {"pattern": Delayed(4)}),
    "flat, all fields": (1, "all fields", True, {"pattern": Flat(), "fields": FIELDS}),
    "parallel, all fields": (8, "all fields", True, {"pattern": Parallel(), "fields": FIELDS}),
    "pieces of rows": (1, "plain", True, {"stream": "ids", "documents": "pieces"}),
    "pieces, all fields": (1, "all fields", False, {"stream": "ids", "documents": "pieces", "fields": FIELDS}),
    "pieces, separated": (1, "separated", False, {"stream": "ids", "documents": "pieces", "separator": 0}),
    "pieces, packed": (1, "packed", False, {"stream": "ids", "documents": "pieces", "packing": "documents"}),
}
PLAIN: dict[str, Mapping[str, Any]] = {
    "plain": {},
    "separated": {"separator": 0},
    "all fields": {"fields": FIELDS},
    "packed": {"packing": "documents"},
}


def open_loader(dataset: Path, stream: str, step: int, options: Mapping[str, Any]) -> TokenLoader:
    """Open the loader of a side, whose windows have as many ids as those of any other."""
    given = {"window": WINDOW // step, "fields": ("ids",), "stream": stream, **options}
    return TokenLoader(str(dataset), build_tokens.TABLE, global_batch_size=BATCH, **given)


def one_pass(loader: TokenLoader) -> dict[str, float]:
    """Read an epoch; returns ids a second, and a CPU second of all threads."""
    ids = 0
    begin, cpu = time.perf_counter(), time.process_time()
    for batch in loader:
        ids += batch["ids"].size
    return {
        "per_second": ids / (time.perf_counter() - begin),
        "per_cpu_second": ids / (time.process_time() - cpu),
    }


def compare(ours: TokenLoader, theirs: TokenLoader, repeats: int) -> dict[str, Any]:
    """Let two loaders take turns, once without a clock."""
    passes: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
    for _ in range(repeats + 1):
        passes["theirs"].append(one_pass(theirs))
        passes["ours"].append(one_pass(ours))
    ratios = {
        name: [mine[name] / other[name] for mine, other in zip(passes["ours"][1:], passes["theirs"][1:], strict=True)]
        for name in ("per_second", "per_cpu_second")
    }
    medians = {
        side: {name: measuring.median([one[name] for one in found[1:]]) for name in ratios}
        for side, found in passes.items()
    }
    return {**medians, "ratios": ratios}


def check(dataset: Path) -> None:
    """Raise where a flat epoch has other ids than the stream of one dimension, offsets taken off."""
    ids = np.concatenate([batch["ids"].reshape(-1) for batch in open_loader(dataset, "ids", 1, {"shuffle": "none"})])
    flat = {"pattern": Flat(), "shuffle": "none"}
    place = 0
    for batch in open_loader(dataset, "codes", 1, flat):
        tokens = batch["ids"].reshape(-1)
        if not np.array_equal(tokens % 1024, ids[place : place + len(tokens)]):
            raise RuntimeError("a flat pattern gave other codes than those stored")
        place += len(tokens)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--scratch", type=Path, required=True, help="folder for 4 bytes a token")
    parser.add_argument("--tokens", type=int, default=40_000_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help="which to measure")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    dataset = options.scratch / "codes"
    if not dataset.exists():
        options.scratch.mkdir(parents=True, exist_ok=True)
        frames = options.tokens // CODEBOOKS
        build_tokens.build(
            str(dataset), tokens=frames, shards=8, mean_document=500, vocabulary=1024, codebooks=CODEBOOKS
        )
    check(dataset)
    plain = {name: open_loader(dataset, "ids", 1, given) for name, given in PLAIN.items()}
    results, rows = {}, []
    for name in options.sides:
        step, against, aimed, given = SIDES[name]
        found = compare(open_loader(dataset, "codes", step, given), plain[against], options.repeats)
        ratios = found["ratios"]["per_cpu_second"]
        ratio = measuring.median(ratios)
        results[name] = found
        rows.append(
            [
                name,
                f"{found['ours']['per_second'] / 1e6:.0f}",
                f"{found['ours']['per_cpu_second'] / 1e6:.0f}",
                f"{against}: {found['theirs']['per_cpu_second'] / 1e6:.0f}",
                f"{ratio:.2f} ({min(ratios):.2f}–{max(ratios):.2f})",
                measuring.verdict(ratio, TARGET, at_least=True) if aimed else "",
            ]
        )
    headings = ["side", "M tokens/s", "M tokens/CPU s", "beside it, M tokens/CPU s", "ratio (CPU)", f"≥ {TARGET}"]
    result = {"machine": measuring.machine(), "tokens": options.tokens, "sides": results}
    measuring.report(result, measuring.table(headings, rows), options.json)


if __name__ == "__main__":
    main()
