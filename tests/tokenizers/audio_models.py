"""Small codecs with random weights, saved as a user's would be, and sounds to try them on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn.utils import parametrize

from tests.tokenizers.image_models import save
from tokenmill.audio.audio_file import AudioClip, Samples
from tokenmill.tokenizers.model_files import _quiet

Saved = Callable[[str], Path]
#: Each model's rate.
RATES_HZ = {
    "dac": 16_000,
    "dac-odd": 24_000,
    "encodec": 24_000,
    "encodec-48k": 48_000,
    "mimi": 24_000,
    "xcodec": 16_000,
}


def sound(seconds: float, rate_hz: int, seed: int = 0) -> Samples:
    """A voice-like sound: harmonics of a moving pitch that swell and fade, and noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    phase = 2 * np.pi * (120 * time + 15 / (0.7 + 0.1 * seed) * np.sin(2 * np.pi * (0.7 + 0.1 * seed) * time))
    tone = sum(np.sin(number * phase + number) / number for number in range(1, 9))
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * 1.9 * time + seed)
    return (0.12 * tone * swell + 0.02 * rng.standard_normal(len(time))).astype(np.float32)


def clip(seconds: float, rate_hz: int, seed: int = 0) -> AudioClip:
    """A clip of it."""
    return AudioClip(sound(seconds, rate_hz, seed), rate_hz, 1)


def _dac(ratios: list[int], rate_hz: int) -> Any:
    from transformers import DacConfig, DacModel

    return DacModel(
        DacConfig(
            encoder_hidden_size=8,
            decoder_hidden_size=64,
            downsampling_ratios=ratios,
            n_codebooks=4,
            codebook_size=64,
            codebook_dim=4,
            sampling_rate=rate_hz,
        )
    )


def _encodec(**options: Any) -> Any:
    from transformers import EncodecConfig, EncodecModel

    fields = {
        "num_filters": 8,
        "hidden_size": 16,
        "codebook_size": 64,
        "upsampling_ratios": [8, 5, 4],
        "target_bandwidths": [0.9, 3.6],
        **options,
    }
    return EncodecModel(EncodecConfig(**fields))


def _encodec_48k() -> Any:
    return _encodec(
        sampling_rate=48_000,
        audio_channels=2,
        normalize=True,
        chunk_length_s=1.0,
        overlap=0.01,
        norm_type="time_group_norm",
        use_causal_conv=False,
        upsampling_ratios=[8, 5, 4, 2],
        target_bandwidths=[1.8, 3.6],
    )


def _mimi() -> Any:
    from transformers import MimiConfig, MimiModel

    return MimiModel(
        MimiConfig(
            num_filters=8,
            hidden_size=32,
            codebook_size=64,
            codebook_dim=16,
            vector_quantization_hidden_dimension=16,
            num_quantizers=4,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            intermediate_size=64,
            upsample_groups=32,
            sliding_window=30,
        )
    )


def _xcodec() -> Any:
    from transformers import DacConfig, HubertConfig, XcodecConfig, XcodecModel

    return XcodecModel(
        XcodecConfig(
            target_bandwidths=[0.6, 1.2],
            codebook_size=64,
            acoustic_model_config=DacConfig(
                encoder_hidden_size=8, decoder_hidden_size=32, downsampling_ratios=[8, 5, 4, 2], hidden_size=32
            ),
            semantic_model_config=HubertConfig(
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=48,
                conv_dim=[16] * 7,
                num_conv_pos_embeddings=16,
                num_conv_pos_embedding_groups=4,
            ),
        )
    )


MAKERS: dict[str, Callable[[], Any]] = {
    "dac": lambda: _dac([2, 4, 8], RATES_HZ["dac"]),
    "dac-odd": lambda: _dac([2, 4, 5], RATES_HZ["dac-odd"]),
    "encodec": _encodec,
    "encodec-48k": _encodec_48k,
    "mimi": _mimi,
    "xcodec": _xcodec,
}


