"""Listings of the user's directories on any filesystem: one level, or everything below, with sizes and versions.

Paths are those of `uris.Location`. What is hidden, and what matches, is decided in `inputs`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, BinaryIO, Protocol

from tokenmill.errors import InputError, MissingExtraError
from tokenmill.sources.splits import InputFile


@dataclass(slots=True)
class Level:
    """What is directly in a directory: files (with full paths) and the names of directories."""

    files: list[InputFile] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)


class Filesystem(Protocol):
    """Reading access to one kind of storage. Raises OSError or StorageError where a place cannot be read."""

    def stat(self, path: str) -> InputFile | None:
        """Return a file; None where there is none (a directory is none)."""
        ...

    def level(self, directory: str) -> Level | None:
        """Return what is directly in a directory; None where there is no such directory."""
        ...

    def below(self, directory: str, visible: Callable[[str], bool]) -> Iterator[InputFile]:
        """Yield all files below a directory, leaving out files and directories whose name `visible` declines."""
        ...

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading and seeking, in bounded memory."""
        ...


def filesystem(scheme: str) -> Filesystem:
    """Return the filesystem of a scheme; raises MissingExtraError, or InputError where fsspec knows none."""
    if scheme == "file":
        return LocalFilesystem()
    if scheme == "s3":
        from tokenmill.storage.s3 import S3Filesystem

        return S3Filesystem()
    return FsspecFilesystem(scheme)


class LocalFilesystem:
    """Local files. Links are followed; a link to a directory above it is not."""

    def stat(self, path: str) -> InputFile | None:
        """Return a file, or None."""
        try:
            status = os.stat(path)  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            return None
        return None if os.path.isdir(path) else _local_file(path, status)  # noqa: PTH112

    def level(self, directory: str) -> Level | None:
        """Return what is directly in a directory."""
        found = Level()
        try:
            scanned = os.scandir(directory)
        except (FileNotFoundError, NotADirectoryError):
            return None
        with scanned:
            for entry in scanned:
                if entry.is_dir():
                    found.directories.append(entry.name)
                elif entry.is_file():  # neither sockets nor pipes nor broken links
                    found.files.append(_local_file(entry.path, entry.stat()))
        return found

    def below(self, directory: str, visible: Callable[[str], bool]) -> Iterator[InputFile]:
        """Yield all files below a directory."""
        pending: list[tuple[str, frozenset[str]]] = [(directory, frozenset())]
        while pending:
            path, above = pending.pop()
            real = os.path.realpath(path)
            found = None if real in above else self.level(path)
            if found is None:
                continue
            yield from (file for file in found.files if visible(file.path.rpartition("/")[2]))
            inside = above | {real}
            pending.extend((os.path.join(path, name), inside) for name in found.directories if visible(name))  # noqa: PTH118

    def open(self, path: str) -> BinaryIO:
        """Open a file."""
        return open(path, "rb")


def _local_file(path: str, status: os.stat_result) -> InputFile:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            "the file's name is not UTF-8", where=repr(os.fsencode(path)), fix="rename the file"
        ) from error
    return InputFile(path, status.st_size, f"mtime:{status.st_mtime_ns}")


class FsspecFilesystem:
    """Any other filesystem that fsspec knows, at the speed of its own listing."""

    _BLOCK_BYTES = 8 << 20

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme
        self._fs = _fsspec(scheme, os.getpid())
        # What fsspec's own paths begin with: the whole url for http, "/" for memory, nothing for most.
        self._prefix = self._fs._strip_protocol(f"{scheme}://a")[:-1]

    def stat(self, path: str) -> InputFile | None:
        """Return a file, or None."""
        try:
            found = self._fs.info(self._prefix + path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return None if found["type"] == "directory" else self._file(found)

    def level(self, directory: str) -> Level | None:
        """Return what is directly in a directory."""
        try:
            entries = self._fs.ls(self._prefix + directory, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return None
        found = Level()
        for entry in entries:
            if entry["type"] == "directory":
                found.directories.append(entry["name"].rstrip("/").rpartition("/")[2])
            else:
                found.files.append(self._file(entry))
        return found

    def below(self, directory: str, visible: Callable[[str], bool]) -> Iterator[InputFile]:
        """Yield all files below a directory."""
        pending = [directory.rstrip("/")]
        while pending:
            path = pending.pop()
            found = self.level(path)
            if found is not None:
                yield from (file for file in found.files if visible(file.path.rpartition("/")[2]))
                pending.extend(f"{path}/{name}" for name in found.directories if visible(name))

    def open(self, path: str) -> BinaryIO:
        """Open a file, with fsspec's read-ahead."""
        opened: BinaryIO = self._fs.open(
            self._prefix + path, "rb", block_size=self._BLOCK_BYTES, cache_type="readahead"
        )
        return opened

    def _file(self, found: dict[str, Any]) -> InputFile:
        if found.get("size") is None:
            raise InputError(
                "the server does not tell the file's size",
                where=f"{self._scheme}://{found['name']}",
                fix="copy it first",
            )
        for name in ("ETag", "etag", "md5Hash", "checksum", "mtime", "LastModified", "last_modified", "created"):
            if found.get(name):
                value = found[name]
                # Some give a time as a date in one answer and as seconds in another.
                version = f"{name.lower()}:{value.timestamp() if isinstance(value, datetime) else value}"
                break
        else:
            version = f"size:{found['size']}"
        return InputFile(found["name"].removeprefix(self._prefix), found["size"], version)


@cache
def _fsspec(scheme: str, process: int) -> Any:
    """Return one fsspec filesystem a process: their event loops do not survive a fork."""
    import fsspec

    try:
        return fsspec.filesystem(scheme, skip_instance_cache=True, use_listings_cache=False)
    except ValueError as error:
        raise InputError(
            f"no filesystem is known for {scheme}://",
            fix=f"use one of {', '.join(sorted(fsspec.available_protocols()))}",
        ) from error
    except ImportError as error:
        raise MissingExtraError(f"{scheme}:// needs another package: {error}") from error
