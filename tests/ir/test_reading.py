"""Why modules are refused: every reason, with what it says."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.ir.samples import COMPILED, TEXT, compiled, renamed_producer, with_identification
from tokenmill.errors import ItemError
from tokenmill.ir import reading, reasons
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.ir_file import IrFile, IrOptions
from tokenmill.ir.module import Module
from tokenmill.ir.reading import read_module

#: Textual IR that takes LLVM seconds, and hundreds of megabytes.
LARGE = (
    b"define void @f(ptr %p) {\n" + b"  store volatile i64 1234567, ptr %p, align 8\n" * 1_000_000 + b"  ret void\n}\n"
)


def refused(data: bytes, **options: float) -> tuple[str, str]:
    with pytest.raises(ItemError) as caught:
        IrFile(data, IrOptions(**options)).module(Canonical())  # type: ignore[arg-type]
    assert caught.value.reason in reasons.REASONS
    return caught.value.reason, caught.value.what


@pytest.mark.parametrize("name", COMPILED)
def test_modules_of_all_compilers_are_read(name: str) -> None:
    module = IrFile(compiled(name)).module(Canonical())
    assert len(module.function_hashes) == module.census.defined > 0
    assert module.stored_bytes == len(compiled(name))


def test_an_empty_file() -> None:
    assert refused(b"")[0] == reasons.EMPTY_FILE


def test_other_files() -> None:
    reason, message = refused(b"#include <stdio.h>\n")
    assert reason == reasons.NOT_LLVM_IR
    assert "#include" in message


def test_damaged_bitcode_and_text() -> None:
    assert refused(compiled("c-clang19.bc")[:2000])[0] == reasons.DAMAGED_MODULE
    reason, message = refused(TEXT.replace(b"ret i32", b"return i32"))
    assert reason == reasons.DAMAGED_MODULE
    assert "expected instruction opcode" in message
    assert refused(b'@x = global [1 x i8] c"\xff\xfe"\n@\xff = global i32 nonsense')[0] == reasons.DAMAGED_MODULE


def test_a_module_that_breaks_the_rules() -> None:
    wrong = b"define void @f() {\n  br label %1\n\n1:\n  %2 = phi i32 [ 1, %0 ], [ 2, %1 ]\n  ret void\n}\n"
    reason, message = refused(wrong)
    assert reason == reasons.INVALID_MODULE
    assert "PHINode" in message


def test_a_module_with_debug_information_that_breaks_the_rules() -> None:
    """LLVM verifies such a module while it reads it, and ends the process."""
    text = IrFile(compiled("c-debug-clang19.bc")).module(Canonical()).text
    wrong = text + b"\ndefine void @g() {\n  br label %1\n\n1:\n  %2 = phi i32 [ 1, %0 ], [ 2, %1 ]\n  ret void\n}\n"
    reason, message = refused(wrong)
    assert reason == reasons.INVALID_MODULE
    assert "Broken module" in message


def test_a_newer_module_that_can_be_read_is_read() -> None:
    data = renamed_producer(compiled("c-clang19.bc"), "LLVM19.1.7", "LLVM99.1.7")
    assert IrFile(data).module(Canonical()).sha256 == IrFile(compiled("c-clang19.bc")).module(Canonical()).sha256


@pytest.mark.parametrize(
    "data",
    [
        renamed_producer(compiled("c-clang19.bc"), "LLVM19.1.7", "LLVM99.1.7")[:3000],
        with_identification(compiled("c-clang19.bc"), "LLVM99.1.7", 1),
        TEXT.replace(b"ret i32", b"return i32") + b'!llvm.ident = !{!0}\n!0 = !{!"clang version 99.1.7"}\n',
    ],
    ids=["bitcode", "epoch", "text"],
)
def test_a_newer_module_that_cannot_be_read(data: bytes) -> None:
    reason, message = refused(data)
    assert reason == reasons.NEWER_LLVM
    assert "99.1.7" in message
    assert "read by LLVM 2" in message


def test_a_module_that_kills_the_reader() -> None:
    reason, message = refused(crashing())
    assert reason == reasons.READER_CRASHED
    assert "SIGABRT" in message or "SIGSEGV" in message
    assert "Assertion" in message
    assert IrFile(TEXT).module(Canonical()).census.defined == 1


def crashing() -> bytes:
    """Return a module whose reader dies: an array as long as its elements are many, and aligned beyond reason."""
    import random

    rng = random.Random(0)
    while True:
        data = bytearray(compiled("cpp-clang19.bc"))
        for _ in range(8):
            data[rng.randrange(600, len(data))] = rng.randrange(256)
        try:
            IrFile(bytes(data)).module(Canonical())
        except ItemError as error:
            if error.reason == reasons.READER_CRASHED:
                return bytes(data)


def test_a_module_that_takes_too_long() -> None:
    reason, message = refused(LARGE, cpu_seconds=0.2)
    assert reason == reasons.READER_TIMED_OUT
    assert "0.2 s" in message


def test_a_module_that_takes_too_much_memory() -> None:
    reason, message = refused(LARGE, memory_bytes=120_000_000)
    assert reason == reasons.READER_OUT_OF_MEMORY
    assert "120000000" in message


def test_a_module_whose_text_is_too_long() -> None:
    size = len(IrFile(TEXT).module(Canonical()).text)
    reason, message = refused(TEXT, max_text_bytes=size - 1)
    assert reason == reasons.TOO_LARGE
    assert str(size) in message
    assert IrFile(TEXT, IrOptions(max_text_bytes=size)).module(Canonical()).text


def test_a_text_of_fifty_megabytes_arrives_whole() -> None:
    module = IrFile(LARGE).module(Canonical())
    assert module.text.count(b"store volatile") == 1_000_000
    assert module.census.instructions == 1_000_001


def test_a_file_is_read_once_for_all_who_want_the_same_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Canonical] = []

    def counted(file: IrFile, canonical: Canonical) -> Module:
        read.append(canonical)
        return read_module(file, canonical)

    monkeypatch.setattr(reading, "read_module", counted)
    file, other = IrFile(compiled("c-clang19.bc")), Canonical(comments=False)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(file.module, [Canonical(), Canonical(), other, Canonical()]))
    assert len(read) == 2
    assert found[0] is found[1] is found[3]
    assert found[2].text != found[0].text
    assert file == IrFile(compiled("c-clang19.bc"))
