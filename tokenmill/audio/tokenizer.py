"""What every audio tokenizer has: a rate, the streams that record the recording, and items prepared by threads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenmill.audio.audio_file import AudioClip, AudioFile
from tokenmill.audio.recording import Recording
from tokenmill.audio.streams import LEVEL, LEVEL_SPEC, RECORDING, RECORDING_SPEC
from tokenmill.contract import Encoded, Failure, Tokenizer
from tokenmill.encoders import item_failure
from tokenmill.errors import ItemError
from tokenmill.streams import Jagged, StreamSpec

#: The streams of one row, without those above.
Row = Mapping[str, npt.NDArray[Any]]


class AudioTokenizer(Tokenizer):
    """Base of the configs of audio tokenizers."""

    modality: ClassVar[str] = "audio"
    libraries: ClassVar[tuple[str, ...]] = ("av", "soxr")

    def streams(self) -> dict[str, StreamSpec]:
        """Return the codes' streams, and those that record what was tokenized: `recording` and `level`."""
        return {**self.code_streams(), RECORDING: RECORDING_SPEC, LEVEL: LEVEL_SPEC}

    def code_streams(self) -> dict[str, StreamSpec]:
        """Return the streams that hold what the sound became; those in time have a `frame_hz`."""
        raise NotImplementedError


class AudioEncoder(ABC):
    """Base of audio encoders: opens and decodes items on threads, and puts rows together.

    Args:
        rate_hz: The rate that the tokenizer wants.
        specs: The tokenizer's streams.
        batch_items: How many recordings it likes to get at once.
    """

    def __init__(self, rate_hz: int, specs: Mapping[str, StreamSpec], batch_items: int = 8) -> None:
        self._rate_hz = rate_hz
        self._specs = specs
        self.batch_items = batch_items

    def prepare(self, payload: Any) -> Recording:
        """Decode the beginning of an AudioFile or AudioClip; raises ItemError where it cannot be decoded."""
        if not isinstance(payload, AudioFile | AudioClip):
            raise TypeError(f"an audio tokenizer takes AudioFile or AudioClip; given {type(payload).__name__}")
        recording = payload.recording(self._rate_hz)
        recording.read_ahead()
        return recording

    def encode(self, payloads: Sequence[Recording]) -> Encoded:
        """Tokenize recordings as `prepare` opened them; one that turns out to be damaged is a failure, alone."""
        columns: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in self._specs}
        failures: list[Failure] = []
        for index, (recording, row) in enumerate(zip(payloads, self.rows(payloads), strict=True)):
            if isinstance(row, ItemError):
                failures.append(item_failure(index, row))
                continue
            for name, values in {**row, RECORDING: recording.numbers(), LEVEL: recording.level()}.items():
                columns[name].append(values)
        streams = {name: Jagged.from_rows(columns[name], spec) for name, spec in self._specs.items()}
        return Encoded(streams, tuple(failures))

    def rows(self, recordings: Sequence[Recording]) -> Iterator[Row | ItemError]:
        """Yield each recording's row, in order, or why it has none. Override to tokenize several at once."""
        for recording in recordings:
            try:
                yield self.row(recording)
            except ItemError as error:
                yield error

    @abstractmethod
    def row(self, recording: Recording) -> Row:
        """Tokenize one recording, read to its end; raises ItemError where it is damaged."""


def trimmed(samples: npt.NDArray[np.float32], streams: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    """Return decoded float32 `[sample]` without the last frame's filling, by a row's stream `recording`.

    Codes that a model generated have no such stream: all of their sound is returned.
    """
    return samples[: int(streams[RECORDING][5])] if RECORDING in streams else samples
