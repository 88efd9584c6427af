"""Speed of the loader: `TokenLoader` beside a bare numpy gather, mosaicml-streaming, litdata and Megatron, in one run.

All sides read the same tokens, each from its own best format, in random order, windows of 2048, one process, files in
the page cache. Every side runs in a fresh process, repetitions interleaved: constructor to first batch, the rest of the
first pass, then timed passes, then a pass whose tokens are summed and must be the corpus'. TokenLoader's first pass
compares every block with its checksum; later ones need not. Target: with ids alone, 0.7x the floor or more.

The floor copies the windows that TokenLoader gives, in its order, from one mapped flat file to int64, a new array for
every batch as a loader must. It is written in three ways, and the fastest is taken: a loop of slice assignments, a
gather by index, a gather by rows of a sliding view.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import measuring
from benchmarks.loader_passes import Epochs, Sums, mapped_tokens, print_result, run_side, sums_of

WINDOW, BATCH, TARGET = 2048, 12, 0.7
FLOORS = ("loop", "index", "sliding")
FLOOR_NAMES = tuple(f"floor, {how}" for how in FLOORS)
FIELDS = {"ids": ("ids",), "all fields": ("ids", "document_ids", "positions", "cu_seqlens")}
RIVALS = {"streaming": "mosaicml-streaming", "litdata_loader": "litdata", "megatron": "Megatron GPTDataset"}
WAYS = ("samples", "batches")


_LARGE_BYTES = 24 << 20


def floor(flat: Path, starts: npt.NDArray[np.int64], how: str) -> Epochs:
    """Return the floor: batches of the windows that begin at `starts` of a flat file."""
    # A memmap's own slicing costs microseconds; the plain array over the same pages does not.
    tokens: npt.NDArray[np.uint32] = np.memmap(flat, np.uint32, "r").view(np.ndarray)
    batches = starts.reshape(-1, BATCH)
    # glibc returns freed memory to the system above a threshold that this raises. Without it the floor's temporaries
    # are cleared by the kernel anew for every batch, or are not, as the heap happens to lie.
    np.empty(_LARGE_BYTES, np.uint8)

    def loop() -> Iterator[npt.NDArray[np.int64]]:
        for begins in batches.tolist():
            batch = np.empty((BATCH, WINDOW), np.int64)
            for row, begin in enumerate(begins):
                batch[row] = tokens[begin : begin + WINDOW]
            yield batch

    def index() -> Iterator[npt.NDArray[np.int64]]:
        within = np.arange(WINDOW)
        for begins in batches:
            yield tokens[begins[:, None] + within].astype(np.int64)

    def sliding() -> Iterator[npt.NDArray[np.int64]]:
        view = np.lib.stride_tricks.sliding_window_view(tokens, WINDOW)
        for begins in batches:
            yield view[begins].astype(np.int64)

    return {"loop": loop, "index": index, "sliding": sliding}[how]


def open_loader(dataset: Path, fields: Sequence[str]) -> Any:
    """Open the loader under test."""
    from tokenmill.loader import TokenLoader

    return TokenLoader(str(dataset), table="text", window=WINDOW, global_batch_size=BATCH, fields=fields)


def tokenmill_side(dataset: Path, fields: Sequence[str]) -> Epochs:
    """Return TokenLoader's epochs, ids alone looked at."""
    loader = open_loader(dataset, fields)
    return lambda: (batch["ids"] for batch in loader)


class Prepared:
    """The corpus as the sides need it, below a folder: `dataset`, `flat` (uint32), `lengths.npy`, `starts.npy`."""

    def __init__(self, folder: Path) -> None:
        self.dataset, self.flat = folder / "dataset", folder / "flat"
        self.lengths, self.starts = folder / "lengths.npy", folder / "starts.npy"
        self.folder = folder

    def export(self) -> None:
        """Write the flat file and the documents' lengths, by the reading side that is not under test."""
        import tokenmill

        lengths = []
        with open(self.flat, "wb") as file:
            for row in tokenmill.open(str(self.dataset))["text"]:
                ids = row.streams["ids"]
                file.write(ids.astype("<u4").tobytes())
                lengths.append(len(ids))
        np.save(self.lengths, np.array(lengths, np.int64))
        # The corpus is a ring to the loader: one window runs over its end.
        tokens = mapped_tokens(self.flat, sum(lengths))
        with open(self.flat, "ab") as file:
            file.write(tokens[:WINDOW].tobytes())

    def follow(self) -> dict[str, int]:
        """Check every token of the loader's second epoch against the flat file, write where its windows begin.

        Returns the sums of that epoch.
        """
        lengths = np.load(self.lengths)
        tokens, first = mapped_tokens(self.flat, int(lengths.sum())), np.cumsum(lengths) - lengths
        loader = open_loader(self.dataset, FIELDS["all fields"])
        for _ in loader:
            pass
        starts, sums, seen = [], Sums(), np.zeros(len(tokens), bool)
        for batch in loader:
            places = first[batch["document_ids"]] + batch["positions"]
            if not np.array_equal(tokens[places], batch["ids"]):
                raise RuntimeError("the loader's document ids and positions do not lead to its ids")
            ends = np.concatenate([[0], np.flatnonzero((places.reshape(-1)[1:] - places.reshape(-1)[:-1]) != 1) + 1])
            if not np.isin(ends, batch["cu_seqlens"]).all():
                raise RuntimeError("cu_seqlens leaves out where a window begins")
            starts.append(places[:, 0])
            seen[places.reshape(-1)] = True
            sums.add(batch["ids"])
        if int(seen.sum()) != sums.tokens:
            raise RuntimeError("the loader gave a token twice in one epoch")
        np.save(self.starts, np.concatenate(starts))
        return sums.to_json()


