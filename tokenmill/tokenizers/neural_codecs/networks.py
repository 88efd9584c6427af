"""transformers' codecs, taken apart: the part that sees windows, and the part that goes through a recording in order.

Whatever the precision of the network, vectors are quantized in float32, window by window: distances in 16 bits would
choose nearly at random among close codes, and a matrix product of another shape may round otherwise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tokenmill.tokenizers.neural_codecs.convolutions import UnequalLengths, convolutions, reach
from tokenmill.tokenizers.neural_codecs.lightening import fold_weight_norms, lighten

#: What a codec remembers of a recording from window to window; None before the first one.
Memory = Any


class CodecNetwork(ABC):
    """A codec on a device.

    Args:
        model: Of transformers, on the CPU, in float32.
        device: Where it runs.
        dtype: Of its arithmetic, up to the quantizer.
        codebooks: How many of its codebooks are used.

    Attributes:
        unused: Modules of the model that only decoding takes.
        front: The module that sees windows: samples to features.
        behind: What comes after it, the quantizer excepted.
        features_a_frame: How many features `front` makes of a frame.
        takes_unequal: Whether windows of other lengths may be filled up to one length.
        pads_to_hop: Whether a recording is filled up with zeros to whole frames, as its feature extractor does.
        channels: How many channels it wants; all are given the same.
    """

    unused: Sequence[str] = ("decoder",)
    front: nn.Module
    behind: Sequence[nn.Module] = ()
    features_a_frame = 1
    takes_unequal = True
    pads_to_hop = False
    channels = 1

    def __init__(self, model: Any, device: torch.device, dtype: torch.dtype, codebooks: int) -> None:
        self.model = model
        self.codebooks = codebooks
        self.device = device
        self.dtype = dtype
        for name in self.unused:
            setattr(model, name, None)
        self._take_apart(model)
        fold_weight_norms(model)
        lighten(self.front)
        model.to(device)
        for module in (self.front, *self.behind):
            module.to(dtype)
        stack = list(convolutions(self.front)) if self.takes_unequal else []
        self._stack = stack
        self._lengths = UnequalLengths(stack)

    @abstractmethod
    def _take_apart(self, model: Any) -> None:
        """Set `front` and what comes behind it."""

    def context(self, hop_samples: int) -> tuple[int, int]:
        """Return how many frames before and after its own a frame can depend on, through `front`."""
        first, last = reach(self._stack, self.features_a_frame)
        return max(-(first // hop_samples), 0), max(last // hop_samples, 0)

    def features(self, samples: Tensor, lengths: Sequence[int] | None) -> tuple[list[Tensor], list[Tensor]]:
        """Run windows through `front`.

        Args:
            samples: float32 `[window, sample]`, on the device.
            lengths: Samples of each, where they are filled up to one length.

        Returns:
            For each window its features `[1, channel, feature]`, and its gain `[1]` where the codec normalises.
        """
        counts = self._lengths.set(lengths)
        values, gains = self._features(samples[:, None].expand(-1, self.channels, -1))
        if lengths is None:
            counts = [values.shape[-1]] * len(values)
        return [values[i : i + 1, :, :count] for i, count in enumerate(counts)], gains

    def _features(self, samples: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self.front(samples.to(self.dtype)), []

    @abstractmethod
    def codes(self, features: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Return codes `[frame, codebook]` of the features that a window keeps, and what to remember for the next."""


