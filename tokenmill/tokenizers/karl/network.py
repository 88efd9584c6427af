"""KARL's network (arXiv 2507.07995): from pixels to codes and halting probabilities, and from kept codes to pixels.

Attributes carry the names of the published weights. What is done with codes (streams, errors, images) is not here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tokenmill.tokenizers.karl.published import ERROR_BINS, GRID, LATENTS, PATCH, VOCABULARY_SIZE
from tokenmill.tokenizers.karl.transformer import Block
from tokenmill.tokenizers.karl.vqgan import Codebook, Vqgan, VqganSizes


@dataclass(frozen=True)
class Sizes:
    """Sizes of the network; the defaults are those published as "small".

    Attributes:
        width: Channels of the transformers.
        heads: Attention heads of both; the only size that weights do not show.
        encoder_layers: Blocks of the encoder.
        decoder_layers: Blocks of the decoder.
        hidden: Channels between the layers of a block's MLP.
        latents: Learned latents, the most tokens that an image can have.
        codes: Codes of the codebook.
        code_channels: Channels of a code's vector.
        bins: Errors that can be asked for.
        grid: Rows and columns of the position embedding as stored.
        halting_hidden: Channels inside the halting head.
        logits_hidden: Channels inside the head that gives logits.
        vqgan: Of the VQGAN.
    """

    width: int = 1024
    heads: int = 8
    encoder_layers: int = 8
    decoder_layers: int = 8
    hidden: int = 4096
    latents: int = LATENTS
    codes: int = VOCABULARY_SIZE
    code_channels: int = 12
    bins: int = len(ERROR_BINS)
    grid: tuple[int, int] = (GRID, GRID)
    halting_hidden: int = 512
    logits_hidden: int = 2048
    vqgan: VqganSizes = field(default_factory=VqganSizes)


class KarlNetwork(nn.Module):
    """The encoder with its halting head, the codebook, and the decoder."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width, vqgan = sizes.width, sizes.vqgan
        self.base_tokenizer = BaseTokenizer(vqgan)
        self.patch_embed = nn.Conv2d(3, width - vqgan.map_channels, PATCH, stride=PATCH)
        self.encoder_positional_embedding = nn.Parameter(torch.zeros(width, *sizes.grid))
        self.rec_loss_embeddings = nn.Parameter(torch.zeros(sizes.bins, width))
        self.latent_tokens = nn.Parameter(torch.zeros(sizes.latents, width))
        self.encoder_ln_pre = nn.LayerNorm(width)
        self.encoder = LatentEncoder(sizes)
        self.encoder_ln_post = nn.LayerNorm(width)
        self.pre_quantizer_mlp = nn.Linear(width, sizes.code_channels)
        self.encoder_ln_post_halt = nn.LayerNorm(width)
        self.halting_mlp = nn.Sequential(
            nn.Linear(width, sizes.halting_hidden), nn.Tanh(), nn.Linear(sizes.halting_hidden, 1)
        )
        self.quantize = Codebook(sizes.codes, sizes.code_channels)
        self.decoder_embed = nn.Linear(sizes.code_channels, width)
        self.decoder_latent_tokens_timestep_embed = nn.Parameter(torch.zeros(sizes.latents, width))
        self.decoder_mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder_positional_embedding = nn.Parameter(torch.zeros(width, *sizes.grid))
        self.decoder = LogitsDecoder(sizes)

    def encode(self, pixels: Tensor, tokens: int, error_bin: int) -> tuple[Tensor, Tensor]:
        """Find every latent's code and the probability that it is not needed.

        Args:
            pixels: `[batch, 3, y, x]` in [0, 1]; sides are multiples of 16.
            tokens: Latents to use, from the first on.
            error_bin: Number of the error asked for, among the bins.

        Returns:
            Codes, int64 `[batch, token]`, and halting probabilities, float32 `[batch, token]`.
        """
        batch = len(pixels)
        patches = torch.cat([self.base_tokenizer.vqgan.encode(pixels), self.patch_embed(pixels)], dim=1)
        image = (patches + positions(self.encoder_positional_embedding, patches.shape[2:])).flatten(2).transpose(1, 2)
        asked = self.rec_loss_embeddings[error_bin].expand(batch, 1, -1)
        latents = self.latent_tokens[:tokens].expand(batch, -1, -1)
        sequence = self.encoder_ln_pre(torch.cat([asked, image, latents], dim=1))
        latents = self.encoder(sequence)[:, -tokens:]
        probabilities = self.halting_mlp(self.encoder_ln_post_halt(latents)).squeeze(-1).float().sigmoid()
        return self._nearest_codes(self.pre_quantizer_mlp(self.encoder_ln_post(latents))), probabilities

    def decode(self, codes: Tensor, kept: Tensor, grid: tuple[int, int]) -> Tensor:
        """Make an image of the codes that are kept.

        Args:
            codes: int64 `[batch, token]`, at their latents' places; what is not kept may be any code.
            kept: bool `[batch, token]`.
            grid: Rows and columns of patches.

        Returns:
            Pixels `[batch, 3, y, x]`; about [0, 1], not clamped.
        """
        batch, tokens = codes.shape
        latents = self.decoder_embed(F.normalize(self.quantize.embedding.weight, dim=-1)[codes])
        latents = latents + self.decoder_latent_tokens_timestep_embed[:tokens]
        places = positions(self.decoder_positional_embedding, grid).flatten(1).transpose(0, 1)
        image = (self.decoder_mask_token + places).expand(batch, -1, -1)
        visible = torch.cat([kept.new_ones(batch, image.shape[1]), kept], dim=1)
        logits: Tensor = self.decoder(torch.cat([image, latents], dim=1), visible, image.shape[1])
        return self.base_tokenizer.vqgan.decode_soft(logits.view(batch, *grid, -1))

    def _nearest_codes(self, vectors: Tensor) -> Tensor:
        """Return int64 `[batch, token]`: the codes of the least angle, in float32 whatever the network's precision."""
        codebook = F.normalize(self.quantize.embedding.weight.float(), dim=-1)
        return (F.normalize(vectors.float(), dim=-1) @ codebook.T).argmax(-1)


