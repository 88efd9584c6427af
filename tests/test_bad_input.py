"""Bad input, end to end: what each kind of it does to a run.

Three rules. A bad item is quarantined. Of a torn file the good items are kept, and what is lost counts. A bad
configuration is refused before anything is written. Whatever is refused says what, where, and what to do; nothing that
is partial looks whole.
"""

from __future__ import annotations

import gzip
import json
import lzma
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

import tokenmill
from infra.s3_server import S3Server
from pipelines import Launcher, RunRequest
from tests.datasets import build_dataset, job_of, run_splits, write_jsonl
from tests.test_encoders import write_ranks
from tokenmill.errors import (
    AssetError,
    ChangedError,
    CorruptionError,
    InputError,
    RejectedFractionError,
    StorageError,
    TokenizerError,
    TokenmillError,
)
from tokenmill.jobs import Job
from tokenmill.manifests import Manifest, read_manifest
from tokenmill.planning import make_plan
from tokenmill.publication import publish
from tokenmill.receipts import list_receipts
from tokenmill.registry import tokenizer_names
from tokenmill.storage.outputs import Storage

GOOD = [{"id": f"g{n}", "text": f"good text {n} " * 20} for n in range(200)]


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def output(tmp_path: Path) -> str:
    return str(tmp_path / "out")


def rejects(output: str) -> list[dict[str, Any]]:
    storage = Storage.open(output)
    entries = sorted(storage.list("rejects/"), key=lambda entry: entry.path)
    return [json.loads(line) for entry in entries for line in storage.read(entry.path).splitlines()]


def keys(output: str) -> list[str]:
    return [row.key for row in tokenmill.open(output)["text"]]


def lines(records: list[Any]) -> bytes:
    return b"".join(
        record if isinstance(record, bytes) else json.dumps(record, ensure_ascii=False).encode() + b"\n"
        for record in records
    )


# Items


@pytest.mark.parametrize(
    ("line", "reason", "message"),
    [
        (b'{"id": "x", "text": "caf\xe9"}\n', "invalid_utf8", "byte 24 of the line is not UTF-8"),
        (b'{"id": "x", "text": "half a pair \\ud800"}\n', "invalid_utf8", "half a surrogate pair"),
        (b'{"id": "x", "text": "broken\n', "invalid_json", "Unterminated string"),
        (b'{"id": "x", "text": NaN}\n', "invalid_json", ""),
        (b"\xff\xfe\x00\n", "invalid_utf8", "byte 0"),
        (b'{"id": "x"}\n', "missing_field", "there is no 'text'"),
        (b'{"text": "x"}\n', "missing_field", "the id 'id' is absent"),
        (b'{"id": "x", "text": null}\n', "null_text", "'text' is null"),
        (b'{"id": "x", "text": ["x"]}\n', "wrong_type", "'text' is no text but list"),
        (b'["x"]\n', "not_an_object", "the line is list, no object"),
        (b"[" * 100_000 + b"\n", "invalid_json", "nested too deeply"),
        (b'{"id": "x", "text": "%s"}\n' % (b"x" * 5000), "item_too_large", "max_item_bytes is 5000"),
        (b'{"id": "%s", "text": "x"}\n' % (b"x" * 4000), "metadata_too_large", "max_metadata_bytes is 3000"),
    ],
    ids=lambda value: value if isinstance(value, str) and "_" in value else "",
)
def test_a_bad_item_is_quarantined_and_the_others_stay(
    inputs: Path, output: str, line: bytes, reason: str, message: str
) -> None:
    start = lines(GOOD[:70])
    (inputs / "a.jsonl").write_bytes(start + line + lines(GOOD[70:]))
    large = {"max_item_bytes": 200_000} if line.startswith(b"[[") else {"max_item_bytes": 5000}
    job = job_of(output, inputs, limits={"max_metadata_bytes": 3000, "max_rejected_fraction": 0.005, **large})
    manifest = build_dataset(job)
    assert manifest.tables["text"].rows == 200
    assert manifest.tables["text"].rejected == 1
    assert keys(output) == [record["id"] for record in GOOD]
    (reject,) = rejects(output)
    assert reject["reason"] == reason
    assert message in reject["message"]
    assert reject["ordinal"] == 70
    assert reject["locator"] == f"a.jsonl:{len(start)}"
    assert reject["replay"] == "tokenmill replay . --table text --split 0 --ordinal 70"
    with pytest.raises(RejectedFractionError, match=rf"1 of 201 items were rejected .*: {reason} 1\n"):
        build_dataset(job_of(output + "2", inputs, limits={**job.limits.model_dump(), "max_rejected_fraction": 0.004}))
    assert not (Path(output + "2") / "manifests").exists()


