"""Rate and quality of images: `klt` beside JPEG and WebP at equal bits, on images that no weight was trained on.

Every image is placed by the default geometry (shortest side to 256, centre 256 x 256 cut out), encoded once, and
decoded from its first 8, 16 … 256 tokens, which are what `fixed` gives with so many.  JPEG and WebP get the same number
of bytes: of all sizes to which the image can be halved first, each at the highest quality that fits, the one whose
decoded and enlarged picture has the highest PSNR.  They are counted twice: as *whole files* (klt: 16 bits a token and
the 24 bytes of `geometry`), and *without headers*: a JPEG's scan alone, without its tables, a WebP's frame without its
container (klt: 16 bits a token, the geometry being known).  Where an image cannot be made so small at all, it is left
out of the mean; `reached` says how many could.

Further: PSNR at 32 tokens for each 64 x 64 tile on scikit-image's photographs (target 21 dB).
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy
from PIL import Image

from benchmarks import measuring
from benchmarks.image_sets import (
    SAMPLE_SET,
    Coder,
    Measured,
    Pixels,
    mean_l1,
    measured_images,
    psnr_db,
    ssim,
)
from tokenmill.images.image_file import ImageFile

TOKENS = (8, 16, 32, 64, 128, 256)
TOKEN_BYTES, GEOMETRY_BYTES = 2, 24
TILE_TOKENS, TILES, TARGET_DB = 32, 16, 21.0
SIDES = (256, 128, 64, 32, 16, 8)
WHOLE, BARE = "whole files", "without headers"


class Score(NamedTuple):
    """How near a decoded image is to the image: PSNR in dB, SSIM, L1 in [0, 1]."""

    psnr: float
    ssim: float
    l1: float


def score(image: Pixels, decoded: Pixels) -> Score:
    """Compare two images."""
    return Score(psnr_db(image, decoded), ssim(image, decoded), mean_l1(image, decoded))


def jpeg_scan_bytes(data: bytes) -> int:
    """Return the size of a JPEG's entropy-coded scan: from after its header to the end marker."""
    start = data.index(b"\xff\xda")
    return len(data) - start - 2 - int.from_bytes(data[start + 2 : start + 4], "big") - 2


def webp_frame_bytes(data: bytes) -> int:
    """Return the size of a WebP's frame: what its one chunk holds."""
    return int.from_bytes(data[16:20], "little")


CODECS: dict[str, tuple[dict[str, Any], Callable[[bytes], int]]] = {
    "JPEG": ({"optimize": True}, jpeg_scan_bytes),
    "WEBP": ({"method": 4}, webp_frame_bytes),
}


class Rival:
    """One image in one of Pillow's formats, at any size and quality."""

    def __init__(self, image: Pixels, codec: str) -> None:
        self._image = image
        self._codec = codec
        self._whole = Image.fromarray(image)
        self.file = lru_cache(maxsize=None)(self._file)

    def _file(self, side: int, quality: int) -> bytes:
        small = self._whole.resize((side, side), Image.Resampling.LANCZOS) if side < SIDES[0] else self._whole
        out = io.BytesIO()
        small.save(out, self._codec, quality=quality, **CODECS[self._codec][0])
        return out.getvalue()

    def size_bytes(self, side: int, quality: int, counted: str) -> int:
        """Return a file's size as it is counted."""
        data = self.file(side, quality)
        return len(data) if counted == WHOLE else CODECS[self._codec][1](data)

    def best(self, budget_bytes: int, counted: str) -> Pixels | None:
        """Return the best picture that so many bytes hold; None where not even the smallest fits."""
        pictures = []
        for side in SIDES:
            low, high = 0, 95  # the highest quality that fits is at least low and below high + 1
            while low < high:
                middle = (low + high + 1) // 2
                if self.size_bytes(side, middle, counted) <= budget_bytes:
                    low = middle
                else:
                    high = middle - 1
            if low:
                decoded = Image.open(io.BytesIO(self.file(side, low))).convert("RGB")
                pictures.append(numpy.asarray(decoded.resize(self._whole.size, Image.Resampling.BICUBIC)))
        return max(pictures, key=lambda picture: psnr_db(self._image, picture), default=None)


