"""`tokenmill replay`: read one item from its source and tokenize it here, to see what became of it and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenmill.commands.output import AsJson, Uri, fields, printable, write_json, write_lines

if TYPE_CHECKING:
    from tokenmill.replaying import Replay

_SHOWN_VALUES = 64
_SHOWN_CHARACTERS = 400


def replay(
    uri: Uri,
    table: Annotated[str, typer.Option("--table", help="The table.")],
    split: Annotated[int, typer.Option("--split", min=0, help="Number of the item's split.")],
    ordinal: Annotated[int, typer.Option("--ordinal", min=0, help="The item's number in its split.")],
    as_json: AsJson = False,
) -> None:
    """Read one item from its source and tokenize it here; the exit code is 1 where it has no row.

    The lines of a dataset's rejects name this command.
    """
    from tokenmill.replaying import replay as replay_item
    from tokenmill.storage.outputs import Storage

    result = replay_item(Storage.open(uri), table, split, ordinal)
    if as_json:
        write_json(result.to_json())
    else:
        write_lines(_lines(result))
    if result.reason is not None:
        raise typer.Exit(1)


def _lines(result: Replay) -> list[str]:
    facts: list[tuple[str, str]] = [
        ("key", printable(result.key, _SHOWN_CHARACTERS)),
        ("source", result.source),
        ("locator", printable(result.locator)),
    ]
    if result.size_bytes is not None:
        facts.append(("size", f"{result.size_bytes:,} bytes"))
    facts += [(f"metadata {name}", printable(repr(value))) for name, value in result.metadata.items()]
    if isinstance(result.payload, str):
        facts.append(("payload", printable(result.payload, _SHOWN_CHARACTERS)))
    for name, values in result.streams.items():
        shown: list[Any] = values.reshape(-1)[:_SHOWN_VALUES].tolist()
        more = " …" if values.size > len(shown) else ""
        shape = "×".join(map(str, values.shape))
        facts.append((f"stream {name}", f"{shape} {values.dtype}: {' '.join(map(str, shown))}{more}"))
    if result.reason is None:
        return [f"item {result.ordinal} of split {result.split} has a row", *fields(facts)]
    facts += [("reason", result.reason), ("message", printable(result.message or ""))]
    if result.lost_seconds:
        facts.append(("lost", f"{result.lost_seconds:.2f} s of sound"))
    lines = [f"item {result.ordinal} of split {result.split} is rejected", *fields(facts)]
    return lines if result.traceback is None else [*lines, "", result.traceback.rstrip()]
