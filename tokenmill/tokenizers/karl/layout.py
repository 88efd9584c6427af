"""From a file of published KARL weights to a network: sizes are read off the tensors, and every key must be known."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tokenmill.errors import AssetError
from tokenmill.tokenizers.karl.network import KarlNetwork, Sizes
from tokenmill.tokenizers.karl.published import ERROR_BINS, PATCH, VOCABULARY_SIZE
from tokenmill.tokenizers.karl.vqgan import GROUPS, VqganSizes
from tokenmill.tokenizers.networks import load_weights

State = Mapping[str, torch.Tensor]
_VQGAN = "base_tokenizer.vqgan"


def load_network(path: str | Path, key: str | None, heads: int, tokens: int) -> KarlNetwork:
    """Load weights for inference, in float32 on the CPU.

    Args:
        path: A torch file or a `.safetensors` file.
        key: Under which the file holds the state dict; None where the file is the state dict.
        heads: Attention heads, which tensors do not show.
        tokens: Latents that it must have.

    Raises:
        AssetError: The file cannot be read without running code of it, or holds other keys or shapes; they are named.
    """
    where = str(path)
    state = _state(load_weights(path), key, where)
    sizes = read_sizes(state, heads, where)
    _check_fit(sizes, tokens, where)
    with torch.device("meta"):
        network = KarlNetwork(sizes)
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    _check_names(expected.keys(), state.keys(), where)
    fitted = {name: _fitted(name, state[name], shape, where) for name, shape in expected.items()}
    network.load_state_dict(fitted, assign=True)
    return network.requires_grad_(False).eval()


def read_sizes(state: State, heads: int, where: str) -> Sizes:
    """Return the sizes of the network that a state dict belongs to; raises AssetError naming the key that is wrong."""

    def size(name: str, dim: int, dims: int) -> int:
        if name not in state:
            raise _unlike(f"lacks the key {name!r}", where)
        if state[name].ndim < dims:
            raise _unlike(f"holds {name!r} with the shape {tuple(state[name].shape)}, not {dims} dimensions", where)
        return state[name].shape[dim]

    def count(prefix: str) -> int:
        found = {int(match[1]) for name in state if (match := re.match(re.escape(prefix) + r"\.(\d+)\.", name))}
        if not found:
            raise _unlike(f"has no keys {prefix + '.<number>'!r}", where)
        return len(found)

    channels = size(f"{_VQGAN}.encoder.conv_in.weight", 0, 4)
    levels = range(count(f"{_VQGAN}.encoder.down"))
    level_channels = [size(f"{_VQGAN}.encoder.down.{level}.block.0.conv1.weight", 0, 4) for level in levels]
    if any(found % GROUPS or found % channels for found in (channels, *level_channels)):
        raise _unlike(f"has a VQGAN of {channels} and {level_channels} channels, not multiples of {GROUPS}", where)
    if 2 ** (len(levels) - 1) != PATCH:
        raise _unlike(f"has a VQGAN of {len(levels)} resolutions, whose map does not fit {PATCH}-pixel patches", where)
    width = size("latent_tokens", 1, 2)
    if width % heads:
        raise AssetError(
            f"has a width of {width}, which {heads} heads do not divide", where=where, fix="set the tokenizer's `heads`"
        )
    map_channels = size(f"{_VQGAN}.encoder.conv_out.weight", 0, 4)
    if width <= map_channels:
        raise _unlike(f"has a width of {width} and a VQGAN of {map_channels}, which leaves none for patches", where)
    return Sizes(
        width=width,
        heads=heads,
        encoder_layers=count("encoder.transformer"),
        decoder_layers=count("decoder.transformer"),
        hidden=size("encoder.transformer.0.mlp.c_fc.weight", 0, 2),
        latents=size("latent_tokens", 0, 2),
        codes=size("quantize.embedding.weight", 0, 2),
        code_channels=size("quantize.embedding.weight", 1, 2),
        bins=size("rec_loss_embeddings", 0, 2),
        grid=(size("encoder_positional_embedding", 1, 3), size("encoder_positional_embedding", 2, 3)),
        halting_hidden=size("halting_mlp.0.weight", 0, 2),
        logits_hidden=size("decoder.ffn.0.weight", 0, 2),
        vqgan=VqganSizes(
            channels=channels,
            multipliers=tuple(found // channels for found in level_channels),
            blocks=count(f"{_VQGAN}.encoder.down.0.block"),
            map_channels=map_channels,
            codes=size(f"{_VQGAN}.quantize.embedding.weight", 0, 2),
        ),
    )


def _check_fit(sizes: Sizes, tokens: int, where: str) -> None:
    """Raise where plans, which know no weights, say other than these weights."""
    for what, found, wanted in (
        ("codes", sizes.codes, VOCABULARY_SIZE),
        ("errors to ask for", sizes.bins, len(ERROR_BINS)),
    ):
        if found != wanted:
            raise _unlike(f"has {found} {what}; the published network has {wanted}", where)
    if sizes.latents < tokens:
        raise AssetError(
            f"has {sizes.latents} latents; the tokenizer asks for {tokens} tokens",
            where=where,
            fix="lower the tokenizer's `tokens`",
        )


def _state(loaded: Mapping[str, Any], key: str | None, where: str) -> State:
    if key is not None and key not in loaded:
        raise AssetError(
            f"holds nothing under {key!r}; its keys are {_some(loaded)}",
            where=where,
            fix="set the tokenizer's `weights_key`, or to null where the file is the state dict itself",
        )
    state = loaded if key is None else loaded[key]
    if not isinstance(state, Mapping):
        raise _unlike(f"holds {type(state).__name__} under {key!r} in place of a state dict", where)
    others = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise _unlike(f"holds what is no tensor: {_some(others)}", where)
    return state


def _check_names(expected: Any, given: Any, where: str) -> None:
    missing, unexpected = expected - given, given - expected
    if missing or unexpected:
        parts = [f"lacks {_some(missing)}"] * bool(missing) + [f"has unexpected {_some(unexpected)}"] * bool(unexpected)
        raise _unlike(" and ".join(parts), where)


def _fitted(name: str, tensor: torch.Tensor, shape: torch.Size, where: str) -> torch.Tensor:
    """Return a tensor in its shape here, in float32; dimensions of one may differ (a 1x1 convolution is a matrix)."""
    if [size for size in tensor.shape if size > 1] != [size for size in shape if size > 1]:
        raise _unlike(f"holds {name!r} with the shape {tuple(tensor.shape)}; expected {tuple(shape)}", where)
    if not tensor.is_floating_point():
        raise _unlike(f"holds {name!r} in {tensor.dtype}, not in floating point", where)
    return tensor.reshape(shape).float()


def _some(names: Any) -> str:
    listed = sorted(map(str, names))
    return ", ".join(listed[:5]) + (f" … ({len(listed)} in all)" if len(listed) > 5 else "")


def _unlike(what: str, where: str) -> AssetError:
    return AssetError(what, where=where, fix="give KARL's weights as published: see docs/tokenizers-karl.md")
