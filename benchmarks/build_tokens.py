"""Build a published dataset of synthetic tokens for the loader's benchmarks, of any number of tokens and shards.

A tokenizer of this file's own turns an item `"<first place> <length>"` into the ids that stand at those places of an
endless random sequence. All else is the library's: planning, the part loop, statistics, receipts, publication. So the
dataset is one in every respect (`tokenmill verify` passes), and which id stands at which place of the table can be
told without reading it. Lengths of documents are log-normal. The same options give the same shards::

    python -m benchmarks.build_tokens --tokens 100000000 --shards 16 --out SCRATCH/tokens
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenmill.contract import Encoded, Encoder, Tokenizer
from tokenmill.jobs import parse_job
from tokenmill.manifests import ManifestTable
from tokenmill.parts import ROW_BYTES, process_split
from tokenmill.planning import make_plan
from tokenmill.publication import publish
from tokenmill.registry import GROUP
from tokenmill.storage.outputs import Storage
from tokenmill.streams import Jagged, StreamSpec
from tokenmill.tokenizers.text import TextEncoder, require_cpu

VOCABULARY = 200_019  # of o200k_base
TABLE = "text"
#: Every item's text has this length, so that a part of so many bytes has so many rows.
TEXT_BYTES = 24
#: Ids of a stretch that ends within a row of `SyntheticCodes`, as functions do in a module.
PIECE = 128
SPREAD = 1.0  # standard deviation of the logarithm of a document's length
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9))
_SHIFT = np.uint64(32)


def ids_at(places: npt.NDArray[np.int64], seed: int, vocabulary: int = VOCABULARY) -> npt.NDArray[np.uint32]:
    """Return the ids at places of the sequence, uint32 of the same shape: evenly distributed, each on its own."""
    mixed = places.astype(np.uint64)
    mixed += np.uint64(seed) << _SHIFT
    for factor in _MIX:
        mixed *= factor
        mixed ^= mixed >> _SHIFT
    mixed >>= _SHIFT
    mixed *= np.uint64(vocabulary)
    mixed >>= _SHIFT
    return mixed.astype(np.uint32)


class SyntheticTokenizer(Tokenizer):
    """Turns `"<first place> <length>"` into the ids of those places."""

    id: ClassVar[str] = "synthetic"

    vocabulary: int = VOCABULARY
    """Number of ids."""
    seed: int = 0
    """Which sequence."""

    def streams(self) -> dict[str, StreamSpec]:
        """Return `ids`, uint32 whatever the vocabulary's size."""
        return {"ids": StreamSpec("uint32", vocabulary_size=self.vocabulary)}

    def load(self, device: str = "cpu") -> Encoder:
        """Return an encoder."""
        require_cpu(device, self.id)
        return TextEncoder(self._batch, "uint32")

    def _batch(self, texts: list[str]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        first, lengths = np.array([text.split() for text in texts], np.int64).reshape(-1, 2).T
        before = np.cumsum(lengths) - lengths
        places = np.repeat(first - before, lengths)
        places += np.arange(len(places))
        return ids_at(places, self.seed, self.vocabulary), np.ascontiguousarray(lengths)


class SyntheticCodes(Tokenizer):
    """Turns `"<first frame> <length>"` into the codes of those frames, and into the same codes as one stream of ids.

    A third stream says where stretches of the ids end.
    """

    id: ClassVar[str] = "synthetic-codes"

    vocabulary: int = 1024
    """Number of ids of a codebook."""
    codebooks: int = 8
    """Codes of a frame."""
    seed: int = 0
    """Which sequence."""

    def streams(self) -> dict[str, StreamSpec]:
        """Return `ids` and `codes`, which hold the same values, and `pieces`: where stretches of `ids` end."""
        return {
            "ids": StreamSpec("uint16", vocabulary_size=self.vocabulary),
            "codes": StreamSpec("uint16", ("frame", "codebook"), (None, self.codebooks), self.vocabulary),
            "pieces": StreamSpec("uint32", ("piece",), ends_of="ids"),
        }

    def load(self, device: str = "cpu") -> Encoder:
        """Return the encoder."""
        require_cpu(device, self.id)
        return self

    def encode(self, payloads: Sequence[Any]) -> Encoded:
        """Make the rows of a batch of texts."""
        first, frames = np.array([text.split() for text in payloads], np.int64).reshape(-1, 2).T
        lengths = frames * self.codebooks
        places = np.repeat(first * self.codebooks - np.cumsum(lengths) + lengths, lengths)
        places += np.arange(len(places))
        values = ids_at(places, self.seed, self.vocabulary).astype(np.uint16)
        shapes = np.stack([frames, np.full(len(frames), self.codebooks)], axis=1)
        pieces = lengths // PIECE
        ends = np.arange(1, pieces.sum() + 1) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        return Encoded(
            {
                "ids": Jagged.from_lengths(values, lengths),
                "codes": Jagged(values.copy(), shapes),
                "pieces": Jagged.from_lengths((ends * PIECE).astype(np.uint32), pieces),
            }
        )


@contextlib.contextmanager
def registered() -> Iterator[None]:
    """Register the tokenizer as any package does, while the context lasts: publishing looks it up."""
    with tempfile.TemporaryDirectory() as folder:
        about = Path(folder) / "tokenmill_benchmarks-0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tokenmill-benchmarks\nVersion: 0\n")
        (about / "entry_points.txt").write_text(
            f"[{GROUP}]\nsynthetic = benchmarks.build_tokens:SyntheticTokenizer\n"
            "synthetic-codes = benchmarks.build_tokens:SyntheticCodes\n"
        )
        sys.path.append(folder)
        try:
            yield
        finally:
            sys.path.remove(folder)


