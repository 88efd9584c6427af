"""A dataset in a local directory.

A file is written to `<root>/.tmp/` and then named: by rename (`put`), or by a hard link, which fails where the name is
taken (`create`). So a killed process leaves nothing partial in sight.

A power failure is another matter: what was not synced may be lost under a name that was. Waiting for a fast disk costs
0.5 ms/MB, a twentieth of a worker's time, and for a slow one much more. So `put` syncs in the background, `create` its
own small file only, and `flush` everything, before a manifest is created. Receipts of an unfinished run may thus
outlive their shards; resuming finds out, as it hashes local shards again.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import BinaryIO

from tokenmill.errors import MissingFileError, StorageError
from tokenmill.storage.outputs import Entry, Storage, Upload, checked_path

TEMPORARY_DIRECTORY = ".tmp"
#: Files that may wait for the disk before the writer does, too.
_SYNCING_AT_ONCE = 4
_LIBC = ctypes.CDLL(None, use_errno=True)

_FIXES = {
    errno.ENOSPC: "free disk space, or write elsewhere; finished parts are kept: start the run again",
    errno.EDQUOT: "free space within the quota; finished parts are kept: start the run again",
    errno.EFBIG: "the file is larger than the filesystem or the process's limit (`ulimit -f`) allows",
    errno.EROFS: "the filesystem is mounted read-only; write elsewhere",
    errno.EACCES: "check the owner and the permissions, or write elsewhere",
    errno.EPERM: "check the owner and the permissions, or write elsewhere",
    errno.ENOTDIR: "a file stands where a directory is needed; remove it, or write elsewhere",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
}


class LocalStorage(Storage):
    """A dataset under a local directory, which need not exist yet."""

    def __init__(self, root: str) -> None:
        self.uri = root
        self._root = Path(root)
        self._syncing: deque[Future[None]] = deque()

    def read(self, path: str) -> bytes:
        """Return a whole file."""
        with self.open_file(path) as file, _explained(self._root / path):
            return file.read()

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        """Return bytes start … stop - 1."""
        with self.open_file(path) as file, _explained(self._root / path):
            file.seek(start)
            return file.read(max(stop - start, 0))

    def read_into(
        self, path: str, start: int, buffers: Sequence[memoryview], *, retry_seconds: float | None = None
    ) -> int:
        """Fill buffers with the bytes from `start` on."""
        with self.open_file(path) as file, _explained(self._root / path):
            return os.preadv(file.fileno(), buffers, start)

    def open_file(self, path: str) -> BinaryIO:
        """Open a file for reading."""
        target = self._root / checked_path(path)
        with _explained(target):
            return open(target, "rb")

    def local_path(self, path: str) -> Path:
        """Return the file's path."""
        return self._root / checked_path(path)

    def stat(self, path: str) -> Entry | None:
        """Return size and times of a file; None where there is none."""
        target = self._root / checked_path(path)
        with _explained(target):
            try:
                return _entry(path, target.stat())
            except (FileNotFoundError, NotADirectoryError):
                return None

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield the files below a directory; temporary ones only when asked for by name."""
        pending = [checked_path(prefix.rstrip("/")) if prefix else ""]
        while pending:
            directory = pending.pop()
            with _explained(self._root / directory):
                try:
                    scanned = os.scandir(self._root / directory)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                with scanned:
                    for found in scanned:
                        path = f"{directory}/{found.name}" if directory else found.name
                        if found.is_dir(follow_symlinks=False):
                            if path != TEMPORARY_DIRECTORY:
                                pending.append(path)
                            continue
                        with suppress(FileNotFoundError):  # deleted since
                            yield _entry(path, found.stat())

    def create(self, path: str, data: bytes) -> bool:
        """Create a file exclusively, by a hard link."""
        target = self._root / checked_path(path)
        with _explained(target), self._temporary([data]) as temporary:
            try:
                self._name(os.link, temporary, target)
            except FileExistsError:
                # NFS may have made the link and lost the answer.
                if temporary.stat().st_nlink == 1:
                    return False
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EPERM, errno.EMLINK):
                    raise
                raise StorageError(
                    f"the filesystem cannot make hard links ({error.strerror}), so no file can be created exclusively",
                    where=str(target),
                    fix="write to a POSIX filesystem (ext4, XFS, NFS …) or to object storage",
                ) from error
        return True

    def put(self, path: str, pieces: Sequence[bytes | memoryview]) -> Entry:
        """Write a file and rename it into place."""
        target = self._root / checked_path(path)
        with _explained(target), self._temporary(pieces, in_background=True) as temporary:
            self._name(os.replace, temporary, target)
            return _entry(path, target.stat())

    def flush(self) -> None:
        """Wait until the disk has everything, other processes' files included."""
        with _explained(self._root):
            while self._syncing:
                self._syncing.popleft().result()
            try:
                descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                return
            try:
                if _LIBC.syncfs(descriptor) != 0:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(self._root))
            finally:
                os.close(descriptor)

    def delete(self, paths: Iterable[str]) -> None:
        """Delete files."""
        for path in paths:
            target = self._root / checked_path(path)
            with _explained(target):
                target.unlink(missing_ok=True)

    def supports_exclusive_create(self) -> bool:
        """Tell that a hard link excludes others, on any filesystem that has them."""
        return True

    def stale_temporaries(self, older_than: timedelta) -> Sequence[Entry]:
        """Return what killed processes left in the temporary directory."""
        limit = datetime.now(UTC) - older_than
        return [entry for entry in self.list(TEMPORARY_DIRECTORY) if entry.modified < limit]

    def stale_uploads(self, older_than: timedelta) -> Sequence[Upload]:
        """Return nothing: there are no uploads here."""
        return []

    def abort_upload(self, upload: Upload) -> None:
        """Do nothing: there are no uploads here."""

    @contextmanager
    def _temporary(self, pieces: Sequence[bytes | memoryview], *, in_background: bool = False) -> Iterator[Path]:
        """Write a temporary file, sync it, and remove it at the end whatever happens."""
        directory = self._root / TEMPORARY_DIRECTORY
        directory.mkdir(parents=True, exist_ok=True)
        temporary = directory / f"{os.getpid()}-{secrets.token_hex(8)}"
        size = sum(memoryview(piece).nbytes for piece in pieces)
        try:
            with open(temporary, "xb", buffering=0) as file:
                for piece in pieces:
                    view = memoryview(piece).cast("B")
                    while len(view):  # a raw write may take less than it is given
                        view = view[file.write(view) :]
                if (written := os.fstat(file.fileno()).st_size) != size:
                    raise StorageError(f"{written} bytes arrived of {size}", where=str(temporary))
                if in_background:
                    self._sync_soon(os.dup(file.fileno()))
                else:
                    os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _sync_soon(self, descriptor: int) -> None:
        """Sync and close a file in the background; what went wrong with an earlier one is raised here."""
        self._syncing.append(_syncer(os.getpid()).submit(_sync_and_close, descriptor))
        with suppress(IndexError):  # none is left, or another thread was faster
            while len(self._syncing) > _SYNCING_AT_ONCE or self._syncing[0].done():
                self._syncing.popleft().result()

    def _name(self, operation: Callable[[Path, Path], None], temporary: Path, target: Path) -> None:
        try:
            operation(temporary, target)
        except FileNotFoundError:  # the first file of a directory
            target.parent.mkdir(parents=True, exist_ok=True)
            operation(temporary, target)


@cache
def _syncer(process: int) -> ThreadPoolExecutor:
    """Return the thread that syncs, one a process: threads do not survive a fork."""
    return ThreadPoolExecutor(1, "sync")


def _sync_and_close(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn an OSError into a StorageError that names the path and what to do."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingFileError("there is no such file", where=str(error.filename or path)) from error
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else str(path)
        raise StorageError(str(error.strerror or error), where=where, fix=_FIXES.get(error.errno or 0)) from error


def _entry(path: str, status: os.stat_result) -> Entry:
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    return Entry(path, status.st_size, f"mtime:{status.st_mtime_ns}", modified)