def run_python(python: str, *arguments: str) -> dict[str, Any]:
    """Run a module and return the JSON of its last line; nothing where it prints none."""
    lines = measuring.run_command([python, "-m", *arguments]).output.strip().splitlines()
    found: dict[str, Any] = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    return found


def rival_arguments(name: str, prepared: Prepared, vocabulary: int) -> list[str]:
    """Return the arguments of a rival's script, but for the way and the passes."""
    count = int(np.load(prepared.lengths).sum())
    arguments = ["--tokens", str(prepared.flat), "--count", str(count), "--out", str(prepared.folder / name)]
    if name == "megatron":
        arguments += ["--lengths", str(prepared.lengths), "--vocabulary", str(vocabulary)]
    return [f"benchmarks.rival_{name}", *arguments, "--window", str(WINDOW), "--batch", str(BATCH)]


def check_rival(name: str, result: dict[str, Any], prepared: Prepared) -> None:
    """Raise unless a rival gave every window of the corpus once: the same tokens as the flat file's."""
    count = int(np.load(prepared.lengths).sum())
    tokens = mapped_tokens(prepared.flat, count)
    given, whole = result["sums"], count // WINDOW * WINDOW
    expected = sums_of(tokens[:whole])
    if name == "megatron":
        expected, rest = sums_of(tokens), sums_of(np.array(result.pop("left_out")))
        expected = {key: (value - rest[key]) % 2**64 for key, value in expected.items()}
    if given != expected:
        raise RuntimeError(f"{name} gave {given}; the corpus has {expected}")


def speeds(results: Sequence[dict[str, Any]], first: bool) -> list[float]:
    """Return tokens a second of the passes of a side: of the first ones, or of the others."""
    return [
        timed["tokens"] / timed["seconds"]
        for result in results
        for timed in (result["passes"][:1] if first else result["passes"][1:])
    ]


def cpu_speeds(result: dict[str, Any]) -> list[float]:
    """Return tokens a CPU second, of all threads, of the timed passes of a process."""
    return [timed["tokens"] / timed["cpu_seconds"] for timed in result["passes"][1:]]


def summarize(results: dict[str, list[dict[str, Any]]]) -> tuple[list[list[str]], dict[str, Any]]:
    """Return the table's rows and the figures of all sides."""
    warm = {name: speeds(found, first=False) for name, found in results.items()}
    fastest = max((name for name in FLOOR_NAMES), key=lambda name: measuring.median(warm[name]))
    base, ours = measuring.median(warm[fastest]), measuring.median(warm["tokenmill, ids"])
    rows, figures = [], {}
    for name, found in results.items():
        cold, middle = measuring.median(speeds(found, first=True)), measuring.median(warm[name])
        cpu = measuring.median([speed for result in found for speed in cpu_speeds(result)])
        starts = [result["first_batch_seconds"] for result in found]
        again = measuring.median(starts[1:] or starts)
        figures[name] = {
            "tokens_per_second": middle,
            "range": [min(warm[name]), max(warm[name])],
            "first_pass": cold,
            "per_cpu_second": cpu,
            "first_batch_seconds": [starts[0], again],
            "of_floor": middle / base,
            "ours_over_it": ours / middle,
        }
        rows.append(
            [
                name + (" (the floor)" if name == fastest else ""),
                f"{found[0]['dtype']} {found[0]['shape']}",
                f"{middle / 1e6:.1f}",
                f"{min(warm[name]) / 1e6:.1f}–{max(warm[name]) / 1e6:.1f}",
                f"{cold / 1e6:.1f}",
                f"{cpu / 1e6:.1f}",
                f"{middle / base:.2f}",
                f"{ours / middle:.2f}",
                f"{starts[0]:.3f} / {again:.3f}",
            ]
        )
    return rows, figures