@pytest.mark.parametrize(
    "text", ["", "\0", "a\0b\0", " " * 100_000, "\ufeff", "<|endoftext|>", "\r\n\u2028\x1a\x85", "🜁" * 3000]
)
def test_odd_text_is_text(inputs: Path, output: str, text: str) -> None:
    (inputs / "a.jsonl").write_bytes(lines([GOOD[0], {"id": "odd\0", "text": text}, GOOD[1]]))
    tables = [
        {"name": "text", "tokenizer": {"id": "bytes"}},
        {"name": "bpe", "tokenizer": {"id": "tiktoken", "vocabulary": "cl100k_base"}},
    ]
    manifest = build_dataset(job_of(output, inputs, tables=tables, limits={"max_rejected_fraction": 0.0}))
    assert manifest.tables["text"].rows == manifest.tables["bpe"].rows == 3
    for name in ("text", "bpe"):
        table = tokenmill.open(output)[name]
        assert table[1].key == "odd\0"
        assert table.decode(1) == text


def test_an_empty_text_is_a_row_without_tokens(inputs: Path, output: str) -> None:
    (inputs / "a.jsonl").write_bytes(lines([{"id": "e", "text": ""}]))
    manifest = build_dataset(job_of(output, inputs))
    assert (manifest.tables["text"].rows, manifest.tables["text"].tokens) == (1, {"ids": 0})
    assert tokenmill.open(output)["text"][0].streams["ids"].tolist() == []


def test_duplicate_ids_are_all_kept(inputs: Path, output: str) -> None:
    (inputs / "a.jsonl").write_bytes(lines([{"id": "same", "text": str(n)} for n in range(5)]))
    (inputs / "b.jsonl").write_bytes(lines([{"id": "same", "text": str(n)} for n in range(5)]))
    manifest = build_dataset(job_of(output, inputs))
    assert manifest.tables["text"].rows == 10
    assert keys(output) == ["same"] * 10
    assert [tokenmill.open(output)["text"].decode(n) for n in range(10)] == [str(n % 5) for n in range(10)]


def test_a_wrong_field_name_rejects_all_and_publishes_nothing(inputs: Path, output: str) -> None:
    (inputs / "a.jsonl").write_bytes(lines(GOOD))
    with pytest.raises(RejectedFractionError) as caught:
        build_dataset(
            job_of(output, inputs, source={"fields": {"text": "body"}}, limits={"max_rejected_fraction": 0.01})
        )
    assert "200 of 200 items were rejected (100.00%; the job allows 1.00%): missing_field 200" in str(caught.value)
    assert "max_rejected_fraction" in str(caught.value.fix)
    with pytest.raises(TokenmillError, match="unfinished"):
        tokenmill.open(output)


