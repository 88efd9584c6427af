"""Readers' lives: none outlasts its owner, none is left as a zombie, no descriptor is lost, threads share them."""

from __future__ import annotations

import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.ir.samples import TEXT, compiled, descriptors
from tests.ir.test_reading import crashing
from tokenmill.errors import ItemError, MissingExtraError, RunError
from tokenmill.ir import readers as readers_module
from tokenmill.ir import reasons
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.ir_file import IrFile, IrOptions
from tokenmill.ir.readers import Readers, ZygoteGone, close_readers, shared_readers

CHOICES = Canonical().choices()
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def readers() -> Iterator[Readers]:
    begun = Readers()
    yield begun
    begun.close()


def read(readers: Readers, data: bytes = TEXT, *, bitcode: bool = False) -> bytes:
    return bytes(readers.read(data, IrOptions(), bitcode=bitcode, choices=CHOICES))


def children(readers: Readers) -> list[psutil.Process]:
    return psutil.Process(readers.pid).children()


def within_seconds(seconds: float, gone: list[psutil.Process]) -> None:
    until = time.monotonic() + seconds
    while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in gone):
        assert time.monotonic() < until, "processes outlasted their owner"
        time.sleep(0.02)


def test_a_reader_is_used_again_after_a_success_and_replaced_after_a_refusal(readers: Readers) -> None:
    first = read(readers)
    (reader,) = children(readers)
    assert read(readers) == first
    assert children(readers) == [reader]
    with pytest.raises(ItemError):
        read(readers, TEXT.replace(b"ret i32", b"return i32"))
    assert children(readers) == []
    assert read(readers) == first
    (other,) = children(readers)
    assert other != reader


def test_a_reader_is_replaced_after_so_many_modules(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers_module, "MODULES_A_READER", 3)
    used = set()
    for _ in range(6):
        read(readers)
        used |= {process.pid for process in children(readers)}
    assert children(readers) == []
    assert len(used) == 2


def test_deaths_and_refusals_leave_no_process_and_no_descriptor(readers: Readers) -> None:
    data = crashing()
    read(readers)
    gc.collect()
    before = descriptors()
    for _ in range(20):
        with pytest.raises(ItemError, match="SIG"):
            read(readers, data, bitcode=True)
        with pytest.raises(ItemError, match="LLVM"):
            read(readers, b"nonsense")
        read(readers)
    assert descriptors() == before
    assert len(children(readers)) == 1
    assert all(process.status() != psutil.STATUS_ZOMBIE for process in children(readers))


def test_a_module_is_not_blamed_for_what_an_earlier_one_did_to_the_reader(readers: Readers) -> None:
    wanted = read(readers)
    (reader,) = children(readers)
    reader.suspend()
    killing = threading.Timer(0.3, reader.send_signal, [signal.SIGSEGV])
    killing.start()
    reader_gone = threading.Timer(0.4, reader.resume)
    reader_gone.start()
    assert read(readers) == wanted
    killing.join()


def test_threads_share_the_readers(readers: Readers) -> None:
    data = [compiled("c-clang14.bc"), compiled("cpp-clang19.bc"), compiled("rust-rustc1.95.bc")] * 20
    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda module: read(readers, module, bitcode=True), data))
    assert texts == texts[:3] * 20
    assert 1 <= len(children(readers)) <= 4


def test_readers_have_limits_and_no_core(readers: Readers) -> None:
    read(readers)
    (reader,) = children(readers)
    limits = Path(f"/proc/{reader.pid}/limits").read_text()
    assert "Max core file size        0 " in limits
    assert f"Max data size             {IrOptions().memory_bytes} " in limits
    assert Path(f"/proc/{reader.pid}/oom_score_adj").read_text() == "1000\n"
    assert {str(Path(f"/proc/{reader.pid}/fd/{name}").readlink()) for name in ("0", "1")} == {"/dev/null"}


def test_readers_end_with_their_zygote_and_others_take_their_place() -> None:
    close_readers()
    wanted = IrFile(TEXT).module(Canonical()).text
    gone = shared_readers()
    processes = [psutil.Process(gone.pid), *children(gone)]
    os.kill(gone.pid, signal.SIGKILL)
    within_seconds(5, processes)
    assert IrFile(TEXT).module(Canonical()).text == wanted
    assert shared_readers() is not gone
    with pytest.raises(ZygoteGone):
        read(gone)
    close_readers()


OWNER = """
import os, sys, threading, time
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.ir_file import IrFile
from tokenmill.ir.readers import shared_readers
def read():
    IrFile(b"@x = global i32 0").module(Canonical())
thread = threading.Thread(target=read)  # which ends before its readers
thread.start()
thread.join()
time.sleep(0.2)
read()
if os.fork() == 0:  # a worker that is forked has readers of its own, and holds nothing of its parent's open
    read()
    print(shared_readers().pid, flush=True)
    time.sleep(60)
    os._exit(0)
print(shared_readers().pid, flush=True)
time.sleep(60)
"""


