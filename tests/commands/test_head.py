from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.commands.conftest import Run
from tests.datasets import build_dataset, job_of, write_jsonl
from tests.mosaics import MosaicTokenizer, mosaic_job, register, write_pictures
from tokenmill.commands.contact_sheet import THUMBNAIL
from tokenmill.tokenizers.bytes import BytesTokenizer


def test_json(run: Run, root: str) -> None:
    document = run("head", root, "-n", "3", "--json").json
    assert (document["uri"], document["generation"]) == (root, 1)
    assert {name: len(rows) for name, rows in document["tables"].items()} == {"text": 3, "framed": 3}
    assert document["tables"]["text"][2] == {
        "index": 2,
        "key": "doc-2",
        "split": 0,
        "ordinal": 2,
        "document": 2,
        "position": 0,
        "metadata": {"lang": "en", "score": 1.0},
        "streams": {"ids": {"shape": [14], "dtype": "uint8", "first": list(b"text 2 text 2 ")}},
        "text": "text 2 text 2 ",
    }
    assert document["tables"]["framed"][2]["streams"]["ids"]["first"][0] == 256
    assert document["tables"]["text"][1]["text"] == "žluť\n\x1b[31mred\x1b[0m ☃"


def test_text(run: Run, root: str) -> None:
    ran = run("head", root, "--table", "text", "-n", "3")
    assert ran.code == 0
    assert "Table text: 3 of 39 rows" in ran.out
    assert "framed" not in ran.out
    assert "2  doc-2  (split 0, item 2)" in ran.out
    assert "14 uint8: 116 101 120 116" in ran.out
    assert "text 2 text 2" in ran.out


def test_terminals_are_not_obeyed(run: Run, root: str) -> None:
    out = run("head", root).out
    assert "\x1b" not in out
    assert r"žluť\n\x1b[31mred\x1b[0m ☃" in out


def test_how_many(run: Run, root: str) -> None:
    assert len(run("head", root, "--json").json["tables"]["text"]) == 5
    assert len(run("head", root, "-n", "1000", "--json").json["tables"]["text"]) == 39
    assert run("head", root, "-n", "0", "--json").json["tables"] == {"framed": [], "text": []}


def test_unknown_table(run: Run, root: str) -> None:
    ran = run("head", root, "--table", "nope", "--json")
    assert (ran.code, ran.out) == (1, "")
    assert "no table 'nope'; it has text, framed" in ran.err


def test_what_cannot_be_decoded_is_shown_as_ids(run: Run, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BytesTokenizer, "decoder", lambda self: None)
    ran = run("head", root, "--table", "text", "--json")
    assert ran.code == 0
    assert [row["text"] for row in ran.json["tables"]["text"]] == [None] * 5
    assert ran.err.count("note: not decoded") == 1


def test_long_rows_are_decoded_in_part(run: Run, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "long/a.jsonl", [{"id": "long", "text": "x" * 1_000_000}])
    build_dataset(job_of(str(tmp_path / "out2"), tmp_path / "long"))
    (row,) = run("head", str(tmp_path / "out2"), "--json").json["tables"]["text"]
    assert row["streams"]["ids"]["shape"] == [1_000_000]
    assert set(row["text"]) == {"x"}
    assert len(row["text"]) < 1000
    assert "1,000,000 uint8: 120 120" in run("head", str(tmp_path / "out2")).out


def test_numbers_that_json_lacks(run: Run, tmp_path: Path) -> None:
    (tmp_path / "nan").mkdir()
    (tmp_path / "nan/a.csv").write_text("text,score\nabc,nan\n")
    job = job_of(str(tmp_path / "out3"), tmp_path / "nan", source={"fields": {}, "metadata": {"score": "float64"}})
    build_dataset(job)
    (row,) = run("head", str(tmp_path / "out3"), "--json").json["tables"]["text"]
    assert row["metadata"] == {"score": None}


