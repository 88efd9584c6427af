"""Speech encoders of transformers: what planning reads of their files, and the vectors of one of their layers.

A frame's vector depends on the whole of what the network is shown: attention looks both ways, and the first
convolution of some is normalised over time. So the network sees each piece of a recording alone, at its own length,
never filled up to another's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenmill.audio.recording import Recording
from tokenmill.audio.windows import Cutting
from tokenmill.contract import Asset
from tokenmill.errors import AssetError, RunError, TokenizerError
from tokenmill.tokenizers.model_files import Architecture, ModelPlace
from tokenmill.tokenizers.precision import Precision

if TYPE_CHECKING:
    import torch

#: A recording of up to so many seconds is seen whole; of a longer one pieces of that length, each of which knows
#: `CONTEXT_SECONDS` before and after what is taken from it.
WINDOW_SECONDS = 30
CONTEXT_SECONDS = 2

_PREPROCESSOR = "preprocessor_config.json"
#: By `model_type` the classes that a checkpoint can be of; all hold the first, which is what is used.
_CLASSES = {
    "data2vec-audio": ("Data2VecAudioModel", "Data2VecAudioForCTC"),
    "hubert": ("HubertModel", "HubertForCTC"),
    "wav2vec2": ("Wav2Vec2Model", "Wav2Vec2ForPreTraining", "Wav2Vec2ForCTC"),
    "wavlm": ("WavLMModel", "WavLMForCTC"),
}
_KINDS = {name: Architecture(name, "transformers", classes[0]) for name, classes in _CLASSES.items()}
#: Defaults of their configs in transformers.
_STRIDES, _KERNELS = (5, 2, 2, 2, 2, 2, 2), (10, 3, 3, 3, 3, 2, 2)
_LAYERS, _COMPONENTS = (12,), (768,)
#: As Wav2Vec2FeatureExtractor, which all of them have.
_LEAST_VARIANCE = 1e-7


@dataclass(frozen=True)
class SpeechModel:
    """A model's files.

    Attributes:
        place: Where they are.
    """

    place: ModelPlace

    def assets(self) -> dict[str, Asset]:
        """Hash `config.json`, the weights and `preprocessor_config.json`; raises AssetError where one is missing."""
        return {**self.place.assets(self._architecture()), _PREPROCESSOR: self._preprocessor_file()[1]}

    def rate_hz(self) -> int:
        """Return the rate that it wants."""
        rate = self._preprocessor().get("sampling_rate", 16_000)
        if type(rate) is not int or not 0 < rate < 1 << 20:
            raise AssetError(f"`sampling_rate` is {rate!r}", where=str(self._preprocessor_file()[0]))
        return rate

    def layers(self) -> int:
        """Return how many layers it has."""
        return self.place.numbers("num_hidden_layers", _LAYERS)[0]

    def check_layer(self, layer: int) -> None:
        """Raise TokenizerError where it has no such layer."""
        if layer > self.layers():
            raise TokenizerError(
                f"`layer` is {layer}; this model has {self.layers()}",
                where=str(self.place.directory or self.place.hub_id),
                fix=f"give one of 1 … {self.layers()}",
            )

    def components(self) -> int:
        """Return how many components a vector has."""
        return self.place.numbers("hidden_size", _COMPONENTS)[0]

    def hop_samples(self) -> int:
        """Return by how many samples frames lie apart."""
        hop = 1
        for _, stride in self._convolutions():
            hop *= stride
        return hop

    def frame_samples(self) -> int:
        """Return how many samples the convolutions see of a frame: fewer are none."""
        samples = 1
        for kernel, stride in reversed(self._convolutions()):
            samples = (samples - 1) * stride + kernel
        return samples

    def cutting(self) -> Cutting:
        """Return how long recordings are cut: `WINDOW_SECONDS` and `CONTEXT_SECONDS` in whole frames."""
        hop, rate = self.hop_samples(), self.rate_hz()
        window, context = WINDOW_SECONDS * rate // hop, CONTEXT_SECONDS * rate // hop
        return Cutting(hop, window - 2 * context, context, context)

    def load(self, layer: int, precision: Precision, device: torch.device) -> LoadedSpeechModel:
        """Load it on a device as far as one of its layers; raises AssetError where its weights do not fit."""
        model = self.place.load(self._architecture()).base_model
        encoder = model.encoder
        if layer < len(encoder.layers):
            encoder.layers = encoder.layers[:layer]
            if getattr(model.config, "do_stable_layer_norm", False):
                import torch

                encoder.layer_norm = torch.nn.Identity()  # of the last layer's vectors
        if getattr(model, "adapter", None) is not None:
            model.adapter = None  # what makes fewer frames of them, for another task
        normalises = self._preprocessor().get("do_normalize", True) is not False
        return LoadedSpeechModel(model, self.cutting(), self.frame_samples(), normalises, precision, device)

    def _architecture(self) -> Architecture:
        kind = self.place.architecture(_KINDS)
        known = _CLASSES[kind.name]
        named = self.place.config().get("architectures") or known[:1]
        if not isinstance(named, list | tuple) or named[0] not in known:
            raise TokenizerError(
                f"tokenizer {self.place.tokenizer!r} takes no {named!r}",
                where=str(self.place.directory or self.place.hub_id),
                fix=f"give a {', '.join(known[:-1])} or {known[-1]}",
            )
        return Architecture(kind.name, "transformers", named[0])

    def _convolutions(self) -> list[tuple[int, int]]:
        kernels, strides = self.place.numbers("conv_kernel", _KERNELS), self.place.numbers("conv_stride", _STRIDES)
        if len(kernels) != len(strides):
            raise AssetError(f"{len(kernels)} kernels and {len(strides)} strides", where=str(self.place.directory))
        return list(zip(kernels, strides, strict=True))

    def _preprocessor_file(self) -> tuple[Path, Asset]:
        try:
            return self.place.other_file(_PREPROCESSOR)
        except AssetError as error:
            raise AssetError(
                error.what,
                where=error.where,
                fix="put the model's own beside it: `save_pretrained` of its Wav2Vec2FeatureExtractor writes it",
            ) from error

    def _preprocessor(self) -> dict[str, Any]:
        path = self._preprocessor_file()[0]
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise AssetError(f"cannot be read as JSON: {error}", where=str(path)) from error
        if not isinstance(content, dict):
            raise AssetError(f"holds {type(content).__name__} in place of an object", where=str(path))
        return content


class LoadedSpeechModel:
    """A model on a device, as far as the layer that is wanted.

    Args:
        model: Of transformers, on the CPU, in float32; its last layer is the one wanted.
        cutting: How long recordings are cut.
        frame_samples: Samples of the first frame; fewer are none.
        normalises: Whether it wants sound of mean 0 and variance 1.
        precision: Of its weights and arithmetic.
        device: Where it runs.
    """

    def __init__(
        self,
        model: Any,
        cutting: Cutting,
        frame_samples: int,
        normalises: bool,
        precision: Precision,
        device: torch.device,
    ) -> None:
        import torch

        self._dtype: torch.dtype = getattr(torch, precision)
        self._model = model.to(device, self._dtype)
        self._cutting = cutting
        self._frame_samples = frame_samples
        self._normalises = normalises
        self._precision = precision
        self._device = device

    def vectors(self, recording: Recording) -> Iterator[torch.Tensor]:
        """Yield a recording's vectors in order, float32 `[frame, component]` on the device, a window's at a time."""
        for window in self._cutting.windows(recording.blocks()):
            if len(window.values) >= self._frame_samples:
                found = self._window(window.values)
                stop = None if window.keep_frames is None else window.skip_frames + window.keep_frames
                yield found[window.skip_frames : stop]

    def _window(self, samples: Any) -> torch.Tensor:
        import torch

        values = torch.tensor(samples, dtype=torch.float32)
        if self._normalises:
            values = (values - values.mean()) / torch.sqrt(values.var(correction=0) + _LEAST_VARIANCE)
        with torch.inference_mode():
            found: torch.Tensor = self._model(values.to(self._device, self._dtype)[None]).last_hidden_state[0].float()
        if not bool(found.isfinite().all()):
            raise RunError(
                f"in {self._precision} this model's vectors are not finite", fix="set the tokenizer's `precision`"
            )
        return found
