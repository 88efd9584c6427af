"""Object storage that speaks S3: a dataset's files on it, and the user's corpora.

Large objects are written as multipart uploads, which show nothing until they are completed; on any exception they are
aborted. `create` is a PUT that the server refuses where the name is taken (If-None-Match).
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

from tokenmill.errors import MissingFileError, StorageError
from tokenmill.sources.splits import InputFile
from tokenmill.storage import s3_client
from tokenmill.storage.listing import Level
from tokenmill.storage.outputs import Entry, Storage, Upload, checked_path
from tokenmill.storage.s3_reader import open_object

#: Larger objects go up in parts, several at once: one connection carries about 90 MB/s.
MULTIPART_BYTES = 16 << 20
_PART_BYTES = 8 << 20
_PARTS_AT_ONCE = 4
_MOST_PARTS = 10_000
_DELETIONS_PER_REQUEST = 1000
_PROBE = ".probe-"


class S3Storage(Storage):
    """A dataset under a prefix of a bucket."""

    def __init__(self, path: str) -> None:
        self._bucket, _, prefix = path.rstrip("/").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self.uri = f"s3://{path.rstrip('/')}"
        self._excludes: bool | None = None

    def read(self, path: str) -> bytes:
        """Return a whole object."""
        return s3_client.fetch(self._bucket, self._key(path), 0, None, version=None, where=self._where(path))

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        """Return bytes start … stop - 1."""
        if stop <= start:
            return b""
        try:
            return s3_client.fetch(self._bucket, self._key(path), start, stop, version=None, where=self._where(path))
        except s3_client.RangeError:
            return b""

    def read_into(
        self, path: str, start: int, buffers: Sequence[memoryview], *, retry_seconds: float | None = None
    ) -> int:
        """Fill buffers with the bytes from `start` on."""
        try:
            return s3_client.fetch_into(
                self._bucket, self._key(path), start, buffers, where=self._where(path), retry_seconds=retry_seconds
            )
        except s3_client.RangeError:
            return 0

    def open_file(self, path: str) -> BinaryIO:
        """Open an object for reading and seeking."""
        found = _head(self._bucket, self._key(path), self._where(path))
        return open_object(self._bucket, self._key(path), found["ContentLength"], found["ETag"], self._where(path))

    def local_path(self, path: str) -> None:
        """Return None."""

    def stat(self, path: str) -> Entry | None:
        """Return what is known of an object; None where there is none."""
        try:
            found = _head(self._bucket, self._key(path), self._where(path))
        except MissingFileError:
            return None
        return Entry(path, found["ContentLength"], found["ETag"], found["LastModified"].astimezone(UTC))

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield the objects below a prefix, a page of a thousand at a time."""
        below = f"{self._prefix}{checked_path(prefix.rstrip('/'))}/" if prefix else self._prefix
        for page in _pages(self._bucket, below, self.uri):
            for found in page.get("Contents", ()):
                path = found["Key"][len(self._prefix) :]
                if not path.endswith("/"):  # such are made by consoles, to look like directories
                    yield Entry(path, found["Size"], found["ETag"], found["LastModified"].astimezone(UTC))

    def create(self, path: str, data: bytes) -> bool:
        """Create an object exclusively."""
        where = self._where(path)
        try:
            _send("put_object", data, where, Bucket=self._bucket, Key=self._key(path), IfNoneMatch="*")
        except s3_client.ConditionFailedError as error:
            # An earlier attempt may have succeeded though its answer was lost: then what is there is ours.
            return error.attempts > 1 and self.read(path) == data
        return True

    def put(self, path: str, pieces: Sequence[bytes | memoryview]) -> Entry:
        """Write an object, in parts where it is large."""
        views = [memoryview(piece).cast("B") for piece in pieces]
        size = sum(view.nbytes for view in views)
        where = self._where(path)
        if size <= MULTIPART_BYTES:
            _send("put_object", b"".join(views), where, Bucket=self._bucket, Key=self._key(path))
        else:
            self._put_parts(path, views, size)
        entry = self.stat(path)
        if entry is None or entry.size_bytes != size:
            arrived = "nothing" if entry is None else f"{entry.size_bytes} bytes"
            raise StorageError(f"{arrived} arrived of {size} bytes", where=where, fix="start the run again")
        return entry

    def flush(self) -> None:
        """Do nothing: the server answers when it has the data."""

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects, a thousand a request."""
        keys = [self._key(path) for path in paths]
        for start in range(0, len(keys), _DELETIONS_PER_REQUEST):
            batch = [{"Key": key} for key in keys[start : start + _DELETIONS_PER_REQUEST]]
            answer = s3_client.call(
                "delete_objects", where=self.uri, Bucket=self._bucket, Delete={"Objects": batch, "Quiet": True}
            )
            for failed in answer.get("Errors", ()):
                if failed.get("Code") != "NoSuchKey":
                    raise StorageError(
                        f"cannot delete: {failed.get('Message') or failed.get('Code')}",
                        where=f"s3://{self._bucket}/{failed.get('Key')}",
                        fix="check what the credentials may do in this bucket",
                    )

    def supports_exclusive_create(self) -> bool:
        """Tell whether the server heeds If-None-Match, by creating one object twice."""
        if self._excludes is None:
            path = f"{_PROBE}{secrets.token_hex(8)}"
            try:
                self.create(path, b"first")
                self._excludes = not self.create(path, b"second")
            except s3_client.NotImplementedByServerError:
                self._excludes = False
            finally:
                self.delete([path])
        return self._excludes

    def stale_temporaries(self, older_than: timedelta) -> Sequence[Entry]:
        """Return probes that a killed process left; nothing else is temporary here."""
        limit = datetime.now(UTC) - older_than
        pages = _pages(self._bucket, f"{self._prefix}{_PROBE}", self.uri)
        entries = [
            Entry(
                found["Key"][len(self._prefix) :], found["Size"], found["ETag"], found["LastModified"].astimezone(UTC)
            )
            for page in pages
            for found in page.get("Contents", ())
        ]
        return [entry for entry in entries if entry.modified < limit]

    def stale_uploads(self, older_than: timedelta) -> Sequence[Upload]:
        """Return multipart uploads below the root that were begun before a time."""
        limit = datetime.now(UTC) - older_than
        found: list[Upload] = []
        markers: dict[str, Any] = {}
        while True:
            page = s3_client.call(
                "list_multipart_uploads", where=self.uri, Bucket=self._bucket, Prefix=self._prefix, **markers
            )
            found.extend(
                Upload(upload["Key"][len(self._prefix) :], upload["UploadId"], upload["Initiated"].astimezone(UTC))
                for upload in page.get("Uploads", ())
            )
            if not page.get("IsTruncated"):
                return [upload for upload in found if upload.initiated < limit]
            markers = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def abort_upload(self, upload: Upload) -> None:
        """Abort a multipart upload."""
        self._abort(upload.path, upload.upload_id)

    def _put_parts(self, path: str, views: Sequence[memoryview], size: int) -> None:
        target: dict[str, Any] = {"Bucket": self._bucket, "Key": self._key(path)}
        where = self._where(path)
        upload_id = s3_client.call("create_multipart_upload", where=where, **target)["UploadId"]
        try:
            etags = self._send_parts(
                _joined(views, max(_PART_BYTES, -(-size // _MOST_PARTS))),
                lambda number, body: _send("upload_part", body, where, **target, UploadId=upload_id, PartNumber=number)[
                    "ETag"
                ],
            )
            parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
            # Where a first answer is lost, some servers tell the second time that the upload is gone. The size of the
            # object, which `put` checks, then tells whether it was completed.
            with suppress(MissingFileError):
                s3_client.call(
                    "complete_multipart_upload",
                    where=where,
                    **target,
                    UploadId=upload_id,
                    MultipartUpload={"Parts": parts},
                )
        except BaseException:
            with suppress(StorageError):
                self._abort(path, upload_id, retry_seconds=0)
            raise

    @staticmethod
    def _send_parts(parts: Iterator[bytes], send: Callable[[int, bytes], str]) -> Sequence[str]:
        """Send parts, several at once, and return their etags in order."""
        etags: list[str] = []
        pending: deque[Future[str]] = deque()
        with ThreadPoolExecutor(_PARTS_AT_ONCE, "upload") as threads:
            try:
                for number, part in enumerate(parts, 1):
                    if len(pending) == _PARTS_AT_ONCE:
                        etags.append(pending.popleft().result())
                    pending.append(threads.submit(send, number, part))
                etags.extend(future.result() for future in pending)
            except BaseException:
                threads.shutdown(wait=True, cancel_futures=True)
                raise
        return etags

    def _abort(self, path: str, upload_id: str, *, retry_seconds: float | None = None) -> None:
        with suppress(MissingFileError):
            s3_client.call(
                "abort_multipart_upload",
                where=self._where(path),
                retry_seconds=retry_seconds,
                Bucket=self._bucket,
                Key=self._key(path),
                UploadId=upload_id,
            )

    def _key(self, path: str) -> str:
        return self._prefix + checked_path(path)

    def _where(self, path: str) -> str:
        return f"{self.uri}/{path}"


class S3Filesystem:
    """The user's corpora on S3 (`listing.Filesystem`); paths are `bucket/key`."""

    def stat(self, path: str) -> InputFile | None:
        """Return an object, or None."""
        bucket, _, key = path.partition("/")
        if not key:
            return None
        try:
            found = _head(bucket, key, f"s3://{path}")
        except MissingFileError:
            return None
        return InputFile(path, found["ContentLength"], found["ETag"])

    def level(self, directory: str) -> Level | None:
        """Return what is directly below a prefix."""
        bucket, _, prefix = directory.partition("/")
        prefix = f"{prefix.rstrip('/')}/" if prefix else ""
        found = Level()
        for page in _pages(bucket, prefix, f"s3://{directory}", Delimiter="/"):
            found.files.extend(_files(bucket, page))
            found.directories.extend(
                step["Prefix"][len(prefix) :].rstrip("/") for step in page.get("CommonPrefixes", ())
            )
        return found if found.files or found.directories else None

    def below(self, directory: str, visible: Callable[[str], bool]) -> Iterator[InputFile]:
        """Yield all objects below a prefix."""
        bucket, _, prefix = directory.partition("/")
        prefix = f"{prefix.rstrip('/')}/" if prefix else ""
        skipped = len(bucket) + 1 + len(prefix)
        for page in _pages(bucket, prefix, f"s3://{directory}"):
            for file in _files(bucket, page):
                if all(visible(step) for step in file.path[skipped:].split("/")):
                    yield file

    def open(self, path: str) -> BinaryIO:
        """Open an object for reading and seeking."""
        bucket, _, key = path.partition("/")
        found = _head(bucket, key, f"s3://{path}")
        return open_object(bucket, key, found["ContentLength"], found["ETag"], f"s3://{path}")


