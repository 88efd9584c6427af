"""mosaicml-streaming over the windows of a flat file of tokens: MDS shards, `StreamingDataset(shuffle=True)`, local.

Run by speed_loader.py with the interpreter of an environment that has mosaicml-streaming. A sample is one window as
`ndarray:int32:<window>`, the smallest and fastest form that MDS has for ids.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loader_passes import Epochs, mapped_tokens, print_result, run_side

# Modules of torchvision that `streaming` imports names from.
TORCHVISION = {"": "", ".datasets": "VisionDataset", ".transforms": "", ".transforms.functional": "to_tensor"}


def without_torchvision() -> None:
    """Let `streaming` be imported beside a CPU build of torch, with which PyPI's torchvision cannot be loaded.

    Only `streaming.vision` wants it, which `streaming` imports at once.
    """
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        for name, member in TORCHVISION.items():
            module = types.ModuleType(f"torchvision{name}")
            module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None, is_package=True)
            module.__path__ = []
            if member:
                setattr(module, member, object)
            sys.modules[module.__name__] = module


def write(tokens: Any, window: int, out: Path) -> None:
    """Write the windows as MDS shards of its default size."""
    from streaming import MDSWriter

    with MDSWriter(out=str(out), columns={"tokens": f"ndarray:int32:{window}"}) as writer:
        for start in range(0, len(tokens) - window + 1, window):
            writer.write({"tokens": tokens[start : start + window].astype(np.int32)})


def make(out: Path, batch: int, way: str) -> Epochs:
    """Construct the loader: `samples` iterates over the dataset itself, `batches` over its DataLoader."""
    from streaming import StreamingDataLoader, StreamingDataset

    dataset = StreamingDataset(local=str(out), remote=None, shuffle=True, batch_size=batch)
    if way == "samples":
        return lambda: (sample["tokens"] for sample in dataset)
    loader = StreamingDataLoader(dataset, batch_size=batch, num_workers=0)
    return lambda: (sample["tokens"] for sample in loader)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--tokens", type=Path, required=True, help="flat uint32 file")
    parser.add_argument("--count", type=int, required=True, help="tokens in it")
    parser.add_argument("--out", type=Path, required=True, help="folder of the MDS shards")
    parser.add_argument("--window", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--way", choices=["samples", "batches"], help="default: write the shards")
    parser.add_argument("--passes", type=int, default=2)
    options = parser.parse_args()
    without_torchvision()
    import streaming  # noqa: F401  imports are not timed

    if options.way is None:
        write(mapped_tokens(options.tokens, options.count), options.window, options.out)
    else:
        print_result(run_side(lambda: make(options.out, options.batch, options.way), options.passes))


if __name__ == "__main__":
    main()
