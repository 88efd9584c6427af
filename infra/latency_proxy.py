"""A TCP proxy that makes a server on this machine as far away as object storage is: every answer takes a round trip.

The first bytes after a change of direction wait for half a round trip; so do those of a new connection for a whole one
more. All others pass as fast as they come: latency is added, bandwidth is not limited. From a shell:

    python -m infra.latency_proxy http://127.0.0.1:8333 --milliseconds 30 --port 8334
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import subprocess
import sys
from collections.abc import Callable
from types import TracebackType
from urllib.parse import urlsplit

_BUFFER_BYTES = 256 << 10
_SIGKILL = 9


class LatencyProxy:
    """A proxy in a process of its own, as a context manager; it ends with the process that started it.

    Attributes:
        endpoint: `http://127.0.0.1:port`, once it runs.
    """

    def __init__(self, target: str, round_trip_seconds: float) -> None:
        """Take note of where requests go, such as `S3Server.endpoint`; nothing is started."""
        self._command = [
            sys.executable,
            "-m",
            "infra.latency_proxy",
            target,
            f"--milliseconds={round_trip_seconds * 1e3}",
        ]
        self._process: subprocess.Popen[str] | None = None
        self.endpoint = ""

    def __enter__(self) -> LatencyProxy:
        self._process = subprocess.Popen(
            [*self._command, "--die-with-parent"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.endpoint = self._process.stdout.readline().strip()
        if not self.endpoint:
            raise RuntimeError("the latency proxy did not start; it has said why on standard error")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


class _Conversation:
    """A client's connection and the server's: which of them spoke last, and what each has to say next."""

    def __init__(self, host: str, port: int, one_way_seconds: float) -> None:
        self._target = (host, port)
        self._one_way_seconds = one_way_seconds
        self._speaker: _Side | None = None
        self._loop = asyncio.get_running_loop()
        self.client = _Side(self)
        self.server = _Side(self)
        self.client.other, self.server.other = self.server, self.client
        self._connecting: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Reach for the server, while the client has to wait."""
        assert self.client.transport is not None
        self.client.transport.pause_reading()
        self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        assert self.client.transport is not None
        try:
            await self._loop.create_connection(lambda: self.server, *self._target)
            await asyncio.sleep(2 * self._one_way_seconds)
        except OSError:
            self.client.transport.abort()
        else:
            _steer(self.client, "resume_reading")

    def pass_on(self, side: _Side, data: memoryview) -> None:
        """Send what one side said to the other, later if the other spoke before."""
        to = side.other.transport
        assert side.transport is not None
        assert to is not None
        if self._speaker is side:
            to.write(data)
            return
        self._speaker = side
        side.transport.pause_reading()
        self._loop.call_later(self._one_way_seconds, self._pass_on_late, side, bytes(data))

    def _pass_on_late(self, side: _Side, data: bytes) -> None:
        assert side.transport is not None
        assert side.other.transport is not None
        side.other.transport.write(data)
        if not side.transport.is_closing():
            side.transport.resume_reading()


class _Side(asyncio.BufferedProtocol):
    """One of the two connections."""

    other: _Side

    def __init__(self, conversation: _Conversation) -> None:
        self._conversation = conversation
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self is self._conversation.client:
            self._conversation.begin()
        elif self.other.transport is None or self.other.transport.is_closing():
            transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._conversation.pass_on(self, self._buffer[:nbytes])

    def pause_writing(self) -> None:
        _steer(self.other, "pause_reading")

    def resume_writing(self) -> None:
        _steer(self.other, "resume_reading")

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other.transport is not None:
            self.other.transport.close() if exc is None else self.other.transport.abort()


def _steer(side: _Side, action: str) -> None:
    if side.transport is not None and not side.transport.is_closing():
        getattr(side.transport, action)()


async def _serve(target: str, port: int, round_trip_seconds: float, ready: Callable[[str], None]) -> None:
    address = urlsplit(target)
    if address.hostname is None or address.port is None:
        raise ValueError(f"{target}: give http://host:port")
    host, target_port = address.hostname, address.port
    server = await asyncio.get_running_loop().create_server(
        lambda: _Conversation(host, target_port, round_trip_seconds / 2).client, "127.0.0.1", port, backlog=1000
    )
    ready(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await server.serve_forever()


def main() -> None:
    """Run a proxy until it is interrupted."""
    parser = argparse.ArgumentParser(prog="python -m infra.latency_proxy", description=__doc__)
    parser.add_argument("target", help="http://host:port of the server")
    parser.add_argument("--milliseconds", type=float, default=30.0, help="a round trip")
    parser.add_argument("--port", type=int, default=0, help="default: any that is free")
    parser.add_argument("--die-with-parent", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.die_with_parent:
        ctypes.CDLL(None).prctl(1, _SIGKILL)
    asyncio.run(
        _serve(
            arguments.target,
            arguments.port,
            arguments.milliseconds / 1000,
            lambda endpoint: print(endpoint, flush=True),  # noqa: T201 - for whoever started it
        )
    )


if __name__ == "__main__":
    main()
