"""Codecs at work: the windows of several recordings at once, in batches whose shape depends on no neighbour."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tokenmill.audio.codec import CodecShape
from tokenmill.audio.recording import Recording
from tokenmill.audio.tokenizer import AudioEncoder, Row
from tokenmill.audio.windows import Chunking, Cutting, Window
from tokenmill.errors import ItemError, RunError
from tokenmill.streams import StreamSpec
from tokenmill.tokenizers.neural_codecs.networks import CodecNetwork, Memory

#: Windows shorter than a whole one are filled up to one of so many lengths where batches hold several windows.
_LENGTHS = 8

_T = TypeVar("_T")


@dataclass(slots=True)
class _Progress:
    """What has become of a recording so far.

    Its windows may come out of `front` in another order than they went in; codes are made in order.
    """

    memory: Memory = None
    done: int = 0
    waiting: dict[int, Tensor] = field(default_factory=dict)
    codes: list[npt.NDArray[Any]] = field(default_factory=list)
    gains: dict[int, float] = field(default_factory=dict)
    error: ItemError | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    """A window that waits for its batch: whose it is, and its number among those."""

    progress: _Progress
    number: int
    window: Window
    samples: npt.NDArray[np.float32]


class NeuralCodecEncoder(AudioEncoder):
    """Encodes recordings of any length.

    Args:
        network: The codec.
        shape: The codec's, with the context that it needs.
        specs: The tokenizer's streams.
        batch_size: Windows that the network sees at once. With 1, all windows have their own length; with more, whole
            windows fill batches, and shorter ones are filled up to one of a few lengths.
    """

    def __init__(
        self, network: CodecNetwork, shape: CodecShape, specs: Mapping[str, StreamSpec], batch_size: int
    ) -> None:
        super().__init__(shape.rate_hz, specs, batch_items=8 if batch_size == 1 else 4 * batch_size)
        self.shape = shape
        self._network = network
        self._batch_size = batch_size
        self._dtype = specs["codes"].dtype
        hop, chunk = shape.hop_samples, shape.chunk_frames
        self._cutting: Cutting | Chunking
        if shape.overlap_samples:
            self._whole = chunk * hop
            self._cutting = Chunking(self._whole, self._whole - shape.overlap_samples)
        else:
            self._cutting = Cutting(hop, chunk, shape.left_frames, shape.right_frames)
            self._whole = self._cutting.window_frames * hop

    def row(self, recording: Recording) -> Row:
        """Encode one recording; raises ItemError where it is damaged."""
        (row,) = self.rows([recording])
        if isinstance(row, ItemError):
            raise row
        return row

    def rows(self, recordings: Sequence[Recording]) -> Iterator[Row | ItemError]:
        """Encode recordings, the windows of all of them together; yield their rows in order."""
        all_progress = [_Progress() for _ in recordings]
        waiting: dict[int, list[_Entry]] = {}
        for recording, progress in zip(recordings, all_progress, strict=True):
            try:
                for number, window in enumerate(self._cutting.windows(recording.blocks())):
                    entry = _Entry(progress, number, window, self._filled(window.values))
                    length = self._length(len(entry.samples))
                    batch = waiting.setdefault(length, [])
                    batch.append(entry)
                    if len(batch) == self._batch(length):
                        self._run(waiting.pop(length), length)
            except ItemError as error:
                progress.error = error
        for length, batch in waiting.items():
            self._run(batch, length)
        for progress in all_progress:
            yield progress.error or self._row(progress)

    def _filled(self, samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        missing = -len(samples) % self.shape.hop_samples if self._network.pads_to_hop else 0
        return np.pad(samples, (0, missing)) if missing else samples

    def _length(self, samples: int) -> int:
        """Return to how many samples a window is filled up: by its own length alone."""
        if self._batch_size == 1 or not self._network.takes_unequal:
            return samples
        step = math.ceil(self._whole / _LENGTHS / self.shape.hop_samples) * self.shape.hop_samples
        return min(-(-samples // step) * step, self._whole)

    def _batch(self, length: int) -> int:
        """Return how many windows of a length are computed at once: by the length alone."""
        return self._batch_size if self._network.takes_unequal or length == self._whole else 1

    def _run(self, batch: Sequence[_Entry], length: int) -> None:
        """Compute windows, and the codes of all that are next in their recordings."""
        samples = np.zeros((self._batch(length), length), np.float32)
        for place, entry in enumerate(batch):
            samples[place, : len(entry.samples)] = entry.samples
        lengths = None
        if self._batch_size > 1 and self._network.takes_unequal:
            lengths = [len(entry.samples) for entry in batch] + [length] * (len(samples) - len(batch))
        device = self._network.device
        features, gains = self._guarded(lambda: self._network.features(torch.from_numpy(samples).to(device), lengths))
        for place, entry in enumerate(batch):
            progress, window, scale = entry.progress, entry.window, self._network.features_a_frame
            stop = None if window.keep_frames is None else (window.skip_frames + window.keep_frames) * scale
            progress.waiting[entry.number] = features[place][..., window.skip_frames * scale : stop]
            if gains:
                progress.gains[entry.number] = float(gains[place])
            if progress.error is None:
                self._go_on(progress)

    def _go_on(self, progress: _Progress) -> None:
        while progress.done in progress.waiting:
            features, memory = progress.waiting.pop(progress.done), progress.memory
            codes, progress.memory = self._guarded(lambda: self._network.codes(features, memory))  # noqa: B023
            progress.codes.append(codes.cpu().numpy().astype(self._dtype))
            progress.done += 1

    def _row(self, progress: _Progress) -> Row:
        codes: Row = self.shape.joined([{"codes": codes} for codes in progress.codes])
        if "gain" not in self._specs:
            return codes
        return {**codes, "gain": np.array([progress.gains[number] for number in range(progress.done)], np.float32)}

    def _guarded(self, run: Callable[[], _T]) -> _T:
        try:
            with torch.inference_mode():
                return run()
        except torch.OutOfMemoryError as error:
            count = self._batch_size
            raise RunError(
                f"{self._network.device} ran out of memory with batches of {count} windows of "
                f"{self._whole / self.shape.rate_hz:.1f} s",
                fix=f"set the tokenizer's `batch_size` below {count}" * (count > 1)
                + "set the tokenizer's `chunk_seconds` lower" * (count == 1)
                + "; it is part of the table's identity",
            ) from error
