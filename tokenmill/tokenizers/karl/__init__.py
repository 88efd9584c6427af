"""The `karl` tokenizer: an adaptive number of codes for an image, found in a single pass (arXiv 2507.07995).

Written from the paper and from the layout of its published weights; docs/tokenizers-karl.md says what is known of it.
"""

from tokenmill.tokenizers.karl.tokenizer import KarlTokenizer

__all__ = ["KarlTokenizer"]
