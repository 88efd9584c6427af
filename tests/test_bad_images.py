"""Bad images, end to end: what each kind of them does to a run.

An image that cannot be decoded is a reject with its reason; all others have a row in every table. Rows and rejects
together are all items, whatever the files are.
"""

from __future__ import annotations

import io
import os
import random
import shlex
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import tokenmill
from tests import bad_items
from tests.bad_items import check_nothing_is_lost
from tests.datasets import build_dataset, job_of, run_splits
from tests.takedown_cases import merged
from tests.tar_files import as_tar
from tokenmill import commands, registry
from tokenmill.contract import Encoded
from tokenmill.errors import RejectedFractionError
from tokenmill.estimates import estimate
from tokenmill.images import reasons as image_reasons
from tokenmill.images.geometry import GEOMETRY, GEOMETRY_SPEC, Geometry, Placed
from tokenmill.images.tokenizer import ImagePreparation, ImageTokenizer
from tokenmill.jobs import Job
from tokenmill.manifests import read_manifest
from tokenmill.planning import draft_plan
from tokenmill.sources import reasons
from tokenmill.storage.outputs import Storage
from tokenmill.streams import Jagged, StreamSpec
from tokenmill.takedowns import take_down
from tokenmill.verification import verify

_IDS = StreamSpec("uint8", dims=("token",), shape=(None,), vocabulary_size=256)


class MeanColours(ImageTokenizer):
    """Red, green and blue of every tile, on average."""

    id: ClassVar[str] = "mean-colours"

    tile: int = 64

    def code_streams(self) -> dict[str, StreamSpec]:
        return {"ids": _IDS}

    def load(self, device: str = "cpu") -> _Encoder:
        return _Encoder(self.geometry, self.tile)


class _Encoder(ImagePreparation):
    def __init__(self, geometry: Geometry, tile: int) -> None:
        super().__init__(geometry)
        self._tile = tile

    def encode(self, items: Sequence[Placed]) -> Encoded:
        colours = [item.tiles(self._tile).mean(axis=(1, 2)).round().astype(np.uint8).reshape(-1) for item in items]
        numbers = [item.numbers(self._tile) for item in items]
        streams = {"ids": Jagged.from_rows(colours, _IDS), GEOMETRY: Jagged.from_rows(numbers, GEOMETRY_SPEC)}
        return Encoded(streams)


def entries(group: str) -> EntryPoints:
    """Return the one tokenizer of this module, as if a package declared it."""
    return EntryPoints([EntryPoint("mean-colours", f"{__name__}:MeanColours", group)])


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "entry_points", entries)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def output(tmp_path: Path) -> str:
    return str(tmp_path / "out")


def image_job(output: str, inputs: Path, **changes: Any) -> Job:
    """Return a job of two tables over images: tiles of 64 and of 32 pixels."""
    tables = [
        {"name": "coarse", "tokenizer": {"id": "mean-colours"}},
        {"name": "fine", "tokenizer": {"id": "mean-colours", "tile": 32}},
    ]
    source = {"modality": "image", "fields": {}, **changes.pop("source", {})}
    return job_of(output, inputs, source=source, **{"tables": tables, **changes})


