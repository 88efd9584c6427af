"""Recordings as sources: files that are streamed, tar and Parquet; limits, changed files, and what reading costs."""

from __future__ import annotations

import io
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.sources.corpora import Result, gz, read_source, read_split, write
from tests.tar_files import as_tar
from tokenmill.audio.audio_file import AudioFile, AudioOptions
from tokenmill.errors import ChangedError, InputError, StorageError
from tokenmill.job_sources import Source
from tokenmill.sources import runs
from tokenmill.sources.formats import file_format
from tokenmill.sources.items import Cursor
from tokenmill.sources.limits import ReadLimits
from tokenmill.sources.planning import RUN_IMAGES, plan_source
from tokenmill.sources.reading import open_split
from tokenmill.sources.splits import InputFile, Split
from tokenmill.storage import s3_client
from tokenmill.storage.inputs import expand
from tokenmill.storage.outputs import Storage

_ENDINGS = ("wav", "w64", "flac", "ogg", "opus", "oga", "mp3", "m4a")


def audio_source(**changes: Any) -> Source:
    return Source.model_validate({"name": "s", "modality": "audio", "uris": ["x"], **changes})


def _parquet(table: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=2)
    return file.getvalue()


def _read(tmp_path: Path, contents: dict[str, bytes], limits: ReadLimits | None = None, **source: Any) -> Result:
    root, files = write(tmp_path, contents)
    return read_source(audio_source(**source), root, files, limits=limits)


def _payload(tmp_path: Path, data: bytes, **source: Any) -> AudioFile:
    """Return the payload of one file, `a.flac`."""
    root, files = write(tmp_path, {"a.flac": data})
    (split,) = plan_source(audio_source(), root, files, 1 << 40)
    with open_split(audio_source(**source), root, split, ReadLimits(max_audio_seconds=7)) as reader:
        ((payload,),) = (batch.payloads for batch in reader.batches())
    assert isinstance(payload, AudioFile)
    return payload


# Files


