"""Frames arrive whole, and nothing is believed that is longer than agreed."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from tokenmill.ir import wire

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_frames_of_all_sizes(pair: Pair) -> None:
    contents = [b"", b"x", b"abc" * 5_000_000]

    def send_all() -> None:
        for content in contents:
            wire.send(pair[0], {"n": len(content)}, content)

    sending = threading.Thread(target=send_all)
    sending.start()
    for content in contents:
        value, received = wire.receive(pair[1], 20_000_000)
        assert value == {"n": len(content)}
        assert received == content
    sending.join()


@pytest.mark.parametrize(
    "sent",
    [
        struct.pack("<IQ", 2, 101) + b"{}",
        struct.pack("<IQ", 1 << 17, 0),
        struct.pack("<IQ", 2, 0) + b"[]",
        struct.pack("<IQ", 2, 0) + b"{]",
        struct.pack("<IQ", 2, 0) + b"\xff\xff",
    ],
)
def test_what_is_no_frame(pair: Pair, sent: bytes) -> None:
    pair[0].sendall(sent)
    with pytest.raises(wire.WireError):
        wire.receive(pair[1], 100)


def test_a_side_that_is_gone(pair: Pair) -> None:
    pair[0].sendall(struct.pack("<IQ", 2, 50) + b"{}half")
    pair[0].close()
    with pytest.raises(wire.WireError, match="closed"):
        wire.receive(pair[1], 100)
    with pytest.raises(wire.WireError, match="gone"):
        wire.send(pair[1], {}, b"x" * 10_000_000)


def test_a_side_that_says_and_takes_nothing(pair: Pair) -> None:
    with pytest.raises(TimeoutError):
        wire.receive(pair[1], 100, until=time.monotonic() + 0.05)
    with pytest.raises(TimeoutError):
        wire.send(pair[0], {}, b"x" * 10_000_000, until=time.monotonic() + 0.05)
    with pytest.raises(TimeoutError):
        wire.receive(pair[1], 100, until=time.monotonic() - 1)


def test_an_object_that_is_too_long_is_not_sent(pair: Pair) -> None:
    with pytest.raises(ValueError, match="longer"):
        wire.send(pair[0], {"message": "x" * wire.MAX_OBJECT_BYTES})
