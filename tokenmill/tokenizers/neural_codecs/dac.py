"""The `dac` tokenizer: the Descript Audio Codec."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from tokenmill.tokenizers.model_files import Architecture
from tokenmill.tokenizers.neural_codecs.config import CodecHeader, NeuralCodecTokenizer

if TYPE_CHECKING:
    import torch

    from tokenmill.tokenizers.neural_codecs.decoding import NeuralCodecDecoder
    from tokenmill.tokenizers.neural_codecs.networks import CodecNetwork


class DacTokenizer(NeuralCodecTokenizer):
    """DacModel of transformers, at 16, 24 or 44.1 kHz."""

    id: ClassVar[str] = "dac"
    architecture: ClassVar[Architecture] = Architecture("dac", "transformers", "DacModel")

    def _header(self) -> CodecHeader:
        fields = self._fields()  # defaults: transformers/models/dac/configuration_dac.py
        return CodecHeader(
            rate_hz=fields.whole("sampling_rate", 16_000),
            hop_samples=math.prod(fields.wholes("downsampling_ratios", (2, 4, 8, 8))),
            codebooks=fields.whole("n_codebooks", 9),
            codebook_size=fields.whole("codebook_size", 1024),
            causal=False,
        )

    def _network(self, model: Any, device: torch.device, dtype: torch.dtype) -> CodecNetwork:
        from tokenmill.tokenizers.neural_codecs.networks import Dac

        return Dac(model, device, dtype, self.shape().codebooks)

    def _decoder(self, model: Any) -> NeuralCodecDecoder:
        from tokenmill.tokenizers.neural_codecs.decoding import DacDecoder

        return DacDecoder(model, self.shape())
