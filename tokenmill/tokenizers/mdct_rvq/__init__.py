"""Audio tokens by a cosine transform and learned codebooks: runs anywhere, and any number of codebooks decodes."""

from tokenmill.tokenizers.mdct_rvq.tokenizer import MdctRvqTokenizer

__all__ = ["MdctRvqTokenizer"]
