"""The launcher process: imports Beam, loads encoders, and forks a driver for each run that its owner asks for.

It never starts a thread nor opens a channel, so that forking from it stays safe. It ends, with all that it forked,
when its owner's end of the socket closes.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import select
import signal
import socket
import sys
import warnings
from typing import Any, NoReturn

from pipelines.lifetimes import die_with_parent

if __name__ == "__main__":
    die_with_parent(int(sys.argv[2]))  # before Beam is imported, which takes seconds

# One native thread a worker; before any native library reads it.
for _threads in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Beam logs every error several times over, with its own frames, and every start at INFO; what ends a run reaches the
# owner as an event. It says through the root logger, at import, that Google's client libraries are absent.
logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
logging.getLogger().addFilter(lambda record: "apitools not found" not in record.getMessage())

from pipelines import driver  # noqa: E402  the settings above come first
from pipelines.requests import RunRequest  # noqa: E402
from tokenmill.contract import resolve  # noqa: E402
from tokenmill.devices import actual_device  # noqa: E402
from tokenmill.encoders import loaded_encoder  # noqa: E402
from tokenmill.errors import RunError, TokenmillError  # noqa: E402
from tokenmill.registry import parse_tokenizer  # noqa: E402


class _Owner:
    """The owner's end: messages in, events out."""

    def __init__(self, descriptor: int) -> None:
        self.socket = socket.socket(fileno=descriptor)
        self._lines = self.socket.makefile("rb")

    def next_message(self) -> dict[str, Any] | None:
        line = self._lines.readline()
        return json.loads(line) if line else None

    def tell(self, event: dict[str, Any]) -> None:
        self.socket.sendall(json.dumps(event).encode() + b"\n")


def serve(owner: _Owner) -> None:
    """Answer the owner's messages until it goes away."""
    while (message := owner.next_message()) is not None:
        if "load" in message:
            for config, device in message["load"]:
                _load(config, device)
        elif "run" in message:
            _run(owner, int(message["number"]), RunRequest.from_json(message["run"]))


def _load(config: dict[str, Any], device: str) -> None:
    try:
        resolved = resolve(parse_tokenizer(config))
        if actual_device(device, resolved) == "cpu":  # CUDA does not survive a fork: workers load it themselves
            loaded_encoder(resolved, device)
    except TokenmillError:
        return  # the run loads it again and reports what is wrong


def _run(owner: _Owner, number: int, request: RunRequest) -> None:
    """Fork a driver and wait for it, or for the owner to go away."""
    finished = False

    def tell(event: dict[str, Any]) -> None:
        owner.tell({**event, "number": number})

    # What is loaded stays shared with what is forked from here: no collector may visit, and so copy, it.
    gc.collect()
    gc.freeze()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _drive(request, tell, parent)
    waiting = os.pidfd_open(pid)
    try:
        while not finished:
            readable, _, _ = select.select([waiting, owner.socket.fileno()], [], [])
            if owner.socket.fileno() in readable and not owner.socket.recv(1, socket.MSG_PEEK):
                os.killpg(0, signal.SIGKILL)  # the owner is gone: so is this process, and everything it forked
            finished = waiting in readable
    finally:
        os.close(waiting)
    _, status = os.waitpid(pid, 0)
    if status != 0:  # it has said why, unless it was killed; the owner hears the first word of a run only
        error = RunError(f"the driver process {driver.how_it_ended(status)}", fix="run the job again")
        tell({"event": "failed", "error": error.to_json()})


def _drive(request: RunRequest, tell: driver.Tell, parent: int) -> NoReturn:
    """Be the driver; whatever happens, the forked process must not go on as a second launcher."""
    try:
        driver.drive(request, tell, parent)
    finally:
        os._exit(1)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="apache_beam")
    serve(_Owner(int(sys.argv[1])))
