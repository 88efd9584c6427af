"""Bad modules of LLVM IR, end to end: what each kind of them does to a run.

A module that LLVM cannot read is a reject with its reason, whatever it does to the process that reads it; all others
have a row in every table. Rows and rejects together are all items, whatever the files are.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tokenmill
from tests import bad_items
from tests.bad_items import check_nothing_is_lost
from tests.datasets import build_dataset, job_of, run_splits
from tests.ir.samples import COMPILED, TEXT, compiled, renamed_producer, with_identification
from tests.ir.test_fuzz import mutated
from tests.ir.test_reading import LARGE, crashing
from tests.takedown_cases import merged
from tests.tar_files import as_tar
from tokenmill import commands
from tokenmill.errors import ChangedError, InputError, RejectedFractionError, RunError
from tokenmill.estimates import estimate
from tokenmill.ir import reasons as ir_reasons
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.ir_file import IrFile
from tokenmill.ir.readers import ZygoteGone, shared_readers
from tokenmill.jobs import Job
from tokenmill.manifests import read_manifest
from tokenmill.parts import process_split
from tokenmill.planning import draft_plan, make_plan
from tokenmill.sources import reasons
from tokenmill.storage.outputs import Storage
from tokenmill.takedowns import take_down
from tokenmill.verification import verify

GOOD = compiled("c-clang19.bc")
NEWER = with_identification(GOOD, "LLVM99.1.7", 1)
#: LLVM verifies what has been read; that is a module, but for a value that is used before it is made.
INVALID = TEXT.replace(b"[ 2, %no ]", b"[ %result, %no ], [ 3, %yes ]")


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def output(tmp_path: Path) -> str:
    return str(tmp_path / "out")


def ir_job(output: str, inputs: Path | str, **changes: Any) -> Job:
    """Return a job of two tables over modules: one of the tokens of each mode."""
    tables = [
        {"name": "line", "tokenizer": {"id": "llvm-ir"}},
        {"name": "lexeme", "tokenizer": {"id": "llvm-ir", "mode": "lexeme"}},
    ]
    source = {"modality": "llvm-ir", "fields": {}, **changes.pop("source", {})}
    return job_of(output, inputs, source=source, **{"tables": tables, **changes})


def rejects(output: str, table: str = "line") -> list[dict[str, Any]]:
    return bad_items.rejects(output, table)


def keys(output: str, table: str = "line") -> list[str]:
    return bad_items.keys(output, table)


def reasons_of(output: str) -> list[tuple[str, str]]:
    return [(reject["locator"], reject["reason"]) for reject in rejects(output)]


def wrapped(data: bytes, size_bytes: int | None = None) -> bytes:
    """Return bitcode in the wrapper that Apple's linker knows."""
    numbers = (0x0B17C0DE, 0, 20, len(data) if size_bytes is None else size_bytes, 7)
    return b"".join(number.to_bytes(4, "little") for number in numbers) + data


