"""What a file is by its content, and what wrote it."""

from __future__ import annotations

import random

import pytest

from tests.ir.samples import COMPILED, TEXT, compiled, renamed_producer, with_identification
from tokenmill.ir.recognition import Producer, content_kind, producer


@pytest.mark.parametrize("name", COMPILED)
def test_what_compilers_wrote_is_bitcode_of_their_llvm(name: str) -> None:
    assert content_kind(compiled(name)) == "bitcode"
    found = producer(compiled(name))
    assert found is not None
    wanted = {"clang14": 14, "clang16": 16, "clang19": 19, "rustc1.95": 22}[name.removesuffix(".bc").split("-")[-1]]
    assert found.major == wanted
    assert found.name.startswith(f"LLVM{wanted}.")


def test_a_wrapper_is_looked_into() -> None:
    data = compiled("c-clang16.bc")
    wrapped = b"\xde\xc0\x17\x0b" + b"".join(n.to_bytes(4, "little") for n in (0, 20, len(data), 7)) + data
    assert content_kind(wrapped) == "bitcode"
    assert producer(wrapped) == Producer("LLVM16.0.6", 16)


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        b"define void @f() {\n  ret void\n}\n",
        b"\n\n; a comment\n@x = global i32 0",
        b"%struct.a = type { i32 }\n",
        b"$f = comdat any\n",
        b"!0 = !{}",
        b'module asm "nop"',
    ],
)
def test_text_has_a_line_of_ir(text: bytes) -> None:
    assert content_kind(text) == "text"


@pytest.mark.parametrize(
    "data",
    [b"int main(void) { return 0; }\n", b"; nothing\n", b" \n\n", b"\x7fELF\x02", b"\0asm\1\0\0\0", TEXT + b"\0", b"B"],
)
def test_other_files_are_neither(data: bytes) -> None:
    assert content_kind(data) is None


def test_a_text_tells_of_its_compiler() -> None:
    assert producer(TEXT) is None
    ident = b'!llvm.ident = !{!0}\n!0 = !{!"Debian clang version 31.0.2 (3~deb)"}\n'
    assert producer(TEXT + ident) == Producer("Debian clang version 31.0.2 (3~deb)", 31)
    assert producer(TEXT + b'!0 = !{!"rustc version 1.95.0"}\n') == Producer("rustc version 1.95.0", None)


def test_identifications_made_for_tests() -> None:
    data = compiled("c-clang19.bc")
    assert producer(renamed_producer(data, "LLVM19.1.7", "LLVM99.1.7")) == Producer("LLVM99.1.7", 99)
    assert producer(with_identification(data, "LLVM99.0.0git", 1)) == Producer("LLVM99.0.0git", 99)
    assert producer(with_identification(data, "APPLE_1_1500.3", 0)) == Producer("APPLE_1_1500.3", None)


def test_damaged_identifications_say_nothing_or_something_but_raise_nothing() -> None:
    rng = random.Random(1)
    data = compiled("c-clang19.bc")
    for _ in range(3000):
        changed = bytearray(data[: rng.choice((8, 20, 60, 4096))])
        for _ in range(rng.choice((0, 1, 3, 30))):
            changed[rng.randrange(4, min(len(changed), 60))] = rng.randrange(256)
        found = producer(bytes(changed))
        assert found is None or len(found.name) <= 200
    assert producer(b"BC\xc0\xde" + rng.randbytes(4)) is None
    assert producer(b"\xde\xc0\x17\x0b\xff") is None
