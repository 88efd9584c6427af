"""The `sentencepiece` tokenizer: any SentencePiece model, with SentencePiece's own ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tokenmill.contract import Asset, Encoder, TokenClasses, Tokenizer, hash_file
from tokenmill.errors import AssetError, TokenizerError
from tokenmill.registry import missing_extra
from tokenmill.streams import StreamSpec, narrowest_dtype
from tokenmill.tokenizers.text import Batch, Ids, Lengths, TextEncoder, require_cpu


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece model file. Control symbols in text (`<s>`) are ordinary text."""

    id: ClassVar[str] = "sentencepiece"
    locations: ClassVar[frozenset[str]] = frozenset({"model"})

    model: str
    """Path of the model file (`.model`)."""
    bos: bool = False
    """Put the model's BOS before each document."""
    eos: bool = False
    """Put the model's EOS after each document."""
    max_document_bytes: int = Field(default=4 << 20, gt=0)
    """Documents of more UTF-8 bytes are rejected: 4 MiB without a break take it up to 15 seconds."""

    def assets(self) -> dict[str, Asset]:
        """Hash the model file."""
        return {"model": hash_file(self.model)}

    def streams(self) -> dict[str, StreamSpec]:
        """Return `ids`, in the narrowest dtype that holds the model's pieces."""
        size = self._processor().get_piece_size()
        return {"ids": StreamSpec(narrowest_dtype(size), vocabulary_size=size)}

    def load(self, device: str = "cpu") -> Encoder:
        """Return an encoder."""
        require_cpu(device, self.id)
        processor = self._processor()
        return TextEncoder(
            _batch(processor),
            self.streams()["ids"].dtype,
            bos_id=self._control("bos", processor.bos_id()) if self.bos else None,
            eos_id=self._control("eos", processor.eos_id()) if self.eos else None,
            max_document_bytes=self.max_document_bytes,
        )

    def decoder(self) -> SentencePieceDecoder:
        """Return a decoder."""
        return SentencePieceDecoder(self._processor())

    def token_classes(self) -> TokenClasses:
        """Return byte pieces (`<0xNN>`), the unknown piece and the control symbols."""
        processor = self._processor()
        numbers = range(processor.get_piece_size())
        return TokenClasses(
            byte_fallback=tuple(number for number in numbers if processor.is_byte(number)),
            unknown=tuple(number for number in numbers if processor.is_unknown(number)),
            special=tuple(number for number in numbers if processor.is_control(number)),
        )

    def token_text(self, ids: Sequence[int]) -> list[str]:
        """Return the pieces themselves, with `▁` for a space."""
        processor = self._processor()
        size = processor.get_piece_size()
        return [processor.id_to_piece(number) if number < size else f"<{number}>" for number in ids]

    def _processor(self) -> Any:
        try:
            changed = Path(self.model).stat().st_mtime_ns
        except OSError as error:
            raise AssetError(f"cannot read this model: {error.strerror}", where=self.model) from error
        return _load(self.model, changed)

    def _control(self, name: str, number: int) -> int:
        if number < 0:
            raise TokenizerError(
                f"this model has no {name.upper()} symbol", where=self.model, fix=f"leave `{name}` out"
            )
        return number


class SentencePieceDecoder:
    """Turns ids back into text."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def decode(self, streams: Mapping[str, npt.NDArray[Any]]) -> str:
        """Decode one row; control symbols leave no trace."""
        text: str = self._processor.decode(streams["ids"].tolist())
        return text


@lru_cache(maxsize=2)
def _load(path: str, changed: int) -> Any:
    """Load a model, once for each version of the file (`changed` is its time of change)."""
    try:
        from sentencepiece import SentencePieceProcessor
    except ModuleNotFoundError as error:
        raise missing_extra(error, "tokenizer 'sentencepiece'") from error
    try:
        return SentencePieceProcessor(model_file=path)
    except (OSError, RuntimeError) as error:
        raise AssetError(f"this is no SentencePiece model: {error}", where=path, fix="fetch it again") from error


def _batch(processor: Any) -> Batch:
    def encode(texts: list[str]) -> tuple[Ids, Lengths]:
        rows = processor.encode(texts, return_type="numpy", num_threads=1) if texts else []
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return (np.concatenate(rows) if rows else np.empty(0, np.int32)), lengths

    return encode