def _one_large_text(inputs: Path, size: int) -> int:
    """Write a file whose middle document has `size` bytes of text without white space."""
    piece = b"abcdefghij" * 100_000
    with open(inputs / "a.jsonl", "wb") as file:
        file.write(lines(GOOD[:10]) + b'{"id": "large", "text": "')
        for _ in range(size // len(piece)):
            file.write(piece)
        file.write(b'"}\n' + lines(GOOD[10:20]))
    return size


def test_a_line_of_100_mb(inputs: Path, output: str) -> None:
    size = _one_large_text(inputs, 100_000_000)
    splitting = {"split_bytes": 16_000_000, "part_bytes": 1_000_000}  # it starts in one split and ends in another
    manifest = build_dataset(job_of(output, inputs, splitting=splitting, limits={"max_rejected_fraction": 0}))
    assert manifest.tables["text"].rows == 21
    row = tokenmill.open(output)["text"][10]
    assert row.key == "large"
    assert len(row.streams["ids"]) == size
    assert bytes(row.streams["ids"][-20:]) == b"abcdefghijabcdefghij"
    assert keys(output)[11:] == [record["id"] for record in GOOD[10:20]]


def test_a_line_of_100_mb_that_is_too_large(inputs: Path, output: str) -> None:
    _one_large_text(inputs, 100_000_000)
    limits = {"max_rejected_fraction": 0.05, "max_item_bytes": "50MB"}
    manifest = build_dataset(job_of(output, inputs, splitting={"split_bytes": 16_000_000}, limits=limits))
    assert (manifest.tables["text"].rows, manifest.tables["text"].rejected) == (20, 1)
    (reject,) = rejects(output)
    assert reject["reason"] == "item_too_large"
    assert "max_item_bytes is 50000000" in reject["message"]
    assert len(reject["message"]) < 500
    assert keys(output) == [record["id"] for record in GOOD[:20]]


def test_other_encodings_and_undecodable_text(inputs: Path, output: str) -> None:
    (inputs / "a.txt").write_bytes("café".encode("latin-1"))
    (inputs / "b.txt").write_bytes("café".encode())
    manifest = build_dataset(job_of(output, inputs, source={"fields": {}}))
    assert keys(output) == ["b.txt"]
    assert manifest.tables["text"].rejected == 1
    (reject,) = rejects(output)
    assert (reject["reason"], reject["key"], reject["locator"]) == ("invalid_utf8", "a.txt", "a.txt:0")
    build_dataset(job_of(output + "2", inputs, source={"fields": {}, "encoding": "latin-1"}))
    assert tokenmill.open(output + "2")["text"].decode(0) == "café"
    with pytest.raises(InputError, match="no character encoding 'latin-99'"):
        build_dataset(job_of(output + "3", inputs, source={"fields": {}, "encoding": "latin-99"}))
    assert not Path(output + "3").exists()


# Files


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress,  # as the `zstd` command does
    "xz": lzma.compress,
}


def _records(count: int) -> list[dict[str, str]]:
    """Return records that do not compress well, so that damage hits few of them."""
    generator = random.Random(count)
    return [{"id": f"r{n}", "text": generator.randbytes(300).hex()} for n in range(count)]


@pytest.mark.parametrize("ending", COMPRESSORS)
@pytest.mark.parametrize("kept", [0.9, 0.5])
def test_of_a_torn_file_the_good_items_are_kept(inputs: Path, output: str, ending: str, kept: float) -> None:
    records = _records(1000)
    data = COMPRESSORS[ending](lines(records))
    (inputs / f"a.jsonl.{ending}").write_bytes(data[: int(len(data) * kept)])
    (inputs / "b.jsonl").write_bytes(lines(GOOD))
    job = job_of(output, inputs, splitting={"part_bytes": 100_000})
    table = build_dataset(job).tables["text"]
    found = [key for key in keys(output) if key.startswith("r")]
    assert found == [record["id"] for record in records[: len(found)]]
    assert len(found) > 1000 * kept * 0.6
    assert table.rows == len(found) + 200
    (reject,) = rejects(output)
    assert reject["reason"] == "torn_file"
    assert reject["key"] == f"a.jsonl.{ending}"
    assert "ends in the middle" in reject["message"]
    # How long the file once was cannot be known: of its stored bytes all were read.
    assert table.rejected == reject["lost_items"] >= 1
    with pytest.raises(RejectedFractionError, match="torn_file"):
        publish(Storage.open(output), make_plan(Storage.open(output), job).plan, max_rejected_fraction=0)


