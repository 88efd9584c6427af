"""What of a function's text is hashed: nothing that depends on the module around it, and all else."""

from __future__ import annotations

import numpy as np
import pytest

from tokenmill.ir.function_text import GROWTH, meanings, normalise

MEANINGS = {
    b"@.str": b"ssssssss",
    b'@"a b"': b"qqqqqqqq",
    b"#0": b"00000000",
    b"#10": b"tttttttt",
    b"%t.1": b"11111111",
}


def normalised(function: bytes, held: dict[bytes, bytes] = MEANINGS) -> bytes:
    text = b"@x = global i8 0\n" + function + b"\n}\n; more\n"
    out = np.zeros(GROWTH * len(function), np.uint8)
    size, stop = normalise(np.frombuffer(text, np.uint8), text.index(b"define"), meanings(held), out)
    assert text[stop:] == b"\n; more\n"
    return out[:size].tobytes()


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (b"define void @f() !dbg !4 {\n  ret void, !dbg !55", b"define void @() {\n  ret void"),
        (b"define void @f() #0 !srcloc !4 {\n  call void @g() #10", b"define void @() #00000000 !srcloc ! {\n"
         b"  call void @g() #tttttttt"),
        (b"define void @f() #1 {\n  call void @f()\n  call void @ff()", b"define void @() #1 {\n  call void @()\n"
         b"  call void @ff()"),
        (b'define void @"f g"() {\n  call void @"f g"(ptr @"a b", ptr @.str)', b"define void @() {\n"
         b"  call void @(ptr @qqqqqqqq, ptr @ssssssss)"),
        (b"define void @f() {\n1:    ; preds = %2, %3\n    #dbg_value(i32 %1)\n  ret void", b"define void @() {\n1:\n"
         b"  ret void"),
        (b"define %t.1 @f(ptr %t.2, ptr %t.1x) {\n  ret %t.1 %1", b"define %11111111 @(ptr %t.2, ptr %t.1x) {\n"
         b"  ret %11111111 %1"),
        (b'define void @f() {\n  call void asm "; @.str #0 !5, !dbg !5", "~{x}"()', b'define void @() {\n'
         b'  call void asm "; @.str #0 !5, !dbg !5", "~{x}"()'),
    ],
)  # fmt: skip
def test_what_depends_on_the_module_is_replaced(function: bytes, expected: bytes) -> None:
    assert normalised(function) == expected


def test_without_meanings_names_stay() -> None:
    assert normalised(b"define i8 @f(ptr @.str) #0 {\n  ret i8 0", {}) == b"define i8 @(ptr @.str) #0 {\n  ret i8 0"


def test_many_names_are_found_each() -> None:
    held = {b"@.str.%d" % number: b"%08d" % number for number in range(1000)}
    body = b", ".join(held)
    expected = b", ".join(b"@" + value for value in held.values())
    assert normalised(b"define void @f() {\n  " + body, held) == b"define void @() {\n  " + expected


@pytest.mark.parametrize(
    "text", [b"define void @", b'define void @"f', b"define %", b"define #", b"define !", b"define ;"]
)
def test_text_that_breaks_off_ends(text: bytes) -> None:
    assert normalise(np.frombuffer(text, np.uint8), 0, meanings({}), np.zeros(99, np.uint8))[1] == len(text)
