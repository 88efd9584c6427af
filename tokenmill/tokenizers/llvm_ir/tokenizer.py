"""The tokenizer `llvm-ir`: its config, its encoder and its decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenmill.contract import Asset, Encoded, TokenClasses
from tokenmill.errors import AssetError, CorruptionError
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.compiled import require_numba
from tokenmill.ir.module import Module
from tokenmill.ir.tokenizer import IrPreparation, IrTokenizer, module_row
from tokenmill.streams import Jagged, StreamSpec, narrowest_dtype
from tokenmill.tokenizers.llvm_ir.coding import Coder
from tokenmill.tokenizers.llvm_ir.naming import unit_text
from tokenmill.tokenizers.llvm_ir.vocabulary import Mode, Vocabulary
from tokenmill.tokenizers.packaged_weights import PackagedWeights
from tokenmill.tokenizers.text import require_cpu

IDS = "ids"
FUNCTIONS = "functions"

#: A module with a function: all that is compiled has something to do.
_SMALL_TEXT = b"define void @f() {\n  ret void\n}\n"


class LlvmIrTokenizer(IrTokenizer):
    """Tokens of a module's canonical text, without loss.

    Operands are told by where they were defined, names by when they were first mentioned, and what the text says twice
    (numbers of definitions, predecessors of blocks) not at all.
    """

    id: ClassVar[str] = "llvm-ir"
    # To be raised whenever a vocabulary that stays the same gives other tokens: after any change of what units a text
    # has (`encoding`, `lines`, `units`, `parts`, `functions`) or of how they are merged. A change of the alphabet
    # (`layout`) makes vocabularies unreadable, and raises `vocabulary.VERSION` as well. Another vocabulary has another
    # hash: that alone raises nothing.
    implementation_version: ClassVar[int] = 1
    locations: ClassVar[frozenset[str]] = frozenset({"vocabulary"})

    mode: Mode = "line"
    """`line`: a token is part of one instruction, or all of it. `lexeme`: a token is no more than a lexeme."""
    vocabulary: str | None = None
    """Path of a vocabulary of one's own, made by `tokenmill train llvm-ir`; without it the packaged one is used."""

    def assets(self) -> dict[str, Asset]:
        """Return the vocabulary."""
        return {"vocabulary": _WEIGHTS.asset(self.vocabulary)}

    def token_streams(self) -> dict[str, StreamSpec]:
        """Return `ids`, and `functions`: where each function that is defined ends in `ids`."""
        size = self._coder().size
        return {
            IDS: StreamSpec(narrowest_dtype(size), vocabulary_size=size),
            FUNCTIONS: StreamSpec("uint32", dims=("function",), ends_of=IDS),
        }

    def load(self, device: str = "cpu") -> LlvmIrEncoder:
        """Return an encoder; raises AssetError where the vocabulary is damaged, TokenizerError for another device."""
        require_cpu(device, self.id)
        encoder = LlvmIrEncoder(self._coder(), self.canonical, self.streams())
        encoder.encode([Module(_SMALL_TEXT, 0)])  # compiled here, not in each of the processes that are forked later
        return encoder

    def decoder(self) -> LlvmIrDecoder:
        """Return a decoder; raises AssetError where the vocabulary is damaged."""
        return LlvmIrDecoder(self._coder())

    def token_classes(self) -> TokenClasses:
        """Return the tokens of one byte each: digits of large numbers, and what no lexeme holds."""
        return TokenClasses(byte_fallback=tuple(range(256)))

    def token_text(self, ids: Sequence[int]) -> list[str]:
        """Return tokens as text in which operands stand in braces, such as `load ptr, ptr{alloca 3}`."""
        coder, held = self._coder(), _WEIGHTS.model(self.vocabulary).vocabulary
        return ["".join(unit_text(int(unit), held) for unit in coder.units_of(token)) for token in ids]

    def _coder(self) -> Coder:
        return _WEIGHTS.model(self.vocabulary).coder(self.mode)


class _Coders:
    """A vocabulary, and what codes with it in each mode, made at the first call."""

    def __init__(self, data: bytes, where: str) -> None:
        self.vocabulary = Vocabulary.from_bytes(data, where)
        self.coder = cache(self._coder)
        self._where = where

    def _coder(self, mode: Mode) -> Coder:
        require_numba()
        try:
            return Coder(self.vocabulary, mode)
        except ValueError as problem:
            raise AssetError(f"this vocabulary cannot be: {problem}", where=self._where) from problem


_WEIGHTS = PackagedWeights(__file__, _Coders, "vocabulary.bin")


class LlvmIrEncoder(IrPreparation):
    """Turns modules into tokens, one at a time: nothing about a module depends on another."""

    def __init__(self, coder: Coder, canonical: Canonical, specs: Mapping[str, StreamSpec]) -> None:
        super().__init__(canonical)
        self._coder = coder
        self._specs = specs

    def encode(self, payloads: Sequence[Module]) -> Encoded:
        """Tokenize modules as `prepare` read them."""
        rows: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in self._specs}
        for module in payloads:
            tokens = self._coder.encode(module.text)
            made: dict[str, npt.NDArray[Any]] = {IDS: tokens.ids, FUNCTIONS: tokens.functions}
            made |= module_row(module)
            for name in self._specs:
                rows[name].append(made[name])
        return Encoded({name: Jagged.from_rows(rows[name], spec) for name, spec in self._specs.items()})


class LlvmIrDecoder:
    """Turns tokens back into a module's canonical text."""

    def __init__(self, coder: Coder) -> None:
        self._coder = coder

    def decode(self, streams: Mapping[str, npt.NDArray[Any]]) -> str:
        """Return the text of a row; bytes that are no UTF-8 become lone surrogates. Raises CorruptionError."""
        ids = streams[IDS]
        if len(ids) and int(ids.max()) >= self._coder.size:
            raise CorruptionError(f"there is a token {int(ids.max())}; the vocabulary has {self._coder.size:,}")
        return self._coder.decode(ids.astype(np.uint16)).decode("utf-8", errors="surrogateescape")
