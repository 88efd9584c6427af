"""A contact sheet: pictures in a grid, text above each row and below each picture, drawn with Pillow.

Its font is Pillow's own, which has Latin letters only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

#: Side in pixels of the square that each picture is fitted into.
THUMBNAIL = 192
_GAP = 14
_TEXT, _TITLE = 13, 18
_LINE = 18
_PAPER, _INK, _FAINT, _EMPTY = "#fafaf8", "#1c1c1a", "#6f6f6a", "#ecece8"


@dataclass(frozen=True)
class Cell:
    """A picture with its caption.

    Attributes:
        picture: What to show; None for an empty place.
        caption: One or two lines below it; of an empty place, what is written in it.
    """

    picture: Image.Image | None
    caption: str


@dataclass(frozen=True)
class SheetRow:
    """Pictures of one thing: a line above them, and a cell a column."""

    heading: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Section:
    """Rows with the same columns, under a title."""

    title: str
    columns: Sequence[str]
    rows: Sequence[SheetRow]


def draw(sections: Sequence[Section]) -> Image.Image:
    """Draw sections one below the other; text that is too long for its place is cut."""
    columns = max(len(section.columns) for section in sections)
    row_height = _LINE + THUMBNAIL + 2 * _LINE + _GAP
    height = _GAP + sum(_TITLE + _LINE + _GAP + len(section.rows) * row_height for section in sections)
    sheet = _Sheet(_GAP + columns * (THUMBNAIL + _GAP), height)
    top = _GAP
    for section in sections:
        sheet.write((_GAP, top), section.title, sheet.width - 2 * _GAP, _INK, _TITLE)
        top += _TITLE + _GAP // 2
        for column, name in enumerate(section.columns):
            sheet.write((_left(column), top), name, THUMBNAIL, _FAINT)
        top += _LINE + _GAP // 2
        for row in section.rows:
            sheet.write((_GAP, top), row.heading, sheet.width - 2 * _GAP, _INK)
            for column, cell in enumerate(row.cells):
                sheet.put((_left(column), top + _LINE), cell)
            top += row_height
    return sheet.image


def _left(column: int) -> int:
    return _GAP + column * (THUMBNAIL + _GAP)


class _Sheet:
    """The paper, and how something is put on it."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.image = Image.new("RGB", (width, height), _PAPER)
        self._draw = ImageDraw.Draw(self.image)
        self._fonts = {size: ImageFont.load_default(size) for size in (_TEXT, _TITLE)}

    def write(self, place: tuple[int, int], text: str, width: int, color: str, size: int = _TEXT) -> None:
        font = self._fonts[size]
        shown = text
        while shown and font.getlength(shown) > width:
            shown = shown[:-2] + "…" if shown.endswith("…") else shown[:-1] + "…"
        self._draw.text(place, shown, color, font)

    def put(self, place: tuple[int, int], cell: Cell) -> None:
        left, top = place
        if cell.picture is None:
            self._draw.rectangle((left, top, left + THUMBNAIL - 1, top + THUMBNAIL - 1), _EMPTY)
            self.write((left + _GAP // 2, top + THUMBNAIL // 2 - _LINE // 2), cell.caption, THUMBNAIL - _GAP, _FAINT)
            return
        fitted = _fitted(cell.picture)
        across, down = (THUMBNAIL - fitted.width) // 2, (THUMBNAIL - fitted.height) // 2
        self._draw.rectangle((left, top, left + THUMBNAIL - 1, top + THUMBNAIL - 1), _EMPTY)
        self.image.paste(fitted, (left + across, top + down))
        for line, text in enumerate(cell.caption.splitlines()):
            self.write((left, top + THUMBNAIL + 3 + line * _LINE), text, THUMBNAIL, _FAINT)


def _fitted(picture: Image.Image) -> Image.Image:
    """Return a picture with its longest side as long as a thumbnail's; small ones get larger pixels, and stay sharp."""
    scale = THUMBNAIL / max(picture.size)
    method = Image.Resampling.LANCZOS
    if scale >= 2:
        scale, method = float(int(scale)), Image.Resampling.NEAREST
    size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
    return picture.convert("RGB").resize(size, method)
