"""The `latent` tokenizer: continuous latents of image autoencoders, as they are or quantized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import model_validator

from tokenmill.contract import Asset, Decoder, hash_file
from tokenmill.errors import TokenizerError
from tokenmill.quantizers.config import QuantizerConfig
from tokenmill.streams import StreamSpec
from tokenmill.tokenizers.latent_scales import LatentScales
from tokenmill.tokenizers.model_files import Architecture
from tokenmill.tokenizers.pretrained import PretrainedTokenizer
from tokenmill.tokenizers.tiles import Tile, TileDecoder, TileEncoder

if TYPE_CHECKING:
    from tokenmill.tokenizers.latent_models import LatentModel

_LATENTS, _CODES = "latents", "codes"


@dataclass(frozen=True)
class _LatentArchitecture(Architecture):
    """A class of autoencoder, with the fields of its `config.json` that planning needs, and the library's defaults."""

    channels: tuple[str, int]
    levels: tuple[str, tuple[int, ...]]
    edge: tuple[str, int] | None = None
    """Field of the edge that it was trained at, in pixels."""


#: Defaults: diffusers/models/autoencoders/autoencoder_{tiny,kl,dc}.py.
ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        _LatentArchitecture(
            "AutoencoderTiny",
            "diffusers",
            "AutoencoderTiny",
            channels=("latent_channels", 4),
            levels=("encoder_block_out_channels", (64, 64, 64, 64)),
        ),
        _LatentArchitecture(
            "AutoencoderKL",
            "diffusers",
            "AutoencoderKL",
            channels=("latent_channels", 4),
            levels=("block_out_channels", (64,)),
            edge=("sample_size", 32),
        ),
        _LatentArchitecture(
            "AutoencoderDC",
            "diffusers",
            "AutoencoderDC",
            channels=("latent_channels", 32),
            levels=("encoder_block_out_channels", (128, 256, 512, 512, 1024, 1024)),
        ),
    )
}


