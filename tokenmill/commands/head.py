"""`tokenmill head`: the first rows of a dataset's tables, with their tokens and what they decode to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenmill.commands.output import AsJson, Uri, fields, printable, write_json, write_lines
from tokenmill.errors import TokenmillError

if TYPE_CHECKING:
    import numpy.typing as npt

    from tokenmill.dataset import Row, Table

_SHOWN_VALUES = 16
_SHOWN_CHARACTERS = 100
#: Of a long row only so many values are decoded.
_DECODED_VALUES = 512


def head(
    uri: Uri,
    table: Annotated[str | None, typer.Option("--table", help="Show this table only.", show_default="all")] = None,
    count: Annotated[int, typer.Option("-n", "--rows", min=0, help="How many rows of each table.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Show the first rows: key, number of tokens, first ids, and the decoded text."""
    from tokenmill.dataset import open_dataset

    dataset = open_dataset(uri)
    tables = dataset.tables if table is None else {table: dataset[table]}
    if as_json:
        write_json(
            {
                "uri": dataset.uri,
                "generation": dataset.generation,
                "tables": {name: list(_documents(found, count)) for name, found in tables.items()},
            }
        )
        return
    for name, found in tables.items():
        write_lines([f"Table {name}: {min(count, len(found)):,} of {len(found):,} rows"])
        for document in _documents(found, count):
            write_lines(["", *_lines(document)])
        write_lines([""])


def _documents(table: Table, count: int) -> Iterator[dict[str, Any]]:
    decodable = True
    for index in range(min(count, len(table))):
        row = table[index]
        text: str | None = None
        if decodable:
            try:
                text = _decoded(table, row)
            except TokenmillError as error:  # tokens can be looked at without the vocabulary
                decodable = False
                sys.stderr.write(f"note: not decoded: {error}\n")
        yield {
            "index": index,
            "key": row.key,
            "split": row.split,
            "ordinal": row.ordinal,
            "document": row.document,
            "position": row.position,
            "metadata": dict(row.metadata),
            "streams": {name: _stream(values) for name, values in row.streams.items()},
            "text": text,
        }


def _stream(values: npt.NDArray[Any]) -> dict[str, Any]:
    return {
        "shape": list(values.shape),
        "dtype": str(values.dtype),
        "first": values.reshape(-1)[:_SHOWN_VALUES].tolist(),
    }


def _decoded(table: Table, row: Row) -> str:
    """Decode a row, or the start of it where it is one long line of tokens."""
    from dataclasses import replace

    if len(row.streams) == 1:
        name, values = next(iter(row.streams.items()))
        if values.ndim == 1 and len(values) > _DECODED_VALUES:
            row = replace(row, streams={name: values[:_DECODED_VALUES]})
    return str(table.decode(row))


def _lines(document: dict[str, Any]) -> list[str]:
    facts = []
    for name, stream in document["streams"].items():
        values = 1
        for length in stream["shape"]:
            values *= length
        more = " …" if values > len(stream["first"]) else ""
        shape = f"{values:,}" if len(stream["shape"]) == 1 else "×".join(map(str, stream["shape"]))
        facts.append((name, f"{shape} {stream['dtype']}: {' '.join(map(str, stream['first']))}{more}"))
    facts += [(name, printable(str(value), _SHOWN_CHARACTERS)) for name, value in document["metadata"].items()]
    if document["text"] is not None:
        facts.append(("text", printable(document["text"], _SHOWN_CHARACTERS)))
    place = f"split {document['split']}, item {document['ordinal']}"
    return [f"{document['index']}  {printable(document['key'], _SHOWN_CHARACTERS)}  ({place})", *fields(facts, "   ")]
