"""LLVM IR: files of modules, their one canonical text, and what every tokenizer of it has."""
