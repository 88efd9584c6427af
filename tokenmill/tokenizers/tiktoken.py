"""The `tiktoken` tokenizer: byte-level BPE from any rank file, with tiktoken's ids."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy.typing as npt
from pydantic import model_validator

from tokenmill.contract import Asset, Encoder, TokenClasses, Tokenizer, hash_file
from tokenmill.errors import AssetError, TokenizerError
from tokenmill.streams import StreamSpec, narrowest_dtype
from tokenmill.tokenizers.rank_files import PATTERNS, VOCABULARIES, Ranks, well_known_file
from tokenmill.tokenizers.text import TextEncoder, require_cpu
from tokenmill.tokenizers.tiktoken_engine import Definition, engine


class TiktokenTokenizer(Tokenizer):
    """Byte-level BPE by rank file, a well-known one by name or any by path."""

    id: ClassVar[str] = "tiktoken"
    locations: ClassVar[frozenset[str]] = frozenset({"ranks"})

    vocabulary: Literal["cl100k_base", "o200k_base", "o200k_harmony"] | None = None
    """A well-known vocabulary, from an installed package. Give this or `ranks`."""
    ranks: str | None = None
    """Path of a rank file (`.tiktoken`, or gzipped with `.gz`)."""
    pattern: str | None = None
    """With `ranks`: the pre-tokenization regex, or the name of a well-known vocabulary that has it."""
    special_tokens: dict[str, int] | None = None
    """Names and ids of the special tokens. Default: the well-known vocabulary's own; none with `ranks`."""
    allowed_special: tuple[str, ...] | Literal["all"] = ()
    """Special tokens to recognise in text. Default: none, so text that looks like one is ordinary text."""
    bos: str | None = None
    """Name of the special token to put before each document."""
    eos: str | None = None
    """Name of the special token to put after each document."""

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if (self.vocabulary is None) == (self.ranks is None):
            raise ValueError("give exactly one of `vocabulary` and `ranks`")
        if self.vocabulary is not None and self.pattern is not None:
            raise ValueError("`pattern` goes with `ranks`; a well-known vocabulary has its own")
        if self.ranks is not None and self.pattern is None:
            raise ValueError(f"`ranks` needs a `pattern`: a regex, or one of {', '.join(PATTERNS)}")
        known = self.specials()
        given = self.special_tokens or {}
        if len(set(given.values())) != len(given) or any(number < 0 for number in given.values()) or "" in given:
            raise ValueError("`special_tokens` needs names that are not empty and distinct ids from 0")
        wanted = () if self.allowed_special == "all" else self.allowed_special
        for name in (*wanted, self.bos, self.eos):
            if name is not None and name not in known:
                raise ValueError(
                    f"{name!r} is not a special token here; there are: {', '.join(list(known)[:20]) or 'none'}"
                )
        names = sorted(known if self.allowed_special == "all" else self.allowed_special)
        for name, following in pairwise(names):
            if following.startswith(name):
                raise ValueError(f"`allowed_special` is ambiguous in text: {following!r} starts with {name!r}")
        return self

    def specials(self) -> Mapping[str, int]:
        """Return names and ids of all special tokens."""
        if self.special_tokens is not None:
            return self.special_tokens
        return VOCABULARIES[self.vocabulary].special_tokens if self.vocabulary is not None else {}

    def assets(self) -> dict[str, Asset]:
        """Hash the rank file."""
        location = None
        if self.vocabulary is not None:
            location = f"package:bpe-openai/data/{VOCABULARIES[self.vocabulary].file}"
        return {"ranks": hash_file(self._path(), location)}

    def check(self) -> None:
        """Build the engine of a rank file of one's own: its pattern may be none that works."""
        if self.ranks is not None:
            engine(self._definition())

    def streams(self) -> dict[str, StreamSpec]:
        """Return `ids`, in the narrowest dtype that holds ranks and special tokens."""
        if self.vocabulary is not None:
            ranks: Collection[int] = range(VOCABULARIES[self.vocabulary].rank_count)
        else:
            ranks = frozenset(self._ranks().values())
        for name, number in self.specials().items():
            if number in ranks:
                raise TokenizerError(f"special token {name!r} has the id {number}, which is the rank of a token")
        size = 1 + max(*ranks, *self.specials().values())
        return {"ids": StreamSpec(narrowest_dtype(size), vocabulary_size=size)}

    def load(self, device: str = "cpu") -> Encoder:
        """Return an encoder with tiktoken's ids on the fastest engine that gives them."""
        require_cpu(device, self.id)
        return TextEncoder(
            engine(self._definition()).encode,
            self.streams()["ids"].dtype,
            bos_id=self._named(self.bos),
            eos_id=self._named(self.eos),
        )

    def decoder(self) -> TiktokenDecoder:
        """Return a decoder."""
        return TiktokenDecoder(self._token_bytes())

    def token_classes(self) -> TokenClasses:
        """Return the single bytes that are no ASCII character (`byte_fallback`) and the special tokens."""
        ranks = self._ranks()
        return TokenClasses(
            byte_fallback=tuple(sorted(ranks[bytes((byte,))] for byte in range(256))),
            special=tuple(sorted(self.specials().values())),
        )

    def token_text(self, ids: Sequence[int]) -> list[str]:
        r"""Return tokens as text; bytes that are no whole character as `\xNN`."""
        tokens = self._token_bytes()
        return [
            tokens[number].decode("utf-8", errors="backslashreplace") if number in tokens else f"<{number}>"
            for number in ids
        ]

    def notes(self) -> list[str]:
        """Return why the fast engine is not used, where it is not."""
        return list(engine(self._definition()).notes)

    def _path(self) -> Path:
        return well_known_file(self.vocabulary) if self.vocabulary is not None else Path(str(self.ranks))

    def _named(self, name: str | None) -> int | None:
        return None if name is None else self.specials()[name]

    def _ranks(self) -> Ranks:
        return self._definition().ranks()

    def _definition(self) -> Definition:
        path = self._path()
        try:
            changed = path.stat().st_mtime_ns
        except OSError as error:
            raise AssetError(f"cannot read this rank file: {error.strerror}", where=str(path)) from error
        if self.vocabulary is not None:
            pattern = PATTERNS[VOCABULARIES[self.vocabulary].pattern]
        else:
            pattern = PATTERNS.get(str(self.pattern), str(self.pattern))
        specials = self.specials()
        allowed = tuple(specials) if self.allowed_special == "all" else self.allowed_special
        return Definition(
            path=str(path),
            changed=changed,
            sha256=None if self.vocabulary is None else VOCABULARIES[self.vocabulary].sha256,
            pattern=pattern,
            allowed=tuple((name, specials[name]) for name in sorted(allowed)),
        )

    def _token_bytes(self) -> dict[int, bytes]:
        tokens = {rank: token for token, rank in self._ranks().items()}
        return tokens | {number: name.encode() for name, number in self.specials().items()}


class TiktokenDecoder:
    """Turns ids back into text."""

    def __init__(self, tokens: Mapping[int, bytes]) -> None:
        self._tokens = tokens

    def decode(self, streams: Mapping[str, npt.NDArray[Any]]) -> str:
        """Decode one row; bytes that are not UTF-8 become U+FFFD, as tiktoken's own `decode` has it."""
        tokens = self._tokens
        return b"".join([tokens[number] for number in streams["ids"].tolist()]).decode("utf-8", errors="replace")
