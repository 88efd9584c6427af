"""Megatron-core over the tokens of a flat file: its `.bin` and `.idx`, and `GPTDataset` made by its own builder.

Run by speed_loader.py with the interpreter of an environment that has megatron-core (neither Apex nor Transformer
Engine is needed). Ids are int32: Megatron knows no uint32. Attention masks are off. A sample holds `tokens`, `labels`,
`loss_mask` and `position_ids`, which cannot be left out; its windows run over documents in a shuffled order.
"""

from __future__ import annotations

import argparse
import logging
import struct
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.loader_passes import Epochs, mapped_tokens, print_result, run_side

INT32 = 4  # Megatron's code of the dtype


def write(tokens: Any, lengths: Any, prefix: Path) -> None:
    """Write `.bin` and `.idx`, a sequence a document."""
    with open(f"{prefix}.bin", "wb") as file:
        for start in range(0, len(tokens), 1 << 22):
            file.write(tokens[start : start + (1 << 22)].astype("<i4").tobytes())
    with open(f"{prefix}.idx", "wb") as file:
        file.write(b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, INT32, len(lengths), len(lengths) + 1))
        file.write(lengths.astype("<i4").tobytes())
        file.write(((np.cumsum(lengths) - lengths) * 4).astype("<i8").tobytes())
        file.write(np.arange(len(lengths) + 1, dtype="<i8").tobytes())


def gpt_dataset(prefix: Path, window: int, vocabulary: int) -> Any:
    """Build the training dataset over one epoch of all documents."""
    from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig

    # What of a tokenizer the dataset asks for; its pad and end ids are outside the vocabulary, so that none is masked.
    ends = {"pad": vocabulary, "eod": vocabulary + 1, "eos": vocabulary + 1}
    tokenizer = SimpleNamespace(vocab_size=vocabulary + 2, unique_identifiers={"name": "benchmark"}, **ends)
    config = GPTDatasetConfig(
        random_seed=1234,
        sequence_length=window,
        blend=([str(prefix)], None),
        split="1,0,0",
        tokenizer=tokenizer,
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
        path_to_cache=str(prefix.parent / "cache"),
    )
    return BlendedMegatronDatasetBuilder(GPTDataset, [None, None, None], lambda: True, config).build()[0]


def make(prefix: Path, window: int, batch: int, vocabulary: int, way: str) -> Epochs:
    """Construct the loader: `samples` indexes the dataset, which is shuffled; `batches` is torch's DataLoader."""
    import torch.utils.data

    dataset = gpt_dataset(prefix, window, vocabulary)
    if way == "samples":
        return lambda: (dataset[number]["tokens"] for number in range(len(dataset)))
    loader = torch.utils.data.DataLoader(dataset, batch_size=batch, num_workers=0)
    return lambda: (sample["tokens"] for sample in loader)


def left_out(prefix: Path, window: int, vocabulary: int, tokens: Any, lengths: Any) -> list[int]:
    """Return the ids that no sample holds: the end of the last documents in Megatron's order."""
    dataset = gpt_dataset(prefix, window, vocabulary)
    rest = int(lengths.sum()) - len(dataset) * window
    starts, ids = np.cumsum(lengths) - lengths, np.empty(0, np.int64)
    for document in dataset.document_index[::-1]:
        if len(ids) >= rest:
            break
        start = int(starts[document])
        ids = np.concatenate([tokens[start : start + int(lengths[document])], ids])
    found: list[int] = ids[len(ids) - rest :].tolist()
    return found


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--tokens", type=Path, required=True, help="flat uint32 file")
    parser.add_argument("--count", type=int, required=True, help="tokens in it")
    parser.add_argument("--lengths", type=Path, required=True, help="int64 .npy, tokens of each document")
    parser.add_argument("--vocabulary", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of .bin and .idx")
    parser.add_argument("--window", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--way", choices=["samples", "batches"], help="default: write the files")
    parser.add_argument("--passes", type=int, default=2)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")  # of what it does without
    logging.disable(logging.WARNING)
    import megatron.core.datasets.gpt_dataset  # noqa: F401  imports are not timed

    prefix = options.out / "corpus"
    tokens, lengths = mapped_tokens(options.tokens, options.count), np.load(options.lengths)
    if options.way is None:
        options.out.mkdir(parents=True)
        write(tokens, lengths, prefix)
        return
    result = run_side(
        lambda: make(prefix, options.window, options.batch, options.vocabulary, options.way), options.passes
    )
    result["left_out"] = left_out(prefix, options.window, options.vocabulary, tokens, lengths)
    print_result(result)


if __name__ == "__main__":
    main()
