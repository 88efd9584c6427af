"""The `xcodec` tokenizer: X-Codec, whose codes are of a model of speech as well as of the sound."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from tokenmill.audio.codec import CodecShape
from tokenmill.errors import AssetError
from tokenmill.tokenizers.model_files import Architecture
from tokenmill.tokenizers.neural_codecs.config import (
    CodecHeader,
    ConfigFields,
    NeuralCodecTokenizer,
    bandwidth_codebooks,
)

if TYPE_CHECKING:
    import torch

    from tokenmill.tokenizers.neural_codecs.decoding import NeuralCodecDecoder
    from tokenmill.tokenizers.neural_codecs.networks import CodecNetwork


class XcodecTokenizer(NeuralCodecTokenizer):
    """XcodecModel of transformers.

    Its model of speech sees all of a window at once: codes of a recording longer than a window are not those that it
    would have in one piece.
    """

    id: ClassVar[str] = "xcodec"
    architecture: ClassVar[Architecture] = Architecture("xcodec", "transformers", "XcodecModel")
    usual_chunk_seconds: ClassVar[float] = 30.0

    context_seconds: float = Field(default=2.0, ge=0.1, le=60)
    """How much of a long recording the network sees before and after what it goes on by."""

    def _header(self) -> CodecHeader:
        fields = self._fields()  # defaults: transformers/models/xcodec/configuration_xcodec.py
        acoustic = fields.get("acoustic_model_config", None) or {}
        if not isinstance(acoustic, dict):
            raise AssetError(f"`acoustic_model_config` is {acoustic!r}, no object", where=fields.where)
        rate = fields.whole("sample_rate", 16_000)
        hop = math.prod(ConfigFields(acoustic, fields.where).wholes("downsampling_ratios", (8, 5, 4, 2)))
        size = fields.whole("codebook_size", 1024)
        return CodecHeader(
            rate_hz=rate,
            hop_samples=hop,
            codebooks=bandwidth_codebooks(fields.highest_bandwidth(4.0), rate, hop, size),
            codebook_size=size,
            causal=False,
            exact=False,
        )

    def _network(self, model: Any, device: torch.device, dtype: torch.dtype) -> CodecNetwork:
        from tokenmill.tokenizers.neural_codecs.networks import Xcodec

        return Xcodec(model, device, dtype, self.shape().codebooks)

    def _decoder(self, model: Any) -> NeuralCodecDecoder:
        from tokenmill.tokenizers.neural_codecs.decoding import XcodecDecoder

        return XcodecDecoder(model, self.shape())

    def _context(self, network: CodecNetwork, shape: CodecShape) -> tuple[int, int]:
        frames = math.ceil(self.context_seconds * shape.frame_hz)
        return frames, frames
