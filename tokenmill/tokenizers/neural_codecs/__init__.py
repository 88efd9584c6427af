"""Neural audio codecs of transformers: EnCodec, DAC, Mimi and X-Codec."""

from tokenmill.tokenizers.neural_codecs.dac import DacTokenizer
from tokenmill.tokenizers.neural_codecs.encodec import EncodecTokenizer
from tokenmill.tokenizers.neural_codecs.mimi import MimiTokenizer
from tokenmill.tokenizers.neural_codecs.xcodec import XcodecTokenizer

__all__ = ["DacTokenizer", "EncodecTokenizer", "MimiTokenizer", "XcodecTokenizer"]
