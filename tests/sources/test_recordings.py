"""Recordings that are cut into channels and stretches of speech: numbers, documents, and where reading resumes."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.sources.corpora import write
from tests.tar_files import as_tar
from tokenmill.audio import reasons as audio_reasons
from tokenmill.audio import segments
from tokenmill.audio.audio_file import AudioClip, AudioFile
from tokenmill.errors import ItemError
from tokenmill.job_sources import Source
from tokenmill.sources import recordings
from tokenmill.sources.items import Cursor, Reject
from tokenmill.sources.limits import ReadLimits
from tokenmill.sources.planning import plan_source
from tokenmill.sources.reading import open_split
from tokenmill.sources.splits import Split

RATE_HZ = 8000


def audio_source(**changes: Any) -> Source:
    return Source.model_validate({"name": "s", "modality": "audio", "uris": ["x"], **changes})


def wav(channels: int = 1, seconds: float = 0.5, seed: int = 0) -> bytes:
    """Return noise, each channel another."""
    samples = np.random.default_rng(seed).integers(-3000, 3000, (round(seconds * RATE_HZ), channels), np.int16)
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(channels)
        written.setsampwidth(2)
        written.setframerate(RATE_HZ)
        written.writeframes(samples.tobytes())
    return file.getvalue()


@dataclass(frozen=True)
class Item:
    ordinal: int
    end: int
    size_bytes: int
    key: str
    locator: str
    document: int
    position: int
    metadata: tuple[Any, ...]
    what: tuple[Any, ...]


@dataclass
class Result:
    items: list[Item] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


def read(source: Source, root: str, split: Split, cursor: Cursor = Cursor(), most_items: int = 1024) -> Result:  # noqa: B008
    """Read a split, checking what every batch promises."""
    result = Result()
    seen = cursor.ordinal - 1
    with pytest.MonkeyPatch.context() as patch, open_split(source, root, split, ReadLimits()) as reader:
        patch.setattr(recordings, "BATCH_ITEMS", most_items)
        for batch in reader.batches(cursor):
            numbers = sorted([*batch.ordinals.tolist(), *(reject.ordinal for reject in batch.rejects)])
            assert numbers == list(range(seen + 1, seen + 1 + len(numbers)))
            assert 0 < len(numbers) <= most_items + 1  # a reject, and the item that it must not part from
            seen = numbers[-1]
            assert batch.documents is not None
            assert batch.document_positions is not None
            for index in range(len(batch)):
                result.items.append(
                    Item(
                        int(batch.ordinals[index]),
                        int(batch.ends[index]),
                        int(batch.sizes[index]),
                        batch.keys[index],
                        batch.locators[index],
                        int(batch.documents[index]),
                        int(batch.document_positions[index]),
                        tuple(values[index] for values in batch.metadata.values()),
                        _what(batch.payloads[index]),
                    )
                )
            result.rejects += batch.rejects
    return result


def _what(payload: AudioFile | AudioClip) -> tuple[Any, ...]:
    if isinstance(payload, AudioFile):
        with payload.content.open() as file:
            return payload.options.channel, file.read()
    return payload.channel, payload.channels, payload.start_sample, payload.samples.tobytes()


def planned(tmp_path: Path, contents: dict[str, bytes], source: Source) -> tuple[str, Split]:
    root, files = write(tmp_path, contents)
    (split,) = plan_source(source, root, files, 1 << 30)
    return root, split


def check_restarts(source: Source, root: str, split: Split, whole: Result) -> None:
    """Check that reading resumes behind every item that has an end, whatever the batches are."""
    assert whole.items[-1].end >= 0
    for most_items in (1, 2, 3):
        assert read(source, root, split, most_items=most_items) == whole
    for number, item in enumerate(whole.items):
        if item.end >= 0:
            rest = read(source, root, split, Cursor(item.ordinal + 1, item.end), most_items=2)
            assert rest.items == whole.items[number + 1 :]
            assert rest.rejects == [reject for reject in whole.rejects if reject.ordinal > item.ordinal]


# Channels


def test_each_channel_is_an_item(tmp_path: Path) -> None:
    contents = {"a.wav": wav(2), "b.wav": wav(1, seed=1), "c.wav": wav(3, seed=2)}
    source = audio_source(channels="each", metadata=["speaker"])
    root, split = planned(tmp_path, contents, source)
    found = read(source, root, split)
    assert [(item.ordinal, item.key, item.locator, item.document, item.position) for item in found.items] == [
        (0, "a.wav", "a.wav:0#channel=0", 0, 0),
        (1, "a.wav", "a.wav:0#channel=1", 0, 1),
        (2, "b.wav", "b.wav:0#channel=0", 2, 0),
        (3, "c.wav", "c.wav:0#channel=0", 3, 0),
        (4, "c.wav", "c.wav:0#channel=1", 3, 1),
        (5, "c.wav", "c.wav:0#channel=2", 3, 2),
    ]
    assert [item.what for item in found.items] == [
        (item.position, contents[item.key]) for item in found.items
    ]  # streamed once for each channel: nothing is decoded here
    assert [item.end < 0 for item in found.items] == [True, False, False, True, True, False]
    for name, data in contents.items():
        assert sum(item.size_bytes for item in found.items if item.key == name) == len(data)
    check_restarts(source, root, split, found)


def test_a_header_that_cannot_be_read_is_one_reject(tmp_path: Path) -> None:
    contents = {"a.wav": wav(2), "b.wav": b"", "c.wav": b"no sound at all" * 100, "d.wav": wav(2)}
    source = audio_source(channels="each")
    root, split = planned(tmp_path, contents, source)
    found = read(source, root, split)
    assert [(reject.ordinal, reject.key, reject.locator, reject.reason) for reject in found.rejects] == [
        (2, "b.wav", "b.wav:0", audio_reasons.EMPTY_FILE),
        (3, "c.wav", "c.wav:0", audio_reasons.NOT_AUDIO),
    ]
    assert [item.document for item in found.items] == [0, 0, 4, 4]
    check_restarts(source, root, split, found)


def test_recordings_of_all_formats(tmp_path: Path) -> None:
    rows = io.BytesIO()
    audio = [wav(2, seed=3), None, wav(1, seed=4), wav(2, seed=5)]
    pq.write_table(pa.table({"audio": pa.array(audio, pa.binary()), "txt": list("abcd")}), rows, row_group_size=2)
    contents = {
        "a.wav": wav(2),
        "b.tar": as_tar({"x.wav": wav(2, seed=1), "x.txt": b"said", "y.txt": b"no sound", "z.wav": wav(2, seed=2)}),
        "c.parquet": rows.getvalue(),
    }
    source = audio_source(channels="each", metadata=["txt"])
    root, split = planned(tmp_path, contents, source)
    found = read(source, root, split)
    assert [(item.ordinal, item.key, item.locator, item.document, item.metadata) for item in found.items] == [
        (0, "a.wav", "a.wav:0#channel=0", 0, (None,)),
        (1, "a.wav", "a.wav:0#channel=1", 0, (None,)),
        (2, "x", "b.tar!x#channel=0", 2, ("said",)),
        (3, "x", "b.tar!x#channel=1", 2, ("said",)),
        (5, "z", "b.tar!z#channel=0", 5, (None,)),
        (6, "z", "b.tar!z#channel=1", 5, (None,)),
        (7, "c.parquet", "c.parquet#row=0&channel=0", 7, ("a",)),
        (8, "c.parquet", "c.parquet#row=0&channel=1", 7, ("a",)),
        (10, "c.parquet", "c.parquet#row=2&channel=0", 10, ("c",)),
        (11, "c.parquet", "c.parquet#row=3&channel=0", 11, ("d",)),
        (12, "c.parquet", "c.parquet#row=3&channel=1", 11, ("d",)),
    ]
    assert [(reject.ordinal, reject.reason) for reject in found.rejects] == [(4, "missing_field"), (9, "null_audio")]
    check_restarts(source, root, split, found)


# Segments


@pytest.fixture
def cut_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut whole tenths of a second instead of speech: as many as a recording's length in seconds has tenths."""

    def tenths(decoded: Any, channels: str, rules: Any) -> Iterator[AudioClip]:
        step = decoded.info.rate_hz // 10
        position = 0
        for block in decoded.blocks():
            position += len(block)
        for number in range(position // step):
            samples = np.full(step, number, np.float32)
            yield AudioClip(samples, decoded.info.rate_hz, decoded.info.channels, None, number * step)

    monkeypatch.setattr(segments, "speech_clips", tenths)


@pytest.mark.usefixtures("cut_seconds")
def test_each_segment_is_an_item(tmp_path: Path) -> None:
    contents = {"a.wav": wav(2, 0.35), "b.wav": wav(1, 0.05), "c.wav": wav(1, 0.2)}
    source = audio_source(segments={})
    root, split = planned(tmp_path, contents, source)
    found = read(source, root, split)
    assert [(item.ordinal, item.locator, item.document, item.position, item.end < 0) for item in found.items] == [
        (0, "a.wav:0#t=0.000,0.100", 0, 0, True),
        (1, "a.wav:0#t=0.100,0.200", 0, 1, True),
        (2, "a.wav:0#t=0.200,0.300", 0, 2, False),
        (4, "c.wav:0#t=0.000,0.100", 4, 0, True),
        (5, "c.wav:0#t=0.100,0.200", 4, 1, False),
    ]
    assert {item.size_bytes for item in found.items} == {2 * RATE_HZ // 10}
    (reject,) = found.rejects
    assert (reject.ordinal, reject.key, reject.locator, reject.reason) == (3, "b.wav", "b.wav:0", "no_speech")
    assert reject.lost_seconds == 0
    check_restarts(source, root, split, found)


def test_the_reject_of_a_damaged_recording_is_before_its_last_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading resumes after the recording: what came behind the last segment would be lost then."""

    def breaking(decoded: Any, channels: str, rules: Any) -> Iterator[AudioClip]:
        count = round(sum(len(block) for block in decoded.blocks()) / RATE_HZ * 10)
        for number in range(count):
            yield AudioClip(np.zeros(800, np.float32), RATE_HZ, 1, None, number * 800)
        raise ItemError(audio_reasons.DAMAGED_AUDIO, f"read as far as {count / 10} s", lost_seconds=1.0)

    monkeypatch.setattr(segments, "speech_clips", breaking)
    contents = {"a.wav": wav(1, 0.3), "b.wav": wav(1, 0.01), "c.wav": wav(1, 0.1)}
    source = audio_source(segments={})
    root, split = planned(tmp_path, contents, source)
    found = read(source, root, split)
    assert [(item.ordinal, item.key, item.document, item.position, item.end < 0) for item in found.items] == [
        (0, "a.wav", 0, 0, True),
        (1, "a.wav", 0, 1, True),
        (3, "a.wav", 0, 2, False),
        (6, "c.wav", 6, 0, False),
    ]
    assert [(reject.ordinal, reject.key, reject.message) for reject in found.rejects] == [
        (2, "a.wav", "read as far as 0.3 s"),
        (4, "b.wav", "read as far as 0.0 s"),
        (5, "c.wav", "read as far as 0.1 s"),
    ]
    assert [round(reject.lost_seconds, 6) for reject in found.rejects] == [0.7, 1.0, 0.9]
    check_restarts(source, root, split, found)


def test_speech_of_each_channel(tmp_path: Path) -> None:
    """With the detector: a sentence on the left, and a second later on the right."""
    from tokenmill.audio.audio_file import HeldContent
    from tokenmill.audio.decoding import DecodedAudio

    content = HeldContent((Path(__file__).parent.parent / "audio" / "speech.flac").read_bytes())
    with DecodedAudio(content, 60) as decoded:
        sentence = np.concatenate(list(decoded.blocks()))[:, 0]
    pause = np.zeros(16_000, np.float32)
    left = np.concatenate([pause, sentence, pause, 0 * sentence, pause])
    right = np.concatenate([pause, 0 * sentence, pause, sentence, pause])
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(2)
        written.setsampwidth(2)
        written.setframerate(16_000)
        written.writeframes((np.stack([left, right], 1) * 32767).astype(np.int16).tobytes())
    source = audio_source(channels="each", segments={"pad_seconds": 0.2})
    root, split = planned(tmp_path, {"a.wav": file.getvalue(), "b.wav": wav(2)}, source)
    found = read(source, root, split)
    assert [(item.ordinal, item.what[:2], item.document, item.position) for item in found.items] == [
        (0, (0, 2), 0, 0),
        (1, (1, 2), 0, 1),
    ]
    assert found.items[0].locator.startswith("a.wav:0#channel=0&t=")
    assert found.items[1].locator.startswith("a.wav:0#channel=1&t=")
    assert [reject.reason for reject in found.rejects] == ["no_speech"]
    check_restarts(source, root, split, found)
