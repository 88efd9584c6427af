"""`tokenmill clean`: list, and on demand remove, what killed and superseded attempts left behind."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenmill.commands.output import AsJson, Uri, printable, size, write_json, write_lines

if TYPE_CHECKING:
    from tokenmill.cleaning import Garbage, Removed

_DURATION = re.compile(r"(\d+)\s*([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _duration(text: str) -> timedelta:
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a duration such as 30m, 1h or 2d")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


def clean(
    uri: Uri,
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove what is listed. Without it nothing changes.")
    ] = False,
    older_than: Annotated[
        timedelta,
        typer.Option(
            parser=_duration,
            metavar="DURATION",
            help="Leave alone what is younger (30m, 1h, 2d); at least 1d while the newest plan is not published.",
        ),
    ] = "1h",  # type: ignore[assignment]  # typer parses the default, too
    generations_before: Annotated[
        int | None,
        typer.Option(
            "--generations-before",
            min=1,
            metavar="GENERATION",
            help="Have all earlier generations go, too, and what only they hold.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List orphaned files and stale uploads, on demand earlier generations; with --delete, remove them."""
    from tokenmill.cleaning import find_garbage, remove
    from tokenmill.storage.outputs import Storage

    storage = Storage.open(uri)
    garbage = find_garbage(storage, older_than, generations_before=generations_before)
    removed = remove(storage, garbage) if delete else None
    if as_json:
        write_json({"uri": storage.uri, **garbage.to_json(), "removed": _document(removed)})
    else:
        write_lines(_lines(garbage, removed))


def _document(removed: Removed | None) -> dict[str, Any] | None:
    from dataclasses import asdict

    return None if removed is None else asdict(removed)


def _lines(garbage: Garbage, removed: Removed | None) -> list[str]:
    lines = [f"{printable(entry.path)}  {size(entry.size_bytes)}" for entry in garbage.files]
    lines += [
        f"{printable(upload.path)}  unfinished upload of {upload.initiated:%Y-%m-%d %H:%M}"
        for upload in garbage.uploads
    ]
    lines += [f"note: {note}" for note in garbage.notes]
    age = f"older than {garbage.older_than}"
    if not len(garbage):
        lines.append(f"nothing to remove that is {age}")
    elif removed is None:
        found = f"{len(garbage.files):,} files ({size(garbage.size_bytes)}) and {len(garbage.uploads):,} uploads, {age}"
        lines.append(f"{found}; nothing was removed: pass --delete to remove them")
    else:
        lines.append(
            f"removed {removed.files:,} files ({size(removed.size_bytes)}) and {removed.uploads:,} uploads"
            + (f"; kept {removed.kept:,} that came into use meanwhile" if removed.kept else "")
        )
    return lines
