"""Counts of a module, against what LLVM itself counts."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from tests.ir.samples import COMPILED, compiled
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.census import OPCODES, TYPES, census
from tokenmill.ir.ir_file import IrFile

TEXT = b"""\
@x = global ptr @f
@.str = private unnamed_addr constant [7 x i8] c"i1 ptr\\00"
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

declare i16 @h()

define i8 @"i"() {
  unreachable
}
"""


def test_counts_of_a_text() -> None:
    counted = census(TEXT)
    assert (counted.defined, counted.declared, counted.global_values) == (2, 2, 3)
    opcodes = {name: int(count) for name, count in zip(OPCODES, counted.opcodes, strict=True) if count}
    assert opcodes == {"call": 4, "invoke": 1, "switch": 1, "landingpad": 1, "fence": 1, "ret": 1, "unreachable": 1}
    assert counted.instructions == 10
    assert counted.function_instructions.tolist() == [9, 1]
    assert counted.called == {b'"a(b)"': 1, b"f.1": 2}
    assert counted.most_called() == [(b"f.1", 2), (b'"a(b)"', 1)]


#: Lines, and the class of type that they name first.
TYPED = {
    "ret void": "void",
    "br i1 %ptr, label %i8, label %b": "i1",
    "br label %i1": "label",
    "%i8 = add nuw nsw i16 %ptr, 1": "i16",
    '%"i1 x" = or disjoint <4 x i32> %a, %b': "vector",
    "%a = fadd nnan ninf float %b, %c": "float",
    "%a = icmp samesign ult i37 %b, %c": "integer",
    "%a = load atomic volatile i64, ptr %b acquire, align 8": "i64",
    "store { i8, ptr } %a, ptr %b, align 8": "struct",
    "%a = alloca inalloca <{ i8 }>, align 1": "struct",
    '%a = alloca %"class.std::i32", align 1': "struct",
    "%a = getelementptr inbounds nuw [4 x i8], ptr %b, i64 0": "array",
    "%a = getelementptr inrange(-16, 16) { ptr }, ptr %b, i64 0": "struct",
    "%a = atomicrmw volatile add ptr %b, i32 1 monotonic, align 4": "ptr",
    "%a = call fastcc noundef align 8 dereferenceable(8) ptr @f(i32 1)": "ptr",
    "%a = tail call range(i8 0, 9) i8 @f(i32 1)": "i8",
    "%a = call nofpclass(nan inf) addrspace(1) double (ptr, ...) @f(i32 1)": "double",
    "%a = va_arg ptr %b, x86_fp80": "ptr",
    '%a = phi target("spirv.Image", i32) [ %b, %c ]': "target",
    "%a = freeze bfloat %b": "bfloat",
    "%a = landingpad token": "token",
    "unreachable": "none",
    'fence syncscope("ptr i32") seq_cst': "none",
    "cleanupret from %i8 unwind to caller": "none",
    "catchret from %i8 to label %i32": "none",
    "%a = catchswitch within none [label %b] unwind to caller": "none",
    "%a = cleanuppad within %b [i32 1]": "none",
    "%a = catchpad within %b [ptr null]": "none",
    "#dbg_value(i32 0, !1, !DIExpression(), !2)": None,
    "  to label %ok unwind label %bad": None,
    "  filter [0 x ptr] undef": None,
    "]": None,
}


@pytest.mark.parametrize("line", TYPED)
def test_an_instruction_counts_as_the_type_that_it_names_first(line: str) -> None:
    counted = census(f"define i128 @f(half %x) {{\n  {line}\n}}\n".encode())
    assert kinds(counted.types) == ({} if TYPED[line] is None else {TYPED[line]: 1})
    assert counted.function_instructions.tolist() == [int(TYPED[line] is not None)]


def test_a_global_value_counts_as_its_type() -> None:
    lines = b"""\
@"a = global half" = external dllimport global i32, align 4
@b = internal thread_local(initialexec) unnamed_addr addrspace(3) constant %struct.i8 zeroinitializer, comdat
@c = linkonce_odr hidden alias [2 x i8], getelementptr inbounds (i8, ptr @b, i64 1)
@d = dso_local ifunc void (ptr), ptr @x
@e = global x86_fp80 0xK3FFF8000000000000000, section "fp128"
%t = type { i8 }
$c = comdat any
attributes #0 = { "i1" }
!0 = !{i64 1}
"""
    assert kinds(census(lines).types) == dict.fromkeys(("void", "i32", "x86_fp80", "struct", "array"), 1)


def kinds(counts: Any) -> dict[str, int]:
    return {name: int(count) for name, count in zip(TYPES, counts, strict=True) if count}


def first_type(instruction: Any) -> str:
    """Return the type that an instruction names first, from what LLVM says that it and its operands are."""
    operands = [str(operand.type) for operand in instruction.operands]
    if instruction.opcode in ("fence", "unreachable"):
        return ""
    if instruction.opcode in ("alloca", "getelementptr"):  # LLVM's C interface does not tell what lies there
        found = re.search(r" (?:alloca|getelementptr)((?: inbounds| nuw| nusw)*) (.*)", str(instruction))
        assert found
        return found[2]
    if instruction.opcode in (
        *("store", "icmp", "fcmp", "switch", "resume", "extractvalue", "insertvalue", "extractelement", "select"),
        *("insertelement", "shufflevector", "atomicrmw", "cmpxchg", "ptrtoint", "inttoptr", "bitcast", "trunc"),
        *("zext", "sext", "sitofp", "uitofp", "fptosi", "fptoui", "fpext", "fptrunc"),
    ):
        return operands[0]
    if instruction.opcode == "ret":
        return operands[0] if operands else "void"
    if instruction.opcode == "br":
        return "i1" if len(operands) == 3 else "label"
    return str(instruction.type)


def kind(written: str) -> str:
    """Return the class of a type as it is written."""
    for beginning, name in {
        "": "none",
        "<{": "struct",
        "{": "struct",
        "%": "struct",
        "[": "array",
        "<": "vector",
    }.items():
        if written.startswith(beginning) and (beginning or not written):
            return name
    word = re.split(r"[ ,(]", written)[0]
    return word if word in TYPES else "integer"


@pytest.mark.parametrize("name", COMPILED)
def test_opcodes_types_and_lengths_are_as_llvm_counts_them(name: str) -> None:
    binding = pytest.importorskip("llvmlite.binding")
    counted = IrFile(compiled(name)).module(Canonical()).census
    module = binding.parse_bitcode(compiled(name), binding.create_context())
    wanted: Counter[str] = Counter()
    called: Counter[str] = Counter()
    types = Counter(kind(str(variable.global_value_type)) for variable in module.global_variables)
    for function in module.functions:
        for block in function.blocks:
            for instruction in block.instructions:
                wanted[instruction.opcode] += 1
                types[kind(first_type(instruction))] += 1
                if instruction.opcode in ("call", "invoke"):
                    last = list(instruction.operands)[-1 if instruction.opcode == "call" else -3]
                    if last.value_kind.name == "function":
                        called[last.name] += 1
    assert dict(zip(OPCODES, counted.opcodes.tolist(), strict=True)) == {name: wanted[name] for name in OPCODES}
    assert kinds(counted.types) == types
    assert counted.function_instructions.tolist() == [
        sum(1 for block in function.blocks for _ in block.instructions)
        for function in module.functions
        if not function.is_declaration
    ]
    assert counted.called.total() >= called.total() > 0
    assert (counted.defined, counted.declared) == (
        sum(not function.is_declaration for function in module.functions),
        sum(function.is_declaration for function in module.functions),
    )
    assert counted.global_values == len(list(module.global_variables))
