"""The `vq` tokenizer: VQ image tokenizers of transformers and diffusers, an image as a 2-D grid of codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from pydantic import model_validator

from tokenmill.contract import Asset, Decoder, Encoder
from tokenmill.streams import StreamSpec, narrowest_dtype
from tokenmill.tokenizers.model_files import Architecture, ModelPlace
from tokenmill.tokenizers.pretrained import PretrainedTokenizer
from tokenmill.tokenizers.tiles import Tile, TileDecoder, TileEncoder

_STREAM = "ids"


@dataclass(frozen=True)
class _VqArchitecture(Architecture):
    """A class of VQ model, with the fields of its `config.json` that planning needs, and the library's defaults."""

    codebook: tuple[str, int]
    levels: tuple[str, tuple[int, ...]]
    edge: tuple[str, int] | None = None
    """Field of the edge that it was trained at, in pixels."""
    edge_cells: tuple[str, int] | None = None
    """Or in cells."""
    usual_edge: int | None = None
    """Or what its image processor takes at least."""
    decodes: bool = True


#: Defaults: transformers/models/<name>/configuration_<name>.py, diffusers/models/autoencoders/vq_model.py.
ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        _VqArchitecture(
            "chameleon_vqgan",
            "transformers",
            "ChameleonVQVAE",
            codebook=("num_embeddings", 8192),
            levels=("channel_multiplier", (1, 1, 2, 2, 4)),
            edge=("resolution", 512),
            decodes=False,  # transformers has its encoder only
        ),
        _VqArchitecture(
            "emu3_vqgan",
            "transformers",
            "Emu3VQVAE",
            codebook=("codebook_size", 32768),
            levels=("channel_multiplier", (1, 2, 2, 4)),
            usual_edge=512,  # Emu3ImageProcessor.min_pixels is 512 x 512
        ),
        _VqArchitecture(
            "janus_vqgan",
            "transformers",
            "JanusVQVAE",
            codebook=("num_embeddings", 16384),
            levels=("channel_multiplier", (1, 1, 2, 2, 4)),
            edge_cells=("num_patches", 32),
        ),
        _VqArchitecture(
            "VQModel",
            "diffusers",
            "VQModel",
            codebook=("num_vq_embeddings", 256),
            levels=("block_out_channels", (64,)),
            edge=("sample_size", 32),
        ),
    )
}


class VqTokenizer(PretrainedTokenizer):
    """ChameleonVQVAE, Emu3VQVAE and JanusVQVAE of transformers, VQModel of diffusers."""

    id: ClassVar[str] = "vq"
    libraries: ClassVar[tuple[str, ...]] = ("pillow", "torch", "diffusers", "transformers")

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        self._check_place((self.directory is not None) + (self.hub_id is not None))
        return self

    def assets(self) -> dict[str, Asset]:
        """Hash `config.json` and the weights."""
        return self.place().assets(self._architecture(self.place()))

    def code_streams(self) -> dict[str, StreamSpec]:
        """Return `ids`, (row, column), in the narrowest dtype for the codebook. Reads `config.json` only."""
        place = self.place()
        size = place.numbers(*_one(self._architecture(place).codebook))[0]
        shape = self.grid_shape(self._tile(place))
        return {_STREAM: StreamSpec(narrowest_dtype(size), ("row", "column"), shape, vocabulary_size=size)}

    def load(self, device: str = "cpu") -> Encoder:
        """Return an encoder; raises AssetError, or MissingExtraError naming the extra."""
        where = self._device(device)
        from tokenmill.tokenizers.vq_models import VqModel

        place = self.place()
        architecture = self._architecture(place)
        model = VqModel(place.load(architecture), architecture.name, self.precision, where)
        stream = (_STREAM, self.code_streams()[_STREAM])
        return TileEncoder(self.geometry, self._tile(place), stream, model.encode, self.batch_size, where)

    def decoder(self) -> Decoder | None:
        """Return a decoder, on the CPU; None for ChameleonVQVAE, which transformers has no decoder of."""
        place = self.place()
        architecture = self._architecture(place)
        if not architecture.decodes:
            return None
        where = self._device("cpu")
        from tokenmill.tokenizers.vq_models import VqModel

        model = VqModel(place.load(architecture), architecture.name, "float32", where)
        return TileDecoder(self._tile(place), _STREAM, model.decode)

    def notes(self) -> list[str]:
        """Say where rows cannot be decoded."""
        architecture = self._architecture(self.place())
        return [] if architecture.decodes else [f"{architecture.class_name} has no decoder: rows cannot be decoded"]

    def _architecture(self, place: ModelPlace) -> _VqArchitecture:
        return ARCHITECTURES[place.architecture(ARCHITECTURES).name]

    def _tile(self, place: ModelPlace) -> Tile:
        architecture = self._architecture(place)
        name, default = architecture.levels
        factor: int = 2 ** (len(place.numbers(name, default)) - 1)
        edge = architecture.usual_edge
        if architecture.edge is not None:
            edge = place.numbers(*_one(architecture.edge))[0]
        elif architecture.edge_cells is not None:
            edge = place.numbers(*_one(architecture.edge_cells))[0] * factor
        return self.tile(factor, edge)


def _one(field: tuple[str, int]) -> tuple[str, tuple[int, ...]]:
    return field[0], (field[1],)
