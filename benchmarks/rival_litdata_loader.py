"""litdata over the tokens of a flat file: `optimize` with `TokensLoader`, then `StreamingDataset(shuffle=True)`, local.

Run by speed_loader.py with the interpreter of an environment that has litdata. Ids are int32, which torch knows, in
chunks of whole windows, so that no chunk leaves a rest.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.loader_passes import Epochs, mapped_tokens, print_result, run_side

CHUNK_WINDOWS = 8192  # of 2048 tokens: chunks of 64 MB, litdata's own default


def windows(span: tuple[int, int], path: Path, count: int, window: int) -> Iterator[Any]:
    """Yield the windows of a span of the file as tensors."""
    import torch

    tokens = mapped_tokens(path, count)
    for start in range(*span, window):
        yield torch.from_numpy(tokens[start : start + window].astype("int32"))


def write(path: Path, count: int, window: int, out: Path) -> None:
    """Write the tokens as litdata's chunks."""
    from litdata import TokensLoader, optimize

    optimize(
        fn=functools.partial(windows, path=path, count=count, window=window),
        inputs=[(0, count // window * window)],
        output_dir=str(out),
        chunk_size=CHUNK_WINDOWS * window,
        item_loader=TokensLoader(),
        num_workers=1,
        verbose=False,
    )


def make(out: Path, window: int, batch: int, way: str) -> Epochs:
    """Construct the loader: `samples` iterates over the dataset itself, `batches` over its DataLoader."""
    from litdata import StreamingDataLoader, StreamingDataset, TokensLoader

    dataset = StreamingDataset(str(out), item_loader=TokensLoader(block_size=window), shuffle=True, drop_last=False)
    if way == "samples":
        return lambda: dataset
    loader = StreamingDataLoader(dataset, batch_size=batch, num_workers=0)
    return lambda: loader


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--tokens", type=Path, required=True, help="flat uint32 file")
    parser.add_argument("--count", type=int, required=True, help="tokens in it")
    parser.add_argument("--out", type=Path, required=True, help="folder of the chunks")
    parser.add_argument("--window", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--way", choices=["samples", "batches"], help="default: write the chunks")
    parser.add_argument("--passes", type=int, default=2)
    options = parser.parse_args()
    import litdata  # noqa: F401  imports are not timed

    if options.way is None:
        write(options.tokens, options.count, options.window, options.out)
    else:
        print_result(run_side(lambda: make(options.out, options.window, options.batch, options.way), options.passes))


if __name__ == "__main__":
    main()
