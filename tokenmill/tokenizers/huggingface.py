"""The `huggingface` tokenizer: any `tokenizer.json`, with the ids of the library `tokenizers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy.typing as npt
from pydantic import Field, model_validator

from tokenmill.contract import Asset, Encoder, TokenClasses, Tokenizer, hash_file
from tokenmill.errors import AssetError
from tokenmill.streams import StreamSpec, narrowest_dtype
from tokenmill.tokenizers.hub_files import REVISION, hub_file
from tokenmill.tokenizers.huggingface_engine import Definition, Header, engine, read_header, reference_tokenizer
from tokenmill.tokenizers.text import TextEncoder, require_cpu

_FILE = "tokenizer.json"


class HuggingFaceTokenizer(Tokenizer):
    """A `tokenizer.json`, from a path or from a pinned revision on the Hugging Face hub."""

    id: ClassVar[str] = "huggingface"
    locations: ClassVar[frozenset[str]] = frozenset({"tokenizer_json", "hub_id", "revision"})

    tokenizer_json: str | None = None
    """Path of the file. Give this, or `hub_id` and `revision`."""
    hub_id: str | None = None
    """Repository on the hub, such as `org/model`; fetched when the job is planned."""
    revision: str | None = Field(default=None, pattern=REVISION)
    """Full commit hash (40 hexadecimal digits): a branch or tag could mean another tokenizer tomorrow."""
    allowed_special: Literal["all"] | None = None
    """`all`: recognise special tokens in text. Default: text that looks like one is ordinary text. (Added tokens that
    the file does not mark as special are recognised in either case: they are part of its vocabulary.)"""
    add_special_tokens: bool = False
    """Let the file's post-processor add what it adds (BOS, EOS) to each document."""
    max_document_bytes: int = Field(default=4 << 20, gt=0)
    """Documents of more UTF-8 bytes are rejected: without a break, letters take more than linear time (4 MiB: 15 s)."""

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if (self.tokenizer_json is None) == (self.hub_id is None):
            raise ValueError("give exactly one of `tokenizer_json` and `hub_id`")
        if (self.hub_id is None) != (self.revision is None):
            raise ValueError("`hub_id` needs a `revision`: the full hash of a commit; and a `revision` a `hub_id`")
        return self

    def assets(self) -> dict[str, Asset]:
        """Hash the file."""
        location = None if self.hub_id is None else f"hub:{self.hub_id}@{self.revision}/{_FILE}"
        return {_FILE: hash_file(self._path(), location)}

    def streams(self) -> dict[str, StreamSpec]:
        """Return `ids`, in the narrowest dtype that holds the vocabulary with its added tokens."""
        size = self._header().vocabulary_size
        return {"ids": StreamSpec(narrowest_dtype(size), vocabulary_size=size)}

    def load(self, device: str = "cpu") -> Encoder:
        """Return an encoder with the library's ids on the fastest engine that gives them."""
        require_cpu(device, self.id)
        return TextEncoder(
            engine(self._definition()).batch,
            self.streams()["ids"].dtype,
            max_document_bytes=self.max_document_bytes,
        )

    def decoder(self) -> HuggingFaceDecoder:
        """Return a decoder."""
        return HuggingFaceDecoder(reference_tokenizer(self._definition()))

    def token_classes(self) -> TokenClasses:
        """Return single bytes, the unknown token and the special tokens, as far as the file has them."""
        header = self._header()
        return TokenClasses(header.byte_fallback, header.unknown, header.special)

    def token_text(self, ids: Sequence[int]) -> list[str]:
        """Return tokens as the vocabulary spells them (`Ġ` or `▁` for a space)."""
        tokens = reference_tokenizer(self._definition())
        return [tokens.id_to_token(number) or f"<{number}>" for number in ids]

    def notes(self) -> list[str]:
        """Return what is turned off, and why the fast engine is not used, where it is not."""
        return [*self._header().notes, *engine(self._definition()).notes]

    def _definition(self) -> Definition:
        path = self._path()
        return Definition(str(path), _changed(path), self.allowed_special == "all", self.add_special_tokens)

    def _header(self) -> Header:
        path = self._path()
        return read_header(str(path), _changed(path))

    def _path(self) -> Path:
        if self.tokenizer_json is not None:
            return Path(self.tokenizer_json)
        return hub_file(str(self.hub_id), str(self.revision), (_FILE,), self.id)


class HuggingFaceDecoder:
    """Turns ids back into text."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def decode(self, streams: Mapping[str, npt.NDArray[Any]]) -> str:
        """Decode one row with the file's own decoder; special tokens are spelled out."""
        text: str = self._tokenizer.decode(streams["ids"].tolist(), skip_special_tokens=False)
        return text


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise AssetError(f"cannot read this tokenizer: {error.strerror}", where=str(path)) from error
