"""Requests to an S3 server: one client a process, retries within a time limit, errors that say what to do.

botocore itself is used, not s3fs: its calls are synchronous (no event loop that a fork would break), and every request
is visible, so that nothing is published by a destructor. Its own retries are off: they count attempts, while a
restarting server needs time, and they hide whether an earlier attempt may have been heard, which `create` must know.
"""

from __future__ import annotations

import functools
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any, TypeVar

from tokenmill.errors import (
    ConfigurationError,
    MissingExtraError,
    MissingFileError,
    StorageError,
    UnavailableError,
)

try:
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectionError,  # noqa: A004 - botocore has its own
        HTTPClientError,
        IncompleteReadError,
        NoCredentialsError,
        PartialCredentialsError,
        ResponseStreamingError,
        SSLError,
    )
    from botocore.parsers import ResponseParserError
    from botocore.utils import parse_timestamp
except ImportError as error:
    raise MissingExtraError(f"s3:// needs the package botocore ({error})", fix="pip install 'tokenmill[s3]'") from error

#: A server that is away for less is waited for; twice what a restart takes.
RETRY_SECONDS = 45.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 4.0
_CONNECT_SECONDS = 5
_READ_SECONDS = 60

_TRANSIENT = (ConnectionError, HTTPClientError, IncompleteReadError, ResponseStreamingError, ResponseParserError)
_TRANSIENT_CODES = frozenset(
    {
        "ConditionalRequestConflict",
        "OperationAborted",
        "RequestTimeout",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
    }
)
_CREDENTIAL_CODES = frozenset(
    {
        "AuthorizationHeaderMalformed", "ExpiredToken", "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken",
        "SignatureDoesNotMatch", "TokenRefreshRequired",
    }
)  # fmt: skip
_CREDENTIALS_FIX = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN) in the environment"
#: What of the environment makes another client; tests and notebooks change it.
_ENVIRONMENT = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION",
)  # fmt: skip

_log = logging.getLogger("tokenmill.storage")
#: A client takes a quarter of a second to make: threads that begin together make one.
_making = threading.Lock()
_Result = TypeVar("_Result")


class ConditionFailedError(StorageError):
    """A request's condition (If-None-Match, If-Match) did not hold.

    Attributes:
        attempts: How often the request was sent; an earlier one may have been heard though its answer was lost.
    """

    attempts = 1


class RangeError(StorageError):
    """A range begins behind the end of its object."""


class NotImplementedByServerError(StorageError):
    """The server does not know something that the request asks for."""


def call(operation: str, *, where: str, retry_seconds: float | None = None, **parameters: Any) -> dict[str, Any]:
    """Send a request (`put_object`, …) until it is answered; raises as `retrying` does."""
    return retrying(lambda: _send(operation, parameters), where=where, retry_seconds=retry_seconds)


