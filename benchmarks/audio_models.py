"""Neural audio codecs with random weights, of published sizes: they compute as much as those with trained ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def _dac() -> Any:
    from transformers import DacConfig, DacModel

    return DacModel(DacConfig())  # the 16 kHz model, 74 million weights


def _encodec() -> Any:
    from transformers import EncodecConfig, EncodecModel

    return EncodecModel(EncodecConfig())  # the 24 kHz model


def _mimi() -> Any:
    from transformers import MimiConfig, MimiModel

    return MimiModel(MimiConfig())  # 24 kHz, 32 codebooks


def _xcodec() -> Any:
    from transformers import DacConfig, HubertConfig, XcodecConfig, XcodecModel

    acoustic = DacConfig(encoder_hidden_size=64, decoder_hidden_size=1024, downsampling_ratios=[8, 5, 4, 2])
    return XcodecModel(XcodecConfig(acoustic_model_config=acoustic, semantic_model_config=HubertConfig()))


MODELS: dict[str, Callable[[], Any]] = {"dac": _dac, "encodec": _encodec, "mimi": _mimi, "xcodec": _xcodec}


def save_model(name: str, folder: Path) -> Path:
    """Save a model with random weights, the same every time, in a folder; return its directory."""
    import torch

    directory = folder / name
    if not (directory / "config.json").is_file():
        torch.manual_seed(0)
        MODELS[name]().eval().save_pretrained(directory, safe_serialization=True)
    return directory