def _send(operation: str, body: bytes, where: str, **parameters: Any) -> dict[str, Any]:
    """Send a body with its digest.

    Without one, SeaweedFS publishes an empty object where the client goes away between the headers and the body.
    """
    md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    return s3_client.call(operation, where=where, Body=body, ContentMD5=md5, **parameters)


def _head(bucket: str, key: str, where: str) -> dict[str, Any]:
    return s3_client.call("head_object", where=where, Bucket=bucket, Key=key)


def _pages(bucket: str, prefix: str, where: str, **parameters: Any) -> Iterator[dict[str, Any]]:
    while True:
        page = s3_client.call("list_objects_v2", where=where, Bucket=bucket, Prefix=prefix, **parameters)
        yield page
        if not page.get("IsTruncated"):
            return
        parameters["ContinuationToken"] = page["NextContinuationToken"]


def _files(bucket: str, page: dict[str, Any]) -> Iterator[InputFile]:
    for found in page.get("Contents", ()):
        if not found["Key"].endswith("/"):  # such are made by consoles, to look like directories
            yield InputFile(f"{bucket}/{found['Key']}", found["Size"], found["ETag"])


def _joined(views: Iterable[memoryview], part_bytes: int) -> Iterator[bytes]:
    """Yield the bytes of some views in parts of equal size, but for the last."""
    pending: list[memoryview] = []
    room = part_bytes
    for view in views:
        rest = view
        while len(rest):
            pending.append(rest[:room])
            rest = rest[room:]
            room -= len(pending[-1])
            if room == 0:
                yield b"".join(pending)
                pending, room = [], part_bytes
    if pending:
        yield b"".join(pending)
