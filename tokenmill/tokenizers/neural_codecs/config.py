"""What the configs of neural audio codecs share, and how `config.json` is read for them without torch."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, model_validator

from tokenmill.audio.codec import CodecShape
from tokenmill.audio.tokenizer import AudioTokenizer
from tokenmill.contract import Asset, Decoder, Encoder
from tokenmill.errors import AssetError, TokenizerError
from tokenmill.streams import StreamSpec
from tokenmill.tokenizers.model_fields import ModelFields
from tokenmill.tokenizers.model_files import Architecture
from tokenmill.tokenizers.precision import Precision

if TYPE_CHECKING:
    import torch

    from tokenmill.tokenizers.neural_codecs.decoding import NeuralCodecDecoder
    from tokenmill.tokenizers.neural_codecs.networks import CodecNetwork

#: Windows at once where the config does not say, by kind of device. A CPU gains nothing by more than one.
_BATCH_SIZES = {"cpu": 1, "cuda": 16}


@dataclass(frozen=True)
class CodecHeader:
    """What planning needs to know of a codec's model.

    Attributes:
        rate_hz: Sample rate.
        hop_samples: Samples of a frame.
        codebooks: How many the model has.
        codebook_size: Ids of each.
        causal: Whether a frame depends on nothing after it.
        exact: Whether a recording's codes are the same whether it is cut or not.
        gain: Whether every chunk has a gain.
        own_chunk: Samples of a chunk and of its overlap with the next, of a model that codes each by itself.
    """

    rate_hz: int
    hop_samples: int
    codebooks: int
    codebook_size: int
    causal: bool
    exact: bool = True
    gain: bool = False
    own_chunk: tuple[int, int] | None = None


class NeuralCodecTokenizer(ModelFields, AudioTokenizer):
    """Base of the configs of neural audio codecs."""

    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    libraries: ClassVar[tuple[str, ...]] = (*AudioTokenizer.libraries, "torch", "transformers")

    #: The model: its name in `config.json`, and its class in transformers.
    architecture: ClassVar[Architecture]
    #: `chunk_seconds` where the config does not say.
    usual_chunk_seconds: ClassVar[float] = 10.0

    codebooks: int | None = Field(default=None, ge=1)
    """How many of the model's codebooks to use, the first ones; default: all."""
    chunk_seconds: float | None = Field(default=None, ge=1, le=600)
    """By how much of a long recording the network goes on at once; default: 10, of `xcodec` 30. Memory grows with
    it."""
    batch_size: int | None = Field(default=None, ge=1, le=4096)
    """Windows that the network sees at once; a batch is always filled up to it. Default: 1 on a CPU, 16 on a GPU."""
    precision: Precision = "float32"
    """Of the encoder's weights and arithmetic before the quantizer. Decoding is always done in float32."""

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        self._check_place((self.directory is not None) + (self.hub_id is not None))
        return self

    def assets(self) -> dict[str, Asset]:
        """Hash `config.json` and the weights."""
        return self.place().assets(self._known())

    def shape(self) -> CodecShape:
        """Return the codec's shape, without the context that its windows need. Reads `config.json` only."""
        header = self._header()
        codebooks = self.codebooks or header.codebooks
        if codebooks > header.codebooks:
            raise TokenizerError(
                f"this model has {header.codebooks} codebooks; `codebooks` asks for {codebooks}",
                where=self._config_place(),
                fix=f"set it to {header.codebooks} or less, or leave it out",
            )
        if header.own_chunk is None:
            chunk, overlap = (self.chunk_seconds or self.usual_chunk_seconds) * header.rate_hz, 0
        else:
            chunk, overlap = header.own_chunk
            if self.chunk_seconds is not None:
                raise TokenizerError(
                    f"this model codes chunks of {chunk / header.rate_hz:g} s, each by itself: `chunk_seconds` would "
                    "make it another codec",
                    where=self._config_place(),
                    fix="leave `chunk_seconds` out",
                )
        return CodecShape(
            rate_hz=header.rate_hz,
            hop_samples=header.hop_samples,
            codebooks=codebooks,
            codebook_size=header.codebook_size,
            strides=(1,) * codebooks,
            causal=header.causal,
            chunk_frames=max(math.ceil(chunk / header.hop_samples), 1),
            left_frames=0,
            right_frames=0,
            exact=header.exact,
            overlap_samples=overlap,
        )

    def code_streams(self) -> dict[str, StreamSpec]:
        """Return `codes`, (frame, codebook), and `gain`, (chunk), where the model normalises chunks."""
        shape = self.shape()
        streams = shape.streams()
        if self._header().gain:
            streams["gain"] = StreamSpec(
                "float32", dims=("chunk",), shape=(None,), frame_hz=shape.frame_hz / shape.chunk_frames
            )
        return streams

    def load(self, device: str = "cpu") -> Encoder:
        """Return an encoder; raises AssetError, or MissingExtraError naming the extra."""
        where = self._device(device)
        import torch

        from tokenmill.tokenizers.neural_codecs.encoding import NeuralCodecEncoder

        shape = self.shape()
        network = self._network(self.place().load(self._known()), where, getattr(torch, self.precision))
        left, right = self._context(network, shape)
        shape = replace(shape, left_frames=left, right_frames=right)
        batch_size = self.batch_size or _BATCH_SIZES[where.type]
        return NeuralCodecEncoder(network, shape, self.streams(), batch_size)

    def decoder(self) -> Decoder:
        """Return a decoder, on the CPU."""
        self._device("cpu")
        return self._decoder(self.place().load(self._known()))

    @abstractmethod
    def _header(self) -> CodecHeader:
        """Read `config.json`."""

    @abstractmethod
    def _network(self, model: Any, device: torch.device, dtype: torch.dtype) -> CodecNetwork:
        """Return the model's way from sound to codes."""

    @abstractmethod
    def _decoder(self, model: Any) -> NeuralCodecDecoder:
        """Return the model's way back."""

    def _context(self, network: CodecNetwork, shape: CodecShape) -> tuple[int, int]:
        """Return how many frames before and after those wanted the network is to see."""
        return network.context(shape.hop_samples)

    def _known(self) -> Architecture:
        return self.place().architecture({self.architecture.name: self.architecture})

    def _fields(self) -> ConfigFields:
        self._known()
        return ConfigFields(self.place().config(), self._config_place())

    def _config_place(self) -> str:
        return f"{self.directory or self.hub_id}/config.json"

    def _refuse(self, what: str) -> TokenizerError:
        return TokenizerError(
            f"tokenizer {self.id!r} takes no model {what}",
            where=self._config_place(),
            fix=f"give a published {self.architecture.class_name}, or one of its shape",
        )


