"""The `bytes` tokenizer: a document's UTF-8 bytes are its ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenmill.contract import Encoder, TokenClasses, Tokenizer
from tokenmill.streams import StreamSpec, narrowest_dtype
from tokenmill.tokenizers.text import Ids, Lengths, TextEncoder, require_cpu

_BYTES = 256


class BytesTokenizer(Tokenizer):
    """UTF-8 bytes as ids 0 … 255; BOS and EOS, where asked for, are 256 and upwards."""

    id: ClassVar[str] = "bytes"

    bos: bool = False
    """Put a beginning-of-document id before each document."""
    eos: bool = False
    """Put an end-of-document id after each document."""

    @property
    def bos_id(self) -> int | None:
        """The id put before each document, or None."""
        return _BYTES if self.bos else None

    @property
    def eos_id(self) -> int | None:
        """The id put after each document, or None."""
        return _BYTES + int(self.bos) if self.eos else None

    def streams(self) -> dict[str, StreamSpec]:
        """Return `ids`: uint8, or uint16 where BOS or EOS is added."""
        size = _BYTES + int(self.bos) + int(self.eos)
        return {"ids": StreamSpec(narrowest_dtype(size), vocabulary_size=size)}

    def load(self, device: str = "cpu") -> Encoder:
        """Return an encoder."""
        require_cpu(device, self.id)
        return TextEncoder(_batch, self.streams()["ids"].dtype, bos_id=self.bos_id, eos_id=self.eos_id)

    def decoder(self) -> BytesDecoder:
        """Return a decoder; invalid UTF-8 becomes U+FFFD."""
        return BytesDecoder()

    def token_classes(self) -> TokenClasses:
        """Return BOS and EOS as special. The bytes are the vocabulary itself, not a fallback."""
        return TokenClasses(special=tuple(range(_BYTES, _BYTES + int(self.bos) + int(self.eos))))

    def token_text(self, ids: Sequence[int]) -> list[str]:
        """Return a printable character, `<0xNN>` or the special's name for each id."""
        names = {self.bos_id: "<bos>", self.eos_id: "<eos>"}
        return [chr(number) if 0x20 <= number < 0x7F else names.get(number) or f"<0x{number:02X}>" for number in ids]


def _batch(texts: list[str]) -> tuple[Ids, Lengths]:
    documents = [text.encode() for text in texts]
    return np.frombuffer(b"".join(documents), np.uint8), np.fromiter(map(len, documents), np.int64, len(documents))


class BytesDecoder:
    """Turns byte ids back into text."""

    def decode(self, streams: Mapping[str, npt.NDArray[Any]]) -> str:
        """Decode one row; BOS and EOS leave no trace, invalid UTF-8 becomes U+FFFD."""
        ids = streams["ids"]
        return ids[ids < _BYTES].astype(np.uint8).tobytes().decode("utf-8", errors="replace")
