"""The `tokenmill` command: one file a subcommand, each of which imports what it needs when it runs.

Standard output is for data (with `--json`: one document), standard error for everything else. An error of ours is one
message and its exit code; a traceback is shown only with `--debug`.
"""

from __future__ import annotations

import os
import sys
import traceback
from io import TextIOWrapper
from typing import Annotated

import typer

from tokenmill.commands import clean, decode, head, inspect_dataset, replay, takedown, tokenizers, train, verify
from tokenmill.errors import TokenmillError

app = typer.Typer(
    name="tokenmill",
    help="Look at, check and clean token datasets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("inspect")(inspect_dataset.inspect_dataset)
app.command("head")(head.head)
app.command("decode")(decode.decode)
app.command("verify")(verify.verify)
app.command("tokenizers")(tokenizers.tokenizers)
app.command("clean")(clean.clean)
app.command("takedown")(takedown.takedown)
app.command("replay")(replay.replay)
app.add_typer(train.train, name="train")

_debug = False


def _show_version(wanted: bool) -> None:
    if wanted:
        from tokenmill import __version__

        typer.echo(f"tokenmill {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="TOKENMILL_DEBUG", help="Show the traceback of an error.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Look at, check and clean token datasets."""
    global _debug
    _debug = debug


def main() -> None:
    """Run the command and leave the process."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # text in any script, whatever the terminal's encoding
    status = 1
    try:
        status = _run()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read standard output (`head`, a pager) has seen enough. Nothing is left to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


def _show(message: str) -> None:
    if _debug:
        traceback.print_exc()
    sys.stderr.write(f"error: {message}\n")


def _run() -> int:
    try:
        app(prog_name="tokenmill")
    except TokenmillError as error:
        _show(str(error))
        return error.exit_code
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001  a traceback is for those who ask for it
        _show(f"{type(error).__name__}: {error}\n  → this is a bug; `tokenmill --debug …` shows where")
        return 1
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    return 0
