"""The processes that read modules for this one: begun when wanted, used again after a success, replaced otherwise.

A module may bring down the LLVM that reads it. So it is read by a child of this process's zygote, and only of a child
that had read nothing before is it believed that the module was to blame. Threads share the readers.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tokenmill.errors import ItemError, MissingExtraError, RunError
from tokenmill.ir import reasons
from tokenmill.ir.ir_file import IrOptions
from tokenmill.ir.reader_process import ReaderDied, ReaderProcess
from tokenmill.ir.zygote import REQUEST_BYTES

#: A reader is replaced after so many modules: what LLVM may lose of memory goes with it.
MODULES_A_READER = 1000
_PACKAGES = Path(__file__).resolve().parents[2]
#: Seconds for a zygote to end by itself.
_END_SECONDS = 10.0


class ZygoteGone(RunError):
    """The zygote has been killed. Another one may be begun."""


class Readers:
    """A zygote, and the readers that it forked. Use from any thread; `close` ends them all.

    Attributes:
        llvm_version: Of the LLVM that reads: (22, 1, 0).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[ReaderProcess] = []
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = os.pathsep.join(filter(None, [str(_PACKAGES), os.environ.get("PYTHONPATH")]))
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tokenmill.ir.zygote", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        first = self._answer()
        if "missing" in first:
            self.close()
            raise MissingExtraError(
                f"modules of LLVM IR are read with llvmlite, which does not load: {first['missing']}",
                fix="pip install 'tokenmill[ir]'",
            )
        self.llvm_version: tuple[int, ...] = tuple(first["llvm"])

    def read(self, data: bytes, options: IrOptions, *, bitcode: bool, choices: dict[str, Any]) -> bytearray:
        """Return a module's canonical text.

        Args:
            data: The module.
            options: What reading it may take.
            bitcode: Whether it is bitcode; else it is text.
            choices: The fields of `tokenmill.ir.canonical.Canonical`.

        Raises:
            ItemError: With one of `tokenmill.ir.reasons`.
            ZygoteGone: The zygote was killed.
        """
        fresh = hindered = False
        while True:
            reader = self._take(fresh=fresh)
            fresh = reader.modules == 0
            try:
                text = reader.read(data, options, bitcode=bitcode, choices=choices)
            except ReaderDied as death:
                error = reader.obituary(death, self._end(reader), options)
                reader.close()
                out_of_time = error.reason == reasons.READER_TIMED_OUT and not reader.ended_from_outside
                if out_of_time or (fresh and (hindered or not reader.ended_from_outside)):
                    raise error from None
                hindered, fresh = hindered or reader.ended_from_outside, True
                continue
            except ItemError as error:
                self._end(reader)  # whatever is wrong with the module may have done harm
                reader.close()
                if error.reason == reasons.READER_OUT_OF_MEMORY and not fresh:
                    fresh = True
                    continue
                raise
            except BaseException:
                self._end(reader)
                reader.close()
                raise
            if reader.modules < MODULES_A_READER:
                self._idle.append(reader)
            else:
                self._end(reader)
                reader.close()
            return text

    def close(self) -> None:
        """End the zygote and its readers."""
        self._control.close()  # it ends them, and itself
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.forget()

    def forget(self) -> None:
        """Give back the descriptors, in a process that was forked from this one, too."""
        self._control.close()
        while self._idle:
            self._idle.pop().close()

    @property
    def pid(self) -> int:
        """Process id of the zygote."""
        return self._process.pid

    def _take(self, *, fresh: bool) -> ReaderProcess:
        """Return a reader that nobody uses; a fresh one has read nothing."""
        if not fresh:
            with contextlib.suppress(IndexError):
                return self._idle.pop()
        reader = ReaderProcess()
        try:
            with reader.theirs:
                answer = self._ask({"fork": True}, [reader.theirs.fileno(), reader.stderr])
        except BaseException:
            reader.close()
            raise
        reader.pid = int(answer["pid"])
        return reader

    def _end(self, reader: ReaderProcess) -> int:
        """Kill a reader that may be dead; return its status as `os.waitpid` gives it."""
        try:
            return int(self._ask({"end": reader.pid})["status"])
        except ZygoteGone:
            reader.close()
            raise

    def _ask(self, request: dict[str, Any], descriptors: list[int] | None = None) -> dict[str, Any]:
        """Ask the zygote one thing and return its answer."""
        with self._lock:
            try:
                socket.send_fds(self._control, [json.dumps(request).encode()], descriptors or [])
            except OSError as error:
                raise self._gone() from error
            return self._answer()

    def _answer(self) -> dict[str, Any]:
        try:
            answer = self._control.recv(REQUEST_BYTES)
        except OSError as error:
            raise self._gone() from error
        if not answer:
            raise self._gone()
        value: dict[str, Any] = json.loads(answer)
        return value

    def _gone(self) -> ZygoteGone:
        return ZygoteGone("the process that forks readers of LLVM IR is gone", fix="run the job again")


_shared: Readers | None = None
_starting = threading.Lock()
_inherited: list[Readers] = []


def shared_readers(instead_of: Readers | None = None) -> Readers:
    """Return this process's readers, begun at the first call, and anew in place of those whose zygote is gone."""
    global _shared
    with _starting:
        if _shared is not None and _shared is instead_of:
            _shared.close()
            _shared = None
        if _shared is None:
            _shared = Readers()
        return _shared


def close_readers() -> None:
    """End this process's readers, if there are any; they would end with it."""
    global _shared
    with _starting:
        if _shared is not None:
            _shared.close()
            _shared = None


def _after_fork() -> None:
    """Leave the readers to the process that began them."""
    global _shared, _starting
    _starting = threading.Lock()
    if _shared is not None:
        _shared.forget()
        _inherited.append(_shared)  # kept: the zygote is no child of this process, and nobody may wait for it
        _shared = None


os.register_at_fork(after_in_child=_after_fork)
atexit.register(close_readers)