@pytest.mark.parametrize("ending", COMPRESSORS)
def test_damage_in_the_middle_of_a_file_is_noticed(inputs: Path, output: str, ending: str) -> None:
    """At the damage, or only at the checksum at the end: until then a decompressor may give rubbish, or wrong text."""
    records = _records(1000)
    data = bytearray(COMPRESSORS[ending](lines(records)))
    middle = len(data) // 2
    data[middle : middle + 100] = bytes(100)
    (inputs / f"a.jsonl.{ending}").write_bytes(data)
    table = build_dataset(job_of(output, inputs)).tables["text"]
    texts = {record["id"]: record["text"] for record in records}
    read = tokenmill.open(output)["text"]
    good = sum(texts.get(row.key) == read.decode(row) for row in read)
    assert good > 300
    (torn,) = (reject for reject in rejects(output) if reject["reason"] == "torn_file")
    assert torn["key"] == f"a.jsonl.{ending}"
    assert table.rejected == sum(reject["lost_items"] for reject in rejects(output))
    assert table.rows < 1000


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.jsonl.xz", "a.jsonl.bz2"])
def test_a_file_that_is_not_what_its_name_says(inputs: Path, output: str, name: str) -> None:
    (inputs / name).write_bytes(lines(GOOD))
    (inputs / "b.jsonl").write_bytes(lines(GOOD))
    build_dataset(job_of(output, inputs))
    assert len(keys(output)) == 200
    (reject,) = rejects(output)
    assert (reject["reason"], reject["key"]) == ("unreadable_file", name)


def test_a_parquet_file_that_is_none(inputs: Path, output: str) -> None:
    (inputs / "a.parquet").write_bytes(b"PAR1" + b"x" * 100)
    (inputs / "b.jsonl").write_bytes(lines(GOOD))
    build_dataset(job_of(output, inputs))
    assert len(keys(output)) == 200
    (reject,) = rejects(output)
    assert reject["reason"] in ("unreadable_file", "torn_file")
    assert reject["key"] == "a.parquet"


def test_empty_files_hold_no_items(inputs: Path, output: str) -> None:
    for name in ("a.jsonl", "b.jsonl.gz", "c.txt", "d.jsonl.zst"):
        (inputs / name).touch()
    (inputs / "e.jsonl").write_bytes(lines(GOOD[:3]))
    (inputs / "f.jsonl").write_bytes(b"\n\n  \n")
    manifest = build_dataset(job_of(output, inputs, limits={"max_rejected_fraction": 0}))
    assert keys(output) == ["g0", "g1", "g2"]
    assert manifest.tables["text"].rejected == 0


def test_a_corpus_of_empty_files_is_an_empty_dataset(any_root: str, inputs: Path) -> None:
    (inputs / "a.jsonl").touch()
    manifest = build_dataset(job_of(any_root, inputs, limits={"max_rejected_fraction": 0}))
    assert (manifest.tables["text"].rows, manifest.tables["text"].tokens) == (0, {"ids": 0})
    assert len(tokenmill.open(any_root)["text"]) == 0
    assert list(tokenmill.open(any_root)["text"]) == []
    write_jsonl(inputs / "b.jsonl", GOOD[:3])
    assert build_dataset(job_of(any_root, inputs)).tables["text"].rows == 3


@pytest.mark.parametrize("uri", ["none.jsonl", "*.parquet", "empty", "**/x/*.jsonl"])
def test_a_uri_that_matches_nothing_is_refused(inputs: Path, output: str, uri: str) -> None:
    (inputs / "empty").mkdir()
    (inputs / "a.jsonl").write_bytes(lines(GOOD))
    with pytest.raises(InputError, match="no file matches") as caught:
        build_dataset(job_of(output, inputs / uri))
    assert caught.value.where == str(inputs / uri)
    assert caught.value.fix is not None
    assert not Path(output).exists()


