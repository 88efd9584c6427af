"""Bad recordings, end to end: what each kind of them does to a run.

A recording that cannot be decoded is a reject with its reason; all others have a row in every table. Rows and rejects
together are all items, whatever the files are, and however recordings are cut.
"""

from __future__ import annotations

import io
import os
import random
import shlex
import subprocess
import sys
from collections import Counter
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tokenmill
from tests import bad_items
from tests.audio.samples import ENCODERS, decoded, encoded, every_sort, tones, wav, written
from tests.bad_items import check_nothing_is_lost
from tests.datasets import build_dataset, job_of, run_splits
from tests.takedown_cases import merged
from tests.tar_files import as_tar
from tests.test_bad_images import mutated
from tokenmill import commands, registry
from tokenmill.audio import reasons as audio_reasons
from tokenmill.errors import ChangedError, RejectedFractionError, UnavailableError
from tokenmill.estimates import estimate
from tokenmill.jobs import Job
from tokenmill.manifests import Manifest, read_manifest, read_shard_table
from tokenmill.planning import draft_plan
from tokenmill.replaying import read_again
from tokenmill.sources import file_task, reasons
from tokenmill.storage.outputs import Storage
from tokenmill.takedowns import take_down
from tokenmill.verification import verify

SPEECH = (Path(__file__).parent / "audio" / "speech.flac").read_bytes()


def entries(group: str) -> EntryPoints:
    """Return the one tokenizer of these tests, as if a package declared it."""
    return EntryPoints([EntryPoint("toy-codec", "tests.toy_codec:ToyCodec", group)])


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "entry_points", entries)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def output(tmp_path: Path) -> str:
    return str(tmp_path / "out")


def audio_job(output: str, inputs: Path | str, **changes: Any) -> Job:
    """Return a job of two tables over recordings: frames of 4 and of 8 samples."""
    tables = [
        {"name": "fine", "tokenizer": {"id": "toy-codec"}},
        {"name": "coarse", "tokenizer": {"id": "toy-codec", "hop_samples": 8, "codebooks": 2}},
    ]
    source = {"modality": "audio", "fields": {}, **changes.pop("source", {})}
    return job_of(output, inputs, source=source, **{"tables": tables, **changes})


def rejects(output: str, table: str = "fine") -> list[dict[str, Any]]:
    return bad_items.rejects(output, table)


def keys(output: str, table: str = "fine") -> list[str]:
    return bad_items.keys(output, table)


def tone(seconds: float = 0.5, seed: int = 0, channels: int = 1, rate_hz: int = 8000) -> bytes:
    return written(tones(round(seconds * rate_hz), channels, rate_hz, seed), rate_hz, "FLAC")


FLAC = tone(2)
MP3 = encoded(tones(48_000, 2), 48_000, *ENCODERS["mp3 gapless"])
NOT_A_NUMBER = tones(8000, 1, 8000)
NOT_A_NUMBER[5000] = np.nan

