"""Text → bitcode, by LLVM in a process apart: what a table of LLVM IR decodes to becomes what compilers read.

table = tokenmill.open(uri)["ir"]
Path("module.bc").write_bytes(assemble(table.decode(0)))
"""

from __future__ import annotations

from tokenmill.errors import ItemError
from tokenmill.ir import reasons
from tokenmill.ir.ir_file import IrOptions
from tokenmill.ir.readers import with_readers

_OPTIONS = IrOptions()


def assemble(text: str | bytes, options: IrOptions = _OPTIONS) -> bytes:
    """Return the bitcode of a module given as text, by the LLVM that reads modules here.

    The module is parsed and verified. The canonical text of what is returned is that of the text. Threads may call it
    at once.

    Args:
        text: Textual IR, such as `Table.decode` returns.
        options: What it may take.

    Raises:
        ItemError: LLVM does not take the text, with one of `tokenmill.ir.reasons`.
        MissingExtraError: llvmlite is not installed.
    """
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    if len(data) > options.max_text_bytes:
        raise ItemError(
            reasons.TOO_LARGE,
            f"the module's text has {len(data)} bytes; at most {options.max_text_bytes} are allowed",
        )
    return bytes(with_readers(lambda readers: readers.assemble(data, options)))
