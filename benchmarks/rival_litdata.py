"""litdata's `optimize` on a folder of zst JSONL, with the floor's reader and encoder (fastokens) inside.

Run by rivals_text.py with the interpreter of an environment that has litdata.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import floor
from benchmarks.measuring import rank_file


@functools.cache
def encoder(ranks: str) -> Any:
    """Load the encoder, once a process."""
    from fastokens._native import Tokenizer

    return Tokenizer.from_tiktoken(ranks, encoding="o200k_base", special_tokens={})


def documents(path: str, ranks: str) -> Iterator[Any]:
    """Yield the ids of each document of a file as a tensor."""
    import numpy as np
    import torch

    for texts, _ in floor.batches(Path(path)):
        flat, offsets = encoder(ranks).encode_batch_flat(texts)
        ids = np.frombuffer(flat, np.uint32).astype(np.int32)
        ends = np.frombuffer(offsets, np.uint64).astype(np.int64)
        for first, last in itertools.pairwise(ends):
            yield torch.from_numpy(ids[first:last])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    start = time.perf_counter()
    from litdata import TokensLoader, optimize

    with tempfile.TemporaryDirectory() as folder:
        ranks = str(rank_file("o200k_base", Path(folder)))
        optimize(
            fn=functools.partial(documents, ranks=ranks),
            inputs=[str(path) for path in sorted(options.corpus.glob("*.jsonl.zst"), key=lambda p: -p.stat().st_size)],
            output_dir=str(options.out),
            chunk_bytes="64MB",
            item_loader=TokensLoader(),
            num_workers=options.workers,
            verbose=False,
        )
    seconds = time.perf_counter() - start
    index = json.loads((options.out / "index.json").read_text())
    tokens = sum(chunk["dim"] for chunk in index["chunks"])
    print(json.dumps({"seconds": round(seconds, 2), "tokens": tokens}))


if __name__ == "__main__":
    main()
