"""One dataset's files on storage: what every kind of storage can do, and on which guarantees the rest is built.

- `create` makes a file exclusively: of any number of racing processes one is told True. Receipts and manifests.
- `put` writes a file whose name carries its content's hash: writing it twice is harmless. Shards.
- Neither ever shows a partial file, whatever kills the process, the server or the connection.

Local directories are in `local`, object stores in `s3`. Formats and names of files are not known here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from tokenmill.errors import ConfigurationError, StorageError
from tokenmill.storage import uris


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a dataset.

    Attributes:
        path: Relative to the dataset's root.
        size_bytes: Its size.
        version: What changes when the content does: the etag on object storage, else `mtime:<nanoseconds>`.
        modified: When it was last written, in UTC.
    """

    path: str
    size_bytes: int
    version: str
    modified: datetime


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload that was begun and neither completed nor aborted; the store charges for its parts."""

    path: str
    upload_id: str
    initiated: datetime


class Storage(ABC):
    """The root of one dataset. All paths are relative to it and "/"-separated. Pickles as its uri.

    Every method raises StorageError, naming the place and what to do, where the storage itself is at fault.

    Attributes:
        uri: The root: an absolute local path, or `s3://bucket/prefix`.
    """

    uri: str

    @staticmethod
    def open(uri: str) -> Storage:
        """Return the storage of a dataset's root. Touches nothing: a missing root is an empty dataset.

        Raises:
            ConfigurationError: For a uri that carries credentials or is of a kind that datasets cannot live on.
            MissingExtraError: For `s3://` without the `s3` extra.
        """
        location = uris.parse(uri)
        if location.scheme == "file":
            from tokenmill.storage.local import LocalStorage

            return LocalStorage(location.path)
        if location.scheme == "s3":
            # Not above: its imports cost a quarter of a second, and local datasets need none of them.
            from tokenmill.storage.s3 import S3Storage

            return S3Storage(location.path)
        raise ConfigurationError(
            f"datasets live in local directories or on s3://, not on {location.scheme}://",
            where=location.uri,
            fix="give a path, or s3://bucket/prefix",
        )

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Return a whole file, which should be small; raises MissingFileError."""

    @abstractmethod
    def read_range(self, path: str, start: int, stop: int) -> bytes:
        """Return bytes start … stop - 1; fewer where the file ends before. Raises MissingFileError."""

    @abstractmethod
    def read_into(
        self, path: str, start: int, buffers: Sequence[memoryview], *, retry_seconds: float | None = None
    ) -> int:
        """Fill buffers, one after another, with the bytes from `start` on, in one request; raises MissingFileError.

        Args:
            path: The file.
            start: Its first byte to read.
            buffers: Writable bytes.
            retry_seconds: How long to try while a server is away, until UnavailableError; default the storage's own.

        Returns:
            How many bytes were read: fewer than there is room for where the file ends before.
        """

    @abstractmethod
    def open_file(self, path: str) -> BinaryIO:
        """Open a file for reading and seeking, in bounded memory; raises MissingFileError."""

    @abstractmethod
    def local_path(self, path: str) -> Path | None:
        """Return the file's local path, for mapping it into memory; None on object storage."""

    @abstractmethod
    def stat(self, path: str) -> Entry | None:
        """Return what is known of a file; None where there is none."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield all files below a directory (default: the root), in no particular order; none where it is missing."""

    @abstractmethod
    def create(self, path: str, data: bytes) -> bool:
        """Create a file that must not exist yet, whole or not at all.

        A connection may break when the store has already taken the request. The content then decides whose file it is,
        so what racing processes create should differ between them (receipts carry an attempt's id).

        Args:
            path: The file.
            data: Its content; a few MB at most.

        Returns:
            True where this call made it, False where it was there already.
        """

    @abstractmethod
    def put(self, path: str, pieces: Sequence[bytes | memoryview]) -> Entry:
        """Write a file whole or not at all, over one of the same name and content if there is one.

        The pieces are not copied but for a part buffer of bounded size. On return the size on storage has been checked.
        """

    @abstractmethod
    def flush(self) -> None:
        """Return when what any process has written so far survives a power failure. To be called before publishing."""

    @abstractmethod
    def delete(self, paths: Iterable[str]) -> None:
        """Delete files; those that are not there are passed over."""

    @abstractmethod
    def supports_exclusive_create(self) -> bool:
        """Tell whether `create` excludes others; some S3 servers ignore the condition. Probes once by writing."""

    @abstractmethod
    def stale_temporaries(self, older_than: timedelta) -> Sequence[Entry]:
        """Return temporary files that a killed process left; for `delete`."""

    @abstractmethod
    def stale_uploads(self, older_than: timedelta) -> Sequence[Upload]:
        """Return multipart uploads that a killed process left; for `abort_upload`."""

    @abstractmethod
    def abort_upload(self, upload: Upload) -> None:
        """Abort a multipart upload, which frees its parts; one that is gone is passed over."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Storage.open, (self.uri,))

    def __repr__(self) -> str:
        return f"Storage({self.uri!r})"


def checked_path(path: str) -> str:
    """Return a relative path as given; raises StorageError where it would leave the dataset (manifests are input)."""
    if not path or any(step in ("", ".", "..") for step in path.split("/")) or "\0" in path:
        raise StorageError(
            f"{path!r} is not a path inside a dataset", fix="the file that names it is damaged, or not tokenmill's"
        )
    return path
