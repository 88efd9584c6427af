"""The tokenizer `klt` with its packaged weights: contract, prefixes, length policies, geometries, damaged weights."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pydantic import ValidationError

from tokenmill.contract import resolve
from tokenmill.errors import AssetError
from tokenmill.images.geometry import Geometry
from tokenmill.images.image_file import ImageFile, Pixels
from tokenmill.images.tokenizer import CAPPED, FIXED, MET, MISSED
from tokenmill.testing import Case, check_tokenizer
from tokenmill.tokenizers import klt
from tokenmill.tokenizers.klt import KltTokenizer, lengths

Row = Mapping[str, npt.NDArray[Any]]
PACKAGED = Path(klt.__file__).with_name("weights.npz")
NATIVE = {"mode": "native"}

#: Of the image in test_golden_ids: its first ids, and all of them added up.
GOLDEN_FIRST = [58346, 37347, 15772, 4505, 43130, 25745, 41842, 59108]
GOLDEN_SUM = 15532424


def scene(height: int, width: int, seed: int = 0) -> Pixels:
    """A sky, a ground, discs and a little grain."""
    draw = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([90 + 80 * rows / height, 120 + 60 * columns / width, 200 - 90 * rows / height], -1)
    for _ in range(8):
        row, column, radius = draw.random(3) * (height, width, min(height, width) / 4)
        pixels[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = draw.integers(0, 256, 3)
    return (pixels + draw.normal(0, 3, pixels.shape)).clip(0, 255).astype(np.uint8)


def file_of(pixels: Pixels) -> ImageFile:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return ImageFile(buffer.getvalue())


def rows_of(tokenizer: KltTokenizer, *images: Pixels) -> list[Row]:
    encoder = tokenizer.load()
    encoded = encoder.encode([encoder.prepare(file_of(pixels)) for pixels in images])
    return [{name: jagged[index] for name, jagged in encoded.streams.items()} for index in range(len(images))]


def klt_of(geometry: dict[str, Any] | None = None, **length: Any) -> KltTokenizer:
    fields: dict[str, Any] = {"length": length} if length else {}
    return KltTokenizer.model_validate({**fields, **({"geometry": geometry} if geometry else {})})


def decoded(row: Row, count: int | None = None) -> Pixels:
    return np.asarray(KltTokenizer().decoder().decode({**row, "ids": row["ids"][:count]}))


def l1(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one.astype(np.int64) - other).sum() / (one.size * 255))


def test_contract(tmp_path: Path) -> None:
    def moved(directory: Path) -> KltTokenizer:
        return KltTokenizer(weights=str(shutil.copy(PACKAGED, directory / "own.npz")))

    def close(payload: ImageFile, image: Image.Image) -> bool:
        return l1(np.asarray(image), KltTokenizer().geometry.place(payload.pixels()).pixels) < 0.15

    images = [scene(300, 200), scene(32, 500, 1), scene(256, 256, 2), np.full((9, 9, 3), 200, np.uint8)]
    case = Case(
        KltTokenizer(),
        payloads=[file_of(pixels) for pixels in images],
        variants=[
            klt_of(NATIVE),
            klt_of(policy="fixed", tokens=16),
            klt_of(policy="fixed", tokens=16, per="image"),
            klt_of(policy="fixed", tokens=16, measure="l1"),
            klt_of(policy="search", error=0.05),
            klt_of(policy="search", error=0.05, measure="mse"),
            klt_of(policy="search", error=0.05, max_tokens=8),
            klt_of(policy="predict", error=0.05),
        ],
        empty=None,
        decodes=close,
        moved=moved,
    )
    check_tokenizer(case, tmp_path)


@pytest.mark.parametrize(
    "length",
    [
        {"policy": "search"},
        {"policy": "search", "error": 0},
        {"policy": "fixed", "tokens": 0},
        {"policy": "fixed", "error": 0.1},
        {"policy": "nonsense"},
    ],
)
def test_wrong_lengths_are_refused(length: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        klt_of(**length)


def test_golden_ids() -> None:
    """Arithmetic is exact: these are the ids everywhere, as long as the weights stay."""
    rows, columns = np.mgrid[0:256, 0:256]
    pixels = np.stack([rows, columns, (rows ^ columns) & 255], -1).astype(np.uint8)
    (row,) = rows_of(klt_of(policy="fixed", tokens=32), pixels)
    assert row["ids"][:8].tolist() == GOLDEN_FIRST
    assert int(row["ids"].astype(np.int64).sum()) == GOLDEN_SUM


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (63, 65), (200, 330), (64, 64), (300, 700)])
def test_every_prefix_decodes_and_more_tokens_are_nearer(shape: tuple[int, int]) -> None:
    pixels = scene(*shape)
    (row,) = rows_of(klt_of(NATIVE, policy="fixed", tokens=40, measure="l1"), pixels)
    tiles = -(-shape[0] // 64) * -(-shape[1] // 64)
    assert len(row["ids"]) == 40 * tiles
    assert row["geometry"][:4].tolist() == [*shape, *shape]
    counts = sorted({*range(12), *(len(row["ids"]) * step // 12 for step in range(13))})
    errors = []
    for count in counts:
        image = decoded(row, count)
        assert image.shape == (*shape, 3)
        errors.append(l1(image, pixels))
    assert errors[-1] == pytest.approx(float(row["error"][0]), abs=1e-7)
    assert errors[-1] < errors[0] / 2
    smoothed = [np.mean(errors[start : start + 6]) for start in range(0, len(errors) - 5, 6)]
    assert smoothed == sorted(smoothed, reverse=True)


def test_the_decoder_cuts_rows() -> None:
    (row,) = rows_of(KltTokenizer(), scene(256, 256))
    decoder = KltTokenizer().decoder()
    for fraction, count in ((0.001, 1), (0.25, 128), (1.0, 512)):
        cut = decoder.prefix(row, fraction)
        assert len(cut["ids"]) == count
        assert decoder.decode(cut).size == (256, 256)


def test_any_ids_decode() -> None:
    """A model that makes tokens may make any."""
    draw = np.random.default_rng(0)
    for grid in ((1, 1), (4, 4), (5, 9)):
        geometry = np.array([*(64 * side for side in grid)] * 2 + [*grid], np.int32)
        for ids in (draw.integers(0, 1 << 16, 700), np.zeros(0, int), np.full(9000, 65535)):
            row: Row = {"ids": ids.astype(np.uint16), "geometry": geometry}
            assert KltTokenizer().decoder().decode(row).size == (64 * grid[1], 64 * grid[0])


@pytest.mark.parametrize(("error", "measure"), [(0.045, "l1"), (0.06, "l1"), (0.1, "l1"), (0.004, "mse")])
def test_search_finds_the_smallest_number(error: float, measure: str) -> None:
    images = [scene(64, 64, 3), scene(100, 70, 4), scene(128, 128, 5)]
    found = rows_of(klt_of(NATIVE, policy="search", error=error, measure=measure), *images)
    for row, pixels in zip(found, images, strict=True):
        assert row["outcome"].tolist() == [MET]
        for count in range(len(row["ids"]) + 1):
            image = decoded(row, count)
            reached = l1(image, pixels)
            if measure == "mse":
                reached = float(np.square(image.astype(np.int64) - pixels).sum() / (pixels.size * 255**2))
            assert (reached <= error) == (count == len(row["ids"])), count
        assert reached == pytest.approx(float(row["error"][0]), rel=1e-6)


def test_search_is_a_prefix_of_fixed() -> None:
    image = scene(256, 256)
    (found,) = rows_of(klt_of(policy="search", error=0.05), image)
    (fixed,) = rows_of(klt_of(policy="fixed", tokens=200), image)
    assert found["ids"].tolist() == fixed["ids"][: len(found["ids"])].tolist()


def test_noise_is_capped_and_flat_images_cost_next_to_nothing() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    flat = [np.full((256, 256, 3), colour, np.uint8) for colour in ((0, 0, 0), (255, 255, 255), (250, 10, 90))]
    rows = rows_of(klt_of(policy="search", error=0.02, max_tokens=24), noise, scene(256, 256), *flat)
    lengths = [len(row["ids"]) for row in rows]
    assert rows[0]["outcome"].tolist() == [CAPPED]
    assert lengths[0] == 24 * 16 >= lengths[1]
    assert max(lengths[2:]) <= 2 * 16
    assert all(row["outcome"].tolist() == [MET] and row["error"][0] <= 0.02 for row in rows[2:])


@pytest.mark.parametrize("policy", ["search", "predict"])
def test_cap(policy: str) -> None:
    (row,) = rows_of(klt_of(NATIVE, policy=policy, error=0.001, max_tokens=3), scene(65, 64))
    assert len(row["ids"]) == 6
    assert row["outcome"].tolist() == [CAPPED]


def test_fixed_counts_by_area_or_by_image() -> None:
    image = scene(130, 64)
    by_area, by_image = (
        rows_of(klt_of(NATIVE, policy="fixed", tokens=5, per=per), image)[0] for per in ("tile", "image")
    )
    assert len(by_area["ids"]) == 15
    assert len(by_image["ids"]) == 5
    assert by_area["ids"][:5].tolist() == by_image["ids"].tolist()
    assert by_area["outcome"].tolist() == [FIXED]


@pytest.mark.parametrize("error", [0.04, 0.08, 0.14])
def test_predict_is_near_to_search(error: float) -> None:
    images = [scene(256, 256, seed) for seed in range(6)]
    searched = rows_of(klt_of(policy="search", error=error), *images)
    predicted = rows_of(klt_of(policy="predict", error=error), *images)
    tokens = [sum(len(row["ids"]) for row in rows) for rows in (searched, predicted)]
    assert tokens[1] <= 1.4 * tokens[0]
    assert all(row["error"][0] <= 1.1 * error for row in predicted)
    assert all(row["outcome"][0] == (MET if row["error"][0] <= error else MISSED) for row in predicted)


def test_a_wrong_prediction_is_no_target_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lengths, "likely_crossing", lambda *_: 5)
    (row,) = rows_of(klt_of(policy="predict", error=0.03), scene(256, 256))
    assert (len(row["ids"]), row["outcome"].tolist()) == (5, [MISSED])
    assert row["error"][0] > 0.03


def test_quality_on_photographs() -> None:
    """32 tokens for each 64 x 64 pixels, on photographs that no weight was trained on."""
    data = pytest.importorskip("skimage.data")
    images = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
    decibels = []
    for row, pixels in zip(rows_of(KltTokenizer(), *images), images, strict=True):
        apart = decoded(row).astype(np.int64) - Geometry().place(pixels).pixels
        decibels.append(10 * np.log10(255**2 / np.square(apart).mean()))
    assert np.mean(decibels) >= 21


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    data = PACKAGED.read_bytes()
    for name, damaged in (("cut", data[:-1000]), ("empty", b""), ("other", b"PK" + data), ("flipped", _flipped(data))):
        path = tmp_path / name
        path.write_bytes(damaged)
        with pytest.raises(AssetError) as caught:
            KltTokenizer(weights=str(path)).load()
        assert str(path) in str(caught.value)
    with pytest.raises(AssetError):
        resolve(KltTokenizer(weights=str(tmp_path / "absent")))


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]


def test_packaged_weights() -> None:
    asset = KltTokenizer().assets()["weights"]
    assert asset.location == "package:tokenmill/tokenmill/tokenizers/klt/weights.npz"
    assert asset.size_bytes == PACKAGED.stat().st_size <= 6_000_000
