"""The `karl` tokenizer's config. It needs neither torch nor weights."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from tokenmill.contract import Asset, Encoder, hash_file
from tokenmill.images.tokenizer import ADAPTIVE_STREAMS, ImageTokenizer
from tokenmill.registry import missing_extra
from tokenmill.streams import StreamSpec
from tokenmill.tokenizers.karl.published import EDGE, ERROR_BINS, GRID, LATENTS, PATCH, VOCABULARY_SIZE
from tokenmill.tokenizers.precision import Precision

if TYPE_CHECKING:
    from tokenmill.tokenizers.karl.decoder import KarlDecoder


class KarlTokenizer(ImageTokenizer):
    """KARL (arXiv 2507.07995): in one pass, as many codes as the image needs for the error asked for."""

    id: ClassVar[str] = "karl"
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    libraries: ClassVar[tuple[str, ...]] = ("pillow", "torch")
    locations: ClassVar[frozenset[str]] = frozenset({"weights"})

    weights: str
    """Path of the published weights: a torch file (of tensors only; no code of it is run) or a `.safetensors` file."""
    weights_key: str | None = "ema"
    """Under which the file holds the state dict; null where the file is the state dict itself."""
    heads: int = Field(default=8, ge=1)
    """Attention heads, the only size that weights do not show."""
    error: float = Field(default=0.05, ge=0, le=ERROR_BINS[-1], allow_inf_nan=False)
    """Mean absolute difference of pixels in [0, 1] to ask for. The network knows 19 values, from 0.005 to 0.38, and is
    asked for the next one up."""
    tokens: int = Field(default=256, ge=1, le=LATENTS)
    """The most tokens of an image: latents that the encoder is given."""
    measure_error: bool = True
    """Decode each image to record the error it reached and whether that met `error`. Without, encoding is cheaper, and
    the table has no streams `error` and `outcome`: nothing is claimed that was not measured."""
    batch_size: int = Field(default=8, ge=1, le=4096)
    """Images that the network sees at once; a batch is always filled up to it. Set it lower where memory runs out."""
    precision: Precision = "float32"
    """Of weights and arithmetic, measuring included. `decoder` always works in float32."""

    @model_validator(mode="after")
    def _geometry_fits(self) -> Self:
        if self.geometry.mode != "crop" or self.geometry.edge % PATCH or self.geometry.edge > GRID * PATCH:
            raise ValueError(
                f"karl takes one square image: geometry {{mode: crop}} with an edge that is a multiple of {PATCH} and "
                f"at most {GRID * PATCH} (given {self.geometry.mode} of {self.geometry.edge})"
            )
        return self

    def assets(self) -> dict[str, Asset]:
        """Hash the weights."""
        return {"weights": hash_file(self.weights)}

    def code_streams(self) -> dict[str, StreamSpec]:
        """Return `ids` and `positions`, the latents they stand at, and what measuring adds; needs no weights."""
        streams = {
            "ids": StreamSpec("uint16", vocabulary_size=VOCABULARY_SIZE, bands="octave"),
            "positions": StreamSpec("uint16"),
        }
        if self.measure_error:
            streams |= ADAPTIVE_STREAMS
        return streams

    def load(self, device: str = "cpu") -> Encoder:
        """Return an encoder; raises AssetError where the weights are not of KARL's layout."""
        try:
            from tokenmill.tokenizers.karl.encoder import load_encoder
        except ModuleNotFoundError as error:
            raise missing_extra(error, f"tokenizer {self.id!r}") from error
        return load_encoder(self, device)

    def decoder(self) -> KarlDecoder:
        """Return a decoder, on the CPU; raises AssetError as `load` does."""
        try:
            from tokenmill.tokenizers.karl.decoder import load_decoder
        except ModuleNotFoundError as error:
            raise missing_extra(error, f"decoding of {self.id!r}") from error
        return load_decoder(self)

    def notes(self) -> list[str]:
        """Return what is unlike the published use."""
        edge = self.geometry.edge
        if edge == EDGE:
            return []
        return [f"KARL is published for images of {EDGE} x {EDGE}; at {edge} its positions are interpolated"]

    @property
    def error_bin(self) -> int:
        """Number of the least of `ERROR_BINS` that is not below `error`."""
        return bisect.bisect_left(ERROR_BINS, self.error)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.geometry.edge // PATCH, self.geometry.edge // PATCH
