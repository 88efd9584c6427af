"""The frozen VQGAN inside KARL: 16 pixels a place, from pixels to a map and from a map back to pixels.

MaskGIT's convolutional autoencoder (arXiv 2202.04200) under the names that its public port to torch, MAGE's
(arXiv 2211.09117), gives its weights: no attention, residual blocks without biases, a shortcut that starts from the
block's output, average pooling on the way down. Pixels are in [0, 1] at either end.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

#: Groups of every normalisation; channels are multiples of it.
GROUPS = 32


@dataclass(frozen=True)
class VqganSizes:
    """Sizes of the VQGAN; the defaults are the published ones.

    Attributes:
        channels: Of the highest resolution.
        multipliers: Channels of each resolution, as multiples of `channels`; one halving lies between two of them.
        blocks: Residual blocks of each resolution.
        map_channels: Channels of the map, and of a code's vector.
        codes: Codes of the codebook.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    blocks: int = 2
    map_channels: int = 256
    codes: int = 1024


class Vqgan(nn.Module):
    """Encoder, codebook and decoder."""

    def __init__(self, sizes: VqganSizes) -> None:
        super().__init__()
        self.encoder = VqganEncoder(sizes)
        self.decoder = VqganDecoder(sizes)
        self.quantize = Codebook(sizes.codes, sizes.map_channels)

    def encode(self, pixels: Tensor) -> Tensor:
        """Return the map before quantisation, `[batch, channel, row, column]`, of pixels `[batch, 3, y, x]`."""
        result: Tensor = self.encoder(pixels)
        return result

    def decode_soft(self, logits: Tensor) -> Tensor:
        """Return pixels `[batch, 3, y, x]` of logits over the codes, `[batch, row, column, code]`.

        Each place becomes the mean of the codes' vectors, weighted by their probabilities.
        """
        vectors = logits.softmax(-1) @ self.quantize.embedding.weight
        result: Tensor = self.decoder(vectors.permute(0, 3, 1, 2).contiguous())
        return result


class Codebook(nn.Module):
    """A codebook, `embedding.weight` `[code, channel]`."""

    def __init__(self, codes: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, channels)


class VqganEncoder(nn.Module):
    """From pixels to the map."""

    def __init__(self, sizes: VqganSizes) -> None:
        super().__init__()
        channels = sizes.channels
        self.conv_in = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.down = nn.ModuleList()
        for multiplier in sizes.multipliers:
            self.down.append(Level(channels, sizes.channels * multiplier, sizes.blocks, upsampled=False))
            channels = sizes.channels * multiplier
        self.mid = Middle(channels)
        self.norm_out = _normalisation(channels)
        self.conv_out = nn.Conv2d(channels, sizes.map_channels, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return `[batch, channel, row, column]`."""
        features = self.conv_in(pixels)
        for number, level in enumerate(self.down):
            features = level(features if number == 0 else F.avg_pool2d(features, 2))
        result: Tensor = self.conv_out(F.silu(self.norm_out(self.mid(features))))
        return result


class VqganDecoder(nn.Module):
    """From the map to pixels."""

    def __init__(self, sizes: VqganSizes) -> None:
        super().__init__()
        channels = sizes.channels * sizes.multipliers[-1]
        self.conv_in = nn.Conv2d(sizes.map_channels, channels, 3, padding=1)
        self.mid = Middle(channels)
        # Numbered from the highest resolution down, as the encoder's levels are; run the other way round.
        levels = []
        for number, multiplier in reversed(list(enumerate(sizes.multipliers))):
            levels.append(Level(channels, sizes.channels * multiplier, sizes.blocks, upsampled=number > 0))
            channels = sizes.channels * multiplier
        self.up = nn.ModuleList(reversed(levels))
        self.norm_out = _normalisation(channels)
        self.conv_out = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return `[batch, 3, y, x]`."""
        features = self.mid(self.conv_in(features))
        for level in reversed(self.up):
            features = level(features)
        result: Tensor = self.conv_out(F.silu(self.norm_out(features)))
        return result


class Level(nn.Module):
    """The residual blocks of one resolution, and in the decoder the convolution after doubling it."""

    def __init__(self, channels_in: int, channels_out: int, blocks: int, *, upsampled: bool) -> None:
        super().__init__()
        first = ResidualBlock(channels_in, channels_out)
        self.block = nn.ModuleList([first, *(ResidualBlock(channels_out, channels_out) for _ in range(blocks - 1))])
        self.upsample = Upsample(channels_out) if upsampled else None

    def forward(self, features: Tensor) -> Tensor:
        """Return `[batch, channel, y, x]`, of twice the resolution where it upsamples."""
        for block in self.block:
            features = block(features)
        return features if self.upsample is None else self.upsample(features)


class Upsample(nn.Module):
    """Doubles the resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return `[batch, channel, 2 y, 2 x]`."""
        result: Tensor = self.conv(F.interpolate(features, scale_factor=2.0, mode="nearest"))
        return result


class Middle(nn.Module):
    """Two residual blocks at the lowest resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels)
        self.block_2 = ResidualBlock(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        result: Tensor = self.block_2(self.block_1(features))
        return result


class ResidualBlock(nn.Module):
    """Two convolutions, added to their input or, where the channels change, to a projection of their own output."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.norm1 = _normalisation(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.norm2 = _normalisation(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        changes = channels_in != channels_out
        self.nin_shortcut = nn.Conv2d(channels_out, channels_out, 1, bias=False) if changes else None

    def forward(self, features: Tensor) -> Tensor:
        """Return `[batch, channel, y, x]`."""
        inner: Tensor = self.conv1(F.silu(self.norm1(features)))
        inner = self.conv2(F.silu(self.norm2(inner)))
        # That the shortcut sees the output and not the input is how the weights were trained.
        return inner + (features if self.nin_shortcut is None else self.nin_shortcut(inner))


def _normalisation(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)