def test_zygotes_and_readers_end_with_their_owners_however_those_end() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner.stdout:
        zygotes = [psutil.Process(int(owner.stdout.readline())) for _ in range(2)]
    assert zygotes[0].pid != zygotes[1].pid
    (forked,) = [child for child in psutil.Process(owner.pid).children() if child not in zygotes]
    processes = [*zygotes, *(child for zygote in zygotes for child in zygote.children())]
    assert len(processes) == 4
    own = next(zygote for zygote in zygotes if zygote.ppid() == owner.pid)
    owner.kill()
    owner.wait()
    within_seconds(5, [own])
    forked.kill()
    within_seconds(5, processes)


def test_ending_a_process_ends_its_readers() -> None:
    code = OWNER.split("if os.fork")[0] + "print(shared_readers().pid)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert not psutil.pid_exists(int(done.stdout))


def test_without_llvmlite_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "llvmlite.py").write_text("raise ImportError('not today')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(readers_module, "_PACKAGES", tmp_path / "packages")
    (tmp_path / "packages").symlink_to(Path(__file__).resolve().parents[2])
    with pytest.raises(MissingExtraError, match=r"tokenmill\[ir\]"):
        Readers()


def test_a_reader_that_is_stopped_is_replaced_once(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenmill.ir.reader_process._CLOCK", 5.0)
    wanted = read(readers)
    (reader,) = children(readers)
    reader.suspend()
    assert readers.read(TEXT, IrOptions(cpu_seconds=1), bitcode=False, choices=CHOICES) == wanted
    assert reader not in children(readers)
    monkeypatch.setattr("tokenmill.ir.reader_process._CLOCK", 0.0)
    with pytest.raises(ItemError) as caught:
        read(readers)
    assert caught.value.reason == reasons.READER_TIMED_OUT
    assert children(readers) == []


def test_what_a_whole_group_is_sent_is_the_owners_business(readers: Readers) -> None:
    wanted = read(readers)
    (reader,) = children(readers)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        for pid in (reader.pid, readers.pid):
            os.kill(pid, number)
    assert read(readers) == wanted
    assert children(readers) == [reader]


def test_a_zygote_that_does_not_answer_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    close_readers()
    monkeypatch.setattr(readers_module, "_ANSWER_SECONDS", 3.0)
    monkeypatch.setattr(readers_module, "_END_SECONDS", 0.1)
    stopped = psutil.Process(shared_readers().pid)
    stopped.suspend()
    assert IrFile(TEXT).module(Canonical()).census.defined == 1
    assert not stopped.is_running()
    close_readers()


def test_a_zygote_that_is_killed_before_it_is_ready_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    close_readers()
    started = subprocess.Popen
    killed: list[int] = []

    def killing(*arguments: Any, **others: Any) -> Any:
        process = started(*arguments, **others)
        if len(killed) < 2:
            process.kill()
            killed.append(process.pid)
        return process

    monkeypatch.setattr(subprocess, "Popen", killing)
    before = descriptors()
    assert IrFile(TEXT).module(Canonical()).census.defined == 1
    assert len(killed) == 2
    assert not any(psutil.pid_exists(pid) for pid in killed)
    close_readers()
    assert descriptors() == before


def test_an_answer_that_nobody_waited_for_is_not_taken_for_anothers(
    readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(readers, "_answer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            read(readers)
    with pytest.raises(ZygoteGone):
        read(readers)


def test_an_interrupt_while_a_reader_works_ends_it(readers: Readers) -> None:
    read(readers)
    (reader,) = children(readers)
    reader.suspend()
    interrupting = threading.Timer(0.3, signal.pthread_kill, [threading.get_ident(), signal.SIGINT])
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background may ignore it
    try:
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            read(readers)
        interrupting.join()
    finally:
        signal.signal(signal.SIGINT, ignored)
    assert children(readers) == []
    assert read(readers)


def test_a_machine_without_room_for_a_process_is_no_fault_of_a_module(
    readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(readers, "_ask", lambda *_: {"failed": "Resource temporarily unavailable"})
        with pytest.raises(RunError, match="temporarily unavailable"):
            read(readers)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(RunError, match="Too many open files"):
            read(readers)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert descriptors() == before
    assert read(readers)


IGNORING = """
import signal
for number in (signal.SIGCHLD, signal.SIGXCPU):
    signal.signal(number, signal.SIG_IGN)
from tests.ir.test_reading import LARGE, crashing, refused
print(refused(crashing())[0], refused(LARGE, cpu_seconds=0.2)[0])
"""


def test_what_the_owner_ignores_its_readers_do_not() -> None:
    environment = {**os.environ, "PYTHONFAULTHANDLER": "1"}
    done = subprocess.run(
        [sys.executable, "-c", IGNORING], capture_output=True, text=True, check=True, env=environment, cwd=REPOSITORY
    )
    assert (done.stdout, done.stderr) == (f"{reasons.READER_CRASHED} {reasons.READER_TIMED_OUT}\n", "")
