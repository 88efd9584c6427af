"""Texts of LLVM IR and vocabularies for tests."""

from __future__ import annotations

from functools import cache

from tests.ir.samples import COMPILED, compiled
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.ir_file import IrFile
from tokenmill.tokenizers.llvm_ir.training import Sample, TrainingSettings, learn
from tokenmill.tokenizers.llvm_ir.vocabulary import Vocabulary

#: A function with what the units know: parameters, allocas, values, blocks that are named ahead, predecessors.
FUNCTION = b"""\
; Function Attrs: nounwind
define dso_local i32 @pick(ptr noundef %0, i32 noundef %1) #0 {
  %3 = alloca i32, align 4
  store i32 %1, ptr %3, align 4, !tbaa !5
  %4 = load i32, ptr %3, align 4, !tbaa !5
  %5 = icmp eq i32 %4, 0
  br i1 %5, label %6, label %8

6:                                                ; preds = %2
  %7 = call i32 @other(ptr noundef @.str) #1
  br label %8

8:                                                ; preds = %6, %2
  %9 = phi i32 [ %7, %6 ], [ 1, %2 ]
  ret i32 %9
}
"""


@cache
def canonical_text(name: str, comments: bool = True) -> bytes:
    """Return the canonical text of a module that a compiler wrote."""
    return IrFile(compiled(name)).module(Canonical(comments=comments)).text


@cache
def texts() -> tuple[bytes, ...]:
    """Return the canonical texts of all compiled modules."""
    return tuple(canonical_text(name) for name in COMPILED)


@cache
def small_vocabulary() -> Vocabulary:
    """Return a vocabulary learned from the compiled modules."""
    samples = [Sample(str(number), text) for number, text in enumerate(texts())]
    return learn(samples, TrainingSettings(tokens=4096, lexemes=300, names=60), lambda _: None)
