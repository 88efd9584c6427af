"""The floor: what a plain script needs to turn zst JSONL into a file of raw token ids a process.

Two processes take whole files from one queue, longest first; each reads, encodes batches of documents with the fastest
exact encoder on one native thread, and appends u32 ids to a file of its own. No checks, no checksums, no metadata, no
document boundaries, no resuming: whatever tokenmill takes beyond this is the price of those.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["RAYON_NUM_THREADS"] = os.environ["FASTOKENS_BPE_THREADS"] = "1"  # before a native library reads them

import orjson
import zstandard

from benchmarks.measuring import MB, rank_file

Encode = Callable[[list[str]], "bytes | memoryview"]
BATCH_DOCUMENTS, BATCH_BYTES = 64, 4 * MB


def fastokens_encoder(ranks: Path) -> Encode:
    """Return fastokens' o200k_base; text that looks like a special token is ordinary text."""
    from fastokens._native import Tokenizer

    tokenizer = Tokenizer.from_tiktoken(str(ranks), encoding="o200k_base", special_tokens={})
    return lambda texts: memoryview(tokenizer.encode_batch_flat(texts)[0])


def gigatoken_encoder(ranks: Path) -> Encode:
    """Return gigatoken's o200k_base, without special tokens."""
    import awkward
    import numpy
    from gigatoken.gigatoken_rs import BPETokenizer

    tokenizer = BPETokenizer.from_tiktoken(str(ranks), "o200k")

    def encode(texts: list[str]) -> memoryview:
        rows = tokenizer.encode_batch(texts, parallel=False)
        return memoryview(numpy.ascontiguousarray(awkward.to_numpy(awkward.flatten(rows)), numpy.uint32)).cast("B")

    return encode


ENGINES = {"fastokens": fastokens_encoder, "gigatoken": gigatoken_encoder}


def batches(path: Path) -> Iterator[tuple[list[str], int]]:
    """Yield the texts of a file in batches, with their size in characters."""
    texts: list[str] = []
    size = 0
    with open(path, "rb") as file:
        stream = zstandard.ZstdDecompressor().stream_reader(file, read_size=1 << 20)
        for line in io.BufferedReader(stream, 1 << 20):
            text = orjson.loads(line)["text"]
            texts.append(text)
            size += len(text)
            if len(texts) >= BATCH_DOCUMENTS or size >= BATCH_BYTES:
                yield texts, size
                texts, size = [], 0
    if texts:
        yield texts, size


def work(number: int, out: Path, files: multiprocessing.SimpleQueue[str | None], encode: Encode) -> None:
    """Be one process: take files until there are no more."""
    with open(out / f"ids-{number}.u32", "wb", buffering=1 << 20) as ids:
        while (path := files.get()) is not None:
            for texts, _ in batches(Path(path)):
                ids.write(encode(texts))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder of *.jsonl.zst files")
    parser.add_argument("--out", type=Path, required=True, help="folder for the ids")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--engine", choices=sorted(ENGINES), default="fastokens")
    parser.add_argument("--text-bytes", type=int, default=0, help="bytes of text in the corpus, for MB/s")
    options = parser.parse_args()

    start = time.perf_counter()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        encode = ENGINES[options.engine](rank_file("o200k_base", Path(folder)))
    context = multiprocessing.get_context("fork")  # the vocabulary is loaded once and shared
    files: multiprocessing.SimpleQueue[str | None] = context.SimpleQueue()
    workers = [
        context.Process(target=work, args=(number, options.out, files, encode)) for number in range(options.workers)
    ]
    for worker in workers:
        worker.start()
    for path in sorted(options.corpus.glob("*.jsonl.zst"), key=lambda path: -path.stat().st_size):
        files.put(str(path))
    for _ in workers:
        files.put(None)
    for worker in workers:
        worker.join()
    seconds = time.perf_counter() - start
    if any(worker.exitcode for worker in workers):
        raise SystemExit("a process failed")
    figures = {
        "engine": options.engine,
        "seconds": round(seconds, 3),
        "mb_per_second": round(options.text_bytes / MB / seconds, 1),
        "tokens": sum(path.stat().st_size for path in options.out.glob("ids-*.u32")) // 4,
        "peak_process_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / MB, 1),
    }
    print(orjson.dumps(figures).decode())


if __name__ == "__main__":
    main()
