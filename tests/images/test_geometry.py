from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from tests.images.samples import photo, saved
from tests.images.test_decoding import STORED
from tokenmill.images.geometry import Geometry, Placed
from tokenmill.images.image_file import ImageFile, Pixels
from tokenmill.images.tokenizer import ImagePreparation

MODES = st.sampled_from(["crop", "fit", "native"])
SIDES = st.integers(1, 300)


def psnr(first: Pixels, second: Pixels) -> float:
    error = float(np.mean((first.astype(float) - second) ** 2))
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def ramp(height: int, width: int) -> Pixels:
    """Return pixels that tell where they were: red by column, green by row, from 20 to 235."""
    pixels = np.full((height, width, 3), 128.0)
    pixels[..., 0] = 20 + 215 * (np.arange(width) + 0.5) / width
    pixels[..., 1] = (20 + 215 * (np.arange(height) + 0.5) / height)[:, None]
    return pixels.round().astype(np.uint8)


@given(MODES, SIDES, SIDES, st.integers(16, 200))
def test_sizes(mode: Any, height: int, width: int, edge: int) -> None:
    placed = Geometry(mode=mode, edge=edge).place(np.zeros((height, width, 3), np.uint8))
    assert placed.original == (height, width)
    used = placed.pixels.shape[:2]
    if mode == "crop":
        assert used == (edge, edge)
    elif mode == "native" or max(height, width) <= edge:
        assert used == (height, width)
    else:
        assert max(used) == edge
        share = edge / max(height, width)
        assert all(
            abs(now - before * share) <= 0.5 or now == 1 for now, before in zip(used, (height, width), strict=True)
        )


@given(MODES, SIDES, SIDES, st.integers(1, 64))
def test_numbers_and_tiles_tell_the_pixels(mode: Any, height: int, width: int, edge: int) -> None:
    placed = Geometry(mode=mode, edge=64).place(photo(height, width))
    numbers = placed.numbers(edge)
    assert numbers.dtype == np.int32
    *original, used_height, used_width, rows, columns = numbers.tolist()
    assert (original, placed.pixels.shape) == ([height, width], (used_height, used_width, 3))
    tiles = placed.tiles(edge)
    assert tiles.shape == (rows * columns, edge, edge, 3)
    whole = tiles.reshape(rows, columns, edge, edge, 3).swapaxes(1, 2).reshape(rows * edge, columns * edge, 3)
    np.testing.assert_array_equal(whole[:used_height, :used_width], placed.pixels)
    np.testing.assert_array_equal(
        whole[used_height:, :used_width], placed.pixels[-1:].repeat(rows * edge - used_height, 0)
    )
    np.testing.assert_array_equal(
        whole[:, used_width:], whole[:, used_width - 1 : used_width].repeat(columns * edge - used_width, 1)
    )
    assert rows * edge - used_height < edge
    assert columns * edge - used_width < edge


def test_the_centre_is_cut_out() -> None:
    pixels = ramp(100, 300)
    placed = Geometry(edge=100).place(pixels)
    np.testing.assert_array_equal(placed.pixels, pixels[:, 100:200])
    np.testing.assert_array_equal(
        Geometry(edge=100).place(pixels.swapaxes(0, 1)).pixels, pixels.swapaxes(0, 1)[100:200]
    )


def test_fit_keeps_the_shape_and_enlarges_nothing() -> None:
    small = photo(20, 30)
    assert Geometry(mode="fit", edge=64).place(small).pixels is small
    placed = Geometry(mode="fit", edge=64).place(ramp(100, 200))
    assert np.abs(placed.pixels.astype(int) - ramp(32, 64))[1:-1, 1:-1].max() <= 2


def test_crop_enlarges_small_images() -> None:
    placed = Geometry(edge=64).place(ramp(32, 32))
    assert np.abs(placed.pixels.astype(int) - ramp(64, 64))[2:-2, 2:-2].max() <= 2


