"""Configs of image tokenizers whose network is a model directory."""

from __future__ import annotations

from tokenmill.tokenizers.model_fields import ModelFields
from tokenmill.tokenizers.tiles import TiledTokenizer


class PretrainedTokenizer(ModelFields, TiledTokenizer):
    """Base of the configs of image tokenizers over a model of transformers or diffusers."""
