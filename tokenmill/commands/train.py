"""`tokenmill train`: learns the weights of tokenizers from files of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tokenmill.commands.new_file import Output, report, require_new, write_new
from tokenmill.commands.train_llvm_ir import train_llvm_ir
from tokenmill.commands.train_ssl_kmeans import train_ssl_kmeans

train = typer.Typer(no_args_is_help=True)
train.command("llvm-ir")(train_llvm_ir)
train.command("ssl-kmeans")(train_ssl_kmeans)


@train.callback()
def kinds() -> None:
    """Learn the weights of a tokenizer from files of your own."""


@train.command("klt")
def train_klt(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Image files, and folders of them.")],
    output: Output,
    tile_tokens: Annotated[
        int,
        typer.Option(
            "--tile-tokens",
            min=4,
            max=1024,
            help="Most tokens of a tile of 64 x 64 pixels beside those of its group: up to 6, an 8th of this at most.",
        ),
    ] = 224,
) -> None:
    """Learn the image tokenizer `klt`: transforms, codes and predictor. The same images give the same file."""
    from tokenmill.tokenizers.klt.train_images import train_on_files
    from tokenmill.tokenizers.klt.training import TrainingSettings

    require_new(output)
    data = train_on_files(
        images, TrainingSettings(tile_tokens=tile_tokens, group_tokens=min(6, max(1, tile_tokens // 8))), report
    )
    write_new(output, data)


@train.command("mdct-rvq")
def train_mdct_rvq(
    recordings: Annotated[
        list[Path],
        typer.Argument(
            metavar="RECORDINGS...",
            help="Audio files, and folders of them. Each is a kind of sound (speech, music …); all count the same.",
        ),
    ],
    output: Output,
) -> None:
    """Learn the audio tokenizer `mdct-rvq`: codebooks and their order. The same recordings give the same file."""
    from tokenmill.tokenizers.mdct_rvq.train_recordings import train_on_files
    from tokenmill.tokenizers.mdct_rvq.training import TrainingSettings

    require_new(output)
    data = train_on_files(recordings, TrainingSettings(), report)
    write_new(output, data)
