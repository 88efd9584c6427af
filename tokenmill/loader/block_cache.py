"""Blocks of shards on a local disk, shared by the processes of a machine: what one of them fetched, none fetches again.

A block is a file of its own, written aside and renamed; a process killed at any moment leaves at most a file aside,
which a clean-up removes. What a file holds is for its reader to check, as shards come with a checksum of every block.
Nobody ever waits for a lock without a time limit, and locks are the kernel's: they end with the process that holds
them. What is in a block is not known here.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import random
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tokenmill.errors import LoaderError
from tokenmill.shards import BLOCK_BYTES

#: Below this, what is kept is gone before it is needed again.
LEAST_BYTES = 16 * BLOCK_BYTES
#: Most that one process waits for another that fetches the same block.
CLAIM_SECONDS = 30.0
#: For so long nothing is stored after the disk has refused to take something.
_ASIDE_SECONDS = 60.0
#: A file aside is written within milliseconds; one that is older was left by a killed process.
_STALE_SECONDS = 60.0
#: The account has a byte for so many bytes stored.
_UNIT_BYTES = 64 << 10
_CLAIMS = 256

_log = logging.getLogger("tokenmill.loader")
#: Descriptors of the claims of this process. A child has no use for them, and would keep them when this process ends.
_claimed: set[int] = set()


class BlockCache:
    """A directory of blocks of a bounded size; the blocks that were not read for longest go first.

    May be used by any number of threads and processes at once, of one or several jobs, and pickles as its two
    arguments. When the disk is full, or fails, it says so once in the log and stands aside for a while.

    Args:
        directory: Where the blocks are kept; made if missing. It should be on a disk of this machine, and hold nothing
            else.
        limit_bytes: Most that the blocks may take. They may exceed it by the blocks that are just being written.

    Raises:
        LoaderError: where the directory cannot be made or written to, or the limit is too small.
    """

    def __init__(self, directory: str | Path, limit_bytes: int) -> None:
        self.directory = str(Path(directory).absolute())
        self.limit_bytes = int(limit_bytes)
        if self.limit_bytes < LEAST_BYTES:
            raise LoaderError(
                f"a cache of {limit_bytes} bytes is too small",
                where=self.directory,
                fix=f"give it {LEAST_BYTES} or more",
            )
        self._account = f"{self.directory}/account"
        self._refused_at = -_ASIDE_SECONDS
        self._complained = False
        try:
            self._make_directories()
            if not os.access(f"{self.directory}/aside", os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            if self._used_bytes() > self.limit_bytes:
                self.clean()
        except OSError as error:
            raise LoaderError(
                f"the cache's directory cannot be made or written to: {error.strerror or error}",
                where=self.directory,
                fix="give a directory on a local disk that this user may write to",
            ) from error

    def get(self, name: str, block: int, buffer: memoryview) -> bool:
        """Read a whole block, which has the buffer's length; tell whether it was there. The caller must check it."""
        return self._read(name, block, 0, buffer, whole=True)

    def get_part(self, name: str, block: int, start: int, buffer: memoryview) -> bool:
        """Read bytes of a block from `start` on; tell whether they were there. For blocks that were checked whole."""
        return self._read(name, block, start, buffer, whole=False)

    def put(self, name: str, block: int, data: memoryview) -> None:
        """Keep a block, unless there is no room and another process is just making some, or the disk refuses it.

        Args:
            name: What names the content that the block is of, such as a checksum.
            block: Its number.
            data: What is in it.
        """
        if time.monotonic() - self._refused_at < _ASIDE_SECONDS:
            return
        try:
            try:
                self._store(self._path(name, block), data)
            except FileNotFoundError:  # somebody removed the directory
                self._make_directories()
                self._store(self._path(name, block), data)
        except OSError as error:
            self._stand_aside(error)

    def drop(self, name: str, block: int) -> None:
        """Delete a block, such as one whose file is not what was written."""
        with suppress(OSError):
            Path(self._path(name, block)).unlink()

    def clean(self) -> None:
        """Delete what exceeds the limit, and what killed processes left; nothing if another process is doing that."""
        self._clean(self.limit_bytes)

    @contextmanager
    def claim(self, name: str, number: int, stopped: threading.Event) -> Iterator[None]:
        """Hold others off while something is fetched that they may need as well; after a while they no longer wait.

        Args:
            name: As for `put`.
            number: Of what is fetched of it.
            stopped: Ends the waiting.
        """
        path = f"{self.directory}/claims/{int(self._digest(name, number)[:8], 16) % _CLAIMS:03d}"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:  # without claims, all is fetched as if nobody else were there
            yield
            return
        _claimed.add(descriptor)
        try:
            deadline = time.monotonic() + CLAIM_SECONDS
            while not _locked(descriptor) and time.monotonic() < deadline:
                if stopped.wait(random.uniform(0.002, 0.02)):  # noqa: S311
                    break
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child of this process may still have the descriptor
            _claimed.discard(descriptor)
            os.close(descriptor)

    def _read(self, name: str, block: int, start: int, buffer: memoryview, *, whole: bool) -> bool:
        try:
            descriptor = os.open(self._path(name, block), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:
            self._stand_aside(error)
            return False
        try:
            if os.preadv(descriptor, [buffer], start) != len(buffer):
                self.drop(name, block)
                return False
            if whole or time.time() - os.fstat(descriptor).st_mtime > 1:
                with suppress(OSError):  # another user's file
                    os.utime(descriptor)
        except OSError as error:
            self._stand_aside(error)
            return False
        finally:
            os.close(descriptor)
        return True

    def _store(self, path: str, data: memoryview) -> None:
        if self._used_bytes() + len(data) > self.limit_bytes and not self._clean(self.limit_bytes * 15 // 16):
            return
        aside = f"{self.directory}/aside/{os.getpid()}-{secrets.token_hex(8)}"
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            try:
                rest = data
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            finally:
                os.close(descriptor)
            # On the account first: a process killed in between makes it too high, never too low.
            self._add_to_account(len(data))
            Path(aside).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(aside).unlink()
            raise

    def _used_bytes(self) -> int:
        """Return what the account says; a missing account is to be made by a clean-up."""
        try:
            return Path(self._account).stat().st_size * _UNIT_BYTES
        except FileNotFoundError:
            return self.limit_bytes + 1

    def _add_to_account(self, size_bytes: int) -> None:
        """Write a byte for every unit: appending needs no lock, and the file's length is the sum."""
        descriptor = os.open(self._account, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            os.write(descriptor, bytes(-(-size_bytes // _UNIT_BYTES)))
        finally:
            os.close(descriptor)

    def _clean(self, target_bytes: int) -> bool:
        """Delete the blocks read longest ago until the rest is within a size; tell whether it was done."""
        descriptor = os.open(f"{self.directory}/cleaning", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        _claimed.add(descriptor)
        try:
            if not _locked(descriptor):
                return False
            found = []
            units = 0
            for path, status in _files(f"{self.directory}/blocks"):
                found.append((status.st_mtime_ns, -(-status.st_size // _UNIT_BYTES), path))
                units += found[-1][1]
            found.sort()
            for _, freed, path in found:
                if units * _UNIT_BYTES <= target_bytes:
                    break
                Path(path).unlink(missing_ok=True)
                units -= freed
            for path, status in _files(f"{self.directory}/aside"):
                if time.time() - status.st_mtime > _STALE_SECONDS:
                    Path(path).unlink(missing_ok=True)
            account = Path(f"{self.directory}/aside/account-{os.getpid()}-{secrets.token_hex(8)}")
            with account.open("xb") as file:
                file.truncate(units)
            account.replace(self._account)
            return True
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            _claimed.discard(descriptor)
            os.close(descriptor)

    def _make_directories(self) -> None:
        for name in ("aside", "claims", *(f"blocks/{number:02x}" for number in range(256))):
            Path(self.directory, name).mkdir(parents=True, exist_ok=True)

    def _stand_aside(self, error: OSError) -> None:
        self._refused_at = time.monotonic()
        if not self._complained:
            self._complained = True
            _log.warning(
                "%s: the cache of blocks stands aside, as its disk fails: %s; blocks are fetched and not kept",
                self.directory,
                error.strerror or error,
            )

    def _digest(self, name: str, number: int) -> str:
        return hashlib.sha256(f"{name}/{number}".encode()).hexdigest()

    def _path(self, name: str, block: int) -> str:
        digest = self._digest(name, block)
        return f"{self.directory}/blocks/{digest[:2]}/{digest[2:]}"

    def __reduce__(self) -> tuple[object, ...]:
        return (BlockCache, (self.directory, self.limit_bytes))

    def __repr__(self) -> str:
        return f"BlockCache({self.directory!r}, {self.limit_bytes})"


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _files(directory: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files of a directory and of those in it."""
    with os.scandir(directory) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # renamed or deleted since
                if entry.is_dir(follow_symlinks=False):
                    yield from _files(entry.path)
                else:
                    yield entry.path, entry.stat(follow_symlinks=False)


def _forget_claims() -> None:
    for descriptor in _claimed:
        with suppress(OSError):
            os.close(descriptor)
    _claimed.clear()


os.register_at_fork(after_in_child=_forget_claims)
