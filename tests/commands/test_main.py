"""What all commands have in common: exit codes, where output goes, and how errors look."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.conftest import Run
from tokenmill import errors
from tokenmill.commands import inspect_dataset
from tokenmill.errors import TokenmillError

COMMANDS = ("inspect", "head", "verify", "clean", "takedown", "tokenizers", "train", "replay")
TOKENMILL = str(Path(sys.executable).parent / "tokenmill")


def test_help_names_every_command(run: Run) -> None:
    ran = run("--help")
    assert ran.code == 0
    for command in COMMANDS:
        assert command in ran.out
        assert run(command, "--help").code == 0


def test_version(run: Run) -> None:
    import tokenmill

    assert run("--version").out == f"tokenmill {tokenmill.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("inspect",),
        ("head", "x", "--nope"),
        ("head", "x", "-n", "-3"),
        ("clean", "x", "--older-than", "soon"),
        ("clean", "x", "--generations-before", "0"),
        ("takedown", "x"),
    ],
)
def test_wrong_usage(run: Run, arguments: tuple[str, ...]) -> None:
    ran = run(*arguments)
    assert ran.code == 2
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("command", ["inspect", "head", "verify", "clean"])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_no_dataset(run: Run, tmp_path: Path, command: str, options: tuple[str, ...]) -> None:
    ran = run(command, str(tmp_path), *options)
    assert ran.code == 1
    assert ran.out == ""
    assert ran.err.startswith(f"error: {tmp_path}: holds no dataset\n  → ")


def test_a_bad_uri_is_a_wrong_configuration(run: Run) -> None:
    ran = run("inspect", "s3://key:secret@bucket/x")
    assert ran.code == 2
    assert "credentials" in ran.err
    assert "secret" not in ran.err


# A missing manifest is told as a DatasetError; an item's error is its reject, and ends no command.
KINDS: list[type[TokenmillError]] = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type)
    and issubclass(kind, TokenmillError)
    and kind not in (errors.MissingFileError, errors.ItemError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_ends_with_its_exit_code(
    run: Run, root: str, monkeypatch: pytest.MonkeyPatch, kind: type[TokenmillError]
) -> None:
    def fail(*_: object) -> None:
        raise kind("what happened", where="here", fix="do this")

    monkeypatch.setattr("tokenmill.dataset.read_manifest", fail)
    ran = run("inspect", root)
    assert (ran.code, ran.out, ran.err) == (kind.exit_code, "", "error: here: what happened\n  → do this\n")


def test_tracebacks_only_on_demand(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Traceback" not in run("inspect", str(tmp_path)).err
    ran = run("--debug", "inspect", str(tmp_path))
    assert ran.code == 1
    assert "Traceback" in ran.err
    assert ran.err.rstrip().splitlines()[-2].startswith("error: ")
    monkeypatch.setenv("TOKENMILL_DEBUG", "1")
    assert "Traceback" in run("inspect", str(tmp_path)).err


def test_a_bug_is_one_line(run: Run, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(inspect_dataset, "_document", fail)
    ran = run("inspect", root, "--json")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: ZeroDivisionError: oops")
    assert "Traceback" not in ran.err
    assert "ZeroDivisionError" in run("--debug", "inspect", root, "--json").err


@pytest.mark.parametrize("arguments", [("head", "-n", "40", "--json"), ("inspect",), ("verify",)])
def test_a_closed_pipe_is_silent(root: str, arguments: tuple[str, ...]) -> None:
    with subprocess.Popen(
        [TOKENMILL, arguments[0], root, *arguments[1:]], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_text_that_the_terminal_cannot_show(root: str) -> None:
    environment = {"PYTHONIOENCODING": "ascii", "PATH": ""}
    ran = subprocess.run([TOKENMILL, "head", root, "--table", "text"], env=environment, capture_output=True, check=True)
    assert b"\\u2603" in ran.stdout


def test_starting_up_imports_little() -> None:
    command = (
        "import sys, tokenmill.commands\n"
        "heavy = {'pyarrow', 'numpy', 'pydantic', 'fsspec', 'yaml', 'botocore'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", command], check=True)


def test_the_documented_exit_codes_are_those_of_the_errors() -> None:
    text = (Path(__file__).parents[2] / "docs/commands.md").read_text()
    documented: dict[str, int] = {}
    for line in text.partition("## Exit codes")[2].partition("\n## ")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[0].isdigit():
            documented |= {name.strip(" `"): int(cells[0]) for name in cells[2].split(",") if name}
    kinds: list[type[TokenmillError]] = [*KINDS, errors.MissingFileError]
    assert documented == {kind.__name__: kind.exit_code for kind in kinds if kind is not TokenmillError}
