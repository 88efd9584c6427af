"""A TCP relay that breaks connections on request: real lost answers between a real client and a real server."""

from __future__ import annotations

import socket
import threading
from types import TracebackType


class Relay:
    """Relays to a server, as a context manager; each thread serves one direction of one connection.

    Attributes:
        lose_answers: So many answers are still to be lost: the server hears the request, the client nothing.
        break_after_bytes: Connections break when they have carried so many bytes of answers; None: never.
        cut_bodies_after_bytes: Connections break when so many bytes of a PUT's body have passed; None: never.
        broken: Connections broken so far.
    """

    def __init__(self, port: int) -> None:
        self.lose_answers = 0
        self.break_after_bytes: int | None = None
        self.cut_bodies_after_bytes: int | None = None
        self.broken = 0
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._sockets: list[socket.socket] = [self._listener]
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Relay:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for opened in list(self._sockets):
            _break(opened)
        for thread in self._threads:
            thread.join()
        for opened in self._sockets:
            opened.close()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            server = socket.create_connection(self._target)
            self._sockets += [client, server]
            for work in (self._requests, self._answers):
                thread = threading.Thread(target=work, args=(client, server))
                self._threads.append(thread)
                thread.start()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        body_bytes = 0
        try:
            while data := client.recv(1 << 16):
                if data.startswith(b"PUT "):  # botocore sends the body apart from the headers
                    body_bytes = -len(data)
                body_bytes += len(data)
                surplus = 0 if self.cut_bodies_after_bytes is None else body_bytes - self.cut_bodies_after_bytes
                server.sendall(data[: len(data) - max(surplus, 0)])
                if self.cut_bodies_after_bytes is not None and surplus >= 0:
                    self.broken += 1
                    _break(client)
                    return
        except OSError:
            pass
        finally:
            _break(server)

    def _answers(self, client: socket.socket, server: socket.socket) -> None:
        carried = 0
        try:
            while data := server.recv(1 << 16):
                if self.lose_answers:
                    self.lose_answers -= 1
                    self.broken += 1
                    return
                carried += len(data)
                if self.break_after_bytes is not None and carried > self.break_after_bytes:
                    self.broken += 1
                    client.sendall(data[: len(data) // 2])
                    return
                client.sendall(data)
        except OSError:
            pass
        finally:
            _break(client)
            _break(server)


def _break(opened: socket.socket) -> None:
    try:
        opened.shutdown(socket.SHUT_RDWR)
    except OSError:
        opened.close()
