"""The user's corpora, read only: from uris to files, and from a file to a stream.

Directories and globs are expanded here, the same way on every filesystem; formats are not known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import BinaryIO

from tokenmill.errors import ConfigurationError, InputError, MissingExtraError, MissingFileError, StorageError
from tokenmill.sources.splits import InputFile
from tokenmill.storage import uris
from tokenmill.storage.listing import Filesystem, filesystem
from tokenmill.storage.uris import Location, join

__all__ = ["ExpandedInputs", "expand", "join", "open_input", "stat_input"]

_MAGIC = re.compile(r"[*?\[]")
#: What Spark, Hadoop and Delta write beside the data.
_BOOKKEEPING = re.compile(r"_(SUCCESS|metadata|common_metadata|temporary|delta_log|started_.*|committed_.*)\Z")


@dataclass(frozen=True, slots=True)
class ExpandedInputs:
    """The files that some uris stand for.

    Attributes:
        root: The directory that all paths are relative to. It follows from the uris alone, so that keys stay what they
            are when files are added.
        files: Sorted by path, each once.
    """

    root: str
    files: list[InputFile]


def expand(given: Sequence[str]) -> ExpandedInputs:
    """Find all files that uris stand for.

    A uri is a file, a directory (all files below it) or a glob: `*`, `?` and `[…]` match within a name, `**` any number
    of directories, and a directory that a glob matches stands for all files below it. Hidden files and directories
    (leading dot) and the bookkeeping of Spark and Hadoop (`_SUCCESS`, …) are left out unless the uri names them. A uri
    that names an existing file is that file, whatever characters it has.

    Raises:
        InputError: Where a uri matches nothing, cannot be listed, or lies on another filesystem than the first.
    """
    locations = [_parse(uri) for uri in given]
    schemes = sorted({location.scheme for location in locations})
    if len(schemes) != 1:
        raise InputError(
            f"the uris of a source lie on different filesystems: {', '.join(schemes)}"
            if schemes
            else "no uri is given",
            where=", ".join(given) or None,
            fix="make a source of each",
        )
    fs = filesystem(schemes[0])
    files: dict[str, InputFile] = {}
    bases: list[str] = []
    for uri, location in zip(given, locations, strict=True):
        with _explained(uri):
            base, found = _expand_one(fs, location.path)
        if not found:
            raise InputError(
                "no file matches", where=uri, fix="check the path; hidden files count only where the uri names them"
            )
        bases.append(base)
        files.update((file.path, file) for file in found)
    root = _common_directory(bases)
    skipped = len(root) if root.endswith("/") or not root else len(root) + 1
    paths = sorted(files)
    return ExpandedInputs(
        Location(schemes[0], root).uri,
        [InputFile(path[skipped:], files[path].size_bytes, files[path].version) for path in paths],
    )


def open_input(uri: str) -> BinaryIO:
    """Open a file for reading and seeking, in bounded memory (object storage: read-ahead, reconnects where it broke).

    Raises:
        InputError: Where the file is missing or cannot be read.
        StorageError: When the server stays away for longer than the retries last; also later, from `read`.
    """
    location = _parse(uri)
    with _explained(uri, servers=False):
        return filesystem(location.scheme).open(location.path)


def stat_input(uri: str) -> tuple[int, str]:
    """Return a file's size in bytes and its version (see InputFile); raises as `open_input` does."""
    location = _parse(uri)
    with _explained(uri, servers=False):
        found = filesystem(location.scheme).stat(location.path)
    if found is None:
        raise InputError("there is no such file", where=uri)
    return found.size_bytes, found.version


def _parse(uri: str) -> Location:
    try:
        return uris.parse(uri)
    except ConfigurationError as error:
        raise InputError(error.what, where=error.where, fix=error.fix) from error


