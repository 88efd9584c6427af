"""Text becomes bitcode that reads back as the same text; text that LLVM does not survive harms nobody."""

from __future__ import annotations

import os
import signal

import pytest

from tests.ir.samples import COMPILED, TEXT, compiled
from tokenmill.errors import ItemError
from tokenmill.ir import readers as readers_module
from tokenmill.ir import reasons
from tokenmill.ir.assembling import assemble
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.ir_file import IrFile, IrOptions
from tokenmill.ir.readers import shared_readers

CHOICES = (
    Canonical(),
    Canonical(debug=False, local_names=False, comments=False, source_paths=False, target_attributes=False),
)


def text_of(data: bytes, canonical: Canonical = CHOICES[0]) -> bytes:
    return IrFile(data).module(canonical).text


def refused(text: str | bytes, **options: float) -> tuple[str, str]:
    with pytest.raises(ItemError) as caught:
        assemble(text, IrOptions(**options))  # type: ignore[arg-type]
    return caught.value.reason, caught.value.what


@pytest.mark.parametrize("canonical", CHOICES)
@pytest.mark.parametrize("name", COMPILED)
def test_bitcode_reads_back_as_the_text_that_it_was_made_of(name: str, canonical: Canonical) -> None:
    text = text_of(compiled(name), canonical)
    data = assemble(text, IrOptions())
    assert data[:4] == b"BC\xc0\xde"
    assert text_of(data, canonical) == text
    assert assemble(text.decode()) == data


def test_a_module_of_nothing() -> None:
    assert text_of(assemble("")) == text_of(b'source_filename = "<string>"\n') == b""


def test_bytes_that_are_no_utf_8_come_as_a_decoder_gives_them() -> None:
    text = b'@x = global [3 x i8] c"\xe9\xff!"\n'
    assert assemble(text.decode("utf-8", "surrogateescape")) == assemble(text)
    assert rb'c"\E9\FF!"' in text_of(assemble(text))


def test_text_that_llvm_does_not_take() -> None:
    reason, message = refused(TEXT.replace(b"ret i32", b"return i32"))
    assert reason == reasons.DAMAGED_MODULE
    assert "expected instruction opcode" in message
    wrong = "define void @f() {\n  br label %1\n\n1:\n  %2 = phi i32 [ 1, %0 ], [ 2, %1 ]\n  ret void\n}\n"
    assert refused(wrong)[0] == reasons.INVALID_MODULE


def test_text_is_not_cut_at_a_byte_of_0() -> None:
    reason, message = refused(TEXT + b"\0nonsense")
    assert (reason, str(len(TEXT)) in message) == (reasons.DAMAGED_MODULE, True)


def test_text_that_takes_too_much() -> None:
    assert refused(TEXT, max_text_bytes=len(TEXT) - 1)[0] == reasons.TOO_LARGE
    deep = b"@x = global i8 " + b"add (i8 1, " * 200_000
    assert refused(deep)[0] in (reasons.READER_CRASHED, reasons.DAMAGED_MODULE)
    body = b"define void @f(ptr %p) {\n" + b"  store i64 1234567, ptr %p\n" * 1_000_000 + b"  ret void\n}\n"
    assert refused(body, memory_bytes=100_000_000)[0] == reasons.READER_OUT_OF_MEMORY
    assert assemble(TEXT)


def test_another_zygote_takes_over_where_one_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    assemble(TEXT)
    first = shared_readers()
    os.kill(first.pid, signal.SIGKILL)
    monkeypatch.setattr(readers_module, "MODULES_A_READER", 1)  # no idle reader is left to do without a zygote
    assert text_of(assemble(TEXT)) == text_of(TEXT)
    assert text_of(assemble(TEXT)) == text_of(TEXT)
    assert shared_readers() is not first
