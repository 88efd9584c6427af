"""From image files to the packaged form of what was learned from them: what `tokenmill train klt` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tokenmill.errors import InputError, ItemError
from tokenmill.images.geometry import Geometry
from tokenmill.images.image_file import ImageFile, Pixels
from tokenmill.tokenizers.klt.model import GROUP
from tokenmill.tokenizers.klt.predictor_training import fit_predictor, with_predictor
from tokenmill.tokenizers.klt.training import TrainingSettings, learn
from tokenmill.tokenizers.klt.transform import EDGE

#: Images by which the predictor is fitted and calibrated.
_PREDICTOR_IMAGES = 400
#: Among so many images one of a single colour is put.
_IMAGES_A_FLAT_ONE = 24
#: Fewer images than this say too little of the world.
_FEWEST = 32


def train_on_files(paths: Sequence[Path], settings: TrainingSettings, report: Callable[[str], None]) -> bytes:
    """Return the bytes of a weights file.

    Args:
        paths: Image files, and folders whose image files are taken, in the order of their names.
        settings: How large the tables become.
        report: Is told what is being done, and which files were left out.

    Raises:
        InputError: There are too few images.
    """
    crops: list[Pixels] = []
    images = 0
    for path in _files(paths):
        try:
            found = crops_of(ImageFile(path.read_bytes()))
        except ItemError as error:
            report(f"left out: {path}: {error.what}")
            continue
        images += 1
        crops += found
    report(f"{images:,} images, {len(crops):,} crops of them")
    if len(crops) < _FEWEST:
        raise InputError(
            f"{len(crops)} images can be read; {_FEWEST} are the fewest to learn from",
            where=", ".join(map(str, paths)),
            fix="give more image files, or folders of them; a thousand and more are better",
        )
    model = learn([*crops, *flat_images(len(crops) // _IMAGES_A_FLAT_ONE)], settings, report)
    report("the predictor of lengths")
    return with_predictor(model, fit_predictor(model, crops[:: max(len(crops) // _PREDICTOR_IMAGES, 1)])).save()


def crops_of(image: ImageFile) -> list[Pixels]:
    """Return the whole of an image, cropped, and of a large one two corners at twice the scale; 256 x 256 pixels each.

    Raises:
        ItemError: It cannot be decoded.
    """
    edge = GROUP * EDGE
    placed = image.placed(Geometry(mode="crop", edge=2 * edge))
    whole = image.placed(Geometry(mode="crop", edge=edge)).pixels
    if min(placed.original) < 2 * edge:
        return [whole]
    return [
        whole,
        *(np.ascontiguousarray(corner) for corner in (placed.pixels[:edge, :edge], placed.pixels[edge:, edge:])),
    ]


def flat_images(count: int) -> list[Pixels]:
    """Return images of one colour each, drawn evenly from all: photographs hardly have them, and any may come."""
    colours = np.random.default_rng(0).integers(0, 256, (count, 3))
    edge = GROUP * EDGE
    return [np.broadcast_to(colour.astype(np.uint8), (edge, edge, 3)).copy() for colour in colours]


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(found for found in path.rglob("*") if found.is_file())
        elif path.is_file():
            yield path
        else:
            raise InputError("there is no such file or folder", where=str(path))