@pytest.mark.parametrize("edge", [16, 64, 256])
@pytest.mark.parametrize("reduction", [1, 2])
def test_resizing_is_pillows_bicubic(edge: int, reduction: int) -> None:
    side = 5 * edge * reduction // 2
    pixels = photo(side, side)
    plain = np.asarray(Image.fromarray(pixels).resize((edge, edge), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(Geometry(edge=edge).place(pixels).pixels, plain)


def test_large_images_are_reduced_in_two_steps_close_to_one() -> None:
    pixels = photo(1500, 1700)
    plain = np.asarray(Image.fromarray(pixels).resize((128, 128), Image.Resampling.BICUBIC, (100, 0, 1600, 1500)))
    placed = Geometry(edge=128).place(pixels)
    assert psnr(placed.pixels, plain) > 50
    np.testing.assert_array_equal(placed.pixels, Geometry(edge=128).place(pixels).pixels)


@pytest.mark.parametrize("shape", [(1, 1), (1, 10_000), (10_000, 1)])
@pytest.mark.parametrize("mode", ["crop", "fit", "native"])
def test_extreme_shapes_cost_little(shape: tuple[int, int], mode: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    file = ImageFile(saved(pixels, "PNG"))
    start = time.process_time()
    placed = file.placed(Geometry(mode=mode))
    assert time.process_time() - start < 0.5
    assert placed.original == shape
    if mode == "crop":
        assert placed.pixels.shape == (256, 256, 3)
    if mode == "native":
        np.testing.assert_array_equal(placed.pixels, pixels)
    if mode == "fit":
        assert placed.pixels.shape == (*(min(side, 256) for side in shape), 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["crop", "fit", "native"])
def test_placing_a_file_is_decoding_and_placing(orientation: int, mode: Any) -> None:
    upright = photo(90, 151)
    exif = Image.Exif()
    exif[274] = orientation
    file = ImageFile(saved(np.ascontiguousarray(STORED[orientation](upright)), "PNG", exif=exif))
    geometry = Geometry(mode=mode, edge=64)
    placed, other = file.placed(geometry), geometry.place(file.pixels())
    assert placed.original == other.original == (90, 151)
    assert np.abs(placed.pixels.astype(int) - other.pixels).max() <= 1  # turned after resizing: rounding differs
    if orientation == 1:
        np.testing.assert_array_equal(placed.pixels, other.pixels)


@pytest.mark.parametrize(("side", "reduction"), [(127, 1), (128, 2), (255, 2), (256, 4), (511, 4), (512, 8), (9999, 8)])
def test_jpegs_are_reduced_while_they_stay_twice_as_large(side: int, reduction: int) -> None:
    assert Geometry(edge=32).reduction(side, side + 50) == reduction
    assert Geometry(edge=32, mode="fit").reduction(9, side) == min(reduction, 8)
    assert Geometry(edge=32, mode="fit").reduction(1, side) == 1
    assert Geometry(mode="native").reduction(side, side) == 1


@pytest.mark.parametrize("mode", ["crop", "fit"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("height", "width"), [(515, 771), (1031, 1033), (600, 513)])
def test_reduced_jpegs_lie_where_whole_ones_do(mode: Any, orientation: int, height: int, width: int) -> None:
    upright = ramp(height, width)
    exif = Image.Exif()
    exif[274] = orientation
    stored = np.ascontiguousarray(STORED[orientation](upright))
    file = ImageFile(saved(stored, "JPEG", quality=98, subsampling=0, exif=exif))
    geometry = Geometry(mode=mode, edge=32)
    assert geometry.reduction(width, height) > 1
    placed, whole = file.placed(geometry), geometry.place(file.pixels())
    assert placed.original == (height, width)
    assert placed.pixels.shape == whole.pixels.shape
    apart = np.abs((placed.pixels.astype(float) - whole.pixels).mean((0, 1)))
    assert apart.max() < 0.5  # the ramp rises by 7 a pixel: 0.07 pixels
    assert psnr(placed.pixels, whole.pixels) > 48


def test_reduced_jpegs_are_as_good_as_whole_ones() -> None:
    image = Image.fromarray(photo(70, 90)).resize((1440, 1120), Image.Resampling.LANCZOS)
    file = ImageFile(saved(image, "JPEG", quality=85))
    geometry = Geometry(edge=256)
    truth = geometry.place(np.asarray(image)).pixels
    whole, reduced = geometry.place(file.pixels()).pixels, file.placed(geometry).pixels
    assert psnr(reduced, whole) > 45
    assert psnr(reduced, truth) > min(psnr(whole, truth) - 1, 45)


def test_preparation_places_files() -> None:
    placed = ImagePreparation(Geometry(edge=32), 1).prepare(ImageFile(saved(photo(), "PNG")))
    np.testing.assert_array_equal(placed.pixels, Geometry(edge=32).place(photo()).pixels)


def test_configuration_is_checked() -> None:
    for wrong in ({"edge": 15}, {"edge": 20_000}, {"mode": "stretch"}, {"side": 3}):
        with pytest.raises(ValidationError):
            Geometry.model_validate(wrong)


def test_memory_of_placed_pixels() -> None:
    assert Placed(photo(10, 20), (1, 1)).nbytes == 600
