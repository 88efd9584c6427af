"""The tokenizer `klt`: its config, its encoder and its decoder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from tokenmill.contract import Asset, Encoded
from tokenmill.errors import TokenizerError
from tokenmill.images.geometry import GEOMETRY, Geometry, Placed
from tokenmill.images.tokenizer import ADAPTIVE_STREAMS, ImagePreparation, ImageTokenizer
from tokenmill.streams import Jagged, StreamSpec
from tokenmill.tokenizers.klt.coding import analyse, decode_ids, lay_out, synthesise
from tokenmill.tokenizers.klt.lengths import Fixed, Length, Predict, Search, choose, join_tiles
from tokenmill.tokenizers.klt.model import CODES, KltModel, load_model
from tokenmill.tokenizers.klt.transform import EDGE
from tokenmill.tokenizers.packaged_weights import PackagedWeights

Row = Mapping[str, npt.NDArray[Any]]

_WEIGHTS = PackagedWeights(__file__, load_model)


class KltTokenizer(ImageTokenizer):
    """Adaptive-length tokens of images by learned linear transforms, on any machine, without a download.

    Tokens of an image stand in the order in which they matter: any beginning of `ids` decodes, to a coarser image.
    """

    id: ClassVar[str] = "klt"
    locations: ClassVar[frozenset[str]] = frozenset({"weights"})

    length: Length = Fixed(policy="fixed")
    """How many tokens an image is given: `fixed`, `search` or `predict`."""
    weights: str | None = None
    """Path of a weights file of one's own, made by `tokenmill train klt`; without it the packaged one is used."""

    def assets(self) -> dict[str, Asset]:
        """Return the weights file."""
        return {"weights": _WEIGHTS.asset(self.weights)}

    def code_streams(self) -> dict[str, StreamSpec]:
        """Return `ids`, `error` (of the pixels they decode to; under `fixed` as it says) and the policy's `outcome`."""
        return {
            "ids": StreamSpec("uint16", vocabulary_size=CODES, bands="octave"),
            **ADAPTIVE_STREAMS,
        }

    def load(self, device: str = "cpu") -> KltEncoder:
        """Return an encoder; raises AssetError where the weights are damaged, TokenizerError for another device."""
        if device != "cpu":
            raise TokenizerError(f"tokenizer {self.id!r} runs on the device 'cpu' alone (given {device!r})")
        return KltEncoder(_WEIGHTS.model(self.weights), self.geometry, self.length, self.streams())

    def decoder(self) -> KltDecoder:
        """Return a decoder; raises AssetError where the weights are damaged."""
        return KltDecoder(_WEIGHTS.model(self.weights))


class KltEncoder(ImagePreparation):
    """Turns placed images into tokens, one at a time: nothing about an image depends on another."""

    def __init__(
        self, model: KltModel, geometry: Geometry, length: Fixed | Search | Predict, specs: Mapping[str, StreamSpec]
    ) -> None:
        super().__init__(geometry)
        self._model = model
        self._length = length
        self._specs = specs

    def encode(self, payloads: Sequence[Placed]) -> Encoded:
        """Tokenize images as `prepare` placed them."""
        rows: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in self._specs}
        images = [analyse(self._model, placed.tiles(EDGE), placed.grid(EDGE)) for placed in payloads]
        for placed, chosen in zip(payloads, choose(self._model, payloads, images, self._length), strict=True):
            rows["ids"].append(chosen.ids.astype(np.uint16))
            rows["error"].append(np.array([chosen.error], np.float32))
            rows["outcome"].append(np.array([chosen.outcome], np.uint8))
            rows[GEOMETRY].append(placed.numbers(EDGE))
        return Encoded({name: Jagged.from_rows(rows[name], spec) for name, spec in self._specs.items()})


class KltDecoder:
    """Turns tokens back into images."""

    def __init__(self, model: KltModel) -> None:
        self._model = model

    def decode(self, streams: Row) -> Image.Image:
        """Return the image of the used size that a row's `ids`, whole or cut, and `geometry` stand for."""
        height, width, rows, columns = (int(number) for number in streams[GEOMETRY][2:])
        layout = lay_out(self._model, rows, columns)
        values = decode_ids(self._model, layout, streams["ids"].astype(np.int64))
        tiles = synthesise(self._model, layout, values)
        return Image.fromarray(join_tiles(tiles, (rows, columns), height, width))

    def prefix(self, streams: Row, fraction: float) -> dict[str, npt.NDArray[Any]]:
        """Return the row with that fraction of its tokens, one at least where there is one; it decodes coarser."""
        count = math.ceil(len(streams["ids"]) * fraction)
        kept = streams["ids"][: max(count, 1)]
        return {**streams, "ids": kept}
