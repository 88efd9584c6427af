import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.commands.conftest import Run
from tests.datasets import build_dataset, job_of, write_jsonl
from tokenmill import replaying
from tokenmill.contract import Encoded
from tokenmill.dataset import open_dataset


def test_a_row(run: Run, root: str) -> None:
    for row in open_dataset(root)["framed"][::6]:
        ran = run("replay", root, "--table", "framed", "--split", "0", "--ordinal", str(row.ordinal), "--json")
        assert ran.code == 0
        document = ran.json
        assert document["key"] == row.key
        assert document["streams"]["ids"]["values"] == row.streams["ids"].tolist()
        assert document["metadata"] == row.metadata
        assert document["reason"] is None
        assert document["source"] == "docs"
        assert document["locator"].startswith("a.jsonl:")
    assert set(document) == {
        "split", "ordinal", "source", "key", "locator", "size_bytes", "metadata", "payload", "streams", "reason",
        "message", "traceback",
    }  # fmt: skip


def test_text(run: Run, root: str) -> None:
    ran = run("replay", root, "--table", "text", "--split", "0", "--ordinal", "1")
    assert ran.code == 0
    assert "item 1 of split 0 has a row" in ran.out
    assert r"žluť\n\x1b[31mred\x1b[0m ☃" in ran.out
    assert "\x1b" not in ran.out


def test_the_command_in_a_rejects_line(run: Run, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (file,) = [path for path in (Path(root) / "rejects").iterdir() if path.name.startswith("text")]
    line = json.loads(file.read_text())
    command = shlex.split(line["replay"])
    assert command[0] == "tokenmill"
    monkeypatch.chdir(root)
    ran = run(*command[1:], "--json")
    assert ran.code == 1
    for name in ("key", "locator", "reason", "message", "ordinal", "split", "source"):
        assert ran.json[name] == line[name]
    assert "reason   invalid_json" in run(*command[1:]).out


def test_the_tokenizers_own_error_is_shown_whole(run: Run, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Panic(BaseException):
        pass

    class Panicking:
        def encode(self, payloads: Sequence[Any]) -> Encoded:
            raise Panic("index out of bounds")

    monkeypatch.setattr(replaying, "loaded_encoder", lambda tokenizer, device: Panicking())
    ran = run("replay", root, "--table", "text", "--split", "0", "--ordinal", "2")
    assert ran.code == 1
    assert "Panic: index out of bounds" in ran.out
    assert "in encode" in ran.out, "the traceback is what replay is for"
    document = run("replay", root, "--table", "text", "--split", "0", "--ordinal", "2", "--json").json
    assert document["reason"] == "tokenizer_failed"
    assert document["payload"] == "text 2 text 2 "
    assert "Traceback" in document["traceback"]


@pytest.mark.parametrize(
    ("table", "split", "ordinal", "message"),
    [
        ("nope", 0, 0, "no table 'nope'"),
        ("text", 9, 0, "no split 9; it covers splits 0 … 0"),
        ("text", 0, 40, "no item 40; its items are 0 … 39"),
        ("text", 0, 10**9, "its items are 0 … 39"),
    ],
)
def test_what_is_not_there(run: Run, root: str, table: str, split: int, ordinal: int, message: str) -> None:
    ran = run("replay", root, "--table", table, "--split", str(split), "--ordinal", str(ordinal), "--json")
    assert (ran.code, ran.out) == (1, "")
    assert message in ran.err


def test_a_changed_input_is_refused(run: Run, root: str, inputs: Path) -> None:
    write_jsonl(inputs / "a.jsonl", [{"id": "other", "text": "other"}])
    ran = run("replay", root, "--table", "text", "--split", "0", "--ordinal", "0")
    assert ran.code == 2
    assert "a.jsonl" in ran.err


def test_every_item_of_several_files_and_parts(run: Run, tmp_path: Path) -> None:
    for name in "abc":
        write_jsonl(tmp_path / f"many/{name}.jsonl", [{"id": f"{name}{i}", "text": f"{i} " * 900} for i in range(9)])
    write_jsonl(tmp_path / "many/b.jsonl", ["broken"] * 9)
    root = str(tmp_path / "out2")
    build_dataset(job_of(root, tmp_path / "many"))
    assert len(open_dataset(root)["text"].shards) > 3
    keys = [f"a{i}" for i in range(9)] + ["b.jsonl"] * 9 + [f"c{i}" for i in range(9)]
    for ordinal, key in enumerate(keys):
        ran = run("replay", root, "--table", "text", "--split", "0", "--ordinal", str(ordinal), "--json")
        assert ran.json["key"] == key
        assert ran.code == int(key == "b.jsonl")
    for path in (tmp_path / "out2/text/receipts").iterdir():  # it needs none
        path.unlink()
    assert run("replay", root, "--table", "text", "--split", "0", "--ordinal", "20", "--json").json["key"] == "c2"
