"""A contact sheet: pictures in a grid, text above each row and below each picture, drawn with Pillow.

Its font is Pillow's own, which has Latin letters only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

#: Side in pixels of the square that each picture is fitted into by default.
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


def draw(sections: Sequence[Section], cell_width: int = THUMBNAIL, cell_height: int = THUMBNAIL) -> Image.Image:
    """Draw sections one below the other; text that is too long for its place is cut.

    Args:
        sections: What to draw.
        cell_width: Pictures are fitted into a rectangle of this width in pixels,
        cell_height: and this height.
    """
    columns = max(len(section.columns) for section in sections)
    row_height = _LINE + cell_height + 2 * _LINE + _GAP
    height = _GAP + sum(_TITLE + _LINE + _GAP + len(section.rows) * row_height for section in sections)
    sheet = _Sheet(_GAP + columns * (cell_width + _GAP), height, cell_width, cell_height)
    top = _GAP
    for section in sections:
        sheet.write((_GAP, top), section.title, sheet.width - 2 * _GAP, _INK, _TITLE)
        top += _TITLE + _GAP // 2
        for column, name in enumerate(section.columns):
            sheet.write((sheet.left(column), top), name, cell_width, _FAINT)
        top += _LINE + _GAP // 2
        for row in section.rows:
            sheet.write((_GAP, top), row.heading, sheet.width - 2 * _GAP, _INK)
            for column, cell in enumerate(row.cells):
                sheet.put((sheet.left(column), top + _LINE), cell)
            top += row_height
    return sheet.image


class _Sheet:
    """The paper, and how something is put on it."""

    def __init__(self, width: int, height: int, cell_width: int, cell_height: int) -> None:
        self.width = width
        self._cell_width = cell_width
        self._cell_height = cell_height
        self.image = Image.new("RGB", (width, height), _PAPER)
        self._draw = ImageDraw.Draw(self.image)
        self._fonts = {size: ImageFont.load_default(size) for size in (_TEXT, _TITLE)}

    def left(self, column: int) -> int:
        return _GAP + column * (self._cell_width + _GAP)

    def write(self, place: tuple[int, int], text: str, width: int, color: str, size: int = _TEXT) -> None:
        font = self._fonts[size]
        shown = text
        while shown and font.getlength(shown) > width:
            shown = shown[:-2] + "…" if shown.endswith("…") else shown[:-1] + "…"
        self._draw.text(place, shown, color, font)

    def put(self, place: tuple[int, int], cell: Cell) -> None:
        (left, top), width, height = place, self._cell_width, self._cell_height
        self._draw.rectangle((left, top, left + width - 1, top + height - 1), _EMPTY)
        if cell.picture is None:
            self.write((left + _GAP // 2, top + height // 2 - _LINE // 2), cell.caption, width - _GAP, _FAINT)
            return
        fitted = _fitted(cell.picture, width, height)
        across, down = (width - fitted.width) // 2, (height - fitted.height) // 2
        self.image.paste(fitted, (left + across, top + down))
        for line, text in enumerate(cell.caption.splitlines()):
            self.write((left, top + height + 3 + line * _LINE), text, width, _FAINT)


def _fitted(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Return a picture that fills a rectangle one way at least; small ones get larger pixels, and stay sharp."""
    scale = min(width / picture.width, height / picture.height)
    method = Image.Resampling.LANCZOS
    if scale >= 2:
        scale, method = float(int(scale)), Image.Resampling.NEAREST
    size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
    return picture.convert("RGB").resize(size, method)
