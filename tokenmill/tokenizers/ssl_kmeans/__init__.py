"""The `ssl-kmeans` tokenizer: a layer of a self-supervised speech encoder, and a codebook fitted on one's own sound."""

from tokenmill.tokenizers.ssl_kmeans.tokenizer import SslKmeansTokenizer

__all__ = ["SslKmeansTokenizer"]
