"""The canonical text of real modules, with every choice, and that it is its own canonical text."""

from __future__ import annotations

import re

import pytest

from tests.ir.samples import COMPILED, TEXT, compiled
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.census import OPCODES
from tokenmill.ir.ir_file import IrFile

CHOICES = (
    Canonical(),
    Canonical(debug=False),
    Canonical(local_names=False),
    Canonical(comments=False),
    Canonical(source_paths=False),
    Canonical(target_attributes=False),
    Canonical(debug=False, local_names=False, comments=False, source_paths=False, target_attributes=False),
)


def text_of(data: bytes, canonical: Canonical | None = None) -> str:
    return IrFile(data).module(canonical or Canonical()).text.decode()


@pytest.mark.parametrize("name", [*COMPILED, "text"])
@pytest.mark.parametrize("canonical", CHOICES, ids=lambda choice: str(choice) if choice != Canonical() else "all")
def test_canonical_text_is_its_own_canonical_text(name: str, canonical: Canonical) -> None:
    text = text_of(TEXT if name == "text" else compiled(name), canonical)
    assert text_of(text.encode(), canonical) == text


def test_by_default_the_name_of_the_file_alone_goes() -> None:
    text = text_of(TEXT)
    assert text.startswith('source_filename = "/home/somebody/whatever.c"\n')
    assert "; Function Attrs: nounwind\ndefine i32 @choose(i1 %condition, ptr %where) #0 {\nentry:\n" in text
    assert "done:                                             ; preds = %no, %yes\n" in text
    assert '"tune-cpu"="generic"' in text
    assert "whoever" not in text  # comments of the source are none of the module


def test_a_module_without_a_source_gets_none() -> None:
    assert text_of(b"@x = global i32 0\n") == "\n@x = global i32 0\n"


def test_predecessors_come_in_an_order_that_does_not_tell_of_how_the_module_was_made() -> None:
    lists = re.findall(r"; preds = (%\d+(?:, %\d+)+)$", text_of(compiled("c-clang19.bc")), re.MULTILINE)
    assert len(lists) >= 3
    for listed in lists:
        numbers = [int(number) for number in re.findall(r"\d+", listed)]
        assert numbers == sorted(numbers, reverse=True)
    named = re.findall(r"^([\w.]+): +; preds = (%\w.*)$", text_of(compiled("c-names-clang19.bc")), re.MULTILINE)
    assert any(", " in listed for _, listed in named)


@pytest.mark.parametrize("name", ["c-debug-clang14.bc", "c-debug-clang19.bc"])
def test_debug_information_is_dropped(name: str) -> None:
    kept, dropped = text_of(compiled(name)), text_of(compiled(name), Canonical(debug=False))
    assert re.search(r"!dbg !\d+", kept)
    assert "!DILocation" in kept
    assert not re.search(r"!dbg|#dbg_|!DI[A-Z]|llvm\.dbg|Debug Info Version", dropped)
    assert "!llvm.ident" in dropped
    assert re.findall(r"^  (?:%\d+ = )?(?:tail )?(\w+)", kept, re.MULTILINE) == re.findall(
        r"^  (?:%\d+ = )?(?:tail )?(\w+)", dropped, re.MULTILINE
    )
    without = Canonical(debug=False)
    assert text_of(compiled("c-clang19.bc"), without) == text_of(compiled("c-clang19.bc"))


def test_local_names_are_dropped() -> None:
    text = text_of(TEXT, Canonical(local_names=False))
    assert "define i32 @choose(i1 %0, ptr %1) #0 {\n  br i1 %0, label %3, label %5\n" in text
    assert "  %7 = phi i32 [ %4, %3 ], [ 2, %5 ]\n" in text
    named, unnamed = (text_of(compiled("c-names-clang19.bc"), Canonical(local_names=names)) for names in (True, False))
    assert re.search(r"^  %call\d* = ", named, re.MULTILINE)
    assert not re.search(r"^  %[a-z]", unnamed, re.MULTILINE)
    assert not re.search(r"^[a-z.]+:", unnamed, re.MULTILINE)
    assert re.findall(r"^(?:define|declare) .*? (@\w+)\(", named, re.MULTILINE) == re.findall(
        r"^(?:define|declare) .*? (@\w+)\(", unnamed, re.MULTILINE
    )


def test_comments_are_dropped_and_strings_are_not() -> None:
    text = text_of(TEXT, Canonical(comments=False))
    assert 'c"; one\\00"' in text
    assert text.count(";") == 1
    assert "\nyes:\n" in text
    assert not re.search(r"[ \t]$", text, re.MULTILINE)


def test_source_paths_are_dropped() -> None:
    kept = text_of(compiled("c-debug-clang19.bc"))
    dropped = text_of(compiled("c-debug-clang19.bc"), Canonical(source_paths=False))
    assert "/src" in kept
    assert "sample.c" in kept
    assert "/src" not in dropped
    assert "sample.c" not in dropped
    assert '!DIFile(filename: "-", directory: ""' in dropped
    assert "!DILocation" in dropped


def test_target_attributes_are_dropped_and_groups_that_are_then_alike_become_one() -> None:
    text = text_of(TEXT, Canonical(target_attributes=False))
    assert "declare i32 @puts(ptr) #0" in text
    assert re.findall(r"^attributes .*$", text, re.MULTILINE) == ["attributes #0 = { nounwind }"]
    assert 'target triple = "x86_64-pc-linux-gnu"' in text


@pytest.mark.parametrize("language", ["c", "cpp"])
def test_what_several_compilers_wrote_of_one_source_reads_alike(language: str) -> None:
    """Old bitcode is brought to what this LLVM has: opaque pointers, attributes, intrinsics."""
    modules = [IrFile(compiled(f"{language}-clang{version}.bc")).module(Canonical()) for version in (14, 16, 19)]
    newest = modules[-1].census
    for module in modules:
        counted = module.census
        assert b"ptr" in module.text
        assert not re.search(rb"\bi(?:8|32)\*", module.text)
        assert (counted.defined, counted.declared) == (newest.defined, newest.declared)
        difference = counted.opcodes.astype(int) - newest.opcodes.astype(int)
        difference[OPCODES.index("bitcast")] = 0  # of the pointers with types that clang 14 had
        assert abs(difference).sum() == 0
        assert (counted.called - newest.called).total() <= 1


def test_text_and_bitcode_of_a_module_have_the_same_canonical_text() -> None:
    binding = pytest.importorskip("llvmlite.binding")
    module = binding.parse_assembly(TEXT.decode(), binding.create_context())
    assert text_of(module.as_bitcode()) == text_of(TEXT)