def document_lengths(tokens: int, documents: int, seed: int) -> npt.NDArray[np.int64]:
    """Return int64 `[document]`: log-normal, at least 1, summing to `tokens`."""
    drawn = np.random.default_rng(seed).lognormal(0.0, SPREAD, documents)
    lengths: npt.NDArray[np.int64] = np.maximum(np.rint(drawn * (tokens / drawn.sum())).astype(np.int64), 1)
    longest = int(lengths.argmax())
    lengths[longest] += tokens - int(lengths.sum())  # what rounding left
    if lengths[longest] < 1:
        raise SystemExit(f"{tokens} tokens are too few for {documents} documents")
    return lengths


def build(
    out: str,
    *,
    tokens: int,
    shards: int,
    mean_document: int,
    vocabulary: int = VOCABULARY,
    seed: int = 0,
    codebooks: int | None = None,
) -> ManifestTable:
    """Make and publish a dataset of one table, `text`, with exactly so many tokens and shards.

    Args:
        out: Where to: a new local directory, or `s3://bucket/prefix`.
        tokens: Tokens of the table.
        shards: Its shards, each of the same number of rows.
        mean_document: Mean tokens of a document, about.
        vocabulary: Number of ids.
        seed: Of lengths and ids.
        codebooks: Make frames of so many codes in place of tokens (`SyntheticCodes`); all other figures count frames.
    """
    tokenizer: dict[str, Any] = {"id": "synthetic", "vocabulary": vocabulary, "seed": seed}
    if codebooks is not None:
        tokenizer = {**tokenizer, "id": "synthetic-codes", "codebooks": codebooks}
    rows = round(tokens / mean_document / shards)
    part_bytes = rows * (TEXT_BYTES + ROW_BYTES)
    if part_bytes < 1024:
        raise SystemExit(f"{rows} documents a shard are too few: ask for fewer shards, or for shorter documents")
    lengths = document_lengths(tokens, rows * shards, seed)
    first = np.cumsum(lengths) - lengths
    with registered(), tempfile.TemporaryDirectory() as folder:
        items = Path(folder) / "items.jsonl"
        with open(items, "w") as file:
            for number, (place, length) in enumerate(zip(first.tolist(), lengths.tolist(), strict=True)):
                file.write(f'{{"id": "{number}", "text": "{place:015} {length:08}"}}\n')
        job = parse_job(
            {
                "name": "synthetic",
                "sources": [{"name": "items", "modality": "text", "uris": [str(items)], "fields": {"id": "id"}}],
                "tables": [{"name": TABLE, "tokenizer": tokenizer}],
                "output": out,
                # one split, so that only rows decide where a shard ends
                "splitting": {"split_bytes": items.stat().st_size + 4096, "part_bytes": part_bytes},
            }
        )
        storage = Storage.open(out)
        plan = make_plan(storage, job).plan
        for split in range(len(plan.splits)):
            process_split(storage, plan, split, [TABLE])
        table = publish(storage, plan, max_rejected_fraction=0.0).tables[TABLE]
    made = (table.tokens["ids"], table.shards["count"])
    wanted = (tokens * (codebooks or 1), shards)
    if made != wanted:
        raise RuntimeError(f"{made} tokens and shards were made, not {wanted}")
    return table


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--shards", type=int, required=True)
    parser.add_argument("--mean-document", type=int, default=640, help="mean tokens of a document")
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY)
    parser.add_argument("--out", required=True, help="a new directory, or s3://bucket/prefix")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.perf_counter()
    table = build(
        options.out,
        tokens=options.tokens,
        shards=options.shards,
        mean_document=options.mean_document,
        vocabulary=options.vocabulary,
        seed=options.seed,
    )
    seconds = time.perf_counter() - start
    print(f"{options.tokens} tokens, {table.rows} rows, {table.size_bytes} bytes in {seconds:.1f} s")


if __name__ == "__main__":
    main()