@pytest.fixture(scope="session")
def saved_codec(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """Return a function that gives a model's directory, made once."""
    root = tmp_path_factory.mktemp("codecs")

    def saved(name: str) -> Path:
        directory = root / name
        if not directory.exists():
            torch.manual_seed(0)
            model = MAKERS[name]().eval()
            spread_codes(model, RATES_HZ[name])
            save(model, directory)
        return directory

    return saved


def spread_codes(model: Any, rate_hz: int) -> None:
    """Lay the codes over the network's own vectors: of an untrained codebook, one code is nearest to all."""
    samples = torch.from_numpy(sound(0.96, rate_hz, seed=9))[None, None]
    samples = samples.expand(-1, getattr(model.config, "audio_channels", 1), -1)
    most = {"bandwidth": model.config.target_bandwidths[-1]} if hasattr(model.config, "target_bandwidths") else {}
    if model.config.model_type == "encodec":
        _centre(model, samples)
    seen: dict[Any, torch.Tensor] = {}
    hooks = []
    for codebook in _codebooks(model):
        hooks.append(_watch(codebook, seen))
        with torch.no_grad():
            model.encode(samples, **most)
            vectors = seen[codebook].reshape(-1, seen[codebook].shape[-1])
            drawn = vectors[torch.randint(len(vectors), (64,))]
            _values(codebook).copy_(drawn + 0.1 * vectors.std(0) * torch.randn_like(drawn))
            codebook._embed = None
    for hook in hooks:
        hook()


def _centre(model: Any, samples: torch.Tensor) -> None:
    """Give the last vectors mean 0 and deviation 1: else rounding alone decides which code is nearest."""
    last = model.encoder.layers[-1].conv
    with torch.no_grad():
        vectors = model.encoder(samples)
        mean, deviation = vectors.mean((0, 2)), vectors.std((0, 2))
        weight = last.weight / deviation[:, None, None]
        last.bias.copy_((last.bias - mean) / deviation)
        if parametrize.is_parametrized(last):
            last.weight = weight  # is kept as direction and length
        else:
            last.weight.copy_(weight)


def _codebooks(model: Any) -> list[Any]:
    kind = model.config.model_type
    if kind == "dac":
        return list(model.quantizer.quantizers)
    if kind == "mimi":
        split = model.quantizer
        parts = [split.semantic_residual_vector_quantizer, split.acoustic_residual_vector_quantizer]
        return [layer.codebook for part in parts for layer in part.layers]
    layers = model.quantizer.layers if kind == "encodec" else model.quantizer.quantizers
    return [layer.codebook for layer in layers]


def _values(codebook: Any) -> torch.Tensor:
    """Return what a codebook holds, `[code, channel]`."""
    if hasattr(codebook, "embed_sum"):
        return codebook.embed_sum  # type: ignore[no-any-return]
    return codebook.codebook.weight if hasattr(codebook, "in_proj") else codebook.embed  # type: ignore[no-any-return]


def _watch(codebook: Any, seen: dict[Any, torch.Tensor]) -> Callable[[], None]:
    """Record the vectors that a codebook is asked for, `[vector, channel]`; return what ends that."""
    if hasattr(codebook, "in_proj"):
        hook = codebook.in_proj.register_forward_hook(
            lambda _, inputs, output: seen.update({codebook: output.transpose(1, 2)})
        )
        return hook.remove  # type: ignore[no-any-return]
    own = codebook.quantize

    def quantize(vectors: torch.Tensor) -> torch.Tensor:
        seen[codebook] = vectors
        return own(vectors)  # type: ignore[no-any-return]

    codebook.quantize = quantize
    return lambda: codebook.__dict__.pop("quantize")


def own_codes(directory: Path, samples: Samples) -> npt.NDArray[Any]:
    """Return what the library's own `encode` gives for a sound alone, `[frame, codebook]`."""
    model = _loaded(directory)
    config = model.config
    values = torch.from_numpy(samples)[None, None].expand(-1, getattr(config, "audio_channels", 1), -1)
    with torch.inference_mode():
        if config.model_type in ("dac", "xcodec"):
            # As DacFeatureExtractor does for both.
            filled = torch.nn.functional.pad(values, (0, -values.shape[-1] % config.hop_length))
            codes = model.encode(filled).audio_codes[0]
        elif config.model_type == "mimi":
            codes = model.encode(values).audio_codes[0]
        else:
            found = model.encode(values, bandwidth=config.target_bandwidths[-1])
            codes = torch.cat([chunk[0] for chunk in found.audio_codes], dim=-1)
            codes = codes[:, : codes.shape[-1] - max(found.last_frame_pad_length, 0)]
    return codes.T.numpy()  # type: ignore[no-any-return]


def own_sound(directory: Path, row: Mapping[str, npt.NDArray[Any]]) -> Samples:
    """Return what the library's own `decode` gives for a row, `[sample]`; of two channels the mean."""
    model = _loaded(directory)
    codes = torch.from_numpy(row["codes"].T.astype(np.int64))[None]
    with torch.inference_mode():
        if model.config.model_type == "dac":
            return model.decode(audio_codes=codes).audio_values[0].numpy()  # type: ignore[no-any-return]
        if model.config.model_type != "encodec":
            return model.decode(codes).audio_values[0, 0].numpy()  # type: ignore[no-any-return]
        if "gain" not in row:
            return model.decode(codes[None], [None]).audio_values[0, 0].numpy()  # type: ignore[no-any-return]
        frames = model.config.chunk_length // model.config.hop_length
        missing = -codes.shape[-1] % frames
        chunks = torch.split(torch.nn.functional.pad(codes, (0, missing)), frames, dim=-1)
        gains = [torch.from_numpy(gain) for gain in row["gain"][:, None]]
        decoded = model.decode(torch.stack(chunks), gains, last_frame_pad_length=missing)
        return decoded.audio_values[0].mean(dim=0).numpy()  # type: ignore[no-any-return]


@cache
def _loaded(directory: Path) -> Any:
    import transformers

    kind = json.loads((directory / "config.json").read_text())["architectures"][0]
    with _quiet("transformers"):
        return getattr(transformers, kind).from_pretrained(directory).eval()
