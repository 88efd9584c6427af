"""The one file that a training command writes: refused before the work where it is there already or cannot be made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tokenmill.errors import ConfigurationError, StorageError

Output = Annotated[Path, typer.Option("--output", help="The file to write; there must be none yet.")]


def require_new(path: Path) -> None:
    """Make a file's folder; raises ConfigurationError where the file exists, StorageError where it cannot be."""
    if path.exists():
        raise ConfigurationError("this file is there already", where=str(path), fix="give another --output")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.unlink()
    except OSError as error:
        raise StorageError(f"cannot be written: {error.strerror}", where=str(path)) from error


def write_new(path: Path, data: bytes) -> None:
    """Write the file and say so; raises StorageError."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise StorageError(f"cannot be written: {error.strerror}", where=str(path)) from error
    report(f"{path}: {len(data):,} bytes")


def report(message: str) -> None:
    """Say what is being done."""
    sys.stderr.write(message + "\n")
