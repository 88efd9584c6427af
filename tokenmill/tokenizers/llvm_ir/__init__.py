"""Tokens of LLVM IR that know its structure: no loss, and a whole instruction is often one token."""

from tokenmill.tokenizers.llvm_ir.tokenizer import LlvmIrTokenizer

__all__ = ["LlvmIrTokenizer"]
