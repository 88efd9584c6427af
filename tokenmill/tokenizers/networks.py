"""What tokenizers that are neural networks share: the device, fixed batch shapes, and weights that run no code.

An item's codes must not depend on its neighbours. Networks therefore always see batches of one shape, the last one
filled up, and on a CPU one native thread: what a library may do differently for another shape, it never gets to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tokenmill.errors import AssetError, RunError, TokenizerError
from tokenmill.tokenizers.precision import Precision as Precision


def network_device(device: str, tokenizer: str) -> torch.device:
    """Return the device to run on: `cpu`, `cuda` or `cuda:<number>`; raises TokenizerError where there is none such."""
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise TokenizerError(
            f"tokenizer {tokenizer!r} runs on the devices 'cpu' and 'cuda' (given {device!r})"
        ) from error
    if found.type not in ("cpu", "cuda"):
        raise TokenizerError(f"tokenizer {tokenizer!r} runs on the devices 'cpu' and 'cuda' (given {device!r})")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise TokenizerError(
            f"tokenizer {tokenizer!r} is to run on {device!r}; torch sees {torch.cuda.device_count()} CUDA devices",
            fix="give the table `device: auto` or `device: cpu`, or run it on a machine that has one",
        )
    if found.type == "cuda":
        # What a config calls float32 is float32, not the 10 bits of mantissa that convolutions are given by default.
        torch.backends.cudnn.allow_tf32 = False
    if found.type == "cpu":
        torch.set_num_threads(1)  # a worker a core: more threads would only wait for each other
    return found


def in_fixed_batches(
    run: Callable[[torch.Tensor], Sequence[torch.Tensor]],
    items: torch.Tensor,
    batch_size: int,
    device: torch.device,
) -> list[torch.Tensor]:
    """Run a network over items in batches of one size, the last one filled up with zeros.

    Args:
        run: From `[batch, …]` on the device to one or several tensors `[batch, …]`.
        items: `[item, …]`, at least one, on the CPU.
        batch_size: Items of each batch.
        device: Where `run` wants them.

    Returns:
        What `run` returned for all items, on the CPU.

    Raises:
        RunError: The device ran out of memory; the message names the batch size.
    """
    results: list[Sequence[torch.Tensor]] = []
    for start in range(0, len(items), batch_size):
        batch = items[start : start + batch_size]
        count = len(batch)
        if count < batch_size:
            batch = torch.cat([batch, batch.new_zeros((batch_size - count, *batch.shape[1:]))])
        try:
            with torch.inference_mode():
                results.append([result[:count].cpu() for result in run(batch.to(device))])
        except torch.OutOfMemoryError as error:
            raise RunError(
                f"{device} ran out of memory with batches of {batch_size}",
                fix=f"set the tokenizer's `batch_size` below {batch_size}; it is part of the table's identity",
            ) from error
    return [torch.cat(parts) for parts in zip(*results, strict=True)]


def load_weights(path: str | Path) -> dict[str, Any]:
    """Read a state dict from `.safetensors`, or from a torch file without running code of it; raises AssetError."""
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: dict[str, Any] = load_file(path)
            return found
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise AssetError(
            f"these weights cannot be read: {type(error).__name__}: {str(error)[:300]}",
            where=str(path),
            fix="give a .safetensors file, or a torch file that holds nothing but tensors",
        ) from error
    if not isinstance(loaded, dict):
        raise AssetError(f"holds {type(loaded).__name__} in place of a state dict", where=str(path))
    return loaded
