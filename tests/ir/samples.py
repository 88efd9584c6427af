"""Modules of LLVM IR for tests: what real compilers wrote, a text, and bitcode that names another LLVM."""

from __future__ import annotations

from functools import cache
from pathlib import Path

MODULES = Path(__file__).parent / "modules"
#: Written by clang 14, 16 and 19 and by rustc 1.95; sources are in modules/README.md.
COMPILED = tuple(sorted(path.name for path in MODULES.glob("*.bc")))

TEXT = b"""\
; ModuleID = 'whatever.c'
source_filename = "/home/somebody/whatever.c"
target triple = "x86_64-pc-linux-gnu"

@.str = private unnamed_addr constant [6 x i8] c"; one\\00", align 1

; a comment of whoever wrote this
define i32 @choose(i1 %condition, ptr %where) #0 {
entry:
  br i1 %condition, label %yes, label %no ; a comment

yes:
  %one = call i32 @puts(ptr @.str)
  br label %done

no:
  br label %done

done:
  %result = phi i32 [ %one, %yes ], [ 2, %no ]
  ret i32 %result
}

declare i32 @puts(ptr) #1

attributes #0 = { nounwind "target-cpu"="x86-64" "target-features"="+sse2" "tune-cpu"="generic" }
attributes #1 = { nounwind "target-cpu"="znver4" }
"""

_CHAR6 = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._"


@cache
def compiled(name: str) -> bytes:
    """Return a module as a compiler wrote it."""
    return (MODULES / name).read_bytes()


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def renamed_producer(data: bytes, name: str, other: str) -> bytes:
    """Return bitcode whose identification says `other` instead of `name`, of the same length, and that is as it was."""
    number, wanted, given = int.from_bytes(data, "little"), _packed(name), _packed(other)
    width = 6 * len(name)
    for at in range(8 * 256):
        if number >> at & ((1 << width) - 1) == wanted:
            return (number ^ (wanted ^ given) << at).to_bytes(len(data), "little")
    raise ValueError(f"nothing says {name}")


def _packed(name: str) -> int:
    return sum(_CHAR6.index(character) << (6 * place) for place, character in enumerate(name))


def with_identification(data: bytes, name: str, epoch: int) -> bytes:
    """Return bitcode that begins with an identification of its own."""
    old_words = int.from_bytes(data[8:12], "little")
    body = _Bits()
    body.record(1, name.encode())
    body.record(2, bytes([epoch]))
    body.put(0, 2)  # the block's end
    content = body.words()
    head = _Bits()
    head.put(1, 2)
    head.put(13, 8)
    head.put(2, 4)
    return data[:4] + head.words() + (len(content) // 4).to_bytes(4, "little") + content + data[12 + 4 * old_words :]


class _Bits:
    """A bitstream in abbreviations of two bits."""

    def __init__(self) -> None:
        self._number = self._size = 0

    def put(self, value: int, width: int) -> None:
        self._number |= value << self._size
        self._size += width

    def record(self, code: int, values: bytes) -> None:
        self.put(3, 2)
        for value in (code, len(values), *values):
            while value >= 32:
                self.put(value & 31 | 32, 6)
                value >>= 5
            self.put(value, 6)

    def words(self) -> bytes:
        return self._number.to_bytes((self._size + 31) // 32 * 4, "little")