@dataclass(frozen=True)
class ConfigFields:
    """The fields of a `config.json`, with the library's own defaults: it leaves out of the file what has its default.

    Attributes:
        values: What the file holds.
        where: The file, for messages.
    """

    values: Mapping[str, Any]
    where: str

    def whole(self, name: str, default: int) -> int:
        """Return a positive whole number; raises AssetError where it is none."""
        return self.wholes(name, (default,))[0]

    def wholes(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """Return one or several positive whole numbers; raises AssetError where they are none."""
        found = self.get(name, default)
        numbers = tuple(found) if isinstance(found, list | tuple) else (found,)
        if not numbers or not all(type(number) is int and 0 < number < 1 << 31 for number in numbers):
            raise AssetError(f"`{name}` is {found!r}, no positive whole number", where=self.where)
        return numbers

    def number(self, name: str, default: float | None) -> float | None:
        """Return a number of at least 0, or None where there is none; raises AssetError for anything else."""
        found = self.get(name, default)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found < 1e12:
            raise AssetError(f"`{name}` is {found!r}, no number", where=self.where)
        return float(found)

    def get(self, name: str, default: Any) -> Any:
        """Return a field as it is."""
        return self.values.get(name, default)

    def highest_bandwidth(self, default: float) -> float:
        """Return the last of `target_bandwidths`, in kbit/s; raises AssetError where there is none."""
        found = self.get("target_bandwidths", [default])
        last = found[-1] if isinstance(found, list) and found else None
        if isinstance(last, bool) or not isinstance(last, int | float) or not 0 < last < 1e6:
            raise AssetError(f"`target_bandwidths` is {found!r}, no list of kbit/s", where=self.where)
        return float(last)


def bandwidth_codebooks(bandwidth: float, rate_hz: int, hop_samples: int, codebook_size: int) -> int:
    """Return how many codebooks a bandwidth in kbit/s pays for, as EncodecConfig and XcodecConfig count them."""
    bits = math.ceil(math.log2(codebook_size))
    return int(1000 * bandwidth // (math.ceil(rate_hz / hop_samples) * bits))