def test_a_file_of_unknown_format_is_refused(inputs: Path, output: str) -> None:
    (inputs / "a.jsonl").write_bytes(lines(GOOD))
    (inputs / "b.docx").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"b\.docx: .*known endings are \.jsonl"):
        build_dataset(job_of(output, inputs))
    assert not Path(output).exists()


_RUN = """
import sys
from tests.datasets import build_dataset, job_of
from tokenmill.errors import TokenmillError
try:
    build_dataset(job_of(sys.argv[2], sys.argv[1]))
except TokenmillError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def _run_unprivileged(inputs: Path, output: Path) -> str:
    """Run a job that fails, without root's power to read and write whatever it likes; returns what it says."""
    command = [sys.executable, "-c", _RUN, str(inputs), str(output)]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may read everything, and there is no setpriv to take that away")
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    return done.stderr


def test_an_unreadable_file_is_refused(inputs: Path, output: str) -> None:
    (inputs / "a.jsonl").write_bytes(lines(GOOD))
    (inputs / "b.jsonl").write_bytes(lines(GOOD))
    (inputs / "b.jsonl").chmod(0)
    said = _run_unprivileged(inputs, Path(output))
    assert said.startswith(f"InputError: {inputs}/b.jsonl: it cannot be read: permission denied")
    assert "  → check its owner and permissions" in said
    assert not list(Path(output).glob("manifests/*"))
    (inputs / "b.jsonl").chmod(0o644)
    assert build_dataset(job_of(output, inputs)).tables["text"].rows == 400


def test_an_unreadable_directory_is_refused(inputs: Path, output: str) -> None:
    (inputs / "a.jsonl").write_bytes(lines(GOOD))
    inputs.chmod(0)
    said = _run_unprivileged(inputs, Path(output))
    inputs.chmod(0o755)
    assert said.startswith(f"InputError: {inputs}: it cannot be read: permission denied")
    assert not Path(output).exists()


def test_no_permission_to_write(inputs: Path, output: str) -> None:
    (inputs / "a.jsonl").write_bytes(lines(GOOD))
    Path(output).mkdir()
    Path(output).chmod(0o555)
    said = _run_unprivileged(inputs, Path(output))
    assert said.startswith(f"StorageError: {output}")
    assert "Permission denied" in said
    assert "→ check the owner and the permissions, or write elsewhere" in said
    assert not list(Path(output).iterdir())


def test_an_output_under_a_file(inputs: Path, tmp_path: Path) -> None:
    (inputs / "a.jsonl").write_bytes(lines(GOOD))
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file/out.*Not a directory") as caught:
        build_dataset(job_of(str(tmp_path / "file" / "out"), inputs))
    assert "a file stands where a directory is needed" in str(caught.value.fix)


# Storage


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 1 MB."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mounted)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user cannot mount a small filesystem")
    yield mounted
    subprocess.run(["umount", "--lazy", str(mounted)], check=True)


def test_a_full_disk(small_disk: Path, inputs: Path) -> None:
    write_jsonl(inputs / "a.jsonl", [{"id": f"{n}", "text": "x" * 10_000} for n in range(200)])
    job = job_of(str(small_disk / "out"), inputs, splitting={"split_bytes": 10_000_000, "part_bytes": 100_000})
    _fill(job)
    finished = list(list_receipts(Storage.open(job.output), "text"))
    assert 1 <= len(finished) < 12
    assert not list(Path(job.output, ".tmp").iterdir()), "it takes the space that is missing"
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    assert build_dataset(job).tables["text"].rows == 200
    assert {name.attempt for name in list_receipts(Storage.open(job.output), "text")} == {0}