def fetch(bucket: str, key: str, start: int, stop: int | None, *, version: str | None, where: str) -> bytes:
    """Return bytes start … stop - 1 of an object (None: all that follow), as of one version if one is given."""
    parameters: dict[str, Any] = {"Bucket": bucket, "Key": key}
    if start or stop is not None:
        parameters["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
    if version is not None:
        parameters["IfMatch"] = version

    def receive() -> bytes:
        # `closing`, as the body's own `with` hands out the stream underneath, whose errors are not botocore's.
        with closing(_send("get_object", parameters)["Body"]) as body:
            data: bytes = body.read()
        return data

    return retrying(receive, where=where)


def fetch_into(
    bucket: str,
    key: str,
    start: int,
    buffers: Sequence[memoryview],
    *,
    where: str,
    retry_seconds: float | None = None,
) -> int:
    """Fill buffers with the bytes of an object from `start` on; return how many there were."""
    last = start + sum(len(buffer) for buffer in buffers) - 1
    parameters = {"Bucket": bucket, "Key": key, "Range": f"bytes={start}-{last}"}

    def receive() -> int:
        filled = 0
        with closing(_send("get_object", parameters)["Body"]) as body:
            for buffer in buffers:
                rest = buffer
                while rest:
                    count = body.readinto(rest)
                    if not count:
                        return filled
                    rest = rest[count:]
                    filled += count
        return filled

    return retrying(receive, where=where, retry_seconds=retry_seconds)


def retrying(request: Callable[[], _Result], *, where: str, retry_seconds: float | None = None) -> _Result:
    """Make a request, again and again while the server is away or overloaded, and explain what it refuses.

    Raises:
        MissingFileError: The object is not there.
        ConditionFailedError: A condition of the request did not hold.
        UnavailableError: The server stays away.
        StorageError: Anything else: credentials, a missing bucket.
    """
    began = time.monotonic()
    patience = RETRY_SECONDS if retry_seconds is None else retry_seconds
    attempts = 0
    while True:
        attempts += 1
        try:
            return request()
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            waited = time.monotonic() - began
            if not _is_transient(error) or waited >= patience:
                raise _explain(error, where, waited, attempts) from error
            if attempts == 1:
                _log.warning("%s: %s; trying again for %.0f s", where, error, patience)
        pause = min(_FIRST_PAUSE_SECONDS * 2.0 ** (attempts - 1), _LONGEST_PAUSE_SECONDS)
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads out workers that failed together


def _send(operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = getattr(_current_client(), operation)(**parameters)
    return answer


def _current_client() -> Any:
    environment = tuple(os.environ.get(name) for name in _ENVIRONMENT)
    with _making:
        return _client(os.getpid(), environment)


@functools.lru_cache(maxsize=8)
def _client(process: int, environment: tuple[str | None, ...]) -> Any:
    """Return the client of a process and environment: connections must not be shared across a fork."""
    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=32,
        tcp_keepalive=True,
        # `s3` sends Content-MD5, which every server knows; trailing checksums are what many stumble over.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    session = botocore.session.Session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_parse_time)
    try:
        return session.create_client(
            "s3", config=config, region_name=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        )
    except ValueError as error:
        raise ConfigurationError(str(error), where="AWS_ENDPOINT_URL", fix="write http://host:port") from error


def _after_fork() -> None:
    global _making
    _making = threading.Lock()  # a thread that is not there may have held the other


os.register_at_fork(after_in_child=_after_fork)


def _parse_time(value: Any) -> datetime:
    """Parse listings' times quickly: botocore's own parser takes half of a listing's time."""
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):  # such as the dates in headers
        parsed: datetime = parse_timestamp(value)
        return parsed


def _is_transient(error: Exception) -> bool:
    if isinstance(error, ClientError):
        status = _status(error)
        return (
            error.response["Error"].get("Code") in _TRANSIENT_CODES or status == 429 or status in (500, 502, 503, 504)
        )
    return isinstance(error, _TRANSIENT) and not isinstance(error, SSLError)


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _explain(error: Exception, where: str, waited: float, attempts: int) -> StorageError:
    """Return the error to raise for one of botocore's."""
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return StorageError("no credentials are set", where=where, fix=_CREDENTIALS_FIX)
    if isinstance(error, SSLError):
        return StorageError(f"the connection is not secure: {error}", where=where, fix="check AWS_CA_BUNDLE")
    if isinstance(error, _TRANSIENT):
        return UnavailableError(
            f"the server did not answer for {waited:.0f} s: {error}",
            where=where,
            fix="check that it runs and that AWS_ENDPOINT_URL is right; finished parts are kept: start the run again",
        )
    if not isinstance(error, ClientError):
        return StorageError(str(error), where=where)
    code = str(error.response["Error"].get("Code", ""))
    said = error.response["Error"].get("Message") or code
    status = _status(error)
    if code == "NoSuchBucket":
        bucket = "/".join(where.split("/")[:3])
        return StorageError(
            "the bucket does not exist", where=bucket, fix="create it, or correct the uri or the endpoint"
        )
    if code in ("NoSuchKey", "NoSuchUpload") or status == 404:
        return MissingFileError("there is no such object", where=where)
    if status == 412:
        failed = ConditionFailedError(f"the condition did not hold: {said}", where=where)
        failed.attempts = attempts
        return failed
    if status == 416:
        return RangeError(f"the range is outside the object: {said}", where=where)
    if status == 501:
        return NotImplementedByServerError(f"the server cannot do this: {said}", where=where, fix="use another server")
    if code in _CREDENTIAL_CODES:
        return StorageError(f"the server refuses the credentials: {said}", where=where, fix=_CREDENTIALS_FIX)
    if status == 403:
        return StorageError(
            f"access is denied: {said}", where=where, fix="check the credentials, and what they may do in this bucket"
        )
    if status == 507:
        return StorageError(f"the server has no space left: {said}", where=where, fix="free space, and start again")
    if _is_transient(error):
        return UnavailableError(
            f"the server failed for {waited:.0f} s: {said}", where=where, fix="start the run again later"
        )
    return StorageError(f"the server refuses the request: {code}: {said}", where=where)
