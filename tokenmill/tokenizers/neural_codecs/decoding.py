"""From codes back to sound, by transformers' codecs: piece by piece, so that memory does not grow with a row's length.

What goes through a row in order (an LSTM, a transformer that looks back) is carried from piece to piece; the
convolutions after it see windows with all the context that they can depend on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tokenmill.audio.audio_file import Samples
from tokenmill.audio.codec import CodecShape
from tokenmill.audio.sound import Sound
from tokenmill.audio.streams import RECORDING
from tokenmill.audio.windows import Cutting
from tokenmill.tokenizers.neural_codecs.convolutions import convolutions, reach
from tokenmill.tokenizers.neural_codecs.lightening import fold_weight_norms, lighten
from tokenmill.tokenizers.neural_codecs.networks import CarriedConvolution, Memory, new_cache, through_lstm

Streams = Mapping[str, npt.NDArray[Any]]


class NeuralCodecDecoder(ABC):
    """A codec's way back, on the CPU, in float32.

    Args:
        model: Of transformers.
        shape: The codec's.
    """

    #: Modules of the model that only encoding takes.
    unused: tuple[str, ...] = ("encoder",)

    def __init__(self, model: Any, shape: CodecShape) -> None:
        self._shape = shape
        self._model = model
        for name in self.unused:
            setattr(model, name, None)
        fold_weight_norms(model)

    def decode(self, streams: Streams) -> Sound:
        """Return a row's sound, as long as its recording was, or where that is not told, all that its frames hold."""
        wanted = self._wanted(streams)
        # Some decoders give a few samples less than their frames stand for.
        samples = np.zeros(wanted, np.float32)
        count = 0
        with torch.inference_mode():
            for piece in self._pieces(streams):
                piece = piece[: wanted - count]
                samples[count : count + len(piece)] = piece
                count += len(piece)
        return Sound(samples, self._shape.rate_hz)

    def prefix(self, streams: Streams, fraction: float) -> dict[str, npt.NDArray[Any]]:
        """Return a row with its first codebooks only."""
        codes = streams["codes"]
        return {**streams, "codes": codes[:, : max(round(codes.shape[1] * fraction), 1)]}

    def _wanted(self, streams: Streams) -> int:
        """Return how many samples a row stands for; codes that a model generated come without their recording."""
        if RECORDING in streams:
            return int(streams[RECORDING][5])
        shape, frames = self._shape, len(streams["codes"])
        chunks = max(-(-frames // shape.chunk_frames), 1) if shape.overlap_samples else 1
        return frames * shape.hop_samples - (chunks - 1) * shape.overlap_samples

    @abstractmethod
    def _pieces(self, streams: Streams) -> Iterator[Samples]:
        """Yield a row's sound, piece by piece."""


class WindowedDecoder(NeuralCodecDecoder):
    """The way back of codecs that end with convolutions."""

    back: nn.Module
    features_a_frame = 1

    def __init__(self, model: Any, shape: CodecShape) -> None:
        super().__init__(model, shape)
        self._take_apart(model)
        lighten(self.back)
        first, last = reach(list(convolutions(self.back)), shape.hop_samples)
        features = self.features_a_frame
        left, right = max(-(first // features), 0), max(last // features, 0)
        self._cutting = Cutting(features, shape.chunk_frames, left, right)

    def _pieces(self, streams: Streams) -> Iterator[Samples]:
        hop = self._shape.hop_samples
        for window in self._cutting.windows(self._features_of(streams["codes"])):
            sound = self.back(torch.from_numpy(window.values.T.copy())[None])[0].mean(dim=0).numpy()
            stop = None if window.keep_frames is None else (window.skip_frames + window.keep_frames) * hop
            yield sound[window.skip_frames * hop : stop]

    def _features_of(self, codes: npt.NDArray[Any]) -> Iterator[npt.NDArray[np.float32]]:
        """Yield what the codes of some frames after others stand for, `[feature, channel]`."""
        memory: Memory = None
        for start in range(0, len(codes), self._shape.chunk_frames):
            some = torch.from_numpy(codes[start : start + self._shape.chunk_frames].T.astype(np.int64))[None]
            values, memory = self._features(some, memory)
            yield values[0].T.numpy()

    @abstractmethod
    def _take_apart(self, model: Any) -> None:
        """Set `back` and what comes before it."""

    @abstractmethod
    def _features(self, codes: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Return the features `[1, channel, feature]` of codes `[1, codebook, frame]`, and what to remember."""


class DacDecoder(WindowedDecoder):
    """DacModel's."""

    def _take_apart(self, model: Any) -> None:
        self.back = model.decoder

    def _features(self, codes: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        return self._model.quantizer.from_codes(codes)[0], None


class XcodecDecoder(WindowedDecoder):
    """XcodecModel's."""

    unused = ("acoustic_encoder", "semantic_model", "encoder_semantic", "decoder_semantic", "fc", "fc1")

    def _take_apart(self, model: Any) -> None:
        self.back = model.acoustic_decoder

    def _features(self, codes: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        vectors = self._model.quantizer.decode(codes.transpose(0, 1))
        return self._model.fc2(vectors.transpose(1, 2)).transpose(1, 2), None


class EncodecDecoder(WindowedDecoder):
    """EncodecModel's of a causal kind."""

    def _take_apart(self, model: Any) -> None:
        first, recurrent, *rest = model.decoder.layers
        self._first = CarriedConvolution([first])
        self._lstm = recurrent.lstm
        self.back = nn.Sequential(*rest)

    def _features(self, codes: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        carried, state = memory or (None, None)
        values, carried = self._first(self._model.quantizer.decode(codes.transpose(0, 1)), carried)
        values, state = through_lstm(self._lstm, values, state)
        return values, (carried, state)


class MimiDecoder(WindowedDecoder):
    """MimiModel's."""

    def _take_apart(self, model: Any) -> None:
        self._first = CarriedConvolution([model.decoder.upsample])
        self._transformer = model.decoder.decoder_transformer
        self.features_a_frame = model.decoder.upsample.conv.stride[0]
        self.back = model.decoder.decoder_seanet

    def _features(self, codes: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        carried, cache = memory or (None, new_cache(self._transformer))
        values, carried = self._first(self._model.quantizer.decode(codes), carried)
        found = self._transformer(values.transpose(1, 2), past_key_values=cache, use_cache=True).last_hidden_state
        return found.transpose(1, 2), (carried, cache)


class ChunkedEncodecDecoder(NeuralCodecDecoder):
    """EncodecModel's of the kind that codes every chunk by itself: chunks fade into each other where they overlap."""

    def _pieces(self, streams: Streams) -> Iterator[Samples]:
        shape = self._shape
        step = shape.chunk_frames * shape.hop_samples - shape.overlap_samples
        sound = weights = np.empty(0, np.float32)
        for sample in range(0, self._wanted(streams), step):
            number = sample // step
            decoded = self._chunk(streams, number)
            fade = self._fade[: len(decoded)]
            sound, weights = _added(sound, decoded * fade), _added(weights, fade)
            yield sound[:step] / weights[:step]
            sound, weights = sound[step:], weights[step:]

    def _chunk(self, streams: Streams, number: int) -> Samples:
        frames = self._shape.chunk_frames
        codes = torch.from_numpy(streams["codes"][number * frames : (number + 1) * frames].T.astype(np.int64))[None]
        gain = torch.from_numpy(streams["gain"][number : number + 1]) if "gain" in streams else None
        decoded: Samples = self._model._decode_frame(codes, gain)[0].mean(dim=0).numpy()
        return decoded

    @property
    def _fade(self) -> Samples:
        # A triangle, as EncodecModel._linear_overlap_add has it.
        length = self._shape.chunk_frames * self._shape.hop_samples
        time = torch.linspace(0, 1, length + 2)[1:-1]
        return (0.5 - (time - 0.5).abs()).numpy()


def _added(values: Samples, others: Samples) -> Samples:
    length = max(len(values), len(others))
    return np.pad(values, (0, length - len(values))) + np.pad(others, (0, length - len(others)))
