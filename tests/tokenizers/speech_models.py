"""Small speech encoders with random weights, saved as a user's would be, and a codebook of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tokenizers.image_models import save
from tokenmill.audio.testing import sounds
from tokenmill.tokenizers.model_files import ModelPlace
from tokenmill.tokenizers.ssl_kmeans.codebook import Codebook
from tokenmill.tokenizers.ssl_kmeans.model import SpeechModel

LAYER = 2
CLUSTERS = 20

_SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
#: As the base models are: group norm over time, and layer norm before the layers; and as the large ones.
_LARGE = {**_SMALL, "feat_extract_norm": "layer", "do_stable_layer_norm": True}


def _hubert(kind: str, **fields: Any) -> Any:
    import transformers

    return getattr(transformers, kind)(transformers.HubertConfig(**fields))


def _wav2vec2(kind: str, **fields: Any) -> Any:
    import transformers

    return getattr(transformers, kind)(transformers.Wav2Vec2Config(**fields))


def _wavlm() -> Any:
    from transformers import WavLMConfig, WavLMModel

    return WavLMModel(WavLMConfig(**_SMALL))


def _data2vec() -> Any:
    from transformers import Data2VecAudioConfig, Data2VecAudioModel

    return Data2VecAudioModel(Data2VecAudioConfig(**{**_SMALL, "conv_pos_kernel_size": 5}))


MAKERS: dict[str, Callable[[], Any]] = {
    "hubert": lambda: _hubert("HubertModel", **_SMALL),
    "hubert-large": lambda: _hubert("HubertModel", **_LARGE),
    "hubert-ctc": lambda: _hubert("HubertForCTC", **_SMALL, vocab_size=10),
    "wav2vec2": lambda: _wav2vec2("Wav2Vec2Model", **_SMALL),
    "wav2vec2-large": lambda: _wav2vec2("Wav2Vec2Model", **_LARGE),
    "wav2vec2-pretraining": lambda: _wav2vec2(
        "Wav2Vec2ForPreTraining", **_SMALL, codevector_dim=32, proj_codevector_dim=32
    ),
    "wav2vec2-adapter": lambda: _wav2vec2("Wav2Vec2Model", **_SMALL, add_adapter=True, num_adapter_layers=1),
    "wav2vec2-classifier": lambda: _wav2vec2("Wav2Vec2ForSequenceClassification", **_SMALL),
    "wavlm": _wavlm,
    "data2vec": _data2vec,
}


@pytest.fixture(scope="session")
def speech_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives a model's directory, made once."""
    from transformers import Wav2Vec2FeatureExtractor

    root = tmp_path_factory.mktemp("speech-models")

    def saved(name: str) -> Path:
        directory = root / name
        if not directory.exists():
            torch.manual_seed(0)
            save(MAKERS[name]().eval(), directory)
            Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(directory)
        return directory

    return saved


def codebook_of(directory: Path, path: Path, layer: int = LAYER, clusters: int = CLUSTERS) -> Path:
    """Write a codebook of some of the model's own vectors."""
    model = SpeechModel(ModelPlace("ssl-kmeans", directory=str(directory)))
    loaded = model.load(layer, "float32", torch.device("cpu"))
    vectors = torch.cat([part for sound in sounds() for part in loaded.vectors(sound.recording(16_000))])
    drawn = vectors[torch.randperm(len(vectors), generator=torch.Generator().manual_seed(0))[:clusters]]
    digests = {name: asset.sha256 for name, asset in model.assets().items()}
    path.write_bytes(Codebook(drawn.numpy(), digests, layer, {}).save())
    return path