class Dac(CodecNetwork):
    """DacModel: convolutions only."""

    pads_to_hop = True

    def _take_apart(self, model: Any) -> None:
        self.front = model.encoder

    def codes(self, features: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Quantize."""
        found: Tensor = self.model.quantizer(features.float(), self.codebooks)[1]
        return found[0].T, None


class Encodec(CodecNetwork):
    """EncodecModel of a causal kind: convolutions, an LSTM, one convolution."""

    def _take_apart(self, model: Any) -> None:
        layers = list(model.encoder.layers)
        self.channels = model.config.audio_channels
        place = [type(layer).__name__ for layer in layers].index("EncodecLSTM")
        self.front = nn.Sequential(*layers[:place])
        self._lstm = layers[place].lstm
        self._last = CarriedConvolution(layers[place + 1 :])
        self.behind = layers[place:]

    def codes(self, features: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Go on with the LSTM where the window before ended, and quantize."""
        state, carried = memory or (None, None)
        values, state = through_lstm(self._lstm, features, state)
        values, carried = self._last(values, carried)
        return _nearest(self.model.quantizer.layers[: self.codebooks], values.float()), (state, carried)


class ChunkedEncodec(CodecNetwork):
    """EncodecModel of the kind that codes every chunk by itself, normalised or not."""

    takes_unequal = False

    def _take_apart(self, model: Any) -> None:
        self.front = model.encoder
        self.channels = model.config.audio_channels
        self._normalizes = model.config.normalize

    def _features(self, samples: Tensor) -> tuple[Tensor, list[Tensor]]:
        gains: list[Tensor] = []
        if self._normalizes:  # as EncodecModel._encode_frame does
            mono = torch.sum(samples, 1, keepdim=True) / samples.shape[1]
            gain = mono.pow(2).mean(dim=-1, keepdim=True).sqrt() + 1e-8
            samples = samples / gain
            gains = list(gain.reshape(-1, 1))
        return self.front(samples.to(self.dtype)), gains

    def codes(self, features: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Quantize."""
        return _nearest(self.model.quantizer.layers[: self.codebooks], features.float()), None


class Mimi(CodecNetwork):
    """MimiModel: convolutions, a transformer that looks back, one convolution that halves the rate."""

    def _take_apart(self, model: Any) -> None:
        self.front = model.encoder.encoder_seanet
        self._transformer = model.encoder.encoder_transformer
        self._last = CarriedConvolution([model.encoder.downsample])
        self.channels = model.config.audio_channels
        self.features_a_frame = model.encoder.downsample.conv.stride[0]
        self.behind = [self._transformer, model.encoder.downsample]

    def codes(self, features: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Go on with the transformer where the window before ended, and quantize."""
        cache, carried = memory or (new_cache(self._transformer), None)
        values = self._transformer(features.transpose(1, 2), past_key_values=cache, use_cache=True).last_hidden_state
        values, carried = self._last(values.transpose(1, 2), carried)
        found: Tensor = self.model.quantizer.encode(values.float(), self.codebooks)
        return found[:, 0].T, (cache, carried)


class Xcodec(CodecNetwork):
    """XcodecModel: convolutions beside a model of speech that sees all of a window."""

    unused = ("acoustic_decoder", "decoder_semantic", "fc1", "fc2")
    takes_unequal = False
    pads_to_hop = True

    def _take_apart(self, model: Any) -> None:
        self.front = nn.ModuleList([model.acoustic_encoder, model.semantic_model, model.encoder_semantic, model.fc])

    def _features(self, samples: Tensor) -> tuple[Tensor, list[Tensor]]:
        # As XcodecModel.encode does.
        model, samples = self.model, samples.to(self.dtype)
        semantic = model.encoder_semantic(model._extract_semantic_features(samples).transpose(1, 2))
        if model._get_conv1d_output_lengths(samples.shape[-1], model.acoustic_encoder) != semantic.shape[-1]:
            samples = nn.functional.pad(samples, (model.pad, model.pad))
        acoustic = model.acoustic_encoder(samples)
        return model.fc(torch.cat([acoustic, semantic], dim=1).transpose(1, 2)).transpose(1, 2), []

    def codes(self, features: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Quantize."""
        return _nearest(self.model.quantizer.quantizers[: self.codebooks], features.float()), None


class CarriedConvolution:
    """A causal convolution, and what follows step by step, that goes through a recording in pieces.

    Args:
        layers: Modules of which one convolves.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._layers = nn.Sequential(*layers)
        (self._step,) = convolutions(self._layers)

    def __call__(self, values: Tensor, carried: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return outputs `[1, channel, time]`, and the last inputs, which the next piece is to be given."""
        step = self._step
        joined = values if carried is None else torch.cat([carried, values], dim=-1)
        outputs: Tensor = self._layers(joined)
        if step.transposed:
            made, context = 0 if carried is None else carried.shape[-1] * step.stride, -(-step.span // step.stride) - 1
        else:
            context = -(-(step.span - step.stride) // step.stride) * step.stride
            made = 0 if carried is None else carried.shape[-1] // step.stride
        return outputs[..., made:], joined[..., max(joined.shape[-1] - context, 0) :]


def through_lstm(lstm: nn.LSTM, values: Tensor, state: Memory) -> tuple[Tensor, Memory]:
    """Run `[1, channel, time]` through an LSTM with a shortcut around it, as EncodecLSTM does, from a state on."""
    steps = values.permute(2, 0, 1)
    found, state = lstm(steps, state)
    return (found + steps).permute(1, 2, 0), state


def new_cache(transformer: Any) -> Any:
    """Return an empty cache of keys and values, as long as the transformer looks back."""
    from transformers import DynamicCache

    return DynamicCache(config=transformer.config)


def _nearest(layers: Sequence[Any], vectors: Tensor) -> Tensor:
    """Return codes `[frame, codebook]` of vectors `[1, channel, frame]`: each codebook quantizes what is left."""
    found = []
    for layer in layers:
        codes = layer.encode(vectors)
        vectors = vectors - layer.decode(codes)
        found.append(codes[0])
    return torch.stack(found, dim=1)
