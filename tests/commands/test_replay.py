import json
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.commands.conftest import Run
from tests.datasets import build_dataset, job_of, write_jsonl
from tests.toy_codec import register, sound_job
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


def test_sound(run: Run, sounds: Path) -> None:
    root = str(sounds / "out")
    for row in open_dataset(root)["coarse"]:
        place = ("--split", str(row.split), "--ordinal", str(row.ordinal))
        document = run("replay", root, "--table", "coarse", *place, "--json").json
        assert document["payload"] is None
        for name, values in row.streams.items():
            assert document["streams"][name]["values"] == values.tolist()
    (line,) = (sounds / "out" / "rejects").glob("fine-*.jsonl")
    reject = json.loads(line.read_text())
    assert (reject["key"], reject["lost_seconds"]) == ("4.wav", 1.0)
    ran = run(*shlex.split(reject["replay"].replace(" . ", f" {root} "))[1:])
    assert ran.code == 1
    assert "lost     1.00 s of sound" in ran.out
    assert run(*shlex.split(reject["replay"].replace(" . ", f" {root} "))[1:], "--json").json["lost_seconds"] == 1.0


def test_stretches_of_speech(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)
    (tmp_path / "in").mkdir()
    shutil.copy(Path(__file__).parents[1] / "audio" / "speech.flac", tmp_path / "in")
    cut = {"segments": {"max_seconds": 1.0}}
    build_dataset(sound_job(tmp_path / "out", tmp_path / "in", source=cut))
    rows = list(open_dataset(str(tmp_path / "out"))["coarse"])
    assert len(rows) > 1
    for row in rows:
        place = ("--split", str(row.split), "--ordinal", str(row.ordinal))
        document = run("replay", str(tmp_path / "out"), "--table", "coarse", *place, "--json").json
        for name, values in row.streams.items():
            assert document["streams"][name]["values"] == values.tolist()
    ran = run("head", str(tmp_path / "out"), "--table", "coarse", "-n", "2", "--audio", str(tmp_path / "heard"))
    assert (ran.code, ran.err) == (0, "")
    assert "1 channel, from " in ran.out
    assert len(list((tmp_path / "heard").glob("*-original.wav"))) == 2
