"""`tokenmill decode`: what rows decode to, as text on standard output or as files."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenmill.commands.decoded import as_file, holds_modules
from tokenmill.commands.new_file import report
from tokenmill.commands.output import AsJson, Uri, printable, write_json
from tokenmill.errors import ConfigurationError, DatasetError, StorageError, TokenmillError

if TYPE_CHECKING:
    from tokenmill.dataset import Dataset, Row, Table

_SHOWN_CHARACTERS = 100
_TEXT = (".ll", ".txt")
_NAMES = {".bc": "bitcode", ".png": "a picture", ".wav": "sound"}


def decode(
    uri: Uri,
    rows: Annotated[
        list[int] | None,
        typer.Argument(metavar="ROW", help="Numbers of rows, from 0 on.", min=0, show_default=False),
    ] = None,
    table: Annotated[
        str | None, typer.Option("--table", help="The table.", show_default="the only one there is")
    ] = None,
    keys: Annotated[
        list[str] | None,
        typer.Option("--key", help="Decode all rows with this key; more than one may be given.", show_default=False),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            metavar="FILE|FOLDER",
            help="Where to write: of one row a file, of several, or where it is a folder, files TABLE-ROW.txt in it "
            "(.ll, .bc, .png, .wav). Files of the same names are replaced. Without it, standard output.",
            show_default=False,
        ),
    ] = None,
    bitcode: Annotated[
        bool, typer.Option("--bitcode", help="Of modules of LLVM IR: bitcode in place of text, by LLVM.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write what rows decode to: text as it is, pictures as PNG, sound as WAV, modules as text or bitcode."""
    from tokenmill.dataset import open_dataset

    dataset = open_dataset(uri)
    chosen = _table(dataset, table)
    if bitcode and not holds_modules(chosen):
        raise ConfigurationError(
            f"table {chosen.name!r} holds no modules of LLVM IR", where=dataset.uri, fix="leave out --bitcode"
        )
    numbers = _numbers(chosen, rows or [], keys or [], dataset.uri)
    target = _Target(chosen, output, numbers, as_json)
    _ = chosen.decoder  # where there is none, that is no fault of a row
    documents = []
    for number in numbers:
        row = chosen[number]
        ending, data = _decoded(chosen, row, bitcode, f"{dataset.uri}: table {chosen.name!r}, row {number}")
        file = target.write(number, ending, data)
        text = data.decode("utf-8", "surrogateescape") if file is None and as_json else None
        documents.append({"index": number, "key": row.key, "text": text, "file": file})
    if as_json:
        write_json({"uri": dataset.uri, "generation": dataset.generation, "table": chosen.name, "rows": documents})


def _table(dataset: Dataset, name: str | None) -> Table:
    if name is not None:
        return dataset[name]
    if len(dataset) != 1:
        raise ConfigurationError(
            f"has {len(dataset)} tables: {', '.join(dataset)}", where=dataset.uri, fix="name one by --table"
        )
    return dataset[next(iter(dataset))]


def _numbers(table: Table, rows: Sequence[int], keys: Sequence[str], uri: str) -> list[int]:
    """Return the numbers of the rows asked for, in the order of asking, each once."""
    if not rows and not keys:
        raise ConfigurationError("which rows?", fix="give their numbers behind the uri, or keys by --key")
    for row in rows:
        if row >= len(table):
            last = f"{len(table):,} rows, the first is row 0" if len(table) else "no row"
            raise DatasetError(f"table {table.name!r} has no row {row}; it has {last}", where=uri)
    places = _places(table, set(keys)) if keys else {}
    for key in keys:
        if key not in places:
            raise DatasetError(
                f"table {table.name!r} has no row with the key {printable(key, _SHOWN_CHARACTERS)!r}",
                where=uri,
                fix="`tokenmill head` shows keys; a rejected item has no row",
            )
    return list(dict.fromkeys((*rows, *(place for key in keys for place in places[key]))))


def _places(table: Table, keys: set[str]) -> dict[str, list[int]]:
    """Return key → numbers of its rows; every shard's keys are looked through."""
    found: dict[str, list[int]] = {}
    first = 0
    for index in range(len(table.shards)):
        shard = table.open_shard(index)
        for row in range(len(shard)):
            if (key := shard.key(row)) in keys:
                found.setdefault(key, []).append(first + row)
        first += len(shard)
    return found


def _decoded(table: Table, row: Row, bitcode: bool, where: str) -> tuple[str, bytes]:
    """Return what a row decodes to as a file's ending and bytes; errors name the row."""
    try:
        ending, data = as_file(table.decode(row), table)
        if bitcode:
            from tokenmill.ir.assembling import assemble

            return ".bc", assemble(data)
    except TokenmillError as error:
        error.where = where if error.where is None else f"{where}: {error.where}"
        raise
    return ending, data


class _Target:
    """Where rows are written: a file, files in a folder, or standard output."""

    def __init__(self, table: Table, output: str | None, numbers: Sequence[int], as_json: bool) -> None:
        self._table = table
        self._output = Path(output) if output else None
        self._several = len(numbers) > 1
        self._as_json = as_json
        self._line_ended = True
        self._in_folder = False
        if output and self._output is not None:
            self._in_folder = self._several or output[-1:] == "/" or self._output.is_dir()
            if self._in_folder and self._output.exists() and not self._output.is_dir():
                raise ConfigurationError("several rows need a folder, this is a file", where=str(output))

    def write(self, number: int, ending: str, data: bytes) -> str | None:
        """Write one row; returns the file's path, None where there is none."""
        if self._output is None:
            self._to_standard_output(number, ending, data)
            return None
        path = self._output / f"{self._table.name}-{number}{ending}" if self._in_folder else self._output
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as error:
            raise StorageError(f"cannot be written: {error.strerror}", where=str(path)) from error
        report(f"{path}: {len(data):,} bytes")
        return str(path)

    def _to_standard_output(self, number: int, ending: str, data: bytes) -> None:
        if ending not in _TEXT:
            self._require_bytes_wanted(number, ending)
            sys.stdout.buffer.write(data)
            return
        if self._as_json:
            return
        if not self._line_ended:
            sys.stdout.write("\n")
        self._line_ended = not data or data.endswith(b"\n")
        if sys.stdout.isatty():
            sys.stdout.writelines(_for_terminal(data))
        else:
            sys.stdout.flush()
            sys.stdout.buffer.write(data)

    def _require_bytes_wanted(self, number: int, ending: str) -> None:
        """Raise ConfigurationError where standard output is no place for what is no text."""
        if self._as_json:
            place = "in JSON"
        elif self._several:
            place = "on standard output with that of other rows"
        elif sys.stdout.isatty():
            place = "on a terminal"
        else:
            return
        raise ConfigurationError(
            f"row {number} of table {self._table.name!r} is {_NAMES[ending]}, which has no place {place}",
            fix="give --output FILE or FOLDER",
        )


def _for_terminal(data: bytes) -> Iterator[str]:
    """Yield the lines of a text with everything escaped that a terminal would obey, and the last one ended."""
    for line in data.decode("utf-8", "backslashreplace").removesuffix("\n").split("\n"):
        yield "\t".join(map(printable, line.split("\t"))) + "\n"