def run_inner(options: argparse.Namespace, prepared: Prepared) -> None:
    """Be one of the sides: what a child process of this script does."""
    kind, _, how = options.side.partition(":")
    if kind == "floor":
        starts = np.load(prepared.starts)
        print_result(run_side(lambda: floor(prepared.flat, starts, how), options.passes))
    else:
        import tokenmill.loader  # noqa: F401  imports are not timed

        print_result(run_side(lambda: tokenmill_side(prepared.dataset, FIELDS[how]), options.passes))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--scratch", type=Path, required=True, help="folder for 5 times the tokens, 4 bytes each")
    parser.add_argument("--dataset", type=Path, help="a published dataset with a table `text`; default: synthetic")
    parser.add_argument("--tokens", type=int, default=100_000_000, help="of the synthetic dataset")
    parser.add_argument("--shards", type=int, default=16, help="of the synthetic dataset")
    parser.add_argument("--rivals-python", help="interpreter with the rivals; without it they are left out")
    parser.add_argument("--rival", action="append", choices=sorted(RIVALS), help="default: all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--passes", type=int, default=3, help="timed passes of each process, at least")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    prepared = Prepared(options.scratch)
    if options.dataset:
        prepared.dataset = options.dataset
    if options.side:
        run_inner(options, prepared)
        return

    from benchmarks import build_tokens

    options.scratch.mkdir(parents=True, exist_ok=True)
    if not prepared.dataset.exists():
        build_tokens.build(str(prepared.dataset), tokens=options.tokens, shards=options.shards, mean_document=640)
    prepared.export()
    second_epoch = prepared.follow()
    sides: dict[str, list[str]] = {}
    given = ["benchmarks.speed_loader", "--scratch", str(options.scratch), "--dataset", str(prepared.dataset)]
    for name, how in zip(FLOOR_NAMES, FLOORS, strict=True):
        sides[name] = [sys.executable, *given, "--side", f"floor:{how}"]
    for how in FIELDS:
        sides[f"tokenmill, {how}"] = [sys.executable, *given, "--side", f"tokenmill:{how}"]
    rivals = {}
    for name in (options.rival or RIVALS) if options.rivals_python else ():
        arguments = rival_arguments(name, prepared, build_tokens.VOCABULARY)
        shutil.rmtree(options.scratch / name, ignore_errors=True)
        run_python(options.rivals_python, *arguments)
        for way in WAYS:
            rivals[f"{RIVALS[name]}, {way}"] = name
            sides[f"{RIVALS[name]}, {way}"] = [options.rivals_python, *arguments, "--way", way]

    results: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    loads = []
    for _ in range(options.repeats):
        loads.append(measuring.machine())
        for name, (python, *arguments) in sides.items():
            result = run_python(python, *arguments, "--passes", str(options.passes))
            if name in FLOOR_NAMES and result["sums"] != second_epoch:
                raise RuntimeError(f"{name} gave {result['sums']}, the loader's second epoch {second_epoch}")
            if name in rivals:
                check_rival(rivals[name], result, prepared)
            results[name].append(result)

    rows, figures = summarize(results)
    ratios = {"tokens a second": figures["tokenmill, ids"]["of_floor"]}
    fastest = next(name for name in FLOOR_NAMES if figures[name]["of_floor"] == 1)
    ratios["tokens a CPU second"] = figures["tokenmill, ids"]["per_cpu_second"] / figures[fastest]["per_cpu_second"]
    headings = ["side", "a batch", "M tokens/s", "range", "first pass", "M tokens/CPU s", "of the floor"]
    headings += ["tokenmill, ids / it", "s to the first batch: first process / later ones"]
    check = [
        [
            f"tokenmill, ids / {fastest}: {what}",
            f"{ratio:.2f}",
            f"≥ {TARGET}",
            measuring.verdict(ratio, TARGET, at_least=True),
        ]
        for what, ratio in ratios.items()
    ]
    markdown = "\n\n".join(
        (measuring.table(headings, rows), measuring.table(["what", "measured", "target", "verdict"], check))
    )
    result = {"machine": loads, "tokens": second_epoch["tokens"], "sides": figures, "runs": results}
    measuring.report(result, markdown, options.json)


if __name__ == "__main__":
    main()
