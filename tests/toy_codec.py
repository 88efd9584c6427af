"""A codec of few words, for tests: every frame is the mean of its samples, in 16 steps and 16 steps of what is left."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from tests.datasets import job_of
from tokenmill import registry
from tokenmill.audio.codec import CodecShape
from tokenmill.audio.recording import Recording
from tokenmill.audio.sound import Sound
from tokenmill.audio.testing import wav
from tokenmill.audio.tokenizer import AudioEncoder, AudioTokenizer, trimmed
from tokenmill.contract import Decoder, Encoder
from tokenmill.errors import ItemError, TokenizerError
from tokenmill.jobs import Job
from tokenmill.streams import StreamSpec

RATE_HZ = 8_000
_IDS = 16


class ToyCodec(AudioTokenizer):
    """Frames of `hop_samples` at 8 kHz; each of its codebooks refines what those before left over.

    Recordings of fewer than `fewest_frames` are rejected.
    """

    id: ClassVar[str] = "toy-codec"

    hop_samples: int = 4
    codebooks: int = 4
    fewest_frames: int = 0

    def shape(self) -> CodecShape:
        strides = (1,) * self.codebooks
        return CodecShape(RATE_HZ, self.hop_samples, self.codebooks, _IDS, strides, True, 1, 0, 0, True)

    def code_streams(self) -> dict[str, StreamSpec]:
        return self.shape().streams()

    def load(self, device: str = "cpu") -> Encoder:
        if device != "cpu":
            raise TokenizerError(f"{device!r} is not a device of this tokenizer")
        return ToyEncoder(self)

    def decoder(self) -> Decoder | None:
        return ToyDecoder(self)


class ToyEncoder(AudioEncoder):
    def __init__(self, tokenizer: ToyCodec) -> None:
        super().__init__(RATE_HZ, tokenizer.streams())
        self._tokenizer = tokenizer

    def row(self, recording: Recording) -> dict[str, npt.NDArray[Any]]:
        hop = self._tokenizer.hop_samples
        samples = np.concatenate([np.empty(0, np.float32), *recording.blocks()]).astype(np.float64)
        frames = np.pad(samples, (0, -len(samples) % hop)).reshape(-1, hop)
        if len(frames) < self._tokenizer.fewest_frames:
            seconds = len(samples) / RATE_HZ
            raise ItemError("too_short", f"it has {len(frames)} frames", lost_seconds=seconds)
        left, scale = frames.mean(axis=1), 1.0
        codes = np.empty((len(frames), self._tokenizer.codebooks), np.uint8)
        for book in range(self._tokenizer.codebooks):
            scale /= _IDS / 2
            codes[:, book] = np.floor(left / scale + _IDS / 2).clip(0, _IDS - 1)
            left = left - values(codes[:, book], scale)
            scale /= 2
        return {"codes": codes}


class ToyDecoder:
    def __init__(self, tokenizer: ToyCodec) -> None:
        self._tokenizer = tokenizer

    def decode(self, streams: Mapping[str, npt.NDArray[Any]]) -> Sound:
        codes, scale = streams["codes"], 1.0
        means = np.zeros(len(codes))
        for book in range(codes.shape[1]):
            scale /= _IDS / 2
            means += values(codes[:, book], scale)
            scale /= 2
        return Sound(trimmed(np.repeat(means, self._tokenizer.hop_samples).astype(np.float32), streams), RATE_HZ)

    def prefix(self, streams: Mapping[str, npt.NDArray[Any]], fraction: float) -> Mapping[str, npt.NDArray[Any]]:
        books = max(round(streams["codes"].shape[1] * fraction), 1)
        return {**streams, "codes": streams["codes"][:, :books]}


def values(codes: npt.NDArray[np.uint8], scale: float) -> npt.NDArray[np.float64]:
    """Return what codes `[frame]` of one codebook stand for: the middles of their steps, `scale` wide."""
    return (codes.astype(np.float64) - (_IDS - 1) / 2) * scale


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it known beside the tokenizers that are installed, in this process."""
    installed = list(entry_points(group=registry.GROUP))
    entry = EntryPoint("toy-codec", "tests.toy_codec:ToyCodec", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints([*installed, entry]).select(group=group))


def write_sounds(directory: Path, count: int = 5) -> Path:
    """Write WAV files: `0.wav` of 0.2 s, each 0.2 s longer than the one before it; the last one breaks off."""
    directory.mkdir(parents=True)
    for number in range(count):
        time = np.arange((number + 1) * 3200) / 16_000
        tone = 0.4 * np.sin(2 * np.pi * (200 + 150 * number) * time) * (time < 0.15 + 0.1 * number)
        content = wav(np.stack([tone] * (1 + number % 2), axis=1), 16_000)
        (directory / f"{number}.wav").write_bytes(content if number < count - 1 else content[:-1001])
    return directory


def sound_job(output: Path | str, sounds: Path, **changes: Any) -> Job:
    """Return a job over a directory of sounds: one source `talk`, and two tables, `fine` and `coarse`."""
    source = {"name": "talk", "modality": "audio", "fields": {}, **changes.pop("source", {})}
    coarse = {"id": "toy-codec", "hop_samples": 80, "codebooks": 1}
    tables = [{"name": "fine", "tokenizer": {"id": "toy-codec"}}, {"name": "coarse", "tokenizer": coarse}]
    return job_of(str(output), sounds, source=source, **{"tables": tables, **changes})
