"""The floor for LLVM IR: plain processes that parse, verify, print and tokenize modules, and write `.npy` files.

No job, no children, no shards, no statistics: files go through a queue; each process reads modules in itself, with
llvmlite, into canonical text, lets the tokenizer's encoder make of it all that it makes in a job (tokens, SHA-256,
hashes of functions, counts), and writes the tokens.  `--bare` leaves out all but the tokens: it parses, verifies,
prints as LLVM prints, and tokenizes.  `seconds` is the time from the first module to the last of all processes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import numpy.typing
import orjson
import pyarrow.parquet
from llvmlite import binding

from tokenmill.ir.canonical import Canonical
from tokenmill.ir.llvm_text import read_text
from tokenmill.ir.module import Module
from tokenmill.registry import parse_tokenizer
from tokenmill.tokenizers.llvm_ir.coding import Coder
from tokenmill.tokenizers.llvm_ir.tokenizer import IDS, LlvmIrTokenizer
from tokenmill.tokenizers.llvm_ir.vocabulary import Vocabulary

Tokenize = Callable[[bytes], tuple[int, numpy.typing.NDArray[Any]]]


class Done(NamedTuple):
    """What a process did; `began` and `ended` are Unix times."""

    modules: int
    stored_bytes: int
    text_bytes: int
    tokens: int
    began: float
    ended: float


def contents(path: str) -> Iterator[bytes]:
    """Yield the modules of a file of bitcode, a tar file of them, or a Parquet file as ComPile has it."""
    if path.endswith(".tar"):
        with tarfile.open(path, "r|") as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is not None:
                    yield content.read()
    elif path.endswith(".parquet"):
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(16, columns=["content"]):
                for value in batch.column(0):
                    yield value.as_py()
    else:
        yield Path(path).read_bytes()


def whole_tokenizer(config: dict[str, Any]) -> Tokenize:
    """Return what turns bitcode into the size of its text and its tokens, and makes every other stream too."""
    tokenizer = parse_tokenizer(config)
    encoder = tokenizer.load()
    choices = Canonical().choices()

    def tokenize(data: bytes) -> tuple[int, numpy.typing.NDArray[Any]]:
        text = read_text(data, bitcode=True, options=choices)
        encoded = encoder.encode([Module(text, len(data))])
        if encoded.failures:
            raise ValueError(encoded.failures[0].message)
        return len(text), encoded.streams[IDS][0]

    return tokenize


def bare_tokenizer(config: dict[str, Any]) -> Tokenize:
    """Return what turns bitcode into the size of its text and its tokens, and does no more."""
    tokenizer = parse_tokenizer(config)
    assert isinstance(tokenizer, LlvmIrTokenizer)
    location = Path(tokenizer.assets()["vocabulary"].location.removeprefix("package:tokenmill/"))
    coder = Coder(Vocabulary.from_bytes(location.read_bytes(), str(location)), tokenizer.mode)

    def tokenize(data: bytes) -> tuple[int, numpy.typing.NDArray[Any]]:
        context = binding.create_context()
        with binding.parse_bitcode(data, context) as module:
            module.verify()
            text = str(module).encode()
        context.close()
        return len(text), coder.encode(text).ids

    return tokenize


def work(
    tokenize: Tokenize,
    out: str,
    files: multiprocessing.SimpleQueue[list[str] | None],
    done: multiprocessing.SimpleQueue[Done],
) -> None:
    """Be one process: take files until there are no more."""
    modules, stored_bytes, text_bytes, tokens = 0, 0, 0, 0
    began = time.time()
    while (paths := files.get()) is not None:
        for path in paths:
            for number, data in enumerate(contents(path)):
                size, ids = tokenize(data)
                numpy.save(Path(out) / f"{Path(path).name}-{number}.npy", ids)
                modules += 1
                stored_bytes += len(data)
                text_bytes += size
                tokens += len(ids)
    done.put(Done(modules, stored_bytes, text_bytes, tokens, began, time.time()))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder of *.bc, *.tar or *.parquet files")
    parser.add_argument("--tokenizer", required=True, help="config as JSON")
    parser.add_argument("--out", type=Path, required=True, help="folder for the .npy files")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--bare", action="store_true", help="parse, verify, print and tokenize alone")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tokenize = (bare_tokenizer if options.bare else whole_tokenizer)(orjson.loads(options.tokenizer))
    tokenize(binding.parse_assembly("define void @f() {\n  ret void\n}\n").as_bitcode())  # compiled, before the fork
    context = multiprocessing.get_context("fork")
    files: multiprocessing.SimpleQueue[list[str] | None] = context.SimpleQueue()
    done: multiprocessing.SimpleQueue[Done] = context.SimpleQueue()
    arguments = (tokenize, str(options.out), files, done)
    workers = [context.Process(target=work, args=arguments) for _ in range(options.workers)]
    for worker in workers:
        worker.start()
    paths = sorted(str(path) for path in options.corpus.iterdir())
    run = 16 if paths[0].endswith(".bc") and len(paths) > 64 * options.workers else 1
    for start in range(0, len(paths), run):
        files.put(paths[start : start + run])
    for _ in workers:
        files.put(None)
    found = [done.get() for _ in workers]
    for worker in workers:
        worker.join()
    totals = {name: sum(getattr(one, name) for one in found) for name in Done._fields[:4]}
    totals["seconds"] = max(one.ended for one in found) - min(one.began for one in found)
    print(orjson.dumps(totals).decode())


if __name__ == "__main__":
    main()
