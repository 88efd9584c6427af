"""The `mimi` tokenizer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from tokenmill.tokenizers.model_files import Architecture
from tokenmill.tokenizers.neural_codecs.config import CodecHeader, NeuralCodecTokenizer

if TYPE_CHECKING:
    import torch

    from tokenmill.tokenizers.neural_codecs.decoding import NeuralCodecDecoder
    from tokenmill.tokenizers.neural_codecs.networks import CodecNetwork


class MimiTokenizer(NeuralCodecTokenizer):
    """MimiModel of transformers. Its first codebook is semantic, the others refine the sound."""

    id: ClassVar[str] = "mimi"
    architecture: ClassVar[Architecture] = Architecture("mimi", "transformers", "MimiModel")

    def _header(self) -> CodecHeader:
        fields = self._fields()  # defaults: transformers/models/mimi/configuration_mimi.py
        rate = fields.whole("sampling_rate", 24_000)
        ratios = (
            (8, 6, 5, 4) if fields.get("upsampling_ratios", None) is None else fields.wholes("upsampling_ratios", ())
        )
        hop = math.prod(ratios)
        frame_hz = fields.number("frame_rate", fields.number("_frame_rate", None)) or rate / (2 * hop)
        stride = int(math.ceil(rate / hop) / frame_hz)
        if fields.get("use_causal_conv", True) is not True or fields.number("trim_right_ratio", 1.0) != 1:
            raise self._refuse("that looks ahead (`use_causal_conv`, `trim_right_ratio`)")
        if stride < 2:
            raise self._refuse(f"whose frame rate of {frame_hz:g} Hz is not below that of its convolutions")
        if self.codebooks is not None and self.codebooks < fields.whole("num_semantic_quantizers", 1):
            raise self._refuse("of more semantic codebooks than `codebooks` asks for")
        return CodecHeader(
            rate_hz=rate,
            hop_samples=hop * stride,
            codebooks=fields.whole("num_quantizers", 32),
            codebook_size=fields.whole("codebook_size", 2048),
            causal=True,
        )

    def _network(self, model: Any, device: torch.device, dtype: torch.dtype) -> CodecNetwork:
        from tokenmill.tokenizers.neural_codecs.networks import Mimi

        return Mimi(model, device, dtype, self.shape().codebooks)

    def _decoder(self, model: Any) -> NeuralCodecDecoder:
        from tokenmill.tokenizers.neural_codecs.decoding import MimiDecoder

        return MimiDecoder(model, self.shape())
