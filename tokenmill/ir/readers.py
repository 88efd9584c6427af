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
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tokenmill.errors import ItemError, MissingExtraError, RunError
from tokenmill.ir import reasons
from tokenmill.ir.ir_file import IrOptions
from tokenmill.ir.reader_process import ReaderDied, ReaderProcess
from tokenmill.ir.zygote import REQUEST_BYTES

#: A reader is replaced after so many modules: what LLVM may lose of memory goes with it.
MODULES_A_READER = 1000
_PACKAGES = Path(__file__).resolve().parents[2]
#: A module's bitcode may have so many bytes more than its text.
_LEAST_BITCODE_BYTES = 1 << 20
#: Seconds for a zygote to end by itself.
_END_SECONDS = 10.0
#: Seconds for a zygote to answer, which takes it milliseconds: one that does not is taken for gone.
_ANSWER_SECONDS = 120.0
#: A module is tried with so many zygotes, where each is killed.
_ZYGOTES = 4

_Made = TypeVar("_Made")


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
        path = os.pathsep.join(filter(None, [str(_PACKAGES), os.environ.get("PYTHONPATH")]))
        try:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "tokenmill.ir.zygote", str(theirs.fileno()), str(os.getpid())],
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, "PYTHONPATH": path},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
        except OSError as error:
            raise _cannot_begin(error.strerror) from error
        self._control.settimeout(_ANSWER_SECONDS)
        try:
            first = self._answer()
        except BaseException:
            self.close()
            raise
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
            RunError: The machine has no room for another process.
        """
        task = {"assemble": False, "bitcode": bitcode, "options": choices}
        return self._do(task, data, options, options.max_text_bytes)

    def assemble(self, text: bytes, options: IrOptions) -> bytearray:
        """Return the bitcode of textual IR; raises as `read` does."""
        # Small modules have more bitcode than text.
        return self._do({"assemble": True}, text, options, options.max_text_bytes + _LEAST_BITCODE_BYTES)

    def _do(self, task: dict[str, Any], data: bytes, options: IrOptions, max_bytes: int) -> bytearray:
        """Have a reader do a task, of whose death the module is blamed if it had done nothing before."""
        fresh = hindered = False
        while True:
            reader = self._take(fresh=fresh)
            fresh = reader.modules == 0
            try:
                made = reader.do(task, data, options, max_bytes)
            except ReaderDied as death:
                try:
                    error = reader.obituary(death, self._end(reader), options)
                finally:
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
                with contextlib.suppress(ZygoteGone):
                    self._end(reader)
                reader.close()
                raise
            if reader.modules < MODULES_A_READER:
                self._idle.append(reader)
            else:
                self._end(reader)
                reader.close()
            return made

    def close(self) -> None:
        """End the zygote and its readers."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)  # it ends them, and itself, and nobody waits for its answers
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
        try:
            reader = ReaderProcess()
        except OSError as error:
            raise _cannot_begin(error.strerror) from error
        try:
            with reader.theirs:
                answer = self._ask({"fork": True}, [reader.theirs.fileno(), reader.stderr])
            if "failed" in answer:
                raise _cannot_begin(answer["failed"])
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
                try:
                    socket.send_fds(self._control, [json.dumps(request).encode()], descriptors or [])
                except OSError as error:
                    raise self._gone() from error
                return self._answer()
            except BaseException:
                self._control.close()  # or an answer that nobody waited for would be taken for another's
                raise

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


def _cannot_begin(why: str | None) -> RunError:
    return RunError(
        f"a process to read LLVM IR in cannot be begun: {why}",
        fix="give the run more open files (ulimit -n), processes (ulimit -u) or memory, or fewer workers; run it again",
    )


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


def with_readers(use: Callable[[Readers], _Made]) -> _Made:
    """Return what a use of this process's readers returns; where somebody kills their zygote, use others.

    Raises what the use raises, and ZygoteGone where several zygotes were killed.
    """
    readers: Readers | None = None
    zygotes = 0
    while True:
        try:
            zygotes += 1
            readers = shared_readers(instead_of=readers)
            return use(readers)
        except ZygoteGone:  # which says nothing of the module
            if zygotes == _ZYGOTES:
                raise


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