class BaseTokenizer(nn.Module):
    """Holds the VQGAN, where the published weights have it."""

    def __init__(self, sizes: VqganSizes) -> None:
        super().__init__()
        self.vqgan = Vqgan(sizes)


class LatentEncoder(nn.Module):
    """The encoder's blocks."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        blocks = (Block(sizes.width, sizes.heads, sizes.hidden) for _ in range(sizes.encoder_layers))
        self.transformer = nn.ModuleList(blocks)

    def forward(self, sequence: Tensor) -> Tensor:
        """Return `[batch, place, width]` from the same: error asked for, image, latents."""
        for block in self.transformer:
            sequence = block(sequence)
        return sequence


class LogitsDecoder(nn.Module):
    """The decoder's blocks, and the head that gives logits over the VQGAN's codes."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.ln_pre = nn.LayerNorm(sizes.width)
        blocks = (Block(sizes.width, sizes.heads, sizes.hidden) for _ in range(sizes.decoder_layers))
        self.transformer = nn.ModuleList(blocks)
        self.ln_post = nn.LayerNorm(sizes.width)
        self.ffn = nn.Sequential(
            nn.Linear(sizes.width, sizes.logits_hidden), nn.Tanh(), nn.Linear(sizes.logits_hidden, sizes.vqgan.codes)
        )

    def forward(self, sequence: Tensor, visible: Tensor, places: int) -> Tensor:
        """Return logits `[batch, place, code]` of the first `places`; `visible` is bool `[batch, place]`."""
        sequence = self.ln_pre(sequence)
        for block in self.transformer:
            sequence = block(sequence, visible)
        result: Tensor = self.ffn(self.ln_post(sequence[:, :places]))
        return result


def positions(embedding: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Return a position embedding `[channel, row, column]` brought to a grid, bilinearly between its places."""
    if tuple(embedding.shape[1:]) == tuple(grid):
        return embedding
    stretched = F.interpolate(embedding[None].float(), size=tuple(grid), mode="bilinear", align_corners=False)
    return stretched[0].to(embedding.dtype)
