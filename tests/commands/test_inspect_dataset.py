from pathlib import Path

import pytest

from tests import hashed_text
from tests.commands.conftest import Run
from tests.datasets import build_dataset, job_of, run_splits
from tests.mosaics import mosaic_job, register, write_pictures
from tokenmill.dataset import open_dataset
from tokenmill.storage.outputs import Storage


def test_json(run: Run, root: str) -> None:
    document = run("inspect", root, "--json").json
    dataset = open_dataset(root)
    table = dataset["framed"]
    assert list(document) == [
        "uri", "job", "generation", "generations", "created", "tokenmill", "fingerprint", "takedown", "tables",
    ]  # fmt: skip
    assert (document["uri"], document["job"], document["generation"]) == (root, "books", 1)
    assert document["generations"] == [1]
    assert document["fingerprint"] == dataset.fingerprint
    assert set(document["tables"]) == {"text", "framed"}
    found = document["tables"]["framed"]
    assert found["tokenizer"] == {
        "id": "bytes",
        "config": {"bos": True},
        "fingerprint": table.tokenizer.fingerprint,
    }
    assert found["sources"] == ["docs"]
    assert (found["rows"], found["rejected"], found["taken_down"], document["takedown"]) == (39, 1, 0, None)
    assert found["tokens"] == {"ids": sum(len(row.streams["ids"]) for row in table)}
    assert found["shards"] == len(table.shards)
    assert found["size_bytes"] == sum(entry.size_bytes for entry in Storage.open(root).list("framed/shards/"))
    assert found["metadata"] == {"lang": "string", "score": "float64"}
    assert found["streams"]["ids"]["vocabulary_size"] == 257
    assert found["summary"] == table.summary


def test_text(run: Run, root: str) -> None:
    ran = run("inspect", root)
    assert ran.code == 0
    for shown in (
        "job          books",
        "Table text",
        "Table framed",
        "bytes bos=True",
        "39 (1 items rejected)",
        "docs",
    ):
        assert shown in ran.out, ran.out
    assert open_dataset(root).fingerprint in ran.out
    assert "invalid_json" in ran.out, "the summary"
    assert max(map(len, ran.out.splitlines())) <= 100


def test_generations(run: Run, root: str, tmp_path: Path) -> None:
    inputs = tmp_path / "more"
    for number in range(2):
        (inputs).mkdir(exist_ok=True)
        (inputs / f"{number}.txt").write_text(f"text {number}")
        build_dataset(job_of(str(tmp_path / "grown"), inputs, source={"fields": {}}))
    document = run("inspect", str(tmp_path / "grown"), "--json").json
    assert (document["generation"], document["generations"]) == (2, [1, 2])
    assert "2 (published: 1, 2)" in run("inspect", str(tmp_path / "grown")).out


def test_an_unfinished_dataset(run: Run, tmp_path: Path, inputs: Path) -> None:
    run_splits(job_of(str(tmp_path / "begun"), inputs))
    ran = run("inspect", str(tmp_path / "begun"))
    assert ran.code == 1
    assert "unfinished" in ran.err
    assert "run the job again" in ran.err


def test_object_storage(run: Run, s3_root: str, inputs: Path) -> None:
    build_dataset(job_of(s3_root, inputs))
    assert run("inspect", s3_root, "--json").json["uri"] == s3_root
    assert run("head", s3_root, "--json").json["tables"]["text"][0]["key"] == "doc-0"
    assert run("verify", s3_root).code == 0
    assert run("clean", s3_root).code == 0
    replayed = run("replay", s3_root, "--table", "text", "--split", "0", "--ordinal", "2", "--json")
    assert replayed.json["key"] == "doc-2"


def test_duplicates(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed_text.register(monkeypatch)
    root = str(tmp_path / "out")
    hashed_text.hashed_dataset(root, tmp_path / "in")
    repeats, rows = len(hashed_text.expected()), len(hashed_text.KEYS)
    tables = run("inspect", root, "--json").json["tables"]
    assert [table["duplicates"] for table in tables.values()] == [repeats, None]
    shown = run("inspect", root).out
    assert shown.count(f"{repeats} of {rows} rows repeat an earlier one") == 1


def test_images(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)
    build_dataset(mosaic_job(tmp_path / "out", write_pictures(tmp_path / "pictures")))
    ran = run("inspect", str(tmp_path / "out"))
    lines = [line.split() for line in ran.out.splitlines()]
    assert "outcome: 3 met, 3 capped" in ran.out
    assert "Lengths of ids and errors reached" in ran.out
    assert ["64–127", "4", "67%"] in [line[:3] for line in lines]
    assert ["0", "6", "6", "4,090"] in [line[:4] for line in lines]
    assert max(map(len, ran.out.splitlines())) <= 100
    streams = run("inspect", str(tmp_path / "out"), "--json").json["tables"]["mosaic"]["summary"]["overall"]["streams"]
    assert streams["outcome"]["labels"] == {"fixed": 0, "met": 3, "capped": 3}
    assert streams["error"]["errors"]["of"] == "ids"
    assert len(streams["ids"]["bands"]["bands"]) == 8


def test_sound(run: Run, sounds: Path) -> None:
    ran = run("inspect", str(sounds / "out"))
    assert max(map(len, ran.out.splitlines())) <= 100
    assert "codes: uint8 (frame, codebook=4), 16 ids, 2000 frames/s, 16,000 values" in ran.out
    assert "rejected: 1 damaged_audio (1.00 s)" in ran.out
    assert "source rates: 2.00 s at 16 kHz" in ran.out
    assert "source channels: 2 of 1, 2 of 2" in ran.out
    lines = [line.split() for line in ran.out.splitlines()]
    assert [line[:5] for line in lines].count(["talk", "2.00", "s", "1.00", "s"]) == 2
    assert ["codes", "2,000", "4", "8,000", "32"] in [line[:5] for line in lines]
    assert ["codes", "100", "1", "100", "0.4"] in [line[:5] for line in lines]
    overall = run("inspect", str(sounds / "out"), "--json").json["tables"]["fine"]["summary"]["overall"]
    assert (overall["sound"]["seconds"], overall["sound"]["rejected_seconds"]) == (2.0, 1.0)
    assert [band["dead"] for band in overall["streams"]["codes"]["bands"]["bands"]] == [8, 0, 0, 0]