@contextmanager
def _explained(uri: str, *, servers: bool = True) -> Iterator[None]:
    """Turn what a filesystem raises into an InputError that names the uri; a server's failure only if asked for."""
    try:
        yield
    except (InputError, MissingExtraError):
        raise
    except StorageError as error:
        if not servers and not isinstance(error, MissingFileError):
            raise
        raise InputError(error.what, where=error.where or uri, fix=error.fix) from error
    except FileNotFoundError as error:
        raise InputError("there is no such file", where=uri) from error
    except PermissionError as error:
        raise InputError(
            "it cannot be read: permission denied", where=error.filename or uri, fix="check its owner and permissions"
        ) from error
    except OSError as error:
        raise InputError(f"it cannot be read: {error.strerror or error}", where=error.filename or uri) from error


def _expand_one(fs: Filesystem, path: str) -> tuple[str, list[InputFile]]:
    """Return the directory that a uri's keys are relative to, and the files it stands for."""
    if not path.endswith("/") and (file := fs.stat(path)) is not None:
        return _parent(path), [file]
    steps = path.rstrip("/").split("/")
    magic = next((number for number, step in enumerate(steps) if _MAGIC.search(step)), len(steps))
    base = "/".join(steps[:magic]) or "/"
    if any("**" in step and step != "**" for step in steps):
        raise InputError("'**' must stand alone between slashes", where=path, fix="write **/*.jsonl, not **.jsonl")
    return base, list(_matches(fs, base, steps[magic:]))


def _matches(fs: Filesystem, directory: str, steps: Sequence[str]) -> Iterator[InputFile]:
    """Yield the files below a directory that the steps of a glob match; no steps: all of them."""
    if not steps:
        yield from fs.below(directory, lambda name: not _hidden(name))
    elif steps[0] == "**":
        yield from _matches_below(fs, directory, steps)
    elif not _MAGIC.search(steps[0]):
        path = f"{directory.rstrip('/')}/{steps[0]}"
        if len(steps) == 1 and (file := fs.stat(path)) is not None:
            yield file
        else:
            yield from _matches(fs, path, steps[1:])
    elif (level := fs.level(directory)) is not None:
        pattern = _pattern(steps[:1])
        if len(steps) == 1:
            names = ((file.path.rpartition("/")[2], file) for file in level.files)
            yield from (file for name, file in names if pattern.match(name) and _visible(name, steps))
        for name in level.directories:
            if pattern.match(name) and _visible(name, steps[:1]):
                yield from _matches(fs, f"{directory.rstrip('/')}/{name}", steps[1:])


def _matches_below(fs: Filesystem, directory: str, steps: Sequence[str]) -> Iterator[InputFile]:
    pattern = _pattern(steps)
    start = len(directory.rstrip("/")) + 1
    for file in fs.below(directory, lambda name: _visible(name, steps)):
        path = file.path[start:]
        while path and not pattern.match(path):  # or a directory above it matches
            path = path.rpartition("/")[0]
        if path:
            yield file


def _pattern(steps: Sequence[str]) -> re.Pattern[str]:
    from fsspec.utils import glob_translate  # not above: workers need no globs, and fsspec takes a tenth of a second

    return re.compile(glob_translate("/".join(steps)))


def _parent(path: str) -> str:
    parent = path.rpartition("/")[0]
    return parent or ("/" if path.startswith("/") else "")


def _hidden(name: str) -> bool:
    return name.startswith(".") or _BOOKKEEPING.match(name) is not None


def _visible(name: str, steps: Sequence[str]) -> bool:
    """Tell whether a name counts: hidden ones do where a step of the glob spells out what makes them so."""
    return not _hidden(name) or any(step[0] == name[0] and fnmatchcase(name, step) for step in steps if step)


def _common_directory(bases: Sequence[str]) -> str:
    if len(set(bases)) == 1:
        return bases[0]
    common: list[str] = []
    for steps in zip(*(base.rstrip("/").split("/") for base in bases), strict=False):
        if len(set(steps)) > 1:
            break
        common.append(steps[0])
    return "/".join(common) or ("/" if bases[0].startswith("/") else "")
