"""Where the time of a byte of text goes: the floor's stages beside tokenmill's, in CPU time of one process.

Runs the floor's functions and `process_split` over the same files in turn, with outputs in memory, and charges each
moment to one stage. CPU time (user and system) of this process, both sides in turn on one file after the other, the
least of several passes for each stage on each file: so the figures hold on a busy machine too, where wall times mean
nothing. As every file is read several times, the encoder's cache of words is warm, on both sides: encoding is cheaper
than in a run, and the ratio higher.

The stages: `read` gives decoded texts (tokenmill's with positions, sizes and checks); `encode` gives ids (tokenmill's
checked against the vocabulary); `hash` lays out the shard and takes its sha256 and CRCs; `unigrams` counts ids;
`statistics` makes the part's statistics file; `write` hands bytes to the file system; `rest` is everything else.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ["RAYON_NUM_THREADS"] = os.environ["FASTOKENS_BPE_THREADS"] = "1"  # before a native library reads them

from benchmarks import floor, measuring
from benchmarks.measuring import MB
from tokenmill import encoding_ahead, part_files, parts
from tokenmill.jobs import load_job
from tokenmill.planning import make_plan
from tokenmill.plans import Plan
from tokenmill.sources.items import ItemBatch
from tokenmill.sources.reading import SplitReader
from tokenmill.statistics.part import PartStatistics
from tokenmill.statistics.unigrams import Unigrams
from tokenmill.storage.local import LocalStorage
from tokenmill.storage.outputs import Storage

STAGES = ("read", "encode", "hash", "unigrams", "statistics", "write", "rest")


class Stopwatch:
    """Charges the CPU time of this process to stages; within a stage, an inner one takes over until it ends."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._stage = "rest"
        self._since = time.process_time()

    def switch(self, stage: str) -> str:
        """Charge what has passed to the stage until now, and go over to another; returns the former."""
        now, before = time.process_time(), self._stage
        self.seconds[before] += now - self._since
        self._stage, self._since = stage, now
        return before

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Charge to a stage while the context lasts."""
        before = self.switch(name)
        try:
            yield
        finally:
            self.switch(before)

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose calls are charged to a stage."""

        def call(*arguments: Any, **named: Any) -> Any:
            with self.stage(stage):
                return function(*arguments, **named)

        return call


def floor_pass(files: list[Path], out: Path, encode: floor.Encode) -> Stopwatch:
    """Do what a process of the floor does with these files."""
    watch = Stopwatch()
    with open(out, "wb", buffering=1 << 20) as ids:
        for path in files:
            batches = floor.batches(path)
            while True:
                with watch.stage("read"):
                    batch = next(batches, None)
                if batch is None:
                    break
                with watch.stage("encode"):
                    encoded = encode(batch[0])
                with watch.stage("write"):
                    ids.write(encoded)
    watch.switch("rest")
    return watch


def tokenmill_pass(storage: Storage, plan: Plan, splits: Sequence[int]) -> Stopwatch:
    """Do what a worker does with these splits of a plan."""
    watch = Stopwatch()
    read = SplitReader.batches

    def batches(reader: SplitReader, *start: Any) -> Iterator[ItemBatch]:
        found = read(reader, *start)
        while True:
            with watch.stage("read"):
                batch = next(found, None)
            if batch is None:
                return
            yield batch

    stages: list[tuple[Any, str, str]] = [
        (encoding_ahead, "encode_batch", "encode"),
        (part_files, "serialise_shard", "hash"),
        (Unigrams, "add", "unigrams"),
        (Unigrams, "sparse", "unigrams"),
        (PartStatistics, "to_arrow_bytes", "statistics"),
        (LocalStorage, "put", "write"),
        (LocalStorage, "create", "write"),
    ]
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in stages]
    SplitReader.batches = batches  # type: ignore[method-assign,assignment]
    for owner, name, stage in stages:
        setattr(owner, name, watch.timed(stage, getattr(owner, name)))
    try:
        watch.switch("rest")
        for number in splits:
            parts.process_split(storage, plan, number, [table.name for table in plan.tables])
        watch.switch("rest")
    finally:
        SplitReader.batches = read  # type: ignore[method-assign]
        for owner, name, original in originals:
            setattr(owner, name, original)
    return watch


def chosen_files(corpus: Path, count: int) -> list[Path]:
    """Return some of a corpus's files, evenly spaced."""
    files = sorted(corpus.glob("*.jsonl.zst"))
    return [files[number * len(files) // count] for number in range(min(count, len(files)))]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder of build_corpus.py")
    parser.add_argument("--scratch", type=Path, default=Path("/dev/shm"), help="folder for outputs; in memory")
    parser.add_argument("--files", type=int, default=8, help="how many of the corpus's files to read")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    files = chosen_files(options.corpus, options.files)
    text_bytes = sum(len(text.encode()) for path in files for texts, _ in floor.batches(path) for text in texts)

    best = {who: dict.fromkeys(STAGES, 0.0) for who in ("floor", "tokenmill")}
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        scratch = Path(folder)
        encode = floor.fastokens_encoder(measuring.rank_file("o200k_base", scratch))
        for number, path in enumerate(files):
            job = measuring.write_job(
                scratch / "job.yaml",
                [str(path)],
                scratch / "dataset",
                tokenizer={"id": "tiktoken", "vocabulary": "o200k_base"},
                workers=1,
            )
            watches: dict[str, list[Stopwatch]] = {who: [] for who in best}
            for _ in range(options.repeats + (0 if number else 1)):
                watches["floor"].append(floor_pass([path], scratch / "ids", encode))
                storage = Storage.open(str(scratch / "dataset"))
                plan = make_plan(storage, load_job(str(job))).plan
                watches["tokenmill"].append(tokenmill_pass(storage, plan, range(len(plan.splits))))
                shutil.rmtree(scratch / "dataset")
            for who, passes in watches.items():
                for stage in STAGES:
                    best[who][stage] += min(watch.seconds[stage] for watch in passes)

    nanoseconds = {
        who: {stage: seconds * 1e9 / text_bytes for stage, seconds in stages.items()} for who, stages in best.items()
    }
    totals = {who: sum(stages.values()) for who, stages in nanoseconds.items()}
    rows = [[stage, *(f"{nanoseconds[who][stage]:.2f}" for who in best)] for stage in STAGES]
    rows.append(["all", *(f"{totals[who]:.2f}" for who in best)])
    markdown = "\n\n".join(
        (
            f"{len(files)} files, {text_bytes / MB:.0f} MB of text; CPU nanoseconds for a byte of text, best of "
            f"{options.repeats}",
            measuring.table(["stage", *best], rows),
            f"tokenmill / floor: {totals['tokenmill'] / totals['floor']:.2f}",
        )
    )
    result = {
        "machine": measuring.machine(),
        "text_bytes": text_bytes,
        "nanoseconds_per_byte": nanoseconds,
        "ratio": totals["tokenmill"] / totals["floor"],
    }
    measuring.report(result, markdown, options.json)


if __name__ == "__main__":
    main()