class LatentTokenizer(PretrainedTokenizer):
    """AutoencoderTiny, AutoencoderKL and AutoencoderDC of diffusers, or a pair of TAESD weights.

    Latents are what the model's `encode` returns (of AutoencoderKL the mean; nothing is sampled), without the scaling
    and shift factors of its `config.json`, which whoever trains a diffusion model applies.
    """

    id: ClassVar[str] = "latent"
    libraries: ClassVar[tuple[str, ...]] = ("pillow", "torch", "diffusers", "vector-quantize-pytorch")
    locations: ClassVar[frozenset[str]] = PretrainedTokenizer.locations | {
        "encoder_weights",
        "decoder_weights",
        "latent_scales",
        "quantizer_weights",
    }

    encoder_weights: str | None = None
    """With `decoder_weights`, in place of a model directory: the state dict of a TAESD encoder, `.pth` or
    `.safetensors`, with the layout that its own repository publishes."""
    decoder_weights: str | None = None
    """The decoder's state dict."""
    quantizer: QuantizerConfig | None = None
    """Quantizes each cell's latents, which its `dimension` must equal: the stream is `codes` in place of `latents`."""
    quantizer_weights: str | None = None
    """The quantizer's state, `.safetensors`, for a kind that has learned codebooks."""
    latent_scales: str | None = None
    """A file of `LatentScales`: the mean and deviation of each channel, by which latents are normalised before they are
    quantized. Default: they are not."""

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if (self.encoder_weights is None) != (self.decoder_weights is None):
            raise ValueError("`encoder_weights` and `decoder_weights` go together")
        pair = self.encoder_weights is not None
        given = (self.directory is not None) + (self.hub_id is not None) + pair
        if given != 1:
            raise ValueError("give exactly one of `directory`, `hub_id`, and `encoder_weights` with `decoder_weights`")
        if pair and self.subfolder is not None:
            raise ValueError("`subfolder` is for a `directory` or a `hub_id`")
        self._check_place(given)
        if self.quantizer is None and (self.latent_scales or self.quantizer_weights) is not None:
            raise ValueError("`latent_scales` and `quantizer_weights` need a `quantizer`")
        return self

    def assets(self) -> dict[str, Asset]:
        """Hash the model's files, and the quantizer's."""
        if self.encoder_weights is not None and self.decoder_weights is not None:
            files = {"encoder": hash_file(self.encoder_weights), "decoder": hash_file(self.decoder_weights)}
        else:
            files = self.place().assets(self._architecture())
        if self.quantizer_weights is not None:
            files["quantizer"] = hash_file(self.quantizer_weights)
        if self.latent_scales is not None:
            files["latent_scales"] = hash_file(self.latent_scales)
        return files

    def code_streams(self) -> dict[str, StreamSpec]:
        """Return `latents`, float16 (row, column, channel), or `codes`, (row, column, codebook)."""
        channels, tile = self._header()
        shape = self.grid_shape(tile)
        quantizer = self.quantizer
        if quantizer is None:
            return {_LATENTS: StreamSpec("float16", ("row", "column", "channel"), (*shape, channels))}
        if quantizer.dimension != channels:
            raise TokenizerError(
                f"the quantizer takes vectors of {quantizer.dimension}; this model's latents have {channels} channels",
                fix=f"give it levels and codebooks, or a dimension, that come to {channels}",
            )
        spec = StreamSpec(
            quantizer.stream_dtype,
            ("row", "column", "codebook"),
            (*shape, len(quantizer.codebook_sizes)),
            vocabulary_size=quantizer.vocabulary_size,
            bands="codebook",
        )
        return {_CODES: spec}

    def check(self) -> None:
        """Check the file of scales and the quantizer's state, which loading would otherwise be the first to read."""
        if self.quantizer is not None:
            self._scales()
            self._quantizer("cpu")

    def load(self, device: str = "cpu") -> TileEncoder:
        """Return an encoder; raises AssetError, or MissingExtraError naming the extra."""
        where = self._device(device)
        streams = self.code_streams()
        model = self._model(self.precision, device)
        stream = next(iter(streams.items()))
        return TileEncoder(self.geometry, self._header()[1], stream, model.encode, self.batch_size, where)

    def decoder(self) -> Decoder:
        """Return a decoder, on the CPU."""
        stream = next(iter(self.code_streams()))
        return TileDecoder(self._header()[1], stream, self._model("float32", "cpu").decode)

    def _model(self, precision: Any, device: str) -> LatentModel:
        where = self._device(device)
        from tokenmill.tokenizers.latent_models import LatentModel

        if self.encoder_weights is not None and self.decoder_weights is not None:
            from tokenmill.tokenizers.tiny_autoencoder import load_pair

            network = load_pair(self.encoder_weights, self.decoder_weights)
        else:
            network = self.place().load(self._architecture())
        return LatentModel(network, precision, where, self._quantizer(device), self._scales())

    def _quantizer(self, device: str) -> Any:
        if self.quantizer is None:
            return None
        state = None
        if self.quantizer_weights is not None:
            from tokenmill.tokenizers.networks import load_weights

            state = load_weights(self.quantizer_weights)
        return self.quantizer.build(state, device)

    def _scales(self) -> LatentScales | None:
        if self.latent_scales is None:
            return None
        return LatentScales.read(self.latent_scales, channels=self._header()[0])

    def _architecture(self) -> _LatentArchitecture:
        return ARCHITECTURES[self.place().architecture(ARCHITECTURES).name]

    def _header(self) -> tuple[int, Tile]:
        """Return the number of channels, and the tile."""
        if self.encoder_weights is not None:
            from tokenmill.tokenizers.tiny_autoencoder import read_layout

            layout = read_layout(self.encoder_weights)
            return layout.latent_channels, self.tile(layout.factor, None)
        place, architecture = self.place(), self._architecture()
        name, default = architecture.channels
        channels = place.numbers(name, (default,))[0]
        factor: int = 2 ** (len(place.numbers(*architecture.levels)) - 1)
        edge = None
        if architecture.edge is not None:
            name, default = architecture.edge
            edge = place.numbers(name, (default,))[0]
        return channels, self.tile(factor, edge)