@pytest.mark.parametrize("ending", _ENDINGS)
def test_endings(ending: str) -> None:
    assert file_format(audio_source(), f"a/B.{ending.upper()}").format == "audio"
    assert file_format(audio_source(), f"a/b.{ending}.gz").compression == "gz"
    assert file_format(audio_source(format="audio"), "a/b.bin").format == "audio"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("a.jsonl", "by its ending the file is jsonl, and holds no audio(.|\n)*files of text .*`modality: text`"),
        ("a.png", "by its ending the file is image, and holds no audio(.|\n)*files of image .*`modality: image`"),
        ("a.mid", "does not show(.|\n)*known endings are .parquet .tar .wav .w64 .flac .ogg .opus .oga .mp3 .m4a"),
    ],
)
def test_files_that_are_no_recordings_are_refused(path: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        file_format(audio_source(), path)


def test_a_file_is_an_item_of_its_size(tmp_path: Path) -> None:
    contents = {"a.wav": b"", "b/c.MP3": b"ID3", "d.opus": os.urandom(3000)}
    result = _read(tmp_path, contents, metadata=["speaker"])
    found = [(item.ordinal, item.key, item.size_bytes, item.locator, item.metadata) for item in result.items]
    assert found == [
        (0, "a.wav", 0, "a.wav:0", (None,)),
        (1, "b/c.MP3", 3, "b/c.MP3:0", (None,)),
        (2, "d.opus", 3000, "d.opus:0", (None,)),
    ]
    assert [item.text.encode("utf-8", "surrogateescape") for item in result.items] == list(contents.values())


def test_a_restart_after_any_recording_gives_the_rest(tmp_path: Path) -> None:
    root, files = write(tmp_path, {f"{n:02}.wav": bytes([65 + n]) * (n * 7 % 30) for n in range(20)})
    limits = ReadLimits(max_audio_bytes=25)
    (split,) = plan_source(audio_source(), root, files, 1 << 20)
    whole = read_split(audio_source(), root, split, limits=limits)
    assert whole.reasons == ["item_too_large"] * 3
    for number, item in enumerate(whole.items):
        rest = read_split(audio_source(), root, split, Cursor(item.ordinal + 1, item.end), limits)
        assert rest.items == whole.items[number + 1 :]
        assert rest.rejects == [reject for reject in whole.rejects if reject.ordinal > item.ordinal]


def test_options_of_decoding(tmp_path: Path) -> None:
    assert _payload(tmp_path, b"x").options == AudioOptions(None, 7)
    assert _payload(tmp_path, b"x", channels="first").options == AudioOptions(0, 7)


def test_limits_of_files_that_are_streamed_and_of_files_that_are_held(tmp_path: Path) -> None:
    """`max_audio_bytes` is for files of their own; compressed ones are held, and so `max_item_bytes` is for them."""
    contents = {
        "a.wav": bytes(300),
        "b.wav": bytes(301),
        "c.wav.gz": b"".join(gz(bytes(50))),
        "d.wav.gz": b"".join(gz(bytes(51))),
        "e.tar": as_tar({"e.wav": bytes(51), "f.wav": bytes(50)}),
        "g.parquet": _parquet(pa.table({"audio": [bytes(51), bytes(50)]})),
    }
    result = _read(tmp_path, contents, ReadLimits(max_item_bytes=50, max_audio_bytes=300))
    assert [(item.key, item.size_bytes) for item in result.items] == [
        ("a.wav", 300),
        ("c.wav.gz", 50),
        ("f", 50),
        ("g.parquet", 50),
    ]
    assert [(reject.locator, reject.message) for reject in result.rejects] == [
        ("b.wav:0", "the file has 301 bytes; max_audio_bytes is 300"),
        ("d.wav.gz:0", "the file has more than 50 bytes, which is max_item_bytes"),
        ("e.tar!e", "'e.wav' has 51 bytes; max_item_bytes is 50"),
        ("g.parquet#row=0", "the audio has 51 bytes; max_item_bytes is 50"),
    ]
    assert set(result.reasons) == {"item_too_large"}


def test_a_large_file_is_never_held(tmp_path: Path) -> None:
    with (tmp_path / "a.flac").open("wb") as file:
        file.truncate(1 << 30)
    root, files = write(tmp_path, {})
    (split,) = plan_source(audio_source(), root, files, 1 << 40)
    tracemalloc.start()
    with open_split(audio_source(), root, split, ReadLimits()) as reader:
        ((payload,),) = (batch.payloads for batch in reader.batches())
        with payload.content.open() as content:
            content.seek(-5, io.SEEK_END)
            assert content.read(32768) == bytes(5)
            content.seek(1 << 29)
            assert len(content.read(32768)) == 32768
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert payload.content.size_bytes == 1 << 30
    assert peak < 2 << 20


def test_a_content_can_be_opened_twice_at_once(tmp_path: Path) -> None:
    content = _payload(tmp_path, bytes(range(256)) * 4).content
    with content.open() as one, content.open() as two:
        assert one.read(3) == b"\0\1\2"
        assert two.read(2) == b"\0\1"
        assert one.read(2) == b"\3\4"
        two.seek(-2, io.SEEK_END)
        assert (two.tell(), two.read()) == (1022, b"\xfe\xff")
        one.seek(1 << 60)
        assert one.read(5) == b""
        one.seek(1)
        assert one.read(1) == b"\1"


def test_a_file_that_changed_is_told(tmp_path: Path) -> None:
    content = _payload(tmp_path, bytes(1000)).content
    (tmp_path / "a.flac").write_bytes(bytes(1001))
    with pytest.raises(ChangedError, match="has changed since it was planned: 1000 bytes"):
        content.open()
    (tmp_path / "a.flac").unlink()
    with pytest.raises(InputError, match="there is no such file"):
        content.open()


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    content = _payload(tmp_path, bytes(1_000_000)).content
    with content.open() as file:
        file.read(10)
        with (tmp_path / "a.flac").open("ab") as longer:
            longer.write(b"more")
        file.seek(0, io.SEEK_END)
        assert (file.tell(), file.read()) == (1_000_000, b"")
        os.truncate(tmp_path / "a.flac", 500_000)
        file.seek(400_000)
        with pytest.raises(ChangedError, match="became shorter while it was read: 500000 bytes of 1000000"):
            file.read()


def test_how_much_was_read_is_known(tmp_path: Path) -> None:
    root, files = write(tmp_path, {"a.wav": bytes(1 << 20), "b.wav": bytes(3 << 20)})
    (split,) = plan_source(audio_source(), root, files, 1 << 40)
    with open_split(audio_source(), root, split, ReadLimits()) as reader:
        one, two = (batch.payloads[0] for batch in reader.batches())
        assert reader.stored_bytes_read == 0
        for payload in (one, one):  # for two tables
            with payload.content.open() as file:
                file.read()
            assert reader.stored_bytes_read == 1 << 20
        with two.content.open() as file:
            file.seek(-(128 << 10), io.SEEK_END)
            file.read()
            file.seek(0)
            file.read(1 << 20)
            assert abs(reader.stored_bytes_read - (2 << 20)) <= 512 << 10


# Splits


def _plan(sizes: list[int], split_bytes: int) -> list[Split]:
    files = [InputFile(f"{number:06}.flac", size, "v") for number, size in enumerate(sizes)]
    return list(plan_source(audio_source(), "/nowhere", files, split_bytes))


def test_recordings_of_any_size_share_splits() -> None:
    assert [len(split.files) for split in _plan([5_000_000] * 100, 256_000_000)] == [51, 49]
    assert [len(split.files) for split in _plan([5000] * 600, 256_000_000)] == [RUN_IMAGES, RUN_IMAGES, 100]
    assert [(split.kind, len(split.files)) for split in _plan([10, 5000, 20], 4096)] == [("file", 1), ("files", 2)]


# Tar and Parquet


def test_the_recording_of_a_sample_is_the_first_member_that_is_one(tmp_path: Path) -> None:
    members = {
        "a.txt": b"said",
        "a.FLAC": b"flac",
        "b.mp3": b"mp3",
        "b.wav": b"wav",
        "c.json": b'{"speaker": 3}',
        "c.m4a": b"m4a",
        "d.far.wav": b"no",
    }
    metadata = {"txt": "string", "json.speaker": "int64"}
    result = _read(tmp_path, {"a.tar": as_tar(members)}, metadata=metadata)
    assert [(item.ordinal, item.key, item.text, item.metadata) for item in result.items] == [
        (0, "a", "flac", ("said", None)),
        (1, "b", "wav", (None, None)),
        (2, "c", "m4a", (None, 3)),
    ]
    assert [(reject.reason, reject.locator) for reject in result.rejects] == [("missing_field", "a.tar!d")]
    assert _read(tmp_path, {"a.tar": as_tar(members)}, fields={"audio": "far.WAV"}).texts == ["no"]


@pytest.mark.parametrize("hub", [False, True], ids=["plain", "struct"])
def test_audio_columns(tmp_path: Path, hub: bool) -> None:
    values: Any = pa.array([b"a", b"\xff\x00", b"", None, b"b"])
    paths = pa.array(["p/a", "p/b", None, "p/d", "p/e"])
    column = pa.StructArray.from_arrays([values, paths], ["bytes", "path"]) if hub else values
    result = _read(tmp_path, {"a.parquet": _parquet(pa.table({"audio": column, "label": [1, 2, 3, 4, 5]}))})
    assert [(item.ordinal, item.text) for item in result.items] == [(0, "a"), (1, "\udcff\0"), (2, ""), (4, "b")]
    (reject,) = result.rejects
    assert (reject.reason, reject.message, reject.locator) == ("null_audio", "'audio' is null", "a.parquet#row=3")


def test_columns_that_hold_no_recordings_are_refused(tmp_path: Path) -> None:
    root, files = write(tmp_path, {"a.parquet": _parquet(pa.table({"audio": ["text"], "label": [1]}))})
    with pytest.raises(InputError, match="column 'audio' holds string, no audio; the columns are audio") as caught:
        list(plan_source(audio_source(), root, files, 1 << 20))
    assert "`fields.audio`" in str(caught.value.fix)


# Object storage


def _put(s3_root: str, contents: dict[str, bytes]) -> tuple[str, list[InputFile]]:
    storage = Storage.open(s3_root)
    for name, data in contents.items():
        storage.create(name, data)
    expanded = expand([s3_root])
    return expanded.root, list(expanded.files)


def test_recordings_on_object_storage(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {f"{number:02}.opus": f"sound {number}".encode() * (number * 100 + 1) for number in range(20)}
    root, files = _put(s3_root, contents)
    monkeypatch.setattr(runs, "_FETCHED_AUDIO_BYTES", 9000)  # some are fetched ahead, some read when their turn comes
    (split,) = plan_source(audio_source(), root, files, 1 << 20)
    whole = read_split(audio_source(), root, split)
    assert [(item.key, item.text.encode()) for item in whole.items] == list(contents.items())
    item = whole.items[7]
    assert read_split(audio_source(), root, split, Cursor(8, item.end)).items == whole.items[8:]


def test_a_decoders_small_reads_are_few_requests(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of 20 MB, read in pieces of 32 KiB after a look at its end, as FFmpeg does."""
    root, files = _put(s3_root, {"a.mp3": bytes(20 << 20)})
    (split,) = plan_source(audio_source(), root, files, 1 << 40)
    fetched: list[int] = []
    fetch = s3_client.fetch

    def counted(bucket: str, key: str, start: int, stop: int, **options: Any) -> bytes:
        fetched.append(stop - start)
        return fetch(bucket, key, start, stop, **options)

    monkeypatch.setattr(s3_client, "fetch", counted)
    with open_split(audio_source(), root, split, ReadLimits()) as reader:
        ((payload,),) = (batch.payloads for batch in reader.batches())
        assert not fetched
        with payload.content.open() as file:
            file.read(32768)
            file.seek(-128, io.SEEK_END)
            file.read(128)
            file.seek(0)
            while file.read(32768):
                pass
    assert len(fetched) <= 12
    assert sum(fetched) < 22 << 20


def test_a_server_that_is_gone_is_no_fault_of_the_recording(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root, files = _put(s3_root, {"a.mp3": bytes(3 << 20)})
    (split,) = plan_source(audio_source(), root, files, 1 << 40)
    with open_split(audio_source(), root, split, ReadLimits()) as reader:
        ((payload,),) = (batch.payloads for batch in reader.batches())
        with payload.content.open() as file:
            file.read(10)
            Storage.open(s3_root).delete(["a.mp3"])
            Storage.open(s3_root).create("a.mp3", b"other" * 999_999)
            file.seek(1 << 20)
            with pytest.raises(StorageError, match="replaced while it was read"):
                file.read()
