"""What a worker and the processes that read modules for it say to each other: frames of a JSON object and bytes.

Both sides know how long a frame may be and believe nothing beyond it: whoever reads hostile input may say anything.
Standard library only.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import Any

_HEAD = struct.Struct("<IQ")
#: Bytes of a frame's JSON.
MAX_OBJECT_BYTES = 1 << 16
#: Bytes that are handed to the kernel, or taken from it, at once.
_PIECE_BYTES = 1 << 20


class WireError(Exception):
    """The other side is gone, or what it says is no frame."""


def send(connection: socket.socket, value: dict[str, Any], content: bytes = b"", *, until: float | None = None) -> None:
    """Send a frame.

    Args:
        connection: Where to.
        value: A JSON object of up to `MAX_OBJECT_BYTES`.
        content: Bytes of any number.
        until: By `time.monotonic`, when to give up; None waits for ever.

    Raises:
        WireError: The other side is gone.
        TimeoutError: It did not take the frame in time.
    """
    encoded = json.dumps(value).encode()
    if len(encoded) > MAX_OBJECT_BYTES:
        raise ValueError(f"a frame's object of {len(encoded)} bytes is longer than {MAX_OBJECT_BYTES}")
    try:
        connection.settimeout(_left(until))
        connection.sendall(_HEAD.pack(len(encoded), len(content)) + encoded)
        if content:
            connection.settimeout(_left(until))
            connection.sendall(content)
    except TimeoutError:
        raise
    except OSError as error:
        raise WireError(f"the other side is gone: {error}") from error


def receive(
    connection: socket.socket, max_content_bytes: int, *, until: float | None = None
) -> tuple[dict[str, Any], bytearray]:
    """Return the next frame, piece by piece as it comes; raises as `send` does, and where the frame is too long."""
    head = _exactly(connection, _HEAD.size, until)
    object_bytes, content_bytes = _HEAD.unpack(head)
    if object_bytes > MAX_OBJECT_BYTES or content_bytes > max_content_bytes:
        raise WireError(f"a frame of {object_bytes} and {content_bytes} bytes is longer than was agreed")
    try:
        value = json.loads(_exactly(connection, object_bytes, until))
    except ValueError as error:
        raise WireError(f"a frame's object is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise WireError("a frame's object is none")
    return value, _exactly(connection, content_bytes, until)


def _exactly(connection: socket.socket, count: int, until: float | None) -> bytearray:
    taken = bytearray()
    while len(taken) < count:
        try:
            connection.settimeout(_left(until))
            piece = connection.recv(min(count - len(taken), _PIECE_BYTES))
        except TimeoutError:
            raise
        except OSError as error:
            raise WireError(f"the other side is gone: {error}") from error
        if not piece:
            raise WireError("the other side has closed the connection")
        taken += piece
    return taken


def _left(until: float | None) -> float | None:
    if until is None:
        return None
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time is over")
    return left