#: File → content, and the reason of its reject, None where it has a row.
FILES: dict[str, tuple[bytes, str | None]] = {
    "0samples.wav": (wav(b"", rate_hz=8000), None),
    "1sample.wav": (wav(b"\1\0", rate_hz=8000), None),
    "64channels.wav": (written(tones(800, 64, 8000), 8000), None),
    "65channels.wav": (written(tones(800, 65, 8000), 8000), audio_reasons.UNSUPPORTED_AUDIO),
    "broken_header.mp3": (b"\xff\x0b\x90" + MP3[3:2000].replace(b"\xff", b"\xfe"), audio_reasons.NOT_AUDIO),
    "empty.wav": (b"", audio_reasons.EMPTY_FILE),
    "flac.wav": (FLAC, None),
    "half.flac": (FLAC[: len(FLAC) // 2], audio_reasons.DAMAGED_AUDIO),
    "half.m4a": (every_sort()["m4a aac"][:3000], audio_reasons.DAMAGED_AUDIO),
    "header.wav": (wav(b"", rate_hz=8000)[:20], audio_reasons.DAMAGED_AUDIO),
    "mp3.ogg": (MP3, None),
    "nan.wav": (written(NOT_A_NUMBER, 8000, "WAV", "FLOAT"), audio_reasons.DAMAGED_AUDIO),
    "page.html.opus": (b"<!DOCTYPE html><title>404</title>", audio_reasons.NOT_AUDIO),
    "silence.flac": (written(np.zeros((8000, 1), np.float32), 8000, "FLAC"), None),
    "text.wav": (b"Dear Sir or Madam,\n" * 100, audio_reasons.NOT_AUDIO),
    **{f"z {name}.oga": (data, None) for name, data in every_sort().items()},
}
ROWS = [name for name, (_, reason) in sorted(FILES.items()) if reason is None]


def test_a_folder_of_odd_recordings(inputs: Path, output: str) -> None:
    for name, (data, _) in FILES.items():
        (inputs / name).write_bytes(data)
    manifest = build_dataset(audio_job(output, inputs))
    assert {reject["key"]: reject["reason"] for reject in rejects(output)} == {
        name: reason for name, (_, reason) in FILES.items() if reason is not None
    }
    assert keys(output) == ROWS
    check_nothing_is_lost(output, manifest, len(FILES))
    numbers = {row.key: row.streams["recording"].tolist() for row in tokenmill.open(output)["fine"]}
    assert numbers["0samples.wav"] == [8000, 1, -1, 0, 0, 0]
    assert numbers["1sample.wav"] == [8000, 1, -1, 0, 1, 1]
    assert numbers["64channels.wav"] == [8000, 64, -1, 0, 800, 800]
    assert numbers["flac.wav"] == [8000, 1, -1, 0, 16_000, 16_000]
    assert numbers["z flac.oga"] == [48_000, 2, -1, 0, 24_077, round(24_077 / 6)]


def test_channels_of_odd_recordings(inputs: Path, output: str) -> None:
    """Each channel has a row; what cannot be opened is one reject, and what breaks off one for each channel."""
    for name, (data, _) in FILES.items():
        (inputs / name).write_bytes(data)
    manifest = build_dataset(audio_job(output, inputs, source={"channels": "each"}))
    rows = list(tokenmill.open(output)["fine"])
    assert Counter(row.key for row in rows) == {
        name: 64 if name.startswith("64") else 2 if "z " in name or "mp3" in name else 1 for name in ROWS
    }
    for row in rows:
        assert (row.position, row.ordinal - row.document) == (row.streams["recording"][2],) * 2
    found = Counter((reject["key"], reject["reason"]) for reject in rejects(output))
    expected = {(name, reason): 1 for name, (_, reason) in FILES.items() if reason is not None}
    expected["half.m4a", audio_reasons.DAMAGED_AUDIO] = found["half.m4a", audio_reasons.DAMAGED_AUDIO]
    assert found == expected
    check_nothing_is_lost(output, manifest, len(rows) + sum(found.values()))


def test_too_many_rejects_publish_nothing_and_say_why(inputs: Path, output: str) -> None:
    for name, (data, _) in FILES.items():
        (inputs / name).write_bytes(data)
    with pytest.raises(RejectedFractionError, match=r"9 of 35 items were rejected .*damaged_audio 4"):
        build_dataset(audio_job(output, inputs, limits={"max_rejected_fraction": 0.1}))
    assert not (Path(output) / "manifests").exists()


def test_the_limits_of_a_job_hold(inputs: Path, output: str) -> None:
    (inputs / "a.flac").write_bytes(tone(1))
    (inputs / "b.flac").write_bytes(tone(1.1))
    (inputs / "c.wav").write_bytes(written(tones(9000, 2, 8000), 8000))
    size_bytes = (inputs / "c.wav").stat().st_size
    limits = {"max_audio_seconds": 1.05, "max_audio_bytes": size_bytes - 1, "max_item_bytes": 100}
    manifest = build_dataset(audio_job(output, inputs, limits=limits))
    assert keys(output) == ["a.flac"]
    assert [(reject["key"], reject["reason"]) for reject in rejects(output)] == [
        ("b.flac", audio_reasons.TOO_LONG),
        ("c.wav", reasons.ITEM_TOO_LARGE),
    ]
    check_nothing_is_lost(output, manifest, 3)


def _samples(count: int) -> dict[str, bytes]:
    members = {}
    for number in range(count):
        members[f"{number:03}.flac"] = tone(0.3, number)
        members[f"{number:03}.txt"] = f"said {number}".encode()
    return members


def test_a_corrupt_member_of_a_tar_file(inputs: Path, output: str) -> None:
    members = _samples(20)
    members["007.flac"] = members["007.flac"][:300] + bytes(len(members["007.flac"]) - 300)
    members["011.flac"] = b""
    del members["013.flac"]
    (inputs / "a.tar").write_bytes(as_tar(members))
    manifest = build_dataset(audio_job(output, inputs, source={"metadata": ["txt"]}))
    assert [(reject["locator"], reject["reason"]) for reject in rejects(output)] == [
        ("a.tar!007", audio_reasons.DAMAGED_AUDIO),
        ("a.tar!011", audio_reasons.EMPTY_FILE),
        ("a.tar!013", reasons.MISSING_FIELD),
    ]
    check_nothing_is_lost(output, manifest, 20)
    rows = list(tokenmill.open(output)["fine"])
    assert [row.metadata["txt"] for row in rows] == [f"said {int(row.key)}" for row in rows]


@pytest.mark.parametrize("channels", ["mix", "each"])
def test_of_a_torn_tar_file_the_whole_recordings_are_kept(inputs: Path, output: str, channels: str) -> None:
    data = as_tar(_samples(40))
    (inputs / "a.tar").write_bytes(data[: int(len(data) * 0.6) + 700])  # inside of a member
    (inputs / "b.flac").write_bytes(FLAC)
    manifest = build_dataset(audio_job(output, inputs, source={"channels": channels}))
    (reject,) = rejects(output)
    assert reject["reason"] == reasons.TORN_FILE
    found = keys(output)
    assert found == [*(f"{number:03}" for number in range(len(found) - 1)), "b.flac"]
    assert 18 < len(found) < 30
    check_nothing_is_lost(output, manifest, len(found) + 1)


@pytest.mark.parametrize("hub", [False, True], ids=["plain", "struct"])
@pytest.mark.parametrize("channels", ["mix", "each"])
def test_null_and_garbage_in_a_parquet_file(inputs: Path, output: str, hub: bool, channels: str) -> None:
    values = [FLAC, None, os.urandom(3000), b"", FLAC[:-3000], FLAC]
    column: Any = pa.array(values, pa.binary())
    if hub:
        paths = pa.array([f"p/{number}.flac" for number in range(len(values))])
        column = pa.StructArray.from_arrays([column, paths], ["bytes", "path"])
    pq.write_table(pa.table({"audio": column, "id": list("abcdef")}), inputs / "a.parquet", row_group_size=2)
    source = {"fields": {"id": "audio.path" if hub else "id"}, "channels": channels}
    manifest = build_dataset(audio_job(output, inputs, source=source))
    expected = ["p/0.flac", "p/5.flac"] if hub else ["a", "f"]
    assert keys(output) == keys(output, "coarse") == expected
    assert [(reject["ordinal"], reject["reason"]) for reject in rejects(output)] == [
        (1, reasons.NULL_AUDIO),
        (2, audio_reasons.NOT_AUDIO),
        (3, audio_reasons.EMPTY_FILE),
        (4, audio_reasons.DAMAGED_AUDIO),
    ]
    check_nothing_is_lost(output, manifest, 6)


def test_parts_end_between_recordings_whatever_is_rejected(inputs: Path, output: str) -> None:
    """Many parts, a third of the recordings bad: the parts hold all, and a second run finds nothing to do."""
    for number in range(60):
        (inputs / f"{number:02}.flac").write_bytes(tone(0.2, number)[: 4000 if number % 3 else 800])
    job = audio_job(output, inputs)
    manifest = build_dataset(job)
    assert len(list(Storage.open(output).list("fine/shards/"))) > 5
    check_nothing_is_lost(output, manifest, 60)
    before = {entry.path for entry in Storage.open(output).list("")}
    run_splits(job)
    assert {entry.path for entry in Storage.open(output).list("")} == before


def test_an_estimate_counts_recordings_that_do_not_decode(inputs: Path, output: str) -> None:
    for number in range(40):
        (inputs / f"{number:02}.flac").write_bytes(FLAC if number % 4 else FLAC[:-4])
    job = audio_job(output, inputs)
    storage = Storage.open(output)
    found = estimate(storage, draft_plan(storage, job), job, sample_seconds=20)
    assert found.rejected_fraction == 0.25
    assert [table.documents for table in found.tables] == [30, 30]
    assert found.payload_bytes == sum(path.stat().st_size for path in inputs.iterdir())


# Cut recordings


def conversation(sentences: int, *, broken: bool = False) -> bytes:
    """Return a stereo file of sentences on the left, one more on the right, with a second of silence around each."""
    sentence = decoded(SPEECH)[1]
    pause = np.zeros((16_000, 1), np.float32)
    left = np.concatenate([pause, *[sentence, pause] * sentences, 0 * sentence, pause])
    right = np.concatenate([0 * left[: -len(sentence) - 16_000], sentence, pause])
    data = written(np.concatenate([left, right], axis=1), 16_000, "FLAC")
    return data[: len(data) * 3 // 4] if broken else data


def talk(inputs: Path) -> None:
    (inputs / "a.flac").write_bytes(conversation(3))
    (inputs / "b.flac").write_bytes(tone(3))
    (inputs / "c.flac").write_bytes(conversation(4, broken=True))
    (inputs / "d.wav").write_bytes(b"no sound")
    (inputs / "e.flac").write_bytes(conversation(1))
    (inputs / "f.flac").write_bytes(conversation(2))


SEGMENTS = {"segments": {"pad_seconds": 0.05}}


def test_stretches_of_speech(inputs: Path, output: str) -> None:
    talk(inputs)
    manifest = build_dataset(audio_job(output, inputs, source=SEGMENTS))
    rows = list(tokenmill.open(output)["fine"])
    count = Counter(row.key for row in rows)
    assert (count["a.flac"], count["e.flac"], count["f.flac"]) == (4, 2, 3)
    assert 2 <= count["c.flac"] <= 4
    assert [(reject["key"], reject["reason"]) for reject in rejects(output)] == [
        ("b.flac", reasons.NO_SPEECH),
        ("c.flac", audio_reasons.DAMAGED_AUDIO),
        ("d.wav", audio_reasons.NOT_AUDIO),
    ]
    assert rejects(output)[1]["lost_seconds"] > 1
    check_nothing_is_lost(output, manifest, len(rows) + 3)
    for key, number in count.items():
        own = [row for row in rows if row.key == key]
        assert [row.position for row in own] == list(range(number))
        assert {row.document for row in own} == {own[0].ordinal}
        starts = [int(row.streams["recording"][3]) for row in own]
        assert starts == sorted(starts)
        assert all(abs(row.streams["recording"][4] / 16_000 - 3) < 0.5 for row in own)
    assert verify(output).problems == []


def test_segments_of_each_channel(inputs: Path, output: str) -> None:
    talk(inputs)
    manifest = build_dataset(audio_job(output, inputs, source={**SEGMENTS, "channels": "each"}))
    rows = [row for row in tokenmill.open(output)["fine"] if row.key == "a.flac"]
    assert [row.streams["recording"][1:3].tolist() for row in rows] == [[2, 0]] * 3 + [[2, 1]]
    check_nothing_is_lost(output, manifest, manifest.tables["fine"].rows + 3)


@pytest.mark.parametrize("source", [SEGMENTS, {"channels": "each"}], ids=["segments", "channels"])
def test_a_run_that_goes_on_makes_the_same_of_cut_recordings(
    inputs: Path, tmp_path: Path, source: dict[str, Any]
) -> None:
    """Parts are made again from where they begin; a recording is never in two of them."""
    talk(inputs)
    whole, again = str(tmp_path / "whole"), str(tmp_path / "again")
    manifest = build_dataset(audio_job(whole, inputs, source=source, splitting={"part_bytes": 1024}))
    expected = _shards(whole, manifest)
    keys_of_parts = [set(_table(whole, path)["key"].to_pylist()) for path, _ in expected["fine"]]
    assert len(keys_of_parts) >= 4
    assert sum(map(len, keys_of_parts)) == len(set.union(*keys_of_parts))
    job = audio_job(again, inputs, source=source, splitting={"part_bytes": 1024})
    run_splits(job)
    storage = Storage.open(again)
    receipts = sorted(entry.path for entry in storage.list("") if "/receipts/" in entry.path)
    for chosen in (receipts[1::2], receipts[::3], receipts[-1:]):
        storage.delete(chosen)
        run_splits(job)
    assert _shards(again, build_dataset(job)) == expected


def _shards(output: str, manifest: Manifest) -> dict[str, list[tuple[str, str]]]:
    storage = Storage.open(output)
    return {
        name: [(row["path"], row["sha256"]) for row in read_shard_table(storage, table).rows()]
        for name, table in manifest.tables.items()
    }


def _table(output: str, path: str) -> Any:
    return pa.ipc.open_file(pa.BufferReader(Storage.open(output).read(path))).read_all()


def test_taking_cut_recordings_down(inputs: Path, tmp_path: Path, output: str) -> None:
    """All pieces of a recording go, and what is left is counted as if it had never been there."""
    talk(inputs)
    (tmp_path / "kept").mkdir()
    gone = {"a.flac", "c.flac", "d.wav"}
    for path in inputs.iterdir():
        if path.name not in gone:
            (tmp_path / "kept" / path.name).write_bytes(path.read_bytes())
    splitting = {"part_bytes": 300_000}
    build_dataset(audio_job(output, inputs, source=SEGMENTS, splitting=splitting))
    before = Counter(keys(output))
    storage = Storage.open(output)
    report = take_down(storage, sorted(gone))
    taken = before["a.flac"] + before["c.flac"] + 2
    assert {name: table.items for name, table in report.tables.items()} == {"fine": taken, "coarse": taken}
    assert set(keys(output)) == {"e.flac", "f.flac"}
    other = build_dataset(audio_job(output + "2", tmp_path / "kept", source=SEGMENTS, splitting=splitting))
    now = read_manifest(storage)
    for name in ("fine", "coarse"):
        assert merged(storage, now, name) == merged(Storage.open(output + "2"), other, name)
    assert verify(output).problems == []


def test_recordings_are_read_again(inputs: Path, output: str) -> None:
    """One of a file of its own is read alone; a segment is found where it was."""
    talk(inputs)
    build_dataset(audio_job(output, inputs))
    payloads, errors = read_again(Storage.open(output), "fine", 0, {4: "e.flac"})
    assert payloads[4].content.open().read() == (inputs / "e.flac").read_bytes()
    assert errors == {}
    build_dataset(audio_job(output + "2", inputs, source=SEGMENTS))
    row = next(row for row in tokenmill.open(output + "2")["fine"] if row.key == "e.flac" and row.position == 1)
    payloads, _ = read_again(Storage.open(output + "2"), "fine", row.split, {row.ordinal: "e.flac"})
    assert len(payloads[row.ordinal].samples) == row.streams["recording"][4]
    assert payloads[row.ordinal].start_sample == row.streams["recording"][3]


# What is no fault of a recording


@pytest.mark.parametrize("source", [{}, {"channels": "each"}, SEGMENTS], ids=["whole", "channels", "segments"])
def test_a_file_that_changes_ends_the_run(inputs: Path, output: str, source: dict[str, Any]) -> None:
    (inputs / "a.flac").write_bytes(FLAC)
    job = audio_job(output, inputs, source=source)
    draft_plan(Storage.open(output), job)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_task, "stat_input", lambda uri: (len(FLAC), "mtime:1"))
        with pytest.raises(ChangedError, match="has changed since it was planned"):
            run_splits(job)
    assert not list(Storage.open(output).list("rejects/"))
    build_dataset(job)


@pytest.mark.parametrize("source", [{}, {"channels": "each"}, SEGMENTS], ids=["whole", "channels", "segments"])
def test_a_storage_that_fails_ends_the_run(inputs: Path, output: str, source: dict[str, Any]) -> None:
    """Not the recording is bad: run again, it has its row."""
    (inputs / "a.flac").write_bytes(conversation(1))
    job = audio_job(output, inputs, source=source)

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 20_000:
                raise UnavailableError("the server does not answer")
            return super().read(1000)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_task, "open_input", lambda uri: Failing((inputs / "a.flac").read_bytes()))
        with pytest.raises(UnavailableError, match="does not answer"):
            run_splits(job)
    assert not list(Storage.open(output).list("rejects/"))
    assert build_dataset(job).tables["fine"].rows > 0


def test_the_command_in_a_rejects_line(
    inputs: Path, output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (inputs / "a.flac").write_bytes(FLAC)
    (inputs / "b.flac").write_bytes(FLAC[:900])
    build_dataset(audio_job(output, inputs))
    (reject,) = rejects(output)
    monkeypatch.chdir(output)
    command = shlex.split(reject["replay"])
    for ordinal, said in (
        ("1", ["item 1 of split 0 is rejected", "damaged_audio", reject["message"]]),
        ("0", ["item 0 of split 0 has a row", "stream recording", "16000"]),
    ):
        monkeypatch.setattr(sys, "argv", [*command[:-1], ordinal])
        with pytest.raises(SystemExit) as left:
            commands.main()
        assert left.value.code == ("rejected" in said[0])
        shown = capsys.readouterr().out
        assert all(words in shown for words in said)


# Fuzzing


_FUZZ = """
import sys
from tests import test_bad_audio as here
here.registry.entry_points = here.entries
here.run_splits(here.audio_job(sys.argv[2], here.Path(sys.argv[1]), source={"channels": sys.argv[3]}))
# Not ru_maxrss, which a process inherits from the one that started it.
print(*(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def _fuzz(inputs: Path, output: str, count: int, seed: int, channels: str) -> Counter[str]:
    """Tokenize mutated files in a process of its own, which must live; returns what became of them."""
    generator = random.Random(seed)
    files = list(every_sort(4001).values())
    for number in range(count):
        (inputs / f"{number:05}.wav").write_bytes(mutated(files[number % len(files)], generator))
    command = [sys.executable, "-W", "error", "-c", _FUZZ, str(inputs), output, channels]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) < 1_000_000, "kilobytes of memory"
    manifest = build_dataset(audio_job(output, inputs, source={"channels": channels}))
    rows = manifest.tables["fine"].rows
    if channels == "mix":
        check_nothing_is_lost(output, manifest, count)
    assert {row.key for row in tokenmill.open(output)["fine"]} | {reject["key"] for reject in rejects(output)} == {
        path.name for path in inputs.iterdir()
    }
    found = Counter(reject["reason"] for reject in rejects(output))
    assert set(found) <= {*audio_reasons.REASONS}
    return found + Counter(row=rows)


@pytest.mark.parametrize("channels", ["mix", "each"])
def test_mutated_files_end_no_worker(inputs: Path, output: str, channels: str) -> None:
    found = _fuzz(inputs, output, 190, 1, channels)
    assert found["row"] > 20
    assert found[audio_reasons.DAMAGED_AUDIO] > 20


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_five_thousand_mutated_files_end_no_worker(inputs: Path, output: str) -> None:
    found = _fuzz(inputs, output, 5000, 2, "mix")
    assert found["row"] > 500
    assert found[audio_reasons.DAMAGED_AUDIO] > 500
    assert found[audio_reasons.NOT_AUDIO] > 50