@cache
def files() -> dict[str, tuple[bytes, str | None]]:
    """Return file → content, and the reason of its reject, None where it has a row."""
    return {
        "archive.bc": (
            b"!<arch>\nsample.o/       0 0 0 644 4 `\nabcd",
            ir_reasons.NOT_LLVM_IR,
        ),
        "bitcode.ll": (GOOD, None),
        "bitcode.bc": (GOOD, None),
        "crash.bc": (crashing(), ir_reasons.READER_CRASHED),
        "crlf.ll": (TEXT.replace(b"\n", b"\r\n"), None),
        "deep.ll": (
            b"@x = global " + b"[1 x " * 200_000 + b"i8" + b"]" * 200_000 + b" zeroinitializer\n",
            ir_reasons.READER_CRASHED,
        ),
        "elf.bc": (b"\x7fELF\2\1\1" + bytes(500), ir_reasons.NOT_LLVM_IR),
        "empty.bc": (b"", ir_reasons.EMPTY_FILE),
        "empty.ll": (b"", ir_reasons.EMPTY_FILE),
        "half.bc": (GOOD[: len(GOOD) // 2], ir_reasons.DAMAGED_MODULE),
        "half.ll": (TEXT[: TEXT.index(b"no:")], ir_reasons.DAMAGED_MODULE),
        "invalid.ll": (INVALID, ir_reasons.INVALID_MODULE),
        "latin1 name.ll": (TEXT.replace(b"@choose", b"@ch\xe9ose"), ir_reasons.DAMAGED_MODULE),
        "latin1 string.ll": (TEXT.replace(b"; one", b"\xe9 one").replace(b"whoever", b"\xff"), None),
        "magic.bc": (GOOD[:4], ir_reasons.DAMAGED_MODULE),
        "newer.bc": (NEWER, ir_reasons.NEWER_LLVM),
        "newer.ll": (
            TEXT.replace(b"ret i32", b"return i32") + b'!llvm.ident = !{!0}\n!0 = !{!"clang version 99.1.7"}\n',
            ir_reasons.NEWER_LLVM,
        ),
        "newer and readable.bc": (renamed_producer(GOOD, "LLVM19.1.7", "LLVM99.1.7"), None),
        "nothing.ll": (b"; nothing\n", ir_reasons.NOT_LLVM_IR),
        "page.html.ll": (b"<!DOCTYPE html><title>404</title>", ir_reasons.NOT_LLVM_IR),
        "source.c.bc": (b"#include <stdio.h>\nint main(void) {}\n", ir_reasons.NOT_LLVM_IR),
        "syntax.ll": (TEXT.replace(b"ret i32", b"return i32"), ir_reasons.DAMAGED_MODULE),
        "text.bc": (TEXT, None),
        "triple.ll": (b'target triple = "x86_64"\n', None),
        "twice.bc": (GOOD + GOOD, ir_reasons.DAMAGED_MODULE),
        "utf16.ll": (TEXT.decode().encode("utf-16"), ir_reasons.NOT_LLVM_IR),
        "wrapped.bc": (wrapped(GOOD), None),
        "wrapper lies.bc": (wrapped(GOOD, 1_000_000_000), ir_reasons.DAMAGED_MODULE),
        **{f"z {name}": (compiled(name), None) for name in COMPILED},
    }


def test_a_folder_of_odd_modules(inputs: Path, output: str) -> None:
    for name, (data, _) in files().items():
        (inputs / name).write_bytes(data)
    manifest = build_dataset(ir_job(output, inputs))
    assert {reject["key"]: reject["reason"] for reject in rejects(output)} == {
        name: reason for name, (_, reason) in files().items() if reason is not None
    }
    assert keys(output) == [name for name, (_, reason) in sorted(files().items()) if reason is None]
    check_nothing_is_lost(output, manifest, len(files()))
    said = {reject["key"]: reject["message"] for reject in rejects(output)}
    version = ".".join(map(str, shared_readers().llvm_version))
    for name in ("newer.bc", "newer.ll"):
        assert "99.1.7" in said[name]
        assert f"read by LLVM {version}" in said[name]
    assert "SIGABRT" in said["crash.bc"] or "SIGSEGV" in said["crash.bc"]
    assert "SIGSEGV" in said["deep.ll"]
    assert "expected instruction opcode" in said["syntax.ll"]
    assert "PHI" in said["invalid.ll"]
    assert verify(output).problems == []
    table = tokenmill.open(output)["line"]
    for index, row in enumerate(table):
        module = IrFile(files()[row.key][0]).module(Canonical())
        assert table.decode(index).encode("utf-8", "surrogateescape") == module.text
        assert row.streams["sha256"].tobytes() == module.sha256


def test_bitcode_that_breaks_off_anywhere(inputs: Path, output: str) -> None:
    for number in range(0, len(GOOD), 97):
        (inputs / f"{number:06}.bc").write_bytes(GOOD[:number])
    count = len(list(inputs.iterdir()))
    (inputs / "whole.bc").write_bytes(GOOD)
    manifest = build_dataset(ir_job(output, inputs))
    found = Counter(reject["reason"] for reject in rejects(output))
    assert found.total() == count > 40
    assert found[ir_reasons.EMPTY_FILE] == 1
    assert set(found) <= {ir_reasons.EMPTY_FILE, ir_reasons.DAMAGED_MODULE, ir_reasons.READER_CRASHED}
    assert keys(output) == ["whole.bc"]
    check_nothing_is_lost(output, manifest, count + 1)


def test_too_many_rejects_publish_nothing_and_say_why(inputs: Path, output: str) -> None:
    bad = [data for data, reason in files().values() if reason == ir_reasons.DAMAGED_MODULE]
    for number, data in enumerate([*bad, GOOD, GOOD]):
        (inputs / f"{number}.bc").write_bytes(data)
    message = rf"{len(bad)} of {len(bad) + 2} items were rejected .*damaged_module {len(bad)}"
    with pytest.raises(RejectedFractionError, match=message):
        build_dataset(ir_job(output, inputs, limits={"max_rejected_fraction": 0.1}))
    assert not (Path(output) / "manifests").exists()


def test_the_limits_of_a_job_hold(inputs: Path, output: str) -> None:
    (inputs / "a.ll").write_bytes(TEXT)
    (inputs / "b long.ll").write_bytes(b"@x = global [9000 x i8] c" + b'"' + b"x" * 9000 + b'"\n')
    (inputs / "c.bc").write_bytes(compiled("rust-rustc1.95.bc"))
    limits = {"max_ir_text_bytes": 2000, "max_item_bytes": 10_000}
    manifest = build_dataset(ir_job(output, inputs, limits=limits))
    assert keys(output) == ["a.ll"]
    assert [(reject["key"], reject["reason"]) for reject in rejects(output)] == [
        ("b long.ll", ir_reasons.TOO_LARGE),
        ("c.bc", reasons.ITEM_TOO_LARGE),
    ]
    assert "at most 2000 are allowed" in rejects(output)[0]["message"]
    check_nothing_is_lost(output, manifest, 3)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_ir_memory_bytes": 120_000_000}, ir_reasons.READER_OUT_OF_MEMORY),
        ({"max_ir_seconds": 0.2}, ir_reasons.READER_TIMED_OUT),
    ],
)
def test_a_module_that_takes_too_much(inputs: Path, output: str, limits: dict[str, float], reason: str) -> None:
    """Its neighbours, which the same reader would have read, have their rows."""
    (inputs / "a.ll").write_bytes(TEXT)
    (inputs / "b.ll").write_bytes(LARGE)
    (inputs / "c.bc").write_bytes(GOOD)
    manifest = build_dataset(ir_job(output, inputs, limits=limits))
    assert [(reject["key"], reject["reason"]) for reject in rejects(output)] == [("b.ll", reason)]
    assert keys(output) == ["a.ll", "c.bc"]
    check_nothing_is_lost(output, manifest, 3)


