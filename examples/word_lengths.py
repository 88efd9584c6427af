"""A tokenizer of one's own in thirty lines: a text becomes the lengths of its words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from tokenmill.contract import Encoded, Encoder, Tokenizer
from tokenmill.errors import TokenizerError
from tokenmill.streams import Jagged, StreamSpec


class WordLengths(Tokenizer):
    """Word lengths in characters, at most `longest`."""

    id: ClassVar[str] = "word-lengths"
    longest: int = 255

    def streams(self) -> dict[str, StreamSpec]:
        """Return one stream of small numbers."""
        return {"ids": StreamSpec("uint8", vocabulary_size=self.longest + 1)}

    def load(self, device: str = "cpu") -> Encoder:
        """Return the encoder."""
        if device != "cpu":
            raise TokenizerError(f"tokenizer 'word-lengths' runs on the device 'cpu' only (given {device!r})")
        return WordLengthEncoder(self)


class WordLengthEncoder:
    """Measures words."""

    def __init__(self, config: WordLengths) -> None:
        self._longest = config.longest
        self._spec = config.streams()["ids"]

    def encode(self, payloads: Sequence[Any]) -> Encoded:
        """Return each text's word lengths."""
        rows = [np.array([min(len(word), self._longest) for word in text.split()], np.uint8) for text in payloads]
        return Encoded({"ids": Jagged.from_rows(rows, self._spec)})
