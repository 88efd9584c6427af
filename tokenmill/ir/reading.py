"""An IrFile → Module: recognised by its content, read by another process, and its failure told from its age."""

from __future__ import annotations

from tokenmill.errors import ItemError
from tokenmill.ir import reasons
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.ir_file import IrFile
from tokenmill.ir.module import Module
from tokenmill.ir.readers import shared_readers, with_readers
from tokenmill.ir.recognition import content_kind, producer

#: Failures that a module newer than the reader's LLVM may well be the cause of.
_MAY_BE_AGE = (reasons.DAMAGED_MODULE, reasons.INVALID_MODULE, reasons.READER_CRASHED)
#: What LLVM says of bitcode of another epoch, which it refuses whatever else it holds.
_OTHER_EPOCH = "Incompatible epoch"


def read_module(file: IrFile, canonical: Canonical) -> Module:
    """Read a module; raises ItemError with one of `tokenmill.ir.reasons`. Threads may call it at once."""
    if not file.data:
        raise ItemError(reasons.EMPTY_FILE, "the file has no bytes")
    kind = content_kind(file.data)
    if kind is None:
        raise ItemError(
            reasons.NOT_LLVM_IR,
            f"the file is neither bitcode nor textual IR; it begins with {file.data[:16]!r}",
        )
    choices = canonical.choices()
    try:
        text = with_readers(
            lambda readers: readers.read(file.data, file.options, bitcode=kind == "bitcode", choices=choices)
        )
    except ItemError as error:
        raise _by_age(error, file.data, shared_readers().llvm_version) from None
    return Module(bytes(text), len(file.data))


def _by_age(error: ItemError, data: bytes, read_by: tuple[int, ...]) -> ItemError:
    """Return the error, or that the module was written by a newer LLVM than reads it."""
    if error.reason not in _MAY_BE_AGE:
        return error
    wrote = producer(data)
    newer = wrote is not None and wrote.major is not None and wrote.major > read_by[0]
    if not newer and _OTHER_EPOCH not in error.what:
        return error
    name = "an LLVM it does not name" if wrote is None else wrote.name
    reader = ".".join(map(str, read_by))
    return ItemError(
        reasons.NEWER_LLVM, f"the module was written by {name}, and is read by LLVM {reader}: {error.what}"
    )