def _samples(count: int) -> dict[str, bytes]:
    members = {}
    for number in range(count):
        members[f"{number:03}.{('bc', 'll')[number % 2]}"] = (GOOD, TEXT)[number % 2]
        members[f"{number:03}.json"] = json.dumps({"language": "c", "licence": f"L{number}"}).encode()
    return members


def test_bad_members_of_a_tar_file(inputs: Path, output: str) -> None:
    members = _samples(20)
    members["006.bc"] = GOOD[:900]
    members["008.bc"] = b""
    members["011.ll"] = b"no IR"
    members["012.bc"] = crashing()
    del members["014.bc"]
    members["015.bc"] = GOOD  # beside a text: the bitcode is taken
    (inputs / "a.tar").write_bytes(as_tar(members))
    manifest = build_dataset(ir_job(output, inputs, source={"metadata": ["json.licence"]}))
    assert reasons_of(output) == [
        ("a.tar!006", ir_reasons.DAMAGED_MODULE),
        ("a.tar!008", ir_reasons.EMPTY_FILE),
        ("a.tar!011", ir_reasons.NOT_LLVM_IR),
        ("a.tar!012", ir_reasons.READER_CRASHED),
        ("a.tar!014", reasons.MISSING_FIELD),
    ]
    rows = {row.key: row for row in tokenmill.open(output)["line"]}
    assert all(row.metadata["json.licence"] == f"L{int(key)}" for key, row in rows.items() if key != "015")
    check_nothing_is_lost(output, manifest, len({name.split(".")[0] for name in members}) + 1)


