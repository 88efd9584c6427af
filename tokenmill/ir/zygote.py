"""The process that has LLVM loaded and forks those that read modules. A worker starts one: `python -m … zygote <fd>`.

It has one thread, reads no module, and does what its owner asks: fork a reader that answers on a given connection, and
end one. So a reader that dies of its module is replaced within milliseconds. A reader lives in limits of memory and
processor time, leaves no core, and ends with the zygote, which ends with its owner: with the process, not with the
thread of it that asked. Standard library and llvmlite only.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import traceback
from typing import Any, NoReturn

from tokenmill.ir import reasons, wire

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
#: What a reader may write on its standard error for one module.
_STDERR_BYTES = 1 << 16
#: Status of a reader that could not be bound to its limits, which says nothing of a module.
NOT_BEGUN = 121
#: Signals that a terminal or a supervisor sends to a whole group of processes: they are the owner's to act on.
_OF_THE_GROUP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Bytes of a request to the zygote, and of its answer.
REQUEST_BYTES = 4096


def serve(control: socket.socket, owner: int) -> None:
    """Answer the owner until it is gone: `{"fork": true}` with two descriptors, and `{"end": pid}`."""
    watched = os.pidfd_open(owner)
    readers: set[int] = set()
    while os.getppid() == owner:
        readable, _, _ = select.select([control.fileno(), watched], [], [])
        if watched in readable:
            break
        request, descriptors, _, _ = socket.recv_fds(control, REQUEST_BYTES, 2)
        if not request:
            break
        asked = json.loads(request)
        answer: dict[str, Any]
        if "fork" in asked:
            try:
                pid = _fork(descriptors, control, watched)
            except OSError as error:
                answer = {"failed": error.strerror}
            else:
                readers.add(pid)
                answer = {"pid": pid}
        else:
            readers.remove(int(asked["end"]))
            answer = {"status": _end(int(asked["end"]))}
        control.sendall(json.dumps(answer).encode())
    for pid in readers:
        _end(pid)


def _fork(descriptors: list[int], control: socket.socket, watched: int) -> int:
    """Fork a reader that answers on the first descriptor and complains to the second; return its process id."""
    parent = os.getpid()
    try:
        pid = os.fork()
        if pid == 0:
            _live_as_reader(parent, descriptors, control, watched)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return pid


def _live_as_reader(parent: int, descriptors: list[int], control: socket.socket, watched: int) -> NoReturn:
    """Be a reader, and end: a forked process must not go on as a second zygote."""
    status = NOT_BEGUN
    try:
        control.close()
        os.close(watched)
        _become_reader(parent, descriptors[1])
        status = 1
        _read_modules(socket.socket(fileno=descriptors[0]))
    except wire.WireError:
        status = 0  # the owner is gone, or done with this reader
    except BaseException:  # noqa: BLE001  what it was is on the standard error
        traceback.print_exc()
    finally:
        os._exit(status)


def _end(pid: int) -> int:
    """Kill a reader, unless it is about to be dead anyway; return its status as `os.waitpid` gives it."""
    os.kill(pid, signal.SIGKILL)  # nobody else waits for it: the id is still its own
    return os.waitpid(pid, 0)[1]


def _become_reader(parent: int, stderr: int) -> None:
    """Bind this process to its parent and to its limits."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_DUMPABLE, 0)  # no core, whatever the machine does with cores
    if os.getppid() != parent:
        os._exit(0)
    os.dup2(stderr, 2)
    os.close(stderr)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, _STDERR_BYTES)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # Where memory runs out on the whole machine, a reader is the first to go.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")


def _limit(resource_id: int, value: int) -> None:
    """Set a limit, to no more than whoever began all this allows."""
    hard = resource.getrlimit(resource_id)[1]
    resource.setrlimit(resource_id, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _read_modules(connection: socket.socket) -> None:
    """Answer requests, each a frame of limits and a task with the module's bytes, until the owner is done."""
    while True:
        asked, data = wire.receive(connection, sys.maxsize)
        os.ftruncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)
        answer, made = _answer(asked, bytes(data))
        del data
        wire.send(connection, answer, made)


def _answer(asked: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    from tokenmill.ir.llvm_text import Refused, read_text, write_bitcode  # loaded before the fork

    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + asked["cpu_seconds"]) + 1)
    _limit(resource.RLIMIT_DATA, int(asked["memory_bytes"]))
    try:
        if asked["assemble"]:
            made = write_bitcode(data)
        else:
            made = read_text(data, bitcode=asked["bitcode"], options=asked["options"])
    except Refused as error:
        return {"reason": error.reason, "message": error.message}, b""
    except MemoryError:
        return {"reason": reasons.READER_OUT_OF_MEMORY, "message": "LLVM's output"}, b""
    if len(made) > asked["max_bytes"]:
        return {"reason": reasons.TOO_LARGE, "message": str(len(made))}, b""
    return {}, made


def _main() -> NoReturn:
    control = socket.socket(fileno=int(sys.argv[1]))
    for number in _OF_THE_GROUP:
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGCHLD, signal.SIGXCPU):  # what the owner ignores, this process would, too
        signal.signal(number, signal.SIG_DFL)
    faulthandler.disable()  # its words would be taken for LLVM's
    try:
        from tokenmill.ir.llvm_text import LLVM_VERSION
    except ImportError as error:
        control.sendall(json.dumps({"missing": str(error)[:1000]}).encode())
        raise SystemExit(1) from error
    control.sendall(json.dumps({"llvm": LLVM_VERSION}).encode())
    # What is loaded stays shared with what is forked from here: no collector may visit, and so copy, it.
    gc.collect()
    gc.freeze()
    serve(control, int(sys.argv[2]))
    raise SystemExit(0)


if __name__ == "__main__":
    _main()
