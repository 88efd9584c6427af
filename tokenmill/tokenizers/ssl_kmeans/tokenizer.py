"""Configs of `ssl-kmeans`, and the encoder that they load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from tokenmill.audio.recording import Recording
from tokenmill.audio.tokenizer import AudioEncoder, AudioTokenizer
from tokenmill.contract import Asset, Encoder, hash_file
from tokenmill.errors import TokenizerError
from tokenmill.streams import StreamSpec, narrowest_dtype
from tokenmill.tokenizers.model_fields import ModelFields
from tokenmill.tokenizers.precision import Precision
from tokenmill.tokenizers.ssl_kmeans.codebook import Codebook, read_codebook
from tokenmill.tokenizers.ssl_kmeans.model import LoadedSpeechModel, SpeechModel

if TYPE_CHECKING:
    import torch

_IDS, _DURATIONS = "ids", "durations"
_CODEBOOK = "codebook"


class SslKmeansTokenizer(ModelFields, AudioTokenizer):
    """Units of speech: the code nearest to each frame's vector in a layer of HuBERT, wav2vec 2.0, WavLM or data2vec.

    Hsu et al., "HuBERT: Self-Supervised Speech Representation Learning by Masked Prediction of Hidden Units", 2021, and
    Lakhotia et al., "On Generative Spoken Language Modeling from Raw Audio", 2021. `tokenmill train ssl-kmeans` makes
    the codebook.
    """

    id: ClassVar[str] = "ssl-kmeans"
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    libraries: ClassVar[tuple[str, ...]] = (*AudioTokenizer.libraries, "torch", "transformers")
    locations: ClassVar[frozenset[str]] = ModelFields.locations | {_CODEBOOK}

    layer: int = Field(ge=1)
    """The layer whose vectors are used, the first is 1: of HuBERT base 6 or 9 are usual, of large models 18 or so."""
    codebook: str
    """A file that `tokenmill train ssl-kmeans` made, of this model and this layer."""
    collapse: bool = False
    """Whether `ids` has a code that repeats once, and `durations` for how many frames; or `ids` has every frame's."""
    precision: Precision = "float32"
    """Of the model's weights and arithmetic. Codes are chosen in float64."""

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        self._check_place((self.directory is not None) + (self.hub_id is not None))
        return self

    def model(self) -> SpeechModel:
        """Return the model's files."""
        return SpeechModel(self.place())

    def assets(self) -> dict[str, Asset]:
        """Hash the model's files and the codebook."""
        return {**self.model().assets(), _CODEBOOK: hash_file(self.codebook)}

    def code_streams(self) -> dict[str, StreamSpec]:
        """Return `ids`, (frame), or (unit) with `durations` in frames. Reads the model's configs and the codebook."""
        model, codebook = self.model(), read_codebook(self.codebook)
        size, components = codebook.codes.shape
        if components != model.components():
            raise TokenizerError(
                f"this codebook's codes have {components} components; the model's vectors have {model.components()}",
                where=self.codebook,
                fix="fit a codebook on this model with `tokenmill train ssl-kmeans`",
            )
        model.check_layer(self.layer)
        dtype = narrowest_dtype(size)
        if self.collapse:
            return {
                _IDS: StreamSpec(dtype, ("unit",), vocabulary_size=size),
                _DURATIONS: StreamSpec("uint32", ("unit",)),
            }
        frame_hz = model.rate_hz() / model.hop_samples()
        return {_IDS: StreamSpec(dtype, ("frame",), vocabulary_size=size, frame_hz=frame_hz)}

    def check(self) -> None:
        """Refuse a codebook that was fitted on another model or layer."""
        self._checked_codebook()

    def load(self, device: str = "cpu") -> Encoder:
        """Return an encoder; raises AssetError, or MissingExtraError naming the extra."""
        where = self._device(device)
        specs, codebook, model = self.streams(), self._checked_codebook(), self.model()
        return SslKmeansEncoder(model.rate_hz(), specs, model.load(self.layer, self.precision, where), codebook, where)

    def _checked_codebook(self) -> Codebook:
        codebook = read_codebook(self.codebook)
        digests = {name: asset.sha256 for name, asset in self.model().assets().items()}
        codebook.check_origin(digests, self.layer, self.codebook)
        return codebook


class SslKmeansEncoder(AudioEncoder):
    """Sound to units, one recording after the other.

    Args:
        rate_hz: The rate that the model wants.
        specs: The tokenizer's streams.
        model: The model as far as the layer.
        codebook: Its codes.
        device: Where the model is.
    """

    def __init__(
        self,
        rate_hz: int,
        specs: Mapping[str, StreamSpec],
        model: LoadedSpeechModel,
        codebook: Codebook,
        device: torch.device,
    ) -> None:
        import torch

        from tokenmill.quantizers.exact import Codes

        super().__init__(rate_hz, specs)
        self._model = model
        self._nearest = Codes(torch.tensor(codebook.codes, device=device)).nearest

    def row(self, recording: Recording) -> dict[str, npt.NDArray[Any]]:
        """Return the recording's units; raises ItemError where it is damaged."""
        dtype = self._specs[_IDS].dtype
        found = [self._nearest(vectors).cpu().numpy().astype(dtype) for vectors in self._model.vectors(recording)]
        ids = np.concatenate([np.empty(0, dtype), *found])
        if _DURATIONS not in self._specs:
            return {_IDS: ids}
        starts = np.flatnonzero(np.diff(ids, prepend=ids[:1] ^ 1))
        return {_IDS: ids[starts], _DURATIONS: np.diff(starts, append=len(ids))}