def test_a_tar_file_is_no_place_to_hide(inputs: Path, output: str) -> None:
    """Names that climb out of folders, tar files in tar files, a name twice: nothing is unpacked or run."""
    members = {
        "../../../../etc/passwd.bc": GOOD,
        "/root/b.bc": GOOD,
        "inner.bc": as_tar({"x.bc": GOOD}),
        "inner2.tar": as_tar({"x.bc": GOOD}),
        "naïve\n.bc": TEXT,
    }
    (inputs / "a.tar").write_bytes(as_tar(members))
    (inputs / "b.tar").write_bytes(as_tar({"a.bc": GOOD, "b.bc": TEXT})[:512] * 3)
    (inputs / "c.bc").write_bytes(as_tar({"x.bc": GOOD}))
    (inputs / "d.bc").write_bytes(GOOD)
    before = sorted(path.name for path in inputs.iterdir())
    manifest = build_dataset(ir_job(output, inputs))
    assert sorted(path.name for path in inputs.iterdir()) == before
    assert set(keys(output)) >= {"../../../../etc/passwd", "/root/b", "d.bc"}
    found = Counter(reject["reason"] for reject in rejects(output))
    assert found[ir_reasons.NOT_LLVM_IR] >= 2
    check_nothing_is_lost(output, manifest, manifest.tables["line"].rows + found.total())


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_of_a_torn_tar_file_the_whole_modules_are_kept(inputs: Path, output: str, kept: float) -> None:
    data = as_tar(_samples(40))
    (inputs / "a.tar").write_bytes(data[: int(len(data) * kept) + 700])
    (inputs / "b.bc").write_bytes(GOOD)
    manifest = build_dataset(ir_job(output, inputs))
    (reject,) = rejects(output)
    assert reject["reason"] == reasons.TORN_FILE
    found = keys(output)
    assert found == [*(f"{number:03}" for number in range(len(found) - 1)), "b.bc"]
    assert 40 * kept * 0.8 < len(found) <= 40 * kept * 1.2 + 1
    check_nothing_is_lost(output, manifest, len(found) + 1)


def test_null_and_garbage_in_a_parquet_file(inputs: Path, output: str) -> None:
    values = [GOOD, None, os.urandom(3000), b"", GOOD[:-300], TEXT, crashing(), INVALID, NEWER, GOOD]
    table = pa.table({"content": pa.array(values, pa.binary()), "id": list("abcdefghij")})
    pq.write_table(table, inputs / "a.parquet", row_group_size=3)
    manifest = build_dataset(ir_job(output, inputs, source={"fields": {"id": "id"}}))
    assert keys(output) == keys(output, "lexeme") == ["a", "f", "j"]
    assert [(reject["ordinal"], reject["reason"]) for reject in rejects(output)] == [
        (1, reasons.NULL_IR),
        (2, ir_reasons.NOT_LLVM_IR),
        (3, ir_reasons.EMPTY_FILE),
        (4, ir_reasons.DAMAGED_MODULE),
        (6, ir_reasons.READER_CRASHED),
        (7, ir_reasons.INVALID_MODULE),
        (8, ir_reasons.NEWER_LLVM),
    ]
    check_nothing_is_lost(output, manifest, 10)


@pytest.mark.parametrize("values", [[1, 2, 3], [TEXT.decode()]], ids=["numbers", "text"])
def test_a_column_that_holds_no_bytes(inputs: Path, output: str, values: list[Any]) -> None:
    pq.write_table(pa.table({"content": values}), inputs / "a.parquet")
    with pytest.raises(InputError, match=r"column 'content' holds \w+, no llvm-ir"):
        build_dataset(ir_job(output, inputs))


def test_where_passes_over_rows_of_damaged_row_groups(inputs: Path, output: str) -> None:
    """A row group whose pages are damaged is one reject, whatever rows of it were asked for; the others are read."""
    rows = 40
    table = pa.table(
        {
            "content": pa.array([TEXT.replace(b"choose", b"choose%d" % row) for row in range(rows)], pa.binary()),
            "language": [("c", "rust")[row % 2] for row in range(rows)],
        }
    )
    path = inputs / "a.parquet"
    pq.write_table(table, path, row_group_size=10, compression="none", use_dictionary=False)
    data = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(2).column(0)
    data[column.data_page_offset : column.data_page_offset + 40] = bytes(40)
    path.write_bytes(bytes(data))
    manifest = build_dataset(ir_job(output, inputs, source={"where": {"language": ["c"]}}))
    found = [row.ordinal for row in tokenmill.open(output)["line"]]
    assert len(found) >= 10
    assert {reject["reason"] for reject in rejects(output)} == {reasons.TORN_FILE}
    check_nothing_is_lost(output, manifest, len(found) + len(rejects(output)))


