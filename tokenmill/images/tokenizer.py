"""What every image tokenizer has: a geometry, the stream that records it, and items prepared by threads."""

from __future__ import annotations

from typing import Any, ClassVar

from tokenmill.contract import Tokenizer
from tokenmill.images.geometry import GEOMETRY, GEOMETRY_SPEC, Geometry, Placed
from tokenmill.images.image_file import ImageFile
from tokenmill.streams import StreamSpec

#: What became of an image's length: it was given; the error is within the target; or it is not, with as many tokens as
#: are allowed, or with fewer, as a prediction was wrong.
OUTCOMES = ("fixed", "met", "capped", "missed")
FIXED, MET, CAPPED, MISSED = range(len(OUTCOMES))
#: The streams of tokenizers of adaptive length beside `ids`: the error reached, and the outcome.
ADAPTIVE_STREAMS = {
    "error": StreamSpec("float32", dims=("value",), shape=(1,), error_of="ids"),
    "outcome": StreamSpec("uint8", dims=("value",), shape=(1,), vocabulary_size=len(OUTCOMES), labels=OUTCOMES),
}


class ImageTokenizer(Tokenizer):
    """Base of the configs of image tokenizers."""

    modality: ClassVar[str] = "image"
    libraries: ClassVar[tuple[str, ...]] = ("pillow",)

    geometry: Geometry = Geometry()
    """How images become the pixels that are tokenized."""

    def streams(self) -> dict[str, StreamSpec]:
        """Return the codes' streams, and `geometry`, int32 `[6]`: original and used size, and the tile grid."""
        return {**self.code_streams(), GEOMETRY: GEOMETRY_SPEC}

    def code_streams(self) -> dict[str, StreamSpec]:
        """Return the streams that hold what the image became."""
        raise NotImplementedError


class ImagePreparation:
    """Mixin of image encoders: decodes and places an item, on any thread.

    Args:
        geometry: The tokenizer's.
        batch_items: How many items the encoder likes to get at once.
    """

    def __init__(self, geometry: Geometry, batch_items: int = 8) -> None:
        self._geometry = geometry
        self.batch_items = batch_items

    def prepare(self, payload: Any) -> Placed:
        """Decode and place an ImageFile; raises ItemError where it cannot be decoded."""
        if not isinstance(payload, ImageFile):
            raise TypeError(f"an image tokenizer takes ImageFile; given {type(payload).__name__}")
        return payload.placed(self._geometry)