def measure(measured: Measured) -> Iterator[tuple[str, str, int, Score | None]]:
    """Yield a codec, how it was counted, a number of tokens and the score of one image; None where not reached."""
    image = _coder.place(ImageFile(measured.data))
    row = next(_coder.rows([image]))
    for count in TOKENS:
        yield "klt", "", count, score(image.pixels, _coder.decode({**row, "ids": row["ids"][:count]}))
    for codec in CODECS:
        rival = Rival(image.pixels, codec)
        for count in TOKENS:
            for counted, more_bytes in ((WHOLE, GEOMETRY_BYTES), (BARE, 0)):
                picture = rival.best(count * TOKEN_BYTES + more_bytes, counted)
                yield codec, counted, count, None if picture is None else score(image.pixels, picture)


def _begin() -> None:
    global _coder
    _coder = Coder({"id": "klt", "length": {"policy": "fixed", "tokens": TOKENS[-1], "per": "image"}})


_coder: Coder


def _measure_all(measured: Measured) -> tuple[str, list[tuple[str, str, int, Score | None]]]:
    return measured.set, list(measure(measured))


def tile_scores(images: list[Measured]) -> list[Score]:
    """Return the scores of images at TILE_TOKENS tokens for each tile."""
    coder = Coder({"id": "klt", "length": {"policy": "fixed", "tokens": TILE_TOKENS, "per": "tile"}})
    placed = [coder.place(ImageFile(one.data)) for one in images]
    rows = list(coder.rows(placed))
    if any(len(row["ids"]) > TILE_TOKENS * TILES for row in rows):
        raise ValueError("an image has more tokens than asked for")
    return [score(one.pixels, coder.decode(row)) for one, row in zip(placed, rows, strict=True)]


def cell(scores: list[Score | None]) -> str:
    """Return mean PSNR, SSIM and L1 of those reached, and how many were reached where some were not."""
    reached = [one for one in scores if one is not None]
    if not reached:
        return "not reached"
    psnr, similarity, l1 = (sum(values) / len(reached) for values in zip(*reached, strict=True))
    some = "" if len(reached) == len(scores) else f" ({len(reached) / len(scores):.0%} reached)"
    return f"{psnr:.1f} / {similarity:.2f} / {l1:.3f}{some}"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of build_images.py")
    parser.add_argument("--every", type=int, default=1, help="take only each nth held-out image")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    images = measured_images(options.images, options.every)
    scores: dict[tuple[str, str, str, int], list[Score | None]] = defaultdict(list)
    with multiprocessing.get_context("spawn").Pool(options.processes, _begin) as pool:
        for name, found in pool.imap_unordered(_measure_all, images, chunksize=4):
            for codec, counted, count, one in found:
                scores[name, codec, counted, count].append(one)

    sets = list(dict.fromkeys(one.set for one in images))
    columns = [("klt", ""), *((codec, counted) for counted in (WHOLE, BARE) for codec in CODECS)]
    titles = [f"{codec}, {counted}" if counted else codec for codec, counted in columns]
    parts = []
    for name in sets:
        parts.append(f"{name} ({sum(one.set == name for one in images)}): PSNR in dB / SSIM / L1")
        rows = [
            [count, count * TOKEN_BYTES, *(cell(scores[name, codec, counted, count]) for codec, counted in columns)]
            for count in TOKENS
        ]
        parts.append(measuring.table(["tokens", "bytes", *titles], rows))
    tiles = tile_scores([one for one in images if one.set == SAMPLE_SET])
    mean_db = sum(one.psnr for one in tiles) / len(tiles)
    parts.append(
        measuring.table(
            ["what", "measured", "target", "verdict"],
            [
                [
                    f"PSNR at {TILE_TOKENS} tokens for each 64 x 64 tile, {SAMPLE_SET} ({len(tiles)})",
                    f"{mean_db:.2f} dB",
                    f"≥ {TARGET_DB} dB",
                    measuring.verdict(mean_db, TARGET_DB, at_least=True),
                ]
            ],
        )
    )
    result = {
        "machine": measuring.machine(),
        "scores": {" | ".join(map(str, key)): values for key, values in scores.items()},
        "tile_scores": tiles,
    }
    measuring.report(result, "\n\n".join(parts), options.json)


if __name__ == "__main__":
    main()