def test_parts_end_between_modules_whatever_is_rejected(inputs: Path, output: str) -> None:
    """Many parts, a third of the modules bad: the parts hold all, and a second run finds nothing to do."""
    for number in range(60):
        data = TEXT.replace(b"choose", b"choose%d" % number)
        (inputs / f"{number:02}.ll").write_bytes(data if number % 3 else data[:400])
    job = ir_job(output, inputs, splitting={"part_bytes": 4096})
    manifest = build_dataset(job)
    assert len(list(Storage.open(output).list("line/shards/"))) > 3
    assert manifest.tables["line"].rejected == 20
    check_nothing_is_lost(output, manifest, 60)
    before = {entry.path for entry in Storage.open(output).list("")}
    run_splits(job)
    assert {entry.path for entry in Storage.open(output).list("")} == before


def test_an_estimate_counts_modules_that_cannot_be_read(inputs: Path, output: str) -> None:
    for number in range(40):
        (inputs / f"{number:02}.bc").write_bytes(GOOD if number % 4 else GOOD[:-400])
    job = ir_job(output, inputs)
    storage = Storage.open(output)
    found = estimate(storage, draft_plan(storage, job), job, sample_seconds=20)
    assert found.rejected_fraction == 0.25
    assert [table.documents for table in found.tables] == [30, 30]


def test_taking_modules_down(inputs: Path, tmp_path: Path, output: str) -> None:
    """Sound ones, and one that cannot be read: what is left is counted as if they had never been there."""
    (tmp_path / "kept").mkdir()
    gone = {"03.ll", "09.ll", "17.ll"}
    for number in range(30):
        name, data = f"{number:02}.ll", TEXT.replace(b"choose", b"choose%d" % number)
        for directory in (inputs, tmp_path / "kept") if name not in gone else (inputs,):
            (directory / name).write_bytes(data[: 600 if number in (9, 10) else None])
    splitting = {"part_bytes": 8192}
    build_dataset(ir_job(output, inputs, splitting=splitting))
    storage = Storage.open(output)
    report = take_down(storage, sorted(gone))
    assert {name: taken.items for name, taken in report.tables.items()} == {"line": 3, "lexeme": 3}
    assert not gone & {*keys(output), *keys(output, "lexeme")}
    other = build_dataset(ir_job(output + "2", tmp_path / "kept", splitting=splitting))
    now = read_manifest(storage)
    for name in ("line", "lexeme"):
        assert merged(storage, now, name) == merged(Storage.open(output + "2"), other, name)
    assert verify(output).problems == []


