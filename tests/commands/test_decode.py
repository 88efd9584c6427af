"""`tokenmill decode`: text, pictures, sound and modules, on standard output and in files."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tokenmill
from tests.commands.conftest import Run
from tests.datasets import build_dataset, job_of, write_jsonl
from tests.ir.samples import COMPILED, MODULES, compiled
from tests.mosaics import mosaic_job, register, write_pictures
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.ir_file import IrFile
from tokenmill.tokenizers.bytes import BytesTokenizer
from tokenmill.tokenizers.llvm_ir.tokenizer import LlvmIrDecoder

HOSTILE = "žluť\n\x1b[31mred\x1b[0m ☃"


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A published dataset of modules, a table for each mode."""
    root = str(tmp_path_factory.mktemp("ir") / "out")
    tables = [{"name": mode, "tokenizer": {"id": "llvm-ir", "mode": mode}} for mode in ("line", "lexeme")]
    build_dataset(job_of(root, f"{MODULES}/*.bc", source={"modality": "llvm-ir", "fields": {}}, tables=tables))
    return root


def in_process(*arguments: str, stdout: int) -> tuple[int, bytes, str]:
    """Run the command in a process of its own; returns its exit code, standard output if a pipe, and standard error."""
    ran = subprocess.run(
        [sys.executable, "-c", "from tokenmill.commands import main; main()", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
    )
    return ran.returncode, ran.stdout, ran.stderr.decode()


def on_terminal(*arguments: str) -> tuple[int, str, str]:
    """Run the command with a terminal as its standard output; returns its exit code, what is on it, and errors."""
    terminal, theirs = pty.openpty()
    code, _, err = in_process(*arguments, stdout=theirs)
    os.close(theirs)
    os.set_blocking(terminal, False)
    try:
        shown = os.read(terminal, 1 << 16)
    except OSError:  # nothing was written
        shown = b""
    os.close(terminal)
    # A library that numba colours its errors by resets the colours at exit.
    return code, shown.decode().replace("\r\n", "\n").replace("\x1b[0m", ""), err


def test_text_is_written_as_it_is(run: Run, root: str) -> None:
    assert run("decode", root, "2", "--table", "text").out == "text 2 text 2 "
    assert run("decode", root, "1", "--table", "framed").out == HOSTILE
    assert run("decode", root, "2", "1", "2", "--table", "text").out == f"text 2 text 2 \n{HOSTILE}"
    assert run("decode", root, "0", "3", "--table", "text").out == "text 3 text 3 text 3 "


def test_a_terminal_is_not_obeyed(root: str) -> None:
    code, shown, _ = on_terminal("decode", root, "1", "--table", "text")
    assert (code, shown) == (0, "žluť\n\\x1b[31mred\\x1b[0m ☃\n")
    assert in_process("decode", root, "1", "--table", "text", stdout=subprocess.PIPE) == (0, HOSTILE.encode(), "")


def test_rows_are_found_by_key(run: Run, tmp_path: Path) -> None:
    texts = [f"text {number}{' and more' * 50}\n" for number in range(10)]
    records = [{"id": f"{number % 4}", "text": text} for number, text in enumerate(texts)]
    write_jsonl(tmp_path / "in/a.jsonl", records)
    build_dataset(job_of(str(tmp_path / "out"), tmp_path / "in", splitting={"split_bytes": 4096, "part_bytes": 1024}))
    assert len(tokenmill.open(str(tmp_path / "out"))["text"].shards) > 1
    assert run("decode", str(tmp_path / "out"), "--key", "2").out == texts[2] + texts[6]
    assert run("decode", str(tmp_path / "out"), "7", "--key", "3", "--key", "1").out == "".join(
        texts[number] for number in (7, 3, 1, 5, 9)
    )
    document = run("decode", str(tmp_path / "out"), "--key", "3", "--json").json
    assert document == {
        "uri": str(tmp_path / "out"),
        "generation": 1,
        "table": "text",
        "rows": [{"index": n, "key": "3", "text": texts[n], "file": None} for n in (3, 7)],
    }


def test_files(run: Run, root: str, tmp_path: Path) -> None:
    ran = run("decode", root, "1", "--table", "text", "--output", str(tmp_path / "new/one"))
    assert (ran.code, ran.out) == (0, "")
    assert (tmp_path / "new/one").read_text() == HOSTILE
    assert f"{tmp_path}/new/one: {len(HOSTILE.encode())} bytes" in ran.err
    run("decode", root, "1", "2", "--table", "text", "--output", str(tmp_path / "many"))
    assert sorted(path.name for path in (tmp_path / "many").iterdir()) == ["text-1.txt", "text-2.txt"]
    run("decode", root, "3", "--table", "text", "--output", str(tmp_path / "many"))
    run("decode", root, "3", "--table", "text", "--output", f"{tmp_path}/folder/")
    assert (tmp_path / "many/text-3.txt").read_text() == (tmp_path / "folder/text-3.txt").read_text()
    rows = run("decode", root, "1", "--table", "text", "--output", str(tmp_path / "many"), "--json").json["rows"]
    assert rows == [{"index": 1, "key": "doc-1", "text": None, "file": str(tmp_path / "many/text-1.txt")}]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "has 2 tables: text, framed"),
        (("--table", "nope", "0"), 1, "has no table 'nope'"),
        (("--table", "text"), 2, "which rows?"),
        (("--table", "text", "39"), 1, "has no row 39; it has 39 rows, the first is row 0"),
        (("--table", "text", "-1"), 2, "-1"),
        (("--table", "text", "one"), 2, "integer"),
        (("--table", "text", "--key", "doc-7"), 1, "no row with the key 'doc-7'"),
        (("--table", "text", "0", "--bitcode"), 2, "table 'text' holds no modules of LLVM IR"),
        (("--table", "text", "0", "--output", "/proc/file"), 3, "/proc/file: cannot be written"),
        (("--table", "text", "0", "1", "--output", "/dev/null"), 2, "several rows need a folder"),
    ],
)
def test_wrong_usage(run: Run, root: str, arguments: tuple[str, ...], code: int, message: str) -> None:
    ran = run("decode", root, *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err


def test_no_dataset(run: Run, tmp_path: Path) -> None:
    assert run("decode", str(tmp_path), "0").code == 1


def test_a_table_without_a_decoder(run: Run, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BytesTokenizer, "decoder", lambda self: None)
    ran = run("decode", root, "0", "--table", "text")
    assert (ran.code, ran.out) == (1, "")
    assert "tokenizer 'bytes' has no decoder" in ran.err


def test_what_has_no_file_form(run: Run, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Numbers:
        def decode(self, streams: object) -> list[int]:
            return [1]

    monkeypatch.setattr(BytesTokenizer, "decoder", lambda self: Numbers())
    ran = run("decode", root, "0", "--table", "text")
    assert ran.code == 1
    assert "table 'text', row 0: the tokenizer 'bytes' decodes to list" in ran.err


def test_pictures(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)
    out = str(tmp_path / "out")
    build_dataset(mosaic_job(tmp_path / "out", write_pictures(tmp_path / "pictures")))
    assert run("decode", out, "3", "4", "--output", str(tmp_path / "decoded")).code == 0
    picture = tokenmill.open(out)["mosaic"].decode(4)
    with Image.open(tmp_path / "decoded/mosaic-4.png") as written:
        np.testing.assert_array_equal(np.asarray(written), np.asarray(picture))
    for arguments in (("--json", "3"), ("3", "4")):
        ran = run("decode", out, *arguments)
        assert (ran.code, ran.out) == (2, "")
        assert "give --output" in ran.err


def test_sound(run: Run, sounds: Path) -> None:
    ran = run("decode", str(sounds / "out"), "1", "--table", "fine", "--output", str(sounds / "one.wav"))
    assert ran.code == 0
    sound = tokenmill.open(str(sounds / "out"))["fine"].decode(1)
    with wave.open(io.BytesIO((sounds / "one.wav").read_bytes())) as file:
        assert (file.getframerate(), file.getnframes()) == (sound.rate_hz, len(sound.samples))


@pytest.mark.parametrize("mode", ["line", "lexeme"])
def test_bitcode_reads_back_as_the_text_that_was_tokenized(run: Run, modules: str, tmp_path: Path, mode: str) -> None:
    rows = [str(number) for number in range(len(COMPILED))]
    for bitcode in ((), ("--bitcode",)):
        assert run("decode", modules, *rows, "--table", mode, "--output", str(tmp_path), *bitcode).code == 0
    for number, name in enumerate(COMPILED):
        text = IrFile(compiled(name)).module(Canonical()).text
        assert (tmp_path / f"{mode}-{number}.ll").read_bytes() == text
        data = (tmp_path / f"{mode}-{number}.bc").read_bytes()
        assert data[:4] == b"BC\xc0\xde"
        assert IrFile(data).module(Canonical()).text == text


def test_bitcode_goes_to_a_pipe_and_not_to_a_terminal(modules: str) -> None:
    arguments = ("decode", modules, "0", "--table", "line", "--bitcode")
    code, data, _ = in_process(*arguments, stdout=subprocess.PIPE)
    assert (code, data[:4]) == (0, b"BC\xc0\xde")
    code, shown, err = on_terminal(*arguments)
    assert (code, shown) == (2, "")
    assert "row 0 of table 'line' is bitcode, which has no place on a terminal" in err


def test_text_that_llvm_does_not_survive(run: Run, modules: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "@x = global i8 " + "add (i8 1, " * 200_000
    monkeypatch.setattr(LlvmIrDecoder, "decode", lambda self, streams: text)
    ran = run("decode", modules, "3", "--table", "line", "--bitcode")
    assert (ran.code, ran.out) == (1, "")
    assert f"{modules}: table 'line', row 3: " in ran.err
    assert run("decode", modules, "3", "--table", "line").out == text


def test_what_is_missing_is_named(root: str, modules: str) -> None:
    """Modules decode without the process that has LLVM loaded; without numba, a table of text does."""
    main = "from tokenmill.commands import main; main()"
    decode = ("decode", modules, "0", "--table", "line")

    def after(statement: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", f"{statement}; {main}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    no_numba = "import sys; sys.modules['numba'] = None"
    ran = after(no_numba, *decode)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "pip install 'tokenmill[ir]'" in ran.stderr
    assert after(no_numba, "decode", root, "2", "--table", "text").stdout == "text 2 text 2 "
    ran = after("import tokenmill.ir.readers as readers; readers.Readers = None", *decode)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.encode() == IrFile(compiled(COMPILED[0])).module(Canonical()).text
