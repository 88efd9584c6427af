"""Splits: bounded pieces of a source, known by reference only (no payload ever enters a plan)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SplitKind = Literal["bytes", "rows", "file", "files"]


@dataclass(frozen=True, slots=True)
class InputFile:
    """One input file as it was when it was planned.

    Attributes:
        path: Relative to the source's root.
        size_bytes: Size as stored.
        version: What changes when the content does: the etag on object storage, else `mtime:<nanoseconds>`.
    """

    path: str
    size_bytes: int
    version: str


@dataclass(frozen=True, slots=True)
class Split:
    """A piece of a source that one worker reads from its start to its end.

    Attributes:
        source: Name of the source in the job.
        kind: `bytes`: the lines that start in [start, stop) of an uncompressed line file; `rows`: Parquet row
            groups [start, stop); `file`: one whole file; `files`: a run of small files, read one after another.
        files: One file, or for `files` the run.
        start: First byte, or first row group; 0 otherwise.
        stop: The byte or row group after the last; size of the file, or number of files, otherwise.
        input_bytes: What reading it costs, in bytes as stored (for dealing splits out and for estimates).
    """

    source: str
    kind: SplitKind
    files: tuple[InputFile, ...]
    start: int
    stop: int
    input_bytes: int
