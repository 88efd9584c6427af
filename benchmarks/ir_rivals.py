"""Tokenizers beside which `llvm-ir` is measured: tekken, and two byte-pair encodings learned from the same texts.

`gpt-regex` is cut into words, numbers and punctuation as GPT-4's is, `superword` only at newlines and after 512
characters, so that a token may be a whole line.  Both have as many tokens as `llvm-ir` and begin with all bytes.
Learning them takes minutes and a few GB; what was learned is kept in a file, by the texts' hash.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

TEKKEN = "tekken"
TOKENS = 32_768
GPT_REGEX = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
LEARNED = {"gpt-regex": GPT_REGEX, "superword": r"[^\n]{0,512}\n?"}


class Rival(Protocol):
    """What a text's tokens are counted by."""

    def count(self, text: str) -> int:
        """Return how many tokens a text becomes."""


class Tekken:
    """Mistral's vocabulary of 131,072 tokens."""

    def __init__(self) -> None:
        import tiktoken

        spec = importlib.util.find_spec("mistral_common")
        if spec is None or not spec.submodule_search_locations:
            raise RuntimeError("the package mistral_common is not installed")
        path = max((Path(spec.submodule_search_locations[0]) / "data").glob("tekken_*.json"))
        described = json.loads(path.read_bytes())
        config = described["config"]
        count = config["default_vocab_size"] - config["default_num_special_tokens"]
        ranks = {base64.b64decode(one["token_bytes"]): one["rank"] for one in described["vocab"][:count]}
        self._encoding = tiktoken.Encoding(TEKKEN, pat_str=config["pattern"], mergeable_ranks=ranks, special_tokens={})

    def count(self, text: str) -> int:
        """Return how many tokens a text becomes."""
        return len(self._encoding.encode_ordinary(text))


class Learned:
    """A byte-pair encoding of the library `tokenizers`."""

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer

        self._model = Tokenizer.from_file(str(file))

    def count(self, text: str) -> int:
        """Return how many tokens a text becomes."""
        return len(self._model.encode(text, add_special_tokens=False).ids)


def learn(texts: Sequence[bytes], work: Path) -> dict[str, Path]:
    """Return the files of the rivals that are learned, by name; learned from the texts unless `work` has them."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    work.mkdir(parents=True, exist_ok=True)
    sums = hashlib.sha256(b"".join(hashlib.sha256(text).digest() for text in texts)).hexdigest()
    files = {}
    for name, pattern in LEARNED.items():
        files[name] = file = work / f"{name}-{TOKENS}-{sums[:16]}.json"
        if file.is_file():
            continue
        model = Tokenizer(models.BPE())
        cut = pre_tokenizers.Split(Regex(pattern), "isolated")
        by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        model.pre_tokenizer = pre_tokenizers.Sequence([cut, by_bytes])
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=TOKENS, show_progress=False, initial_alphabet=alphabet)
        model.train_from_iterator((text.decode(errors="replace") for text in texts), trainer)
        partial = file.with_suffix(".partial")
        model.save(str(partial))
        partial.rename(file)
    return files


def rivals(files: Mapping[str, Path]) -> dict[str, Rival]:
    """Return all rivals by name, given the files of those that are learned."""
    return {TEKKEN: Tekken(), **{name: Learned(file) for name, file in files.items()}}
