"""`tokenmill takedown`: publish a generation without the rows of some keys, and keep the keys from coming back."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tokenmill.commands.output import AsJson, Uri, printable, write_json, write_lines

if TYPE_CHECKING:
    from tokenmill.takedowns import TakedownReport

_SHOWN_CHARACTERS = 100


def takedown(
    uri: Uri,
    keys: Annotated[str, typer.Option("--keys", metavar="FILE", help="The keys, one a line: a path or uri.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be taken down; write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take keys down: publish a generation without their rows, and leave them out of all later ones."""
    from tokenmill.storage.outputs import Storage
    from tokenmill.takedowns import read_keys, take_down

    report = take_down(Storage.open(uri), read_keys(keys), dry_run=dry_run, on_progress=_progress)
    if as_json:
        write_json(report.to_json())
    else:
        write_lines(_lines(report))


def _progress(step: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"{step}\n")


def _lines(report: TakedownReport) -> list[str]:
    lines = [f"{report.keys:,} keys, {report.new_keys:,} of them new"]
    if report.unmatched_keys:
        shown = [printable(key, _SHOWN_CHARACTERS) for key in report.unmatched]
        more = ["…"] if report.unmatched_keys > len(shown) else []
        lines.append(f"no row has {report.unmatched_keys:,} of the new keys: {', '.join([*shown, *more])}")
    if report.published or report.dry_run:
        would = "would be taken" if report.dry_run else "were taken"
        lines += [
            f"table {name}: {taken.items:,} items {would} down, from {taken.shards:,} shards"
            for name, taken in report.tables.items()
        ]
    if report.dry_run:
        lines.append("nothing was written: this was a dry run")
    elif report.published:
        lines.append(f"published generation {report.generation}, by takedown list {report.takedown}")
    elif report.generation is None:
        lines.append(f"recorded in takedown list {report.takedown}")
    else:
        lines.append(f"nothing to do: generation {report.generation} has none of these keys")
    return [*lines, *(f"note: {note}" for note in report.notes)]
