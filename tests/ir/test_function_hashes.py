"""The same function hashes alike in two modules, and another one differently."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ir.samples import COMPILED, compiled
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.function_hashes import function_hashes, functions
from tokenmill.ir.ir_file import IrFile

FUNCTION = b"""\
define i32 @greet(ptr %0) #0 {
  %2 = call i32 (ptr, ...) @printf(ptr @.str, ptr %0), !srcloc !0
  %3 = getelementptr %struct.anon.1, ptr %0, i32 0, i32 1
  %4 = call i32 @greet(ptr %3) #1
  ret i32 %4
}
"""
AROUND = b"""\
%struct.anon.1 = type { i32, %struct.inner.2 }
%struct.inner.2 = type { i64 }
@.str = private unnamed_addr constant [4 x i8] c"%s!\\00"
declare i32 @printf(ptr, ...)
attributes #0 = { nounwind }
attributes #1 = { cold }
!0 = !{i32 7}
"""


def hash_of(function: bytes = FUNCTION, around: bytes = AROUND) -> int:
    return int(IrFile(around + function).module(Canonical()).function_hashes[-1])


def test_numbers_and_made_up_names_of_a_module_make_no_difference() -> None:
    before = (
        b"%struct.anon.0 = type { float }\n%struct.anon.1 = type { double }\n%struct.inner = type { i8 }\n"
        b'@.str = private constant [6 x i8] c"other\\00"\n'
        b"define void @before(ptr %0) #7 {\n  call void @elsewhere(ptr @.str), !srcloc !3\n"
        b"  %2 = getelementptr %struct.anon.1, ptr %0\n  ret void\n}\ndeclare void @elsewhere(ptr) #8\n"
        b"attributes #7 = { noinline }\nattributes #8 = { readnone }\n!3 = !{i32 3}\n"
    ).replace(b"readnone", b"mustprogress")
    renamed = {b".str": b".str.4", b"struct.anon.1": b"struct.anon.9", b"struct.inner.2": b"struct.inner.5"}
    renamed |= {b"#0": b"#4", b"#1": b"#5", b"!0": b"!6", b"@greet": b"@salute"}
    function, around = FUNCTION, AROUND
    for name, other in renamed.items():
        function, around = function.replace(name, other), around.replace(name, other)
    assert hash_of(function, around + before) == hash_of()


@pytest.mark.parametrize(
    ("name", "other"),
    [
        (b"%s!", b"%s?"),
        (b"{ i64 }", b"{ i32 }"),
        (b"i32, %struct.inner", b"i64, %struct.inner"),
        (b"cold", b"hot"),
        (b"nounwind", b"noinline"),
        (b"@printf", b"@scanf"),
        (b"i32 0, i32 1", b"i32 1, i32 1"),
    ],
)
def test_other_strings_types_attributes_and_callees_do(name: bytes, other: bytes) -> None:
    assert hash_of(FUNCTION.replace(name, other), AROUND.replace(name, other)) != hash_of()


@pytest.mark.parametrize("version", [14, 19])
def test_debug_information_and_comments_make_no_difference(version: int) -> None:
    data = compiled(f"c-debug-clang{version}.bc")
    hashes = [
        IrFile(data).module(canonical).function_hashes
        for canonical in (Canonical(), Canonical(debug=False), Canonical(comments=False), Canonical(source_paths=False))
    ]
    assert len(hashes[0]) == 2
    for other in hashes[1:]:
        assert np.array_equal(other, hashes[0])


@pytest.mark.parametrize("name", COMPILED)
def test_functions_are_those_that_are_defined(name: str) -> None:
    module = IrFile(compiled(name)).module(Canonical())
    found = list(functions(module.text))
    assert len(found) == module.census.defined
    assert all(function.startswith(b"define ") and function.endswith(b"\n}\n") for function in found)


def test_a_module_without_functions_has_no_hashes() -> None:
    hashes = function_hashes(b"@x = global i32 0\n")
    assert hashes.dtype == np.uint64
    assert hashes.shape == (0,)


def test_types_may_nest_deeply() -> None:
    def hashed(innermost: bytes) -> int:
        nested = b"".join(b"%%t.%d = type { %%t.%d }\n" % (number, number + 1) for number in range(3000))
        around = nested + b"%t.3000 = type { " + innermost + b" }\n"
        return hash_of(FUNCTION.replace(b"%struct.anon.1, ptr %0, i32 0, i32 1", b"%t.0, ptr %0"), around + AROUND)

    assert hashed(b"i32") != hashed(b"i64")
