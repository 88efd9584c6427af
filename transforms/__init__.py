"""Beam transforms: each a thin wrapper of a pure function in `tokenmill`; none knows which runner it runs on."""

from transforms.tokenize_splits import PipelineFailure, SplitReference, TokenizeSplits

__all__ = ["PipelineFailure", "SplitReference", "TokenizeSplits"]
