"""What lies where on a contact sheet."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tokenmill.commands.contact_sheet import THUMBNAIL, Cell, Section, SheetRow, draw

RED, BLUE = (255, 0, 0), (0, 0, 255)


def sheet_of(*rows: SheetRow, columns: tuple[str, ...] = ("original", "all tokens")) -> np.ndarray:
    return np.asarray(draw([Section("Table t", columns, rows)]))


def extent(sheet: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int]:
    """Return height and width of what has a colour."""
    rows, columns = np.nonzero((sheet == colour).all(axis=2))
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def test_pictures_are_fitted_into_thumbnails_and_keep_their_shape() -> None:
    row = SheetRow("key", [Cell(Image.new("RGB", (1000, 500), RED), "a"), Cell(Image.new("L", (10, 20), 0), "b")])
    sheet = sheet_of(row)
    assert extent(sheet, RED) == (THUMBNAIL // 2, THUMBNAIL)
    # The small one's pixels become squares of whole pixels: 9 times 20 fit, 10 times do not.
    assert extent(sheet, (0, 0, 0)) == (180, 90)


def test_small_pictures_stay_sharp() -> None:
    checks = Image.fromarray(np.indices((4, 4)).sum(axis=0).astype(np.uint8) % 2 * 255).convert("RGB")
    sheet = sheet_of(SheetRow("key", [Cell(checks, "")]))
    found = {tuple(colour) for colour in sheet[82 : 82 + THUMBNAIL, 14 : 14 + THUMBNAIL].reshape(-1, 3).tolist()}
    assert found <= {(0, 0, 0), (255, 255, 255)}


def test_very_long_pictures_have_a_pixel_at_least() -> None:
    assert extent(sheet_of(SheetRow("key", [Cell(Image.new("RGB", (10_000, 1), RED), "")])), RED) == (1, THUMBNAIL)


def test_columns_and_rows_do_not_overlap() -> None:
    cells = [Cell(Image.new("RGB", (300, 300), colour), "caption\nsecond line") for colour in (RED, BLUE)]
    one, two = sheet_of(SheetRow("k", cells)), sheet_of(SheetRow("k", cells), SheetRow("k", cells))
    assert extent(one, RED) == extent(one, BLUE) == (THUMBNAIL, THUMBNAIL)
    assert int((two == RED).all(axis=2).sum()) == 2 * THUMBNAIL**2
    assert two.shape[1] == one.shape[1]
    assert two.shape[0] - one.shape[0] > THUMBNAIL


def test_text_is_cut_at_its_place() -> None:
    short, long = (SheetRow("k", [Cell(None, text), Cell(None, "")]) for text in ("x", "x" * 500))
    second = slice(2 * 14 + THUMBNAIL, None)
    assert (sheet_of(short)[:, second] == sheet_of(long)[:, second]).all()
    assert (sheet_of(short) != sheet_of(long)).any()


def test_sections_with_other_columns_go_below_each_other() -> None:
    first = Section("one", ("original", "1/4", "1/2", "all"), [SheetRow("k", [Cell(None, "")] * 4)])
    second = Section("two", ("original", "all"), [SheetRow("k", [Cell(Image.new("RGB", (9, 9), RED), "")])])
    both = np.asarray(draw([first, second]))
    assert both.shape[1] == np.asarray(draw([first])).shape[1]
    assert (both == RED).all(axis=2).any()
