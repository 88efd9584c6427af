"""`tokenmill train klt` from image files to weights that tokenize."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commands.conftest import Run
from tests.images.samples import photo
from tokenmill.images.tokenizer import MET
from tokenmill.tokenizers.klt import KltTokenizer


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for number in range(36):
        pixels = np.roll(photo(96, 96, number), 5 * number, axis=number % 2)
        Image.fromarray(pixels).save(folder / ("more" if number % 3 else ".") / f"{number}.png", compress_level=1)
    (folder / "notes.txt").write_text("no image")
    return folder


def test_weights_are_learned_twice_the_same_and_work(run: Run, pictures: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / "one.npz", tmp_path / "two.npz"]
    for output in outputs:
        ran = run("train", "klt", str(pictures), "--output", str(output), "--tile-tokens", "4")
        assert ran.code == 0, ran.err
        assert "notes.txt" in ran.err
        assert ran.out == ""
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    tokenizer = KltTokenizer.model_validate(
        {"weights": str(outputs[0]), "length": {"policy": "search", "error": 0.08}, "geometry": {"mode": "native"}}
    )
    encoder = tokenizer.load()
    placed = tokenizer.geometry.place(photo(96, 200, 99))
    encoded = encoder.encode([placed])
    assert encoded.streams["outcome"][0].tolist() == [MET]


def test_an_output_is_never_overwritten(run: Run, pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "weights.npz"
    output.write_bytes(b"mine")
    ran = run("train", "klt", str(pictures), "--output", str(output))
    assert ran.code == 2
    assert output.read_bytes() == b"mine"


def test_too_few_images_are_refused(run: Run, pictures: Path, tmp_path: Path) -> None:
    for images in (pictures / "0.png", pictures / "absent"):
        ran = run("train", "klt", str(images), "--output", str(tmp_path / "weights.npz"))
        assert ran.code == 2
        assert str(images) in ran.err
    assert not (tmp_path / "weights.npz").exists()
