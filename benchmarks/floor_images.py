"""The floor for images: plain processes that read, decode and encode with the same tokenizer, and drop the result.

No job, no shards, no statistics: files go through a queue, and each process prepares and encodes a batch at a time, on
one core.  `tokens` is the sum of the lengths of `ids`, the same that tokenmill must make; `prepare` and `encode` are
CPU seconds of all processes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # before they are loaded

import orjson

from benchmarks.image_sets import Coder
from tokenmill.images.image_file import ImageFile


class Done(NamedTuple):
    """What a process did."""

    images: int
    tokens: int
    prepare_seconds: float
    encode_seconds: float


def batches(paths: list[str], items: int) -> Iterator[list[ImageFile]]:
    """Yield the images of files, or of the tar files among them, in batches."""
    batch: list[ImageFile] = []
    for data in contents(paths):
        batch.append(ImageFile(data))
        if len(batch) == items:
            yield batch
            batch = []
    if batch:
        yield batch


def contents(paths: list[str]) -> Iterator[bytes]:
    """Yield the bytes of each image."""
    for path in paths:
        if not path.endswith(".tar"):
            yield Path(path).read_bytes()
            continue
        with tarfile.open(path, "r|") as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is not None and member.name.endswith(".jpg"):
                    yield content.read()


def work(
    config: bytes,
    files: multiprocessing.SimpleQueue[list[str] | None],
    done: multiprocessing.SimpleQueue[Done],
) -> None:
    """Be one process: take files until there are no more."""
    encoder = Coder(orjson.loads(config)).encoder
    images, tokens, prepare_seconds, encode_seconds = 0, 0, 0.0, 0.0
    while (paths := files.get()) is not None:
        for batch in batches(paths, encoder.batch_items):
            start = time.process_time()
            placed = [encoder.prepare(file) for file in batch]
            between = time.process_time()
            ids = encoder.encode(placed).streams["ids"]
            prepare_seconds += between - start
            encode_seconds += time.process_time() - between
            tokens += sum(len(ids[number]) for number in range(len(batch)))
            images += len(batch)
    done.put(Done(images, tokens, prepare_seconds, encode_seconds))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder of *.jpg or *.tar files")
    parser.add_argument("--tokenizer", required=True, help="config as JSON")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    context = multiprocessing.get_context("fork")
    files: multiprocessing.SimpleQueue[list[str] | None] = context.SimpleQueue()
    done: multiprocessing.SimpleQueue[Done] = context.SimpleQueue()
    workers = [
        context.Process(target=work, args=(options.tokenizer.encode(), files, done)) for _ in range(options.workers)
    ]
    for worker in workers:
        worker.start()
    paths = sorted(str(path) for path in options.corpus.iterdir())
    run = 1 if paths[0].endswith(".tar") else 32
    for start in range(0, len(paths), run):
        files.put(paths[start : start + run])
    for _ in workers:
        files.put(None)
    found = [done.get() for _ in workers]
    for worker in workers:
        worker.join()
    totals = Done(*(sum(column) for column in zip(*found, strict=True)))
    print(orjson.dumps(totals._asdict()).decode())


if __name__ == "__main__":
    main()
