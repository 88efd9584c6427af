"""The images that benchmarks measure on, held-out ones and scikit-image's photographs, and how rows are made of them.

scikit-image's photographs are for measuring alone: they are in no list, and nothing is trained on them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import numpy.typing
from PIL import Image

from tokenmill.contract import PreparingEncoder, Tokenizer
from tokenmill.images.geometry import Placed
from tokenmill.images.image_file import ImageFile
from tokenmill.registry import parse_tokenizer

Pixels = numpy.typing.NDArray[numpy.uint8]
Row = Mapping[str, numpy.typing.NDArray[Any]]

#: Those of scikit-image's sample images that are photographs and come with its wheel.
SAMPLES = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "moon.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
SAMPLE_SET = "scikit-image's photographs"


@dataclass(frozen=True)
class Measured:
    """An image to measure on: its set, and its file's bytes."""

    set: str
    data: bytes


def sample_files() -> list[bytes]:
    """Return scikit-image's photographs, as stored."""
    import skimage.data

    folder = Path(skimage.data.__file__).parent
    return [(folder / name).read_bytes() for name in SAMPLES]


def measured_images(images: Path, every: int = 1) -> list[Measured]:
    """Return the held-out images of build_images.py (each nth of them) and all of scikit-image's photographs."""
    from benchmarks.build_images import read_list

    rows = read_list("heldout")[::every]
    held = [Measured(f"held-out {row.kind}s", (images / "heldout" / row.file_name()).read_bytes()) for row in rows]
    return [*sorted(held, key=lambda one: one.set, reverse=True), *(Measured(SAMPLE_SET, d) for d in sample_files())]


def png_file(pixels: Pixels) -> ImageFile:
    """Return pixels as an image file without loss."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return ImageFile(file.getvalue())


class Coder:
    """A tokenizer as configured, loaded on the CPU."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.tokenizer: Tokenizer = parse_tokenizer(config)
        encoder = self.tokenizer.load()
        if not isinstance(encoder, PreparingEncoder):
            raise TypeError(f"{config['id']} prepares no images")
        self.encoder = encoder
        self.decoder = self.tokenizer.decoder()

    def place(self, file: ImageFile) -> Placed:
        """Decode a file and apply the geometry."""
        placed = self.encoder.prepare(file)
        if not isinstance(placed, Placed):
            raise TypeError(f"{type(placed).__name__} is no placed image")
        return placed

    def rows(self, images: Sequence[Placed]) -> Iterator[Row]:
        """Yield the streams of each image."""
        for start in range(0, len(images), self.encoder.batch_items):
            encoded = self.encoder.encode(images[start : start + self.encoder.batch_items])
            if encoded.failures:
                raise ValueError(encoded.failures[0].message)
            for number in range(len(images[start : start + self.encoder.batch_items])):
                yield {name: stream[number] for name, stream in encoded.streams.items()}

    def decode(self, row: Row) -> Pixels:
        """Return the pixels uint8 `[row, column, channel]` that a row stands for."""
        if self.decoder is None:
            raise TypeError("this tokenizer has no decoder")
        return numpy.asarray(self.decoder.decode(row))


def psnr_db(one: Pixels, other: Pixels) -> float:
    """Return the peak signal-to-noise ratio in dB; 60 and more count as 60."""
    error = float(numpy.square(one.astype(numpy.float64) - other).mean())
    return min(60.0, 10 * float(numpy.log10(255**2 / error))) if error else 60.0


def mean_l1(one: Pixels, other: Pixels) -> float:
    """Return the mean absolute difference, of pixels in [0, 1]."""
    return float(numpy.abs(one.astype(numpy.float64) - other).mean()) / 255


def ssim(one: Pixels, other: Pixels) -> float:
    """Return the structural similarity of the brightness."""
    from skimage.metrics import structural_similarity

    gray = [numpy.asarray(Image.fromarray(pixels).convert("L")) for pixels in (one, other)]
    return float(structural_similarity(*gray, data_range=255))