@pytest.fixture
def mosaic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A published dataset of pictures, in `out`; the pictures are in `pictures`."""
    register(monkeypatch)
    write_pictures(tmp_path / "pictures")
    build_dataset(mosaic_job(tmp_path / "out", tmp_path / "pictures"))
    return tmp_path


def test_images_as_text(run: Run, mosaic: Path) -> None:
    ran = run("head", str(mosaic / "out"), "-n", "9")
    assert (ran.code, ran.err) == (0, "")
    lines = [line.split(maxsplit=1) for line in ran.out.splitlines() if line]
    assert ["0", "0.png  (split 0, item 0)"] in lines
    assert [line[1] for line in lines if line[0] == "geometry"][:2] == [
        "96×80 pixels, used 64×64, 1×1 tiles",
        "112×80 pixels, used 64×64, 1×1 tiles",
    ]
    assert [line[1] for line in lines if line[0] == "outcome"] == ["met"] * 3 + ["capped"] * 3
    first, *_, last = (line[1] for line in lines if line[0] == "ids")
    assert first.startswith("1 uint16: ")
    assert last.startswith("85 uint16: ")
    assert last.endswith(" …")
    error = next(line[1] for line in lines if line[0] == "error")
    assert 0 < float(error) <= 0.05
    assert not [line for line in lines if line[0] in ("text", "decoded")]


def test_images_as_json(run: Run, mosaic: Path) -> None:
    (row, _) = run("head", str(mosaic / "out"), "-n", "2", "--json").json["tables"]["mosaic"]
    assert row["image"] == {"mode": "RGB", "width": 64, "height": 64}
    assert row["text"] is None
    assert row["streams"]["geometry"]["first"] == [80, 96, 64, 64, 1, 1]


def cells(path: Path) -> list[list[np.ndarray]]:
    """Cut a sheet of one table into its thumbnails: `[row][column]`."""
    sheet = np.asarray(Image.open(path))
    row_height, top = 18 + THUMBNAIL + 2 * 18 + 14, 14 + 18 + 7 + 18 + 7 + 18
    lefts = range(14, sheet.shape[1] - THUMBNAIL, THUMBNAIL + 14)
    return [
        [sheet[row : row + THUMBNAIL, left : left + THUMBNAIL] for left in lefts]
        for row in range(top, sheet.shape[0] - THUMBNAIL, row_height)
    ]


def decoded(root: Path, index: int, fraction: float) -> np.ndarray:
    from tokenmill.dataset import open_dataset

    table = open_dataset(str(root / "out"))["mosaic"]
    image = table.decoder.decode(table.decoder.prefix(table[index].streams, fraction))  # type: ignore[attr-defined]
    return np.asarray(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.NEAREST))


def test_a_contact_sheet_shows_originals_and_prefixes(run: Run, mosaic: Path) -> None:
    path = mosaic / "sheet.png"
    ran = run("head", str(mosaic / "out"), "-n", "9", "--images", str(path), "--json")
    assert (ran.code, ran.err) == (0, "")
    assert len(ran.json["tables"]["mosaic"]) == 6
    found = cells(path)
    assert [len(row) for row in found] == [4] * 6
    for index, row in enumerate(found):
        for picture, fraction in zip(row[1:], (0.25, 0.5, 1), strict=True):
            assert (picture == decoded(mosaic, index, fraction)).all()
    with Image.open(mosaic / "pictures" / "3.png") as original:
        thumbnail = np.asarray(original.convert("RGB").resize((THUMBNAIL, 107), Image.Resampling.LANCZOS))
    top = (THUMBNAIL - 107) // 2
    assert (found[3][0][top : top + 107] == thumbnail).all()


def test_originals_that_are_gone_leave_an_empty_place_and_a_note(run: Run, mosaic: Path) -> None:
    (mosaic / "pictures" / "2.png").unlink()
    path = mosaic / "sheet.png"
    ran = run("head", str(mosaic / "out"), "--images", str(path))
    assert ran.code == 0
    assert ran.err.count("note: an original is not shown: ") == 1
    assert "2.png" in ran.err
    empty = [int((row[0] == (0xEC, 0xEC, 0xE8)).all(axis=2).sum()) > 0.9 * THUMBNAIL**2 for row in cells(path)]
    assert empty == [False, False, True, False, False]


def test_without_a_plan_the_decoded_pictures_are_there_still(run: Run, mosaic: Path) -> None:
    for path in (mosaic / "out" / "plans").iterdir():
        path.unlink()
    ran = run("head", str(mosaic / "out"), "--images", str(mosaic / "sheet.png"))
    assert ran.code == 0
    assert ran.err.count("note: an original is not shown") == 1
    assert "holds no plan" in ran.err
    assert (cells(mosaic / "sheet.png")[4][3] == decoded(mosaic, 4, 1)).all()


def test_rows_that_cannot_be_cut_are_shown_whole(run: Run, mosaic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Whole:
        def decode(self, streams: Any) -> Image.Image:
            return Image.new("RGB", (8, 8), (1, 2, 3))

    monkeypatch.setattr(MosaicTokenizer, "decoder", lambda self: Whole())
    assert run("head", str(mosaic / "out"), "--images", str(mosaic / "sheet.png")).code == 0
    assert {len(row) for row in cells(mosaic / "sheet.png")} == {2}


def test_a_sheet_of_what_decodes_to_no_image_is_refused(run: Run, root: str, tmp_path: Path) -> None:
    ran = run("head", root, "--images", str(tmp_path / "sheet.png"))
    assert (ran.code, ran.out) == (1, "")
    assert "no row that decodes to an image" in ran.err
    assert not (tmp_path / "sheet.png").exists()


def test_a_sheet_that_cannot_be_written(run: Run, mosaic: Path) -> None:
    ran = run("head", str(mosaic / "out"), "--images", str(mosaic / "nowhere" / "sheet.png"))
    assert ran.code == 3
    assert "cannot be written: No such file or directory" in ran.err


def test_what_is_neither_text_nor_image_is_shown_in_short(run: Run, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Numbers:
        def decode(self, streams: Any) -> Any:
            return list(range(1000))

    monkeypatch.setattr(BytesTokenizer, "decoder", lambda self: Numbers())
    text = run("head", root, "--table", "text", "--json").json["tables"]["text"][0]["text"]
    assert text.startswith("[0, 1, 2")
    assert len(text) < 120
    assert "text   [0, 1, 2" in run("head", root, "--table", "text").out
