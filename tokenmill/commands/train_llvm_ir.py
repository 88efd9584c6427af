"""`tokenmill train llvm-ir`: learns the vocabulary of the tokenizer `llvm-ir` from modules of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tokenmill.commands.new_file import Output, report, require_new, write_new


def train_llvm_ir(
    modules: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODULES...",
            help="Modules of LLVM IR, and folders whose .bc and .ll files are taken. A folder of files counts as a "
            "package: what becomes a unit is found in three of them at least.",
        ),
    ],
    output: Output,
    vocabulary_size: Annotated[
        int,
        typer.Option("--vocabulary-size", min=1, max=65536, help="Tokens of each of the modes `line` and `lexeme`."),
    ] = 32768,
    megabytes: Annotated[
        int,
        typer.Option(
            "--megabytes",
            min=1,
            help="Learn from so much text at most, evenly of all folders. Memory: 13 times that, and half a GB.",
        ),
    ] = 128,
) -> None:
    """Learn a vocabulary of `llvm-ir`: lexemes, names and merges. The same modules give the same file."""
    from tokenmill.tokenizers.llvm_ir.train_modules import train_on_files
    from tokenmill.tokenizers.llvm_ir.training import TrainingSettings

    settings = TrainingSettings(tokens=vocabulary_size)
    require_new(output)
    write_new(output, train_on_files(modules, settings, report, megabytes * 1_000_000))
