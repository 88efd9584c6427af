"""Adaptive-length image tokens by learned linear transforms: runs anywhere, and any beginning of a row decodes."""

from tokenmill.tokenizers.klt.tokenizer import KltTokenizer

__all__ = ["KltTokenizer"]
