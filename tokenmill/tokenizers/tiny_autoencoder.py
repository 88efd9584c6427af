"""TAESD's own weights: an encoder's and a decoder's state dict, as an AutoencoderTiny of diffusers.

https://github.com/madebyollin/taesd publishes its autoencoders as two bare state dicts. diffusers' AutoencoderTiny has
the same layers under other numbers; only the newer pooling branch of a block it lacks, which is added here.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tokenmill.errors import AssetError
from tokenmill.registry import missing_extra
from tokenmill.tokenizers.networks import load_weights

# Of a pooling branch's group norm, which has four channels for each of its block's; a state dict does not tell.
_POOL_GROUPS = 4


@dataclass(frozen=True)
class EncoderLayout:
    """What an encoder's state dict tells.

    Attributes:
        latent_channels: Of its last convolution.
        widths: Channels of each stage, the image's resolution first.
        blocks: Residual blocks of each stage.
    """

    latent_channels: int
    widths: tuple[int, ...]
    blocks: tuple[int, ...]

    @property
    def factor(self) -> int:
        """By how much each side is reduced: every stage but the first halves it."""
        factor: int = 2 ** (len(self.blocks) - 1)
        return factor


def read_layout(encoder_weights: str) -> EncoderLayout:
    """Read an encoder's state dict; raises AssetError where it is none of TAESD's layout."""
    return _encoder_layout(load_weights(encoder_weights), encoder_weights)


def load_pair(encoder_weights: str, decoder_weights: str) -> Any:
    """Return the AutoencoderTiny of two state dicts, in float32, for inference.

    Raises:
        AssetError: One is none of TAESD's layout, or they do not belong together.
        MissingExtraError: diffusers is not installed.
    """
    try:
        from diffusers import AutoencoderTiny
    except ModuleNotFoundError as error:
        raise missing_extra(error, "tokenizer 'latent'") from error
    encoder, decoder = load_weights(encoder_weights), _without_clamp(load_weights(decoder_weights))
    layout = _encoder_layout(encoder, encoder_weights)
    widths, blocks = _decoder_stages(decoder, decoder_weights)
    model = AutoencoderTiny(
        latent_channels=layout.latent_channels,
        encoder_block_out_channels=layout.widths,
        num_encoder_blocks=layout.blocks,
        decoder_block_out_channels=widths,
        num_decoder_blocks=blocks,
    )
    _load(model.encoder.layers, encoder, encoder_weights)
    _load(model.decoder.layers, decoder, decoder_weights)
    return model.float().eval().requires_grad_(False)


def _load(layers: Any, state: Mapping[str, Tensor], where: str) -> None:
    for index, layer in enumerate(layers):
        if f"{index}.pool.0.weight" in state:
            wide, narrow = state[f"{index}.pool.0.weight"].shape[:2]
            layer.pool = nn.Sequential(
                nn.Conv2d(narrow, wide, 1, bias=False),
                nn.GroupNorm(_POOL_GROUPS, wide),
                nn.ReLU(),
                nn.Conv2d(wide, narrow, 1, bias=False),
            )
            layer.register_forward_pre_hook(_add_pool)
    try:
        layers.load_state_dict(state)
    except RuntimeError as error:
        raise _no_taesd(where, str(error)[:300]) from error


def _add_pool(block: Any, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0] + block.pool(inputs[0]),)


def _encoder_layout(state: Mapping[str, Tensor], where: str) -> EncoderLayout:
    """An encoder is stages of a convolution and its blocks, and a last convolution."""
    convolutions, blocks = _layers(state, where)
    if len(convolutions) < 2 or convolutions[0] != 0:
        raise _no_taesd(where, f"it has {len(convolutions)} convolutions between its blocks")
    *starts, last = convolutions
    return EncoderLayout(
        latent_channels=len(state[f"{last}.weight"]),
        widths=tuple(len(state[f"{start}.weight"]) for start in starts),
        blocks=tuple(
            sum(start < block < end for block in blocks) for start, end in zip(starts, convolutions[1:], strict=True)
        ),
    )


def _decoder_stages(state: Mapping[str, Tensor], where: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A decoder is a first convolution, and stages of blocks and a convolution: return their channels and blocks."""
    convolutions, blocks = _layers(state, where)
    if len(convolutions) < 2:
        raise _no_taesd(where, f"it has {len(convolutions)} convolutions between its blocks")
    stages = list(itertools.pairwise(convolutions))
    widths = tuple(state[f"{end}.weight"].shape[1] for _, end in stages)
    return widths, tuple(sum(start < block < end for block in blocks) for start, end in stages)


def _layers(state: Mapping[str, Tensor], where: str) -> tuple[list[int], list[int]]:
    """Return the numbers of the convolutions and of the blocks, ascending."""
    try:
        numbers = sorted({int(name.partition(".")[0]) for name in state})
    except ValueError as error:
        raise _no_taesd(where, "its keys do not begin with numbers of layers") from error
    convolutions = [number for number in numbers if getattr(state.get(f"{number}.weight"), "ndim", 0) == 4]
    return convolutions, [number for number in numbers if number not in convolutions]


def _without_clamp(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Number a decoder's layers as diffusers does, which counts no clamp as the first."""
    renumbered = {}
    for name, tensor in state.items():
        number, dot, rest = name.partition(".")
        renumbered[f"{int(number) - 1}{dot}{rest}" if number.isdecimal() else name] = tensor
    return renumbered


def _no_taesd(where: str, why: str) -> AssetError:
    return AssetError(
        f"is no state dict of a TAESD encoder or decoder: {why}",
        where=where,
        fix="give the pair of files that TAESD's repository publishes, the encoder first",
    )