def _fill(job: Job) -> None:
    with pytest.raises(StorageError, match=r"No space left on device") as caught:
        build_dataset(job)
    assert caught.value.where is not None
    assert caught.value.where.startswith(job.output)
    assert "free disk space" in str(caught.value.fix)
    assert "finished parts are kept" in str(caught.value.fix)
    assert not (Path(job.output) / "manifests").exists()


def test_a_file_size_limit(inputs: Path, output: str) -> None:
    """A disk that is full, for those who cannot mount one."""
    write_jsonl(inputs / "a.jsonl", [{"id": f"{n}", "text": "x" * 10_000} for n in range(100)])
    program = (
        "import resource, signal, sys\n"
        "from tests.datasets import build_dataset, job_of\n"
        "from tokenmill.errors import StorageError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))\n"
        "try:\n"
        "    splitting = {'split_bytes': 10_000_000, 'part_bytes': 900_000}\n"
        "    build_dataset(job_of(sys.argv[2], sys.argv[1], splitting=splitting))\n"
        "except StorageError as error:\n"
        "    sys.exit(str(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(inputs), output], capture_output=True, text=True, check=False
    )
    assert "File too large" in done.stderr
    assert "ulimit -f" in done.stderr
    assert not list(Path(output).glob("text/*/*"))
    assert not list(Path(output).glob(".tmp/*"))
    splitting = {"split_bytes": 10_000_000, "part_bytes": 900_000}
    assert build_dataset(job_of(output, inputs, splitting=splitting)).tables["text"].rows == 100