def photograph(seed: int = 0, size: tuple[int, int] = (60, 40), mode: str = "RGB") -> Image.Image:
    """Return a picture with smooth and rough places, of `size` columns and rows."""
    generator = np.random.default_rng(seed)
    columns, rows = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    pixels = np.stack([columns, rows, (columns + rows) / 2], -1) + generator.normal(0, 20, (size[1], size[0], 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def animated(kind: str, **options: Any) -> bytes:
    frames = [Image.new("RGB", (60, 40), colour) for colour in ((200, 100, 0), (0, 0, 255), (0, 255, 0))]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **options)


def bomb(edge: int = 20_000) -> bytes:
    """Return a valid PNG of a few kilobytes whose pixels would take a gigabyte."""
    row = bytes(1 + -(-edge // 8))
    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(row * 100) for _ in range(edge // 100)) + packer.flush()
    header = edge.to_bytes(4, "big") * 2 + bytes((1, 0, 0, 0, 0))
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big") for name, body in chunks
    )


def rejects(output: str, table: str = "coarse") -> list[dict[str, Any]]:
    return bad_items.rejects(output, table)


def keys(output: str, table: str = "coarse") -> list[str]:
    return bad_items.keys(output, table)


def colours(output: str, key: str) -> list[int]:
    """Return the mean colour of an image's first tile."""
    (row,) = (row for row in tokenmill.open(output)["coarse"] if row.key == key)
    values: npt.NDArray[Any] = row.streams["ids"]
    return [int(value) for value in values[:3]]


GOOD = encoded(photograph(), "JPEG")

#: File → content, and the reason of its reject, None where it has a row.
FILES: dict[str, tuple[bytes, str | None]] = {
    "1x1.png": (encoded(photograph(size=(1, 1)), "PNG"), None),
    "1x10000.png": (encoded(photograph(size=(1, 10_000)), "PNG"), None),
    "10000x1.jpg": (encoded(photograph(size=(10_000, 1)), "JPEG"), None),
    "animated.gif": (animated("GIF"), None),
    "animated.webp": (animated("WEBP", lossless=True), None),
    "bomb.png": (bomb(), image_reasons.TOO_MANY_PIXELS),
    "cmyk.jpg": (encoded(photograph(mode="CMYK"), "JPEG"), None),
    "cmyk.tif": (encoded(photograph(mode="CMYK"), "TIFF"), None),
    "empty.jpg": (b"", image_reasons.EMPTY_FILE),
    "gray.gif": (encoded(photograph(mode="L"), "GIF"), None),
    "half.jpg": (GOOD[: len(GOOD) // 2], image_reasons.DAMAGED_IMAGE),
    "half.png": (encoded(photograph(), "PNG")[:2000], image_reasons.DAMAGED_IMAGE),
    "header.jpg": (GOOD[:20], image_reasons.DAMAGED_IMAGE),
    "jpeg.png": (GOOD, None),
    "page.html.jpg": (b"<!DOCTYPE html><title>404</title>", image_reasons.NOT_AN_IMAGE),
    "palette.png": (encoded(photograph(mode="P"), "PNG"), None),
    "png.jpg": (encoded(photograph(), "PNG"), None),
    "vector.png": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', image_reasons.NOT_AN_IMAGE),
}


def test_a_folder_of_odd_images(inputs: Path, output: str) -> None:
    assert len(FILES["bomb.png"][0]) < 1_000_000
    for name, (data, _) in FILES.items():
        (inputs / name).write_bytes(data)
    manifest = build_dataset(image_job(output, inputs))
    assert {reject["key"]: reject["reason"] for reject in rejects(output)} == {
        name: reason for name, (_, reason) in FILES.items() if reason is not None
    }
    assert keys(output) == [name for name, (_, reason) in sorted(FILES.items()) if reason is None]
    check_nothing_is_lost(output, manifest, len(FILES))
    assert manifest.tables["coarse"].rejected == 7
    # Of an animation the first frame is the image.
    assert colours(output, "animated.webp") == [200, 100, 0]
    assert np.abs(np.array(colours(output, "animated.gif")) - [200, 100, 0]).max() <= 4
    for name in ("cmyk.jpg", "cmyk.tif", "jpeg.png", "png.jpg"):
        assert np.abs(np.array(colours(output, name)) - colours(output, "jpeg.png")).max() <= 4


def test_too_many_rejects_publish_nothing_and_say_why(inputs: Path, output: str) -> None:
    for name, (data, _) in FILES.items():
        (inputs / name).write_bytes(data)
    with pytest.raises(RejectedFractionError, match=r"7 of 18 items were rejected .*damaged_image 3"):
        build_dataset(image_job(output, inputs, limits={"max_rejected_fraction": 0.1}))
    assert not (Path(output) / "manifests").exists()


def test_an_estimate_counts_images_that_do_not_decode(inputs: Path, output: str) -> None:
    for number in range(40):
        (inputs / f"{number:02}.jpg").write_bytes(GOOD if number % 4 else GOOD[:300])
    job = image_job(output, inputs)
    storage = Storage.open(output)
    found = estimate(storage, draft_plan(storage, job), job, sample_seconds=5)
    assert found.rejected_fraction == 0.25
    assert [table.documents for table in found.tables] == [30, 30]
    assert found.payload_bytes == sum(path.stat().st_size for path in inputs.iterdir())


def test_the_limits_of_a_job_hold(inputs: Path, output: str) -> None:
    (inputs / "a.jpg").write_bytes(GOOD)
    (inputs / "b.png").write_bytes(encoded(photograph(size=(60, 41)), "PNG"))
    (inputs / "c.png").write_bytes(encoded(photograph(size=(200, 200)), "PNG"))
    limits = {"max_pixels": 2400, "max_item_bytes": 20_000}
    manifest = build_dataset(image_job(output, inputs, limits=limits))
    assert keys(output) == ["a.jpg"]
    assert [(reject["key"], reject["reason"]) for reject in rejects(output)] == [
        ("b.png", image_reasons.TOO_MANY_PIXELS),
        ("c.png", reasons.ITEM_TOO_LARGE),
    ]
    check_nothing_is_lost(output, manifest, 3)


def test_a_background_shows_through(inputs: Path, output: str) -> None:
    (inputs / "a.png").write_bytes(encoded(Image.new("RGBA", (60, 40), (255, 0, 0, 0)), "PNG"))
    (inputs / "b.jpg").write_bytes(b"")
    build_dataset(image_job(output, inputs))
    assert colours(output, "a.png") == [255, 255, 255]
    build_dataset(image_job(output + "2", inputs, source={"background": [0, 128, 7]}))
    assert colours(output + "2", "a.png") == [0, 128, 7]


def _samples(count: int) -> dict[str, bytes]:
    members = {}
    for number in range(count):
        members[f"{number:03}.jpg"] = encoded(photograph(number), "JPEG")
        members[f"{number:03}.txt"] = f"caption {number}".encode()
    return members


def test_a_corrupt_member_of_a_tar_file(inputs: Path, output: str) -> None:
    members = _samples(20)
    members["007.jpg"] = members["007.jpg"][:200] + bytes(len(members["007.jpg"]) - 200)
    members["011.jpg"] = b""
    del members["013.jpg"]
    (inputs / "a.tar").write_bytes(as_tar(members))
    manifest = build_dataset(image_job(output, inputs, source={"metadata": ["txt"]}))
    assert [(reject["locator"], reject["reason"]) for reject in rejects(output)] == [
        ("a.tar!007", image_reasons.DAMAGED_IMAGE),
        ("a.tar!011", image_reasons.EMPTY_FILE),
        ("a.tar!013", reasons.MISSING_FIELD),
    ]
    check_nothing_is_lost(output, manifest, 20)
    rows = list(tokenmill.open(output)["fine"])
    assert [row.metadata["txt"] for row in rows] == [f"caption {int(row.key)}" for row in rows]


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_of_a_torn_tar_file_the_whole_images_are_kept(inputs: Path, output: str, kept: float) -> None:
    members = _samples(40)
    data = as_tar(members)
    (inputs / "a.tar").write_bytes(data[: int(len(data) * kept) + 700])  # inside of a member
    (inputs / "b.jpg").write_bytes(GOOD)
    manifest = build_dataset(image_job(output, inputs))
    (reject,) = rejects(output)
    assert reject["reason"] == reasons.TORN_FILE
    found = keys(output)
    assert found == [*(f"{number:03}" for number in range(len(found) - 1)), "b.jpg"]
    assert 40 * kept * 0.8 < len(found) <= 40 * kept * 1.2 + 1
    check_nothing_is_lost(output, manifest, len(found) + 1)


@pytest.mark.parametrize("hub", [False, True], ids=["plain", "struct"])
def test_null_and_garbage_in_a_parquet_file(inputs: Path, output: str, hub: bool) -> None:
    values = [GOOD, None, os.urandom(3000), b"", GOOD[:-300], GOOD]
    column: Any = pa.array(values, pa.binary())
    if hub:
        paths = pa.array([f"p/{number}.jpg" for number in range(len(values))])
        column = pa.StructArray.from_arrays([column, paths], ["bytes", "path"])
    pq.write_table(pa.table({"image": column, "id": list("abcdef")}), inputs / "a.parquet", row_group_size=2)
    source = {"fields": {"id": "image.path" if hub else "id"}}
    manifest = build_dataset(image_job(output, inputs, source=source))
    expected = ["p/0.jpg", "p/5.jpg"] if hub else ["a", "f"]
    assert keys(output) == keys(output, "fine") == expected
    assert [(reject["ordinal"], reject["reason"]) for reject in rejects(output)] == [
        (1, reasons.NULL_IMAGE),
        (2, image_reasons.NOT_AN_IMAGE),
        (3, image_reasons.EMPTY_FILE),
        (4, image_reasons.DAMAGED_IMAGE),
    ]
    check_nothing_is_lost(output, manifest, 6)


def test_parts_end_between_images_whatever_is_rejected(inputs: Path, output: str) -> None:
    """Many parts, a third of the images bad: the parts hold all, and a second run finds nothing to do."""
    for number in range(60):
        (inputs / f"{number:02}.jpg").write_bytes(GOOD[: len(GOOD) if number % 3 else 400])
    job = image_job(output, inputs, splitting={"part_bytes": 4096})
    manifest = build_dataset(job)
    assert len(list(Storage.open(output).list("coarse/shards/"))) > 5
    check_nothing_is_lost(output, manifest, 60)
    before = {entry.path for entry in Storage.open(output).list("")}
    run_splits(job)
    assert {entry.path for entry in Storage.open(output).list("")} == before


def test_taking_images_down(inputs: Path, tmp_path: Path, output: str) -> None:
    """Sound ones, and one that does not decode: what is left is counted as if they had never been there."""
    (tmp_path / "kept").mkdir()
    gone = {"03.jpg", "09.jpg", "17.jpg"}
    for number in range(30):
        name, data = f"{number:02}.jpg", encoded(photograph(number), "JPEG")[: 300 if number in (9, 10) else None]
        for directory in (inputs, tmp_path / "kept") if name not in gone else (inputs,):
            (directory / name).write_bytes(data)
    splitting = {"part_bytes": 8192}
    build_dataset(image_job(output, inputs, splitting=splitting))
    storage = Storage.open(output)
    report = take_down(storage, sorted(gone))
    assert {name: taken.items for name, taken in report.tables.items()} == {"coarse": 3, "fine": 3}
    assert [reject["key"] for reject in rejects(output) if reject["key"] in gone] == ["09.jpg"], (
        "of the generation before"
    )
    assert not gone & {*keys(output), *keys(output, "fine")}
    other = build_dataset(image_job(output + "2", tmp_path / "kept", splitting=splitting))
    now = read_manifest(storage)
    for name in ("coarse", "fine"):
        assert merged(storage, now, name) == merged(Storage.open(output + "2"), other, name)
    assert verify(output).problems == []


def test_the_command_in_a_rejects_line(
    inputs: Path, output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (inputs / "a.jpg").write_bytes(GOOD)
    (inputs / "b.jpg").write_bytes(GOOD[:300])
    build_dataset(image_job(output, inputs))
    (reject,) = rejects(output)
    monkeypatch.chdir(output)
    command = shlex.split(reject["replay"])
    for ordinal, said in (
        ("1", ["item 1 of split 0 is rejected", "damaged_image", reject["message"], "300 bytes"]),
        ("0", ["item 0 of split 0 has a row", "stream geometry", "60"]),
    ):
        monkeypatch.setattr(sys, "argv", [*command[:-1], ordinal])
        with pytest.raises(SystemExit) as left:
            commands.main()
        assert left.value.code == ("rejected" in said[0])
        shown = capsys.readouterr().out
        assert all(words in shown for words in said)
        assert "JFIF" not in shown


# Fuzzing


def seeds() -> list[tuple[str, bytes]]:
    """Return sound files of every format, small, so that a changed byte matters."""
    picture = photograph(1, (97, 51))
    clear = photograph(2, (33, 70), "RGBA")
    clear.putalpha(120)
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = Image.fromarray((np.arange(64 * 64, dtype=np.uint16) * 16).reshape(64, 64))
    return [
        ("jpg", encoded(picture, "JPEG")),
        (
            "jpg",
            encoded(picture, "JPEG", progressive=True, exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0"),
        ),
        ("jpg", encoded(photograph(3, mode="CMYK"), "JPEG")),
        ("jpg", encoded(photograph(4, mode="L"), "JPEG", restart_marker_blocks=2)),
        ("png", encoded(picture, "PNG")),
        ("png", encoded(photograph(5, mode="P"), "PNG", transparency=3)),
        ("png", encoded(clear, "PNG")),
        ("png", encoded(deep, "PNG")),
        ("webp", encoded(picture, "WEBP")),
        ("webp", encoded(clear, "WEBP", lossless=True)),
        ("webp", animated("WEBP")),
        ("gif", animated("GIF")),
        ("gif", encoded(photograph(6, mode="L"), "GIF", interlace=1)),
        ("tif", encoded(picture, "TIFF")),
        ("tiff", encoded(picture, "TIFF", compression="tiff_lzw")),
        ("tif", encoded(picture, "TIFF", compression="tiff_deflate")),
        ("tif", encoded(picture, "TIFF", compression="jpeg")),
        ("tif", encoded(photograph(7, mode="1"), "TIFF", compression="group4")),
        ("tif", encoded(deep, "TIFF", compression="packbits")),
    ]


def mutated(data: bytes, generator: random.Random) -> bytes:
    """Return a file with something wrong: bytes changed, cut out, put in or copied, or an end that is missing."""
    content = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 5, 20))):
        place = min(int(generator.expovariate(4 / len(content))), len(content) - 1)  # headers are hit most
        length = generator.choice((1, 1, 2, 4, 32))
        kind = generator.randrange(6)
        if kind == 0:
            content[place] ^= 1 << generator.randrange(8)
        elif kind == 1:
            content[place : place + length] = generator.randbytes(length)
        elif kind == 2:
            content[place : place + length] = generator.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * length
        elif kind == 3:
            del content[place : place + length]
        elif kind == 4:
            content[place:place] = content[generator.randrange(len(content)) :][:length]
        else:
            del content[max(place, 1) :]
        if len(content) < 2:
            break
    return bytes(content)


_FUZZ = """
import sys
from tests import test_bad_images as here
here.registry.entry_points = here.entries
here.run_splits(here.image_job(sys.argv[2], here.Path(sys.argv[1])))
# Not ru_maxrss, which a process inherits from the one that started it.
print(*(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def _fuzz(inputs: Path, output: str, count: int, seed: int) -> Counter[str]:
    """Tokenize mutated files in a process of its own, which must live; returns what became of them."""
    generator = random.Random(seed)
    files = seeds()
    for number in range(count):
        ending, data = files[number % len(files)]
        (inputs / f"{number:05}.{ending}").write_bytes(mutated(data, generator))
    command = [sys.executable, "-W", "error", "-c", _FUZZ, str(inputs), output]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    # 20 bytes for each of 64 million pixels, of one image at a time, and the process itself.
    assert int(done.stdout) < 1_500_000, "kilobytes of memory"
    manifest = build_dataset(image_job(output, inputs))
    check_nothing_is_lost(output, manifest, count)
    found = Counter(reject["reason"] for reject in rejects(output))
    assert set(found) <= {*image_reasons.REASONS}
    return found + Counter(row=manifest.tables["coarse"].rows)


def test_mutated_files_end_no_worker(inputs: Path, output: str) -> None:
    found = _fuzz(inputs, output, 190, seed=1)
    assert found["row"] > 20
    assert found[image_reasons.DAMAGED_IMAGE] > 20


@pytest.mark.slow
def test_five_thousand_mutated_files_end_no_worker(inputs: Path, output: str) -> None:
    found = _fuzz(inputs, output, 5000, seed=2)
    assert found["row"] > 500
    assert found[image_reasons.DAMAGED_IMAGE] > 500
    assert found[image_reasons.NOT_AN_IMAGE] > 50
