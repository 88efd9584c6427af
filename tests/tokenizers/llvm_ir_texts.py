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

#: Metadata, mangled names with hashes, and labels that no comment follows.
RUST = b"""\
@alloc_1b13080b51685ff956a2acf9524a3c70 = private constant [1 x i8] zeroinitializer
define void @_ZN6base646encode5first17h0123456789abcdefE(ptr %self) !dbg !3 {
start:
  %0 = load ptr, ptr %self, align 8
  br label %bb1

bb1:                                              ; preds = %start
  call void @_ZN6base646encode6second17hfedcba9876543210E(ptr %0), !dbg !4
  ret void
}
!0 = !DIFile(filename: "lib.rs", checksumkind: CSK_MD5, checksum: "1b13080b51685ff956a2acf9524a3c70")
!1 = distinct !DISubprogram(linkageName: "_ZN6base646encode5third17h1111111111111111E", line: 1200, scopeLine: 1200)
!2 = distinct !DISubprogram(linkageName: "_ZN6base646encode6fourth17h2222222222222222E", line: 1207, scopeLine: 1207)
!3 = !DILocation(line: 12, column: 5, scope: !1)
!4 = !DILocation(line: 14, column: 9, scope: !1)
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
    return learn(samples, TrainingSettings(tokens=8192, lexemes=300, names=60), lambda _: None)