def test_the_command_in_a_rejects_line(
    inputs: Path, output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (inputs / "a.bc").write_bytes(GOOD)
    (inputs / "b.bc").write_bytes(crashing())
    build_dataset(ir_job(output, inputs))
    (reject,) = rejects(output)
    monkeypatch.chdir(output)
    command = shlex.split(reject["replay"])
    for ordinal, said in (
        ("1", ["item 1 of split 0 is rejected", "reader_crashed", "SIG"]),
        ("0", ["item 0 of split 0 has a row", "stream sha256"]),
    ):
        monkeypatch.setattr(sys, "argv", [*command[:-1], ordinal])
        with pytest.raises(SystemExit) as left:
            commands.main()
        assert left.value.code == ("rejected" in said[0])
        shown = capsys.readouterr().out
        assert all(words in shown for words in said)


# What is no fault of a module


def test_a_file_that_changes_ends_the_run(inputs: Path, output: str) -> None:
    (inputs / "a.bc").write_bytes(GOOD)
    job = ir_job(output, inputs)
    plan = make_plan(Storage.open(output), job).plan
    (inputs / "a.bc").write_bytes(GOOD + b"\n")
    with pytest.raises(ChangedError, match="has changed since it was planned"):
        process_split(Storage.open(output), plan, 0, ["line", "lexeme"])
    assert not list(Storage.open(output).list("rejects/"))


@pytest.fixture
def killing() -> Iterator[list[int]]:
    """Kill this process's zygote, or the readers it has, a few times while a test is at work."""
    killed: list[int] = []
    stop = threading.Event()

    def kill() -> None:
        while not stop.wait(0.2 if len(killed) < 6 else 60):
            with contextlib.suppress(psutil.NoSuchProcess, ZygoteGone):
                zygote = psutil.Process(shared_readers().pid)
                for process in [zygote] if len(killed) % 2 else zygote.children()[:1]:
                    process.kill()
                    killed.append(process.pid)

    thread = threading.Thread(target=kill)
    thread.start()
    yield killed
    stop.set()
    thread.join()


def test_killing_what_reads_loses_nothing(inputs: Path, output: str, killing: list[int]) -> None:
    for number in range(80):
        (inputs / f"{number:03}.bc").write_bytes(compiled(COMPILED[number % len(COMPILED)]))
    manifest = build_dataset(ir_job(output, inputs))
    assert len(killing) >= 2
    assert rejects(output) == []
    check_nothing_is_lost(output, manifest, 80)


_FEW_FILES = """
import resource, sys
from tests import test_bad_ir as here
from tokenmill.errors import RunError
job = here.ir_job(sys.argv[2], here.Path(sys.argv[1]))
here.draft_plan(here.Storage.open(sys.argv[2]), job)
here.tokenmill.registry.parse_tokenizer({"id": "llvm-ir"}).load()
resource.setrlimit(resource.RLIMIT_NOFILE, (3 + len(here.os.listdir("/proc/self/fd")), 4096))
try:
    here.run_splits(job)
except (RunError, OSError) as error:
    print(error)
"""


def test_a_machine_without_open_files_ends_the_run(inputs: Path, output: str) -> None:
    """The modules are not to blame: run again, they have their rows."""
    for number in range(20):
        (inputs / f"{number:02}.bc").write_bytes(GOOD)
    command = [sys.executable, "-c", _FEW_FILES, str(inputs), output]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Too many open files" in done.stdout, done.stderr
    assert not list(Storage.open(output).list("rejects/"))
    assert build_dataset(ir_job(output, inputs)).tables["line"].rows == 20


def test_readers_that_cannot_be_begun_end_the_run(inputs: Path, output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (inputs / "a.bc").write_bytes(GOOD)

    def gone(*_: object, **__: object) -> None:
        os.kill(shared_readers().pid, signal.SIGKILL)
        raise RunError("no process for you")

    with monkeypatch.context() as patch:
        patch.setattr("tokenmill.ir.readers.Readers.read", gone)
        with pytest.raises(RunError, match="no process for you"):
            run_splits(ir_job(output, inputs))
    assert not list(Storage.open(output).list("rejects/"))
    assert build_dataset(ir_job(output, inputs)).tables["line"].rows == 1


# Fuzzing


_FUZZ = """
import sys
from tests import test_bad_ir as here
here.run_splits(here.ir_job(sys.argv[2], here.Path(sys.argv[1]), limits={"max_ir_memory_bytes": 1_000_000_000}))
# Not ru_maxrss, which a process inherits from the one that started it.
with open("/proc/self/status") as status:
    print(*(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


def _fuzz(inputs: Path, output: str, count: int, seed: int) -> Counter[str]:
    """Tokenize mutated files in a process of its own, which must live; returns what became of them."""
    generator = random.Random(seed)
    modules = [*map(compiled, COMPILED), TEXT]
    for number in range(count):
        (inputs / f"{number:05}.bc").write_bytes(mutated(modules[number % len(modules)], generator))
    command = [sys.executable, "-W", "error", "-c", _FUZZ, str(inputs), output]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr == ""
    assert int(done.stdout) < 1_000_000, "kilobytes of memory"
    manifest = build_dataset(ir_job(output, inputs, limits={"max_ir_memory_bytes": 1_000_000_000}))
    check_nothing_is_lost(output, manifest, count)
    found = Counter(reject["reason"] for reject in rejects(output))
    assert set(found) <= {*ir_reasons.REASONS}
    table = tokenmill.open(output)["line"]
    for index in range(0, len(table), 10):
        module = IrFile((inputs / table[index].key).read_bytes()).module(Canonical())
        assert table.decode(index).encode("utf-8", "surrogateescape") == module.text
    return found + Counter(row=manifest.tables["line"].rows)


def test_mutated_files_end_no_worker(inputs: Path, output: str) -> None:
    found = _fuzz(inputs, output, 200, 1)
    assert found["row"] > 10
    assert found[ir_reasons.DAMAGED_MODULE] > 50
    assert found[ir_reasons.READER_CRASHED] > 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_five_thousand_mutated_files_end_no_worker(inputs: Path, output: str) -> None:
    found = _fuzz(inputs, output, 5000, 2)
    assert found["row"] > 300
    assert found[ir_reasons.DAMAGED_MODULE] > 2000
    assert found[ir_reasons.READER_CRASHED] > 100
