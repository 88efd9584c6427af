"""The launcher, seen from outside: starts pipelines in a process that has Beam and the encoders loaded.

Why a process of its own: importing Beam takes 3 s, which pass while its owner does other things; workers can be forked
from it with everything loaded; it can be killed with all its workers at any moment; and its owner's memory stays small.
It dies with its owner.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from pipelines.requests import RunRequest
from tokenmill.errors import RunError, error_from_json

_REPOSITORY = Path(__file__).resolve().parent.parent


class Launcher:
    """A launcher process; one run at a time. Use as a context manager, or `close` it.

    Make it in a thread that lives as long as it is needed: the kernel ends it with the thread that made it.
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._socket = ours
        self._received = b""
        self._runs = 0
        path = os.pathsep.join(filter(None, [str(_REPOSITORY), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.launcher_main", str(theirs.fileno()), str(os.getpid())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()

    def load(self, tokenizers: Sequence[tuple[Mapping[str, Any], str]]) -> None:
        """Let the launcher load encoders ahead of a run: (config, device) pairs. Errors show in the run itself."""
        self._tell({"load": [[dict(config), device] for config, device in tokenizers]})

    def run(self, request: RunRequest, *, poll_seconds: float = 0.5) -> Iterator[dict[str, Any] | None]:
        """Run a request; yields its events as they come, and None every `poll_seconds` in between.

        Events: `{"event": "started", "splits": n, "notes": [...]}`, at the end `{"event": "done"}`. Closing the
        iterator early kills the run with all its workers.

        Raises:
            TokenmillError: what ended the run, as the worker raised it.
            RunError: a worker or the launcher died.
        """
        finished = False
        self._runs += 1
        number = self._runs
        try:
            self._tell({"run": request.to_json(), "number": number})
            while not finished:
                event = self._next_event(poll_seconds)
                if event is None:
                    yield None
                    continue
                if event.pop("number") != number:  # the last words of a run that had failed before
                    continue
                if event["event"] == "failed":
                    finished = True
                    raise error_from_json(event["error"])
                finished = event["event"] == "done"
                yield event
        finally:
            if not finished:
                self.close()

    def close(self) -> None:
        """Kill the launcher and whatever it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._socket.close()

    @property
    def alive(self) -> bool:
        """Whether the process is there to run something."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id; also the id of the process group that holds the driver and the workers."""
        return self._process.pid

    def _next_event(self, seconds: float) -> dict[str, Any] | None:
        """Return the next event, or None where none comes in time; several may have come at once."""
        while b"\n" not in self._received:
            readable, _, _ = select.select([self._socket], [], [], seconds)
            if not readable:
                return None
            received = self._receive()
            if not received:
                raise RunError(
                    f"the launcher process ended ({self._process.wait()})",
                    fix="run the job again: it goes on from the finished parts",
                )
            self._received += received
        line, _, self._received = self._received.partition(b"\n")
        event: dict[str, Any] = json.loads(line)
        return event

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(1 << 16)
        except ConnectionResetError:  # it ended with messages of ours unread
            return b""

    def _tell(self, message: dict[str, Any]) -> None:
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise RunError(f"the launcher process is gone: {error}", fix="run the job again") from error

    def __enter__(self) -> Launcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
