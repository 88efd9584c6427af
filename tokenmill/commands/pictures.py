"""The contact sheet of `tokenmill head`: each row's original beside what parts of its tokens decode to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenmill.commands.contact_sheet import Cell, Section, SheetRow, draw
from tokenmill.commands.originals import originals
from tokenmill.commands.output import described, printable, size
from tokenmill.contract import PrefixDecoder
from tokenmill.errors import StorageError, TokenmillError
from tokenmill.images.image_file import ImageFile

if TYPE_CHECKING:
    from PIL import Image

    from tokenmill.dataset import Row, Table

#: Shown parts of a row's tokens where they can be cut, and their names.
_FRACTIONS = {0.25: "1/4", 0.5: "1/2"}
_SHOWN_CHARACTERS = 100


def write_contact_sheet(path: Path, tables: Sequence[tuple[Table, Sequence[tuple[Row, Image.Image]]]]) -> None:
    """Draw rows of tables and what they decode to, with their originals, into a PNG file.

    Raises StorageError where it cannot be written.
    """
    sheet = draw([_section(table, rows) for table, rows in tables])
    try:
        sheet.save(path, "PNG")
    except OSError as error:
        raise StorageError(f"cannot be written: {error.strerror or error}", where=str(path)) from error


def _section(table: Table, rows: Sequence[tuple[Row, Image.Image]]) -> Section:
    cuts = isinstance(table.decoder, PrefixDecoder)
    payloads = originals(table, [row for row, _ in rows])
    columns = ("original", *(_FRACTIONS.values() if cuts else ()), "all tokens")
    return Section(f"Table {table.name}", columns, [_row(table, *row, payloads) for row in rows])


def _row(table: Table, row: Row, decoded: Image.Image, payloads: Mapping[tuple[int, int], Any]) -> SheetRow:
    name = next((spec.error_of for spec in table.streams.values() if spec.error_of), next(iter(table.streams)))
    cells = [_original(payloads[row.split, row.ordinal])]
    decoder = table.decoder
    if isinstance(decoder, PrefixDecoder):
        for fraction in _FRACTIONS:
            cut = decoder.prefix(row.streams, fraction)
            cells.append(Cell(decoder.decode(cut), _tokens(cut[name].size)))
    about = [
        f"{stream if spec.error_of else ''} {described(row.streams[stream], spec, stream)}".strip()
        for stream, spec in table.streams.items()
        if spec.error_of or spec.labels
    ]
    cells.append(Cell(decoded, f"{_tokens(row.streams[name].size)}\n{', '.join(about)}"))
    return SheetRow(printable(row.key, _SHOWN_CHARACTERS), cells)


def _tokens(count: int) -> str:
    return "1 token" if count == 1 else f"{count:,} tokens"


def _original(payload: Any) -> Cell:
    if not isinstance(payload, ImageFile):
        return Cell(None, "source gone or changed")
    from PIL import Image

    try:
        picture = Image.fromarray(payload.pixels())
    except TokenmillError as error:
        return Cell(None, printable(error.what, _SHOWN_CHARACTERS))
    return Cell(picture, f"{picture.width} x {picture.height} pixels\n{size(len(payload.data))}")