def test_wrong_credentials(s3_root: str, inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(inputs / "a.jsonl", GOOD)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-wrong-secret")
    with pytest.raises(StorageError) as caught:
        build_dataset(job_of(s3_root, inputs))
    assert caught.value.where is not None
    assert caught.value.where.startswith(s3_root)
    assert "AWS_SECRET_ACCESS_KEY" in str(caught.value.fix)
    assert "a-wrong-secret" not in str(caught.value)
    with pytest.raises(InputError) as refused:
        build_dataset(job_of(str(inputs.parent / "out"), f"{s3_root}/in/*.jsonl"))
    assert "credentials" in str(refused.value.fix)
    assert not (inputs.parent / "out").exists()


def test_a_missing_bucket(s3_root: str, inputs: Path) -> None:
    write_jsonl(inputs / "a.jsonl", GOOD)
    with pytest.raises(StorageError, match=r"s3://no-such-bucket.*bucket") as caught:
        build_dataset(job_of("s3://no-such-bucket/out", inputs))
    assert caught.value.fix is not None
    with pytest.raises(InputError, match=r"s3://no-such-bucket.*bucket"):
        build_dataset(job_of(str(inputs.parent / "out"), "s3://no-such-bucket/in/*.jsonl"))


def test_a_server_that_is_not_there(s3_root: str, inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(inputs / "a.jsonl", GOOD)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("tokenmill.storage.s3_client.RETRY_SECONDS", 1.0)
    with pytest.raises(StorageError) as caught:
        build_dataset(job_of(s3_root, inputs))
    assert "127.0.0.1:9" in str(caught.value)


def test_bad_items_and_torn_files_on_s3(s3_root: str, s3_server: S3Server, inputs: Path) -> None:
    """From S3 to S3: as between local directories."""
    data = gzip.compress(lines(GOOD))
    storage = Storage.open(f"{s3_root}/in")
    storage.put("a.jsonl.gz", [data[: len(data) // 2]])
    storage.put("b.jsonl", [lines([*GOOD[:50], {"id": "n", "text": None}, b"\xff\n"])])
    storage.put("c.jsonl", [b""])
    output = f"{s3_root}/out"
    table = build_dataset(job_of(output, f"{s3_root}/in/*")).tables["text"]
    assert sorted(reject["reason"] for reject in rejects(output)) == ["invalid_utf8", "null_text", "torn_file"]
    found = keys(output)
    assert found[-50:] == [record["id"] for record in GOOD[:50]]
    assert found[:-50] == [record["id"] for record in GOOD[: len(found) - 50]]
    assert table.rejected == 2 + next(r["lost_items"] for r in rejects(output) if r["reason"] == "torn_file")
    storage.put("b.jsonl", [lines(GOOD)])
    with pytest.raises(ChangedError, match=r"in/b\.jsonl: has changed: was .* bytes"):
        build_dataset(job_of(output, f"{s3_root}/in/*"))


# Tokenizers


def test_an_unknown_tokenizer(inputs: Path, output: str) -> None:
    write_jsonl(inputs / "a.jsonl", GOOD)
    with pytest.raises(TokenizerError, match="there is no tokenizer 'tiktokn'; did you mean 'tiktoken'") as caught:
        build_dataset(job_of(output, inputs, tables=[{"name": "text", "tokenizer": {"id": "tiktokn"}}]))
    assert f"use one of: {', '.join(tokenizer_names())}" in str(caught.value.fix)
    with pytest.raises(TokenizerError, match=r"tokenizer\.vocabulary: Input should be 'cl100k_base'"):
        build_dataset(
            job_of(output, inputs, tables=[{"name": "text", "tokenizer": {"id": "tiktoken", "vocabulary": "x"}}])
        )
    assert not Path(output).exists()


@pytest.mark.parametrize("damage", ["altered", "truncated", "empty", "binary", "missing", "directory"])
@pytest.mark.parametrize("kind", ["tiktoken", "huggingface", "sentencepiece"])
def test_a_corrupt_vocabulary(inputs: Path, output: str, tmp_path: Path, kind: str, damage: str) -> None:
    write_jsonl(inputs / "a.jsonl", GOOD)
    path = tmp_path / "vocabulary.json"
    write_ranks(path, 300)
    good = path.read_bytes()
    content = {
        "altered": good.replace(b" 200\n", b" 20O\n"),
        "truncated": good[:-8],
        "empty": b"",
        "binary": bytes(range(256)),
    }
    path.unlink()
    if damage == "directory":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes(content[damage])
    config: dict[str, Any] = {
        "tiktoken": {"ranks": str(path), "pattern": "cl100k_base"},
        "huggingface": {"path": str(path)},
        "sentencepiece": {"model": str(path)},
    }[kind]
    job = job_of(output, inputs, tables=[{"name": "text", "tokenizer": {"id": kind, **config}}])
    with pytest.raises((AssetError, TokenizerError)) as caught:
        build_dataset(job)
    assert not isinstance(caught.value, TokenizerError) or kind != "tiktoken"
    assert str(path) in str(caught.value)
    assert not Path(output).exists()


# What is there already


@pytest.fixture
def published(inputs: Path, output: str) -> tuple[Job, Manifest]:
    write_jsonl(inputs / "a.jsonl", GOOD)
    job = job_of(output, inputs)
    return job, build_dataset(job)


def _alter(path: Path) -> bytes:
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    return content


def test_resume_notices_a_shard_altered_by_one_byte(published: tuple[Job, Manifest]) -> None:
    job, manifest = published
    path = min(Path(job.output).glob("text/shards/*"))
    content = _alter(path)
    assert build_dataset(job) == manifest
    assert path.read_bytes() == content
    assert any(name.attempt == 1 for name in list_receipts(Storage.open(job.output), "text"))


@pytest.mark.parametrize("pattern", ["manifests/*.json", "plans/*.json", "plans/*.arrow"])
def test_resume_notices_an_altered_manifest_and_plan(published: tuple[Job, Manifest], pattern: str) -> None:
    job, _ = published
    (path,) = Path(job.output).glob(pattern)
    _alter(path)
    with pytest.raises(CorruptionError, match=rf"{path.name}: (does not match|is not the JSON)") as caught:
        build_dataset(job)
    assert "restore the file from a copy" in str(caught.value.fix)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("pattern", ["manifests/*.shards.arrow", "manifests/*.statistics.arrow"])
def test_resume_mends_the_tables_of_a_manifest(published: tuple[Job, Manifest], pattern: str) -> None:
    job, manifest = published
    (path,) = Path(job.output).glob(pattern)
    content = _alter(path)
    assert build_dataset(job) == manifest
    assert path.read_bytes() == content


def test_a_changed_tokenizer_or_input_over_an_old_output_is_refused(
    published: tuple[Job, Manifest], inputs: Path
) -> None:
    job, manifest = published
    before = {path: path.stat().st_mtime_ns for path in Path(job.output).rglob("*")}
    with pytest.raises(
        ChangedError, match=r"the tokenizer of table 'text' has changed: config\.eos was .*, is now True"
    ):
        build_dataset(job_of(job.output, inputs, tables=[{"name": "text", "tokenizer": {"id": "bytes", "eos": True}}]))
    with open(inputs / "a.jsonl", "ab") as file:
        file.write(b"\n")
    with pytest.raises(ChangedError, match=r"a\.jsonl: has changed: was \d+ bytes, .*; is now \d+ bytes"):
        build_dataset(job)
    assert {path: path.stat().st_mtime_ns for path in Path(job.output).rglob("*")} == before
    assert read_manifest(Storage.open(job.output)) == manifest


def test_a_foreign_file_among_a_datasets_own_is_left_alone(published: tuple[Job, Manifest], inputs: Path) -> None:
    job, manifest = published
    for name in ("text/shards/notes.txt", "text/receipts/000000-0000.0.json.bak", "plans/latest", "README.md"):
        (Path(job.output) / name).write_text("mine")
    assert build_dataset(job) == manifest


# Through the launcher


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    with Launcher() as started:
        yield started


def _launch(launcher: Launcher, job: Job) -> Manifest:
    storage = Storage.open(job.output)
    plan = make_plan(storage, job).plan
    request = RunRequest(job.output, plan.generation, 0, len(plan.splits), workers=2)
    assert [event for event in launcher.run(request) if event][-1] == {"event": "done"}
    return publish(storage, plan, max_rejected_fraction=job.limits.max_rejected_fraction)


def test_bad_items_and_torn_files_through_the_launcher(launcher: Launcher, inputs: Path, output: str) -> None:
    data = gzip.compress(lines(GOOD))
    (inputs / "a.jsonl.gz").write_bytes(data[: len(data) // 2])
    (inputs / "b.jsonl").write_bytes(lines([*GOOD, {"id": "n", "text": None}, b"\xff\n", b"{\n"]))
    splitting = {"split_bytes": 4096}
    here = build_dataset(job_of(output + "2", inputs, splitting=splitting))
    there = _launch(launcher, job_of(output, inputs, splitting=splitting))
    assert here.fingerprint == there.fingerprint
    assert there.tables["text"].rejected == here.tables["text"].rejected > 3
    assert [{**line} for line in rejects(output)] == rejects(output + "2")


def test_a_full_disk_through_the_launcher(launcher: Launcher, small_disk: Path, inputs: Path) -> None:
    for number in range(4):
        write_jsonl(inputs / f"{number}.jsonl", [{"id": f"{n}", "text": "x" * 10_000} for n in range(50)])
    job = job_of(str(small_disk / "out"), inputs, splitting={"split_bytes": 400_000, "part_bytes": 100_000})
    with pytest.raises(StorageError, match="No space left on device") as caught:
        _launch(launcher, job)
    assert "finished parts are kept" in str(caught.value.fix)
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    assert _launch(launcher, job).tables["text"].rows == 200


def test_a_run_that_was_never_finished_is_no_dataset(inputs: Path, output: str) -> None:
    write_jsonl(inputs / "a.jsonl", GOOD)
    run_splits(job_of(output, inputs))
    with pytest.raises(TokenmillError, match="holds an unfinished dataset") as caught:
        tokenmill.open(output)
    assert "run the job again" in str(caught.value.fix)
