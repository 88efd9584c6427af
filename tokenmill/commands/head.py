"""`tokenmill head`: the first rows of a dataset's tables, with their tokens and what they decode to."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenmill.commands.decoded import holds_modules, holds_sound, is_image, is_sound
from tokenmill.commands.output import SHOWN_VALUES, AsJson, Uri, described, fields, printable, write_json, write_lines
from tokenmill.errors import DatasetError, TokenmillError

if TYPE_CHECKING:
    import numpy.typing as npt

    from tokenmill.dataset import Dataset, Row, Table

_SHOWN_CHARACTERS = 100
#: Of a long row only so many values are decoded.
_DECODED_VALUES = 512
#: Of a long recording only so much is decoded.
_DECODED_SECONDS = 30.0


@dataclass(frozen=True)
class _Shown:
    """A row, and what it decodes to: None where it cannot be decoded."""

    index: int
    row: Row
    decoded: Any


def head(
    uri: Uri,
    table: Annotated[str | None, typer.Option("--table", help="Show this table only.", show_default="all")] = None,
    count: Annotated[int, typer.Option("-n", "--rows", min=0, help="How many rows of each table.")] = 5,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="FILE.png",
            help="Write a contact sheet of tables of images: each row's original, if its source can still be read, "
            "and what a quarter, half and all of its tokens decode to.",
            show_default=False,
        ),
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option(
            "--audio",
            metavar="DIRECTORY",
            help="Write WAV files of tables of sound: each row's original, if its source can still be read, and what "
            "a quarter, half and all of its codebooks decode to; and spectrograms.png, a picture of all. Of long "
            "recordings it is the first half minute.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the first rows: key, number of tokens, first ids, and the decoded text; of the others what they are.

    Sound is decoded for `--audio` alone.
    """
    from tokenmill.dataset import open_dataset

    dataset = open_dataset(uri)
    tables = dataset.tables if table is None else {table: dataset[table]}
    rows: Mapping[str, Iterable[_Shown]] = {
        name: _rows(found, count, audio is not None) for name, found in tables.items()
    }
    if images is not None or audio is not None:
        rows = {name: list(some) for name, some in rows.items()}
    if images is not None:
        _write_sheet(images, dataset, rows)
    if audio is not None:
        _write_sounds(audio, dataset, rows)
    if as_json:
        write_json(
            {
                "uri": dataset.uri,
                "generation": dataset.generation,
                "tables": {name: [_document(shown) for shown in some] for name, some in rows.items()},
            }
        )
        return
    for name, found in tables.items():
        write_lines([f"Table {name}: {min(count, len(found)):,} of {len(found):,} rows"])
        for shown in rows[name]:
            write_lines(["", *_lines(shown, found)])
        write_lines([""])


def _write_sheet(path: Path, dataset: Dataset, rows: Mapping[str, Iterable[_Shown]]) -> None:
    pictures = {name: [(one.row, one.decoded) for one in some if is_image(one.decoded)] for name, some in rows.items()}
    if not any(pictures.values()):
        raise DatasetError(
            "has no row that decodes to an image",
            where=dataset.uri,
            fix="name a table of images by --table; where a row could not be decoded, a note above says why",
        )
    from tokenmill.commands.pictures import write_contact_sheet  # Pillow is in the extra, and here by now

    write_contact_sheet(path, [(dataset[name], some) for name, some in pictures.items() if some])


def _write_sounds(directory: Path, dataset: Dataset, rows: Mapping[str, Iterable[_Shown]]) -> None:
    heard = {
        name: [(one.index, _beginning(dataset[name], one.row), one.decoded) for one in some if is_sound(one.decoded)]
        for name, some in rows.items()
    }
    if not any(heard.values()):
        raise DatasetError(
            "has no row that decodes to sound",
            where=dataset.uri,
            fix="name a table of sound by --table; where a row could not be decoded, a note above says why",
        )
    from tokenmill.commands.sounds import write_sounds

    write_sounds(directory, [(dataset[name], some) for name, some in heard.items() if some])


def _rows(table: Table, count: int, sound: bool) -> Iterator[_Shown]:
    decodable = sound or not holds_sound(table)
    for index in range(min(count, len(table))):
        row = table[index]
        decoded = None
        if decodable:
            try:
                decoded = _decoded(table, row)
            except TokenmillError as error:  # tokens can be looked at without the vocabulary
                decodable = False
                sys.stderr.write(f"note: not decoded: {error}\n")
        yield _Shown(index, row, decoded)


def _decoded(table: Table, row: Row) -> Any:
    """Decode a row, or the start of it where it is one long line of tokens, a long recording, or a module."""
    if holds_sound(table):
        return table.decode(_beginning(table, row))
    if holds_modules(table):
        from tokenmill.commands.modules import beginning

        first = beginning(row, table.streams)
        return None if first is None else table.decode(first)
    if len(row.streams) == 1:
        name, values = next(iter(row.streams.items()))
        if values.ndim == 1 and len(values) > _DECODED_VALUES:
            row = replace(row, streams={name: values[:_DECODED_VALUES]})
    return table.decode(row)


def _beginning(table: Table, row: Row) -> Row:
    from tokenmill.audio.frames import beginning

    return replace(row, streams=beginning(row.streams, table.streams, _DECODED_SECONDS))


def _text(decoded: Any) -> str | None:
    """Return what a row decodes to as text; None where it is no text, but a picture or sound."""
    if decoded is None or isinstance(decoded, str):
        return decoded
    return None if is_image(decoded) or is_sound(decoded) else printable(repr(decoded), _SHOWN_CHARACTERS)


def _document(shown: _Shown) -> dict[str, Any]:
    row = shown.row
    document = {
        "index": shown.index,
        "key": row.key,
        "split": row.split,
        "ordinal": row.ordinal,
        "document": row.document,
        "position": row.position,
        "metadata": dict(row.metadata),
        "streams": {name: _stream(values) for name, values in row.streams.items()},
        "text": _text(shown.decoded),
    }
    if is_image(shown.decoded):
        image = shown.decoded
        document["image"] = {"mode": image.mode, "width": image.width, "height": image.height}
    if is_sound(shown.decoded):
        document["sound"] = {"rate_hz": shown.decoded.rate_hz, "samples": len(shown.decoded.samples)}
    return document


def _stream(values: npt.NDArray[Any]) -> dict[str, Any]:
    return {
        "shape": list(values.shape),
        "dtype": str(values.dtype),
        "first": values.reshape(-1)[:SHOWN_VALUES].tolist(),
    }


def _lines(shown: _Shown, table: Table) -> list[str]:
    row, specs = shown.row, table.streams
    lines: list[str] = []
    text = _text(shown.decoded)
    if holds_modules(table):
        from tokenmill.commands import modules

        facts = list(modules.facts(row.streams, specs))
        if text is not None and (begun := modules.beginning(row, specs)) is not None:
            lines = [f"     {line}" for line in modules.function_lines(table, begun, text)]
            text = None
    else:
        facts = [(name, described(values, specs[name], name)) for name, values in row.streams.items()]
    facts += [(name, printable(str(value), _SHOWN_CHARACTERS)) for name, value in row.metadata.items()]
    if text is not None:
        facts.append(("text", printable(text, _SHOWN_CHARACTERS)))
    elif is_image(shown.decoded) and "geometry" not in specs:
        image = shown.decoded
        facts.append(("decoded", f"{image.width}×{image.height} pixels, {image.mode}"))
    place = f"split {row.split}, item {row.ordinal}"
    return [f"{shown.index}  {printable(row.key, _SHOWN_CHARACTERS)}  ({place})", *fields(facts, "   "), *lines]
