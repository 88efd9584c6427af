"""The mean and deviation of each latent channel, estimated once over sample images and kept in a small JSON file.

A quantizer that rounds every channel alike wants channels of like spread; autoencoders do not give them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tokenmill.errors import AssetError, TokenizerError
from tokenmill.images.image_file import ImageFile

if TYPE_CHECKING:
    from tokenmill.tokenizers.latent import LatentTokenizer


class LatentScales(BaseModel):
    """What latents are normalised by: `(latent - mean) / deviation`, channel by channel."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    means: tuple[float, ...]
    deviations: tuple[Annotated[float, Field(gt=0)], ...]

    @classmethod
    def estimate(cls, tokenizer: LatentTokenizer, images: Iterable[ImageFile], device: str = "cpu") -> Self:
        """Estimate them over all cells of some images.

        Args:
            tokenizer: Without a quantizer.
            images: At least one; a few dozen of the kind that will be tokenized serve well.
            device: Where the network runs.

        Raises:
            ItemError: An image cannot be decoded.
            TokenizerError: There is no image, or a channel has the same value everywhere.
        """
        encoder = tokenizer.load(device)
        channels = next(iter(tokenizer.code_streams().values())).shape[-1] or 0
        count, sums, squares = 0, np.zeros(channels), np.zeros(channels)
        for image in images:
            encoded = encoder.encode([encoder.prepare(image)])
            cells = encoded.streams["latents"].values.astype(np.float64).reshape(-1, channels)
            count += len(cells)
            sums += cells.sum(axis=0)
            squares += np.square(cells).sum(axis=0)
        if not count:
            raise TokenizerError("scales of latents are estimated over at least one image; there was none")
        means = sums / count
        deviations = np.sqrt(np.maximum(squares / count - np.square(means), 0))
        if not deviations.all():
            flat = int(np.flatnonzero(deviations == 0)[0])
            raise TokenizerError(f"channel {flat} of the latents has the same value everywhere: it has no deviation")
        return cls(means=tuple(means.tolist()), deviations=tuple(deviations.tolist()))

    def write(self, path: str | Path) -> None:
        """Write the file that the tokenizer's `latent_scales` names."""
        Path(path).write_text(self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, path: str | Path, channels: int) -> Self:
        """Read what `write` wrote, for latents of so many channels; raises AssetError."""
        try:
            scales = cls.model_validate_json(Path(path).read_bytes())
        except (OSError, ValidationError) as error:
            raise AssetError(
                f"cannot be read as scales of latents: {error}",
                where=str(path),
                fix="make it with LatentScales.estimate(tokenizer, images).write(path)",
            ) from error
        if (len(scales.means), len(scales.deviations)) != (channels, channels):
            raise AssetError(
                f"holds {len(scales.means)} means and {len(scales.deviations)} deviations; "
                f"the model's latents have {channels} channels",
                where=str(path),
                fix="estimate the scales with this very model",
            )
        return scales
