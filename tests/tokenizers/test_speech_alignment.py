"""Tables of one source side by side: what an acoustic, a semantic and a phonetic tokenizer make of the same sound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

import tokenmill
from tests.datasets import build_dataset, job_of
from tests.tokenizers.audio_models import sound
from tests.tokenizers.speech_models import codebook_of, speech_model
from tokenmill.audio.testing import wav

__all__ = ["speech_model"]  # a fixture, found by its name here

SECONDS = {"a.wav": 1.37, "b.wav": 0.25, "d.wav": 2.0}


def test_rows_are_of_the_same_recordings_and_frames_of_the_same_time(
    speech_model: Callable[[str], Path], tmp_path: Path
) -> None:
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    for name, seconds in SECONDS.items():
        (recordings / name).write_bytes(wav(sound(seconds, 22_050)[:, None], 22_050))
    (recordings / "c.wav").write_bytes(b"RIFF and no more")
    model = speech_model("hubert")
    semantic = {
        "id": "ssl-kmeans",
        "directory": str(model),
        "layer": 2,
        "codebook": str(codebook_of(model, tmp_path / "codebook.npz")),
    }
    tables = {
        "acoustic": {"id": "mdct-rvq"},
        "semantic": semantic,
        "units": {**semantic, "collapse": True},
        "phones": {"id": "phones"},
        "phone-frames": {"id": "phones", "collapse": False},
    }
    build_dataset(
        job_of(
            str(tmp_path / "out"),
            recordings,
            source={"modality": "audio", "fields": {}},
            tables=[{"name": name, "tokenizer": tokenizer} for name, tokenizer in tables.items()],
        )
    )
    dataset = tokenmill.open(str(tmp_path / "out"))
    pairs = list(dataset.paired(*tables))
    assert [{row.key for row in rows.values()} for rows in pairs] == [{name} for name in SECONDS]
    assert {len(dataset[name]) for name in tables} == {len(SECONDS)}
    for rows, seconds in zip(pairs, SECONDS.values(), strict=True):
        for name, stream in {"acoustic": "codes", "semantic": "ids", "phone-frames": "ids"}.items():
            frame_hz = dataset[name].streams[stream].frame_hz
            assert frame_hz is not None
            assert abs(len(rows[name].streams[stream]) / frame_hz - seconds) < 2 / frame_hz
        for short, long in {"units": "semantic", "phones": "phone-frames"}.items():
            streams = rows[short].streams
            expanded = np.repeat(streams["ids"], streams["durations"])
            assert expanded.tolist() == rows[long].streams["ids"].tolist()
