"""The `encodec` tokenizer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from tokenmill.tokenizers.model_files import Architecture
from tokenmill.tokenizers.neural_codecs.config import CodecHeader, NeuralCodecTokenizer, bandwidth_codebooks

if TYPE_CHECKING:
    import torch

    from tokenmill.tokenizers.neural_codecs.decoding import NeuralCodecDecoder
    from tokenmill.tokenizers.neural_codecs.networks import CodecNetwork


class EncodecTokenizer(NeuralCodecTokenizer):
    """EncodecModel of transformers: the causal one of 24 kHz, and that of 48 kHz, which codes chunks of a second.

    A model of two channels is given the recording's one twice.
    """

    id: ClassVar[str] = "encodec"
    architecture: ClassVar[Architecture] = Architecture("encodec", "transformers", "EncodecModel")

    def _header(self) -> CodecHeader:
        fields = self._fields()  # defaults: transformers/models/encodec/configuration_encodec.py
        rate, hop = fields.whole("sampling_rate", 24_000), math.prod(fields.wholes("upsampling_ratios", (8, 5, 4, 2)))
        size = fields.whole("codebook_size", 1024)
        causal, normalize = fields.get("use_causal_conv", True) is True, fields.get("normalize", False) is True
        seconds, overlap = fields.number("chunk_length_s", None), fields.number("overlap", None)
        own_chunk = None
        if seconds is not None:
            if overlap is None or overlap >= 1:
                raise self._refuse("that has `chunk_length_s` without an `overlap` below 1")
            length = int(seconds * rate)
            own_chunk = (length, length - max(1, int((1.0 - overlap) * length)))
            if length % hop or not own_chunk[1]:
                raise self._refuse(f"whose chunks of {length} samples are no whole frames, or do not overlap")
        elif not causal or normalize or fields.get("norm_type", "weight_norm") != "weight_norm":
            raise self._refuse("that looks ahead or normalises over a recording as a whole (no `chunk_length_s`)")
        if causal and fields.number("trim_right_ratio", 1.0) != 1:
            raise self._refuse("whose decoder looks ahead (`trim_right_ratio`)")
        return CodecHeader(
            rate_hz=rate,
            hop_samples=hop,
            codebooks=bandwidth_codebooks(fields.highest_bandwidth(24.0), rate, hop, size),
            codebook_size=size,
            causal=causal and own_chunk is None,
            gain=normalize,
            own_chunk=own_chunk,
        )

    def _network(self, model: Any, device: torch.device, dtype: torch.dtype) -> CodecNetwork:
        from tokenmill.tokenizers.neural_codecs.networks import ChunkedEncodec, Encodec

        shape = self.shape()
        kind = ChunkedEncodec if shape.overlap_samples else Encodec
        return kind(model, device, dtype, shape.codebooks)

    def _decoder(self, model: Any) -> NeuralCodecDecoder:
        from tokenmill.tokenizers.neural_codecs.decoding import ChunkedEncodecDecoder, EncodecDecoder

        shape = self.shape()
        return ChunkedEncodecDecoder(model, shape) if shape.overlap_samples else EncodecDecoder(model, shape)
