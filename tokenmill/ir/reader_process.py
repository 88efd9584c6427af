"""One process that reads modules, seen from the one that wants them read: a request, an answer, or what it died of."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import time
from typing import Any

from tokenmill.errors import ItemError, RunError
from tokenmill.ir import reasons, wire
from tokenmill.ir.ir_file import IrOptions
from tokenmill.ir.zygote import NOT_BEGUN

#: Seconds on the clock that a reader may take for one of processor time.
_CLOCK = 10.0
#: What a process says last that has no memory left.
_NO_MEMORY = ("out of memory", "bad_alloc", "MemoryError", "Allocation failed", "Cannot allocate memory")
#: What LLVM says where debug information made it verify a module while reading it.
_BROKEN = "Broken module found"
_WORDS_BYTES = 4096
#: What an assertion names before and after its place in LLVM's source: the program, a directory, a signature.
_ASSERTION = re.compile(r"^[^\s:]+: (?:/\S*/)?([\w.]+:\d+): .*?(Assertion .*)$")
_MESSAGE_CHARACTERS = 400


class ReaderDied(Exception):
    """A reader has closed its connection, or took too long."""

    def __init__(self, *, timed_out: bool) -> None:
        self.timed_out = timed_out
        super().__init__(timed_out)


class ReaderProcess:
    """A reader's connection and its standard error. Whoever has it forked sets `pid`.

    Attributes:
        theirs: The reader's end of the connection, to be handed to it and closed.
        stderr: Descriptor of a file in memory that is its standard error.
        pid: Its process id.
        modules: How many it has read.
        ended_from_outside: Whether somebody else killed it, or it was stopped for long; after `obituary`.
    """

    def __init__(self) -> None:
        self.stderr = os.memfd_create("reader", os.MFD_CLOEXEC)
        try:
            self._connection, self.theirs = socket.socketpair()
        except OSError:
            os.close(self.stderr)
            raise
        self.pid = 0
        self.modules = 0
        self.ended_from_outside = False

    def do(self, task: dict[str, Any], data: bytes, options: IrOptions, max_bytes: int) -> bytearray:
        """Return what a task makes of a module; raises ItemError where LLVM refuses the module, and ReaderDied."""
        until = time.monotonic() + _CLOCK * max(options.cpu_seconds, 1.0)
        request = {
            **task,
            "memory_bytes": options.memory_bytes,
            "cpu_seconds": options.cpu_seconds,
            "max_bytes": max_bytes,
        }
        try:
            wire.send(self._connection, request, data, until=until)
            answer, made = wire.receive(self._connection, max_bytes, until=until)
        except wire.WireError:
            raise ReaderDied(timed_out=False) from None
        except TimeoutError:
            raise ReaderDied(timed_out=True) from None
        if answer.get("reason") in reasons.REASONS:
            raise refusal(answer["reason"], str(answer.get("message"))[:_MESSAGE_CHARACTERS], options)
        self.modules += 1
        return made

    def obituary(self, death: ReaderDied, status: int, options: IrOptions) -> ItemError:
        """Return what the module is to be rejected with, by the reader's status as `os.waitpid` gives it.

        Raises RunError where the reader did not come to read anything.
        """
        words = self._last_words()
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == NOT_BEGUN:
            raise RunError(f"a process to read LLVM IR in cannot be begun: {words}")
        killed_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        self.ended_from_outside = death.timed_out or killed_by == signal.SIGKILL
        if death.timed_out or killed_by == signal.SIGXCPU:
            return refusal(reasons.READER_TIMED_OUT, "", options)
        if any(said in words for said in _NO_MEMORY):
            return refusal(reasons.READER_OUT_OF_MEMORY, "", options)
        if _BROKEN in words:
            return refusal(reasons.INVALID_MODULE, words, options)
        if killed_by:
            return refusal(reasons.READER_CRASHED, f"{_signal_name(killed_by)}: {words}".rstrip(": "), options)
        return refusal(reasons.DAMAGED_MODULE, words or f"LLVM ended with status {os.WEXITSTATUS(status)}", options)

    def close(self) -> None:
        """Close the connection, on which the reader ends."""
        self._connection.close()
        self.theirs.close()
        with contextlib.suppress(OSError):
            os.close(self.stderr)

    def _last_words(self) -> str:
        """Return the line of the standard error that says most: a failed assertion, an error, or the last one."""
        size = os.fstat(self.stderr).st_size
        text = os.pread(self.stderr, _WORDS_BYTES, max(size - _WORDS_BYTES, 0)).decode("utf-8", "backslashreplace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        telling = [
            line for line in lines if any(word in line for word in ("Assertion", "ERROR", "error:", *_NO_MEMORY))
        ]
        line = ([*lines[-1:], *telling[-1:]] or [""])[-1]
        return _ASSERTION.sub(r"\1: \2", line)[:_MESSAGE_CHARACTERS]


def refusal(reason: str, message: str, options: IrOptions) -> ItemError:
    """Return the error for a reason, in words; the message is LLVM's or the reader's."""
    texts = {
        reasons.DAMAGED_MODULE: f"LLVM cannot read the module: {message}",
        reasons.INVALID_MODULE: f"the module breaks the rules of IR: {message}",
        reasons.READER_CRASHED: f"the process that read the module was killed by {message}",
        reasons.READER_TIMED_OUT: f"reading the module took more than {options.cpu_seconds:g} s of processor time",
        reasons.READER_OUT_OF_MEMORY: f"reading the module took more than {options.memory_bytes} bytes of memory",
        reasons.TOO_LARGE: f"the module's text has {message} bytes; at most {options.max_text_bytes} are allowed",
    }
    return ItemError(reason, texts[reason])


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
