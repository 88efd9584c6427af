"""A small adaptive tokenizer of images, and datasets made with it: colours of ever finer squares, as many as needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.datasets import job_of
from tokenmill import registry
from tokenmill.contract import Decoder, Encoded, Encoder
from tokenmill.errors import TokenizerError
from tokenmill.images.geometry import Geometry, Placed
from tokenmill.images.tokenizer import ImagePreparation, ImageTokenizer
from tokenmill.jobs import Job
from tokenmill.streams import Jagged, StreamSpec

#: Squares a side of each level: one token for the whole image, then four, sixteen …
_SIDES = (1, 2, 4, 8, 16)


class MosaicTokenizer(ImageTokenizer):
    """Squares' colours, coarse ones first, until the error is small enough."""

    id: ClassVar[str] = "mosaic"

    geometry: Geometry = Geometry(edge=64)
    error: float = 0.05
    most: int = 85

    def code_streams(self) -> dict[str, StreamSpec]:
        return {
            "ids": StreamSpec("uint16", vocabulary_size=4096, bands="octave"),
            "error": StreamSpec("float32", dims=("value",), shape=(1,), error_of="ids"),
            "outcome": StreamSpec("uint8", ("value",), (1,), vocabulary_size=3, labels=("fixed", "met", "capped")),
        }

    def load(self, device: str = "cpu") -> Encoder:
        if device != "cpu":
            raise TokenizerError(f"{device!r} is not a device of this tokenizer")
        return _Encoder(self)

    def decoder(self) -> Decoder | None:
        return _Decoder(self.geometry.edge)


class _Encoder(ImagePreparation):
    def __init__(self, tokenizer: MosaicTokenizer) -> None:
        super().__init__(tokenizer.geometry)
        self._tokenizer = tokenizer

    def encode(self, payloads: Sequence[Placed]) -> Encoded:
        rows: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in self._tokenizer.streams()}
        for placed in payloads:
            ids, error, met = self._ids(placed.pixels)
            rows["ids"].append(ids)
            rows["error"].append(np.array([error], np.float32))
            rows["outcome"].append(np.array([1 if met else 2]))
            rows["geometry"].append(placed.numbers(self._tokenizer.geometry.edge))
        specs = self._tokenizer.streams()
        return Encoded({name: Jagged.from_rows(values, specs[name]) for name, values in rows.items()})

    def _ids(self, pixels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], float, bool]:
        edge = self._tokenizer.geometry.edge
        ids = np.empty(0, np.int64)
        for side in _SIDES:
            squares = pixels.reshape(side, edge // side, side, edge // side, 3).mean(axis=(1, 3))
            levels = (squares / 16).astype(np.int64).reshape(-1, 3)
            ids = np.concatenate([ids, levels @ [256, 16, 1]])[: self._tokenizer.most]
            error = float(np.abs(pixels / 255 - painted(ids, edge) / 255).mean())
            if error <= self._tokenizer.error or len(ids) == self._tokenizer.most:
                break
        return ids, error, error <= self._tokenizer.error


class _Decoder:
    def __init__(self, edge: int) -> None:
        self._edge = edge

    def decode(self, streams: Mapping[str, npt.NDArray[Any]]) -> Image.Image:
        return Image.fromarray(painted(streams["ids"].astype(np.int64), self._edge))

    def prefix(self, streams: Mapping[str, npt.NDArray[Any]], fraction: float) -> Mapping[str, npt.NDArray[Any]]:
        tokens = len(streams["ids"])
        return {**streams, "ids": streams["ids"][: max(int(tokens * fraction), min(tokens, 1))]}


def painted(ids: npt.NDArray[np.int64], edge: int) -> npt.NDArray[np.uint8]:
    """Paint the squares that there are over those that are coarser: uint8 `[row, column, channel]`."""
    image = np.zeros((edge, edge, 3), np.uint8)
    first = 0
    for side in _SIDES:
        for square, number in enumerate(ids[first : first + side * side]):
            row, column = divmod(square, side)
            width = edge // side
            colour = np.array([number >> 8, number >> 4 & 15, number & 15]) * 16 + 8
            image[row * width : (row + 1) * width, column * width : (column + 1) * width] = colour
        first += side * side
    return image


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it known beside the tokenizers that are installed, in this process."""
    installed = list(entry_points(group=registry.GROUP))
    entry = EntryPoint("mosaic", "tests.mosaics:MosaicTokenizer", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints([*installed, entry]).select(group=group))


def write_pictures(directory: Path, count: int = 6) -> Path:
    """Write pictures of which each is busier than the one before it, `0.png` of one colour."""
    directory.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(count):
        side = 1 << number
        colours = random.integers(0, 256, (side, side, 3), np.uint8)
        picture = Image.fromarray(colours).resize((96 + 16 * number, 80), Image.Resampling.BILINEAR)
        picture.save(directory / f"{number}.png")
    return directory


def mosaic_job(output: Path, pictures: Path, **changes: Any) -> Job:
    """Return a job over a directory of pictures: one source `photos`, one table `mosaic`."""
    source = {"name": "photos", "modality": "image", "fields": {}}
    tables = [{"name": "mosaic", "tokenizer": {"id": "mosaic"}}]
    return job_of(str(output), pictures, source=source, **{"tables": tables, **changes})
