"""Which of what LLVM prints is part of a module's canonical text. Every choice is part of a tokenizer's fingerprint."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Canonical(BaseModel):
    """What the text of a module keeps. By default all that LLVM prints, but for the name of the file it was read from.

    The text is that of a module read into a fresh context and verified. The canonical text of a canonical text is
    itself, with the same choices.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    debug: bool = True
    """Debug information: places in the source, variables, types. False drops it as LLVM does."""
    local_names: bool = True
    """Names of arguments, blocks and instructions. False lets LLVM number them all."""
    comments: bool = True
    """Comments, which LLVM derives from the module: predecessors of blocks, attributes of functions. They are not those
    of a source text, which are always dropped."""
    source_paths: bool = True
    """The name of the source, and names of files and directories in debug information. False drops the one, and calls
    all files `-`, in no directory."""
    target_attributes: bool = True
    """The attributes `target-cpu`, `target-features` and `tune-cpu` of functions."""

    def choices(self) -> dict[str, Any]:
        """Return all fields as JSON, as the processes that read modules are told them."""
        return self.model_dump(mode="json")
