"""Counts of a module, against what LLVM itself counts."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.ir.samples import COMPILED, compiled
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.census import OPCODES, census
from tokenmill.ir.ir_file import IrFile

TEXT = b"""\
@x = global ptr @f
@"odd name" = alias i32, ptr @x
declare void @f(ptr, ...)

define void @g(ptr %callback, i32 %n) personality ptr @f {
  %quoted = call %"class.std::x" @"a(b)"(ptr @f)
  %"a value" = musttail call i32 (ptr, ...) @f.1(ptr @f)
  call void %callback(ptr @f)
  call void asm sideeffect "call @f(", ""()
  %r = invoke i32 @f.1()
          to label %ok unwind label %bad

ok:                                               ; preds = %0
  switch i32 %n, label %bad [
    i32 1, label %bad
    i32 2, label %bad
  ]

bad:                                              ; preds = %ok, %0
  %l = landingpad { ptr, i32 }
          cleanup
          catch ptr null
    #dbg_value(i32 0, !1, !DIExpression(), !2)
  fence acquire
  ret void
}
"""


def test_counts_of_a_text() -> None:
    counted = census(TEXT)
    assert (counted.defined, counted.declared, counted.global_values) == (1, 1, 2)
    opcodes = {name: int(count) for name, count in zip(OPCODES, counted.opcodes, strict=True) if count}
    assert opcodes == {"call": 4, "invoke": 1, "switch": 1, "landingpad": 1, "fence": 1, "ret": 1}
    assert counted.instructions == 9
    assert counted.called == {b'"a(b)"': 1, b"f.1": 2}


@pytest.mark.parametrize("name", COMPILED)
def test_opcodes_are_as_llvm_counts_them(name: str) -> None:
    binding = pytest.importorskip("llvmlite.binding")
    counted = IrFile(compiled(name)).module(Canonical()).census
    module = binding.parse_bitcode(compiled(name), binding.create_context())
    wanted: Counter[str] = Counter()
    called: Counter[str] = Counter()
    for function in module.functions:
        for block in function.blocks:
            for instruction in block.instructions:
                wanted[instruction.opcode] += 1
                if instruction.opcode in ("call", "invoke"):
                    last = list(instruction.operands)[-1 if instruction.opcode == "call" else -3]
                    if last.value_kind.name == "function":
                        called[last.name] += 1
    assert dict(zip(OPCODES, counted.opcodes.tolist(), strict=True)) == {name: wanted[name] for name in OPCODES}
    assert counted.called.total() >= called.total() > 0
    assert (counted.defined, counted.declared) == (
        sum(not function.is_declaration for function in module.functions),
        sum(function.is_declaration for function in module.functions),
    )
    assert counted.global_values == len(list(module.global_variables))
