"""Text to tokens and back, in one mode of a vocabulary: what encoders and decoders share."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tokenmill.errors import CorruptionError
from tokenmill.tokenizers.llvm_ir import encoding, text, units, writing
from tokenmill.tokenizers.llvm_ir.layout import NEWLINE, Tables, tables
from tokenmill.tokenizers.llvm_ir.merging import Merges, expand, merge, merges
from tokenmill.tokenizers.llvm_ir.units import INSIDE, LEXEME_START, LINE_START, Work
from tokenmill.tokenizers.llvm_ir.vocabulary import Mode, Vocabulary

#: A text has no more units than this times its bytes, and a few.
_UNITS_A_BYTE = 3
_NEWLINE_BYTE = 10


@dataclass(frozen=True)
class Tokens:
    """A text's tokens.

    Attributes:
        ids: uint16 `[token]`.
        functions: uint32 `[function]`, where each function ends in `ids`; what stands before a function counts to it.
        exact: False where the text had to be coded byte by byte, which costs many tokens. No text is known for it.
    """

    ids: npt.NDArray[np.uint16]
    functions: npt.NDArray[np.uint32]
    exact: bool = True


class Coder:
    """Codes text of any kind without loss; canonical LLVM IR in few tokens. One text at a time for each thread."""

    def __init__(self, vocabulary: Vocabulary, mode: Mode) -> None:
        self._tables: Tables = tables(vocabulary.lexemes, vocabulary.names)
        self._merges: Merges = merges(vocabulary.units, vocabulary.merges[mode])
        self._boundary = LINE_START if mode == "line" else LEXEME_START
        self._local = threading.local()

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return len(self._merges.starts) - 1

    def units_of(self, token: int) -> npt.NDArray[np.uint16]:
        """Return the units that a token is made of."""
        return self._merges.data[self._merges.starts[token] : self._merges.starts[token + 1]]

    def units(self, data: bytes) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Return a text's units, their flags, and the ends of functions in units."""
        return to_units(data, self._tables, self._work())

    def encode(self, data: bytes) -> Tokens:
        """Return the tokens of a text. What they decode to has been compared."""
        found, flags, ends = self.units(data)
        exact = self._text(found) == data
        if not exact:
            found = np.concatenate([np.array([_NEWLINE_BYTE], np.uint16), np.frombuffer(data, np.uint8)])
            flags = np.where(found == _NEWLINE_BYTE, LINE_START, INSIDE).astype(np.uint8)
            ends = ends[:0]
        ids = np.empty(len(found), np.uint16)
        functions = np.empty(len(ends), np.int64)
        count = merge(found, flags, self._boundary, ends, self._merges, ids, functions)
        return Tokens(ids[:count].copy(), functions.astype(np.uint32), exact)

    def decode(self, ids: npt.NDArray[np.uint16]) -> bytes:
        """Return the text of tokens; raises CorruptionError for ids that no text has."""
        found = expand(ids, self._merges)
        data = self._text(found) if len(found) or not len(ids) else None
        if data is None:
            raise CorruptionError("these tokens are of no text")
        return data

    def _text(self, found: npt.NDArray[np.uint16]) -> bytes | None:
        return to_text(found, self._tables)

    def _work(self) -> Work:
        if not hasattr(self._local, "work"):
            self._local.work = units.work()
        made: Work = self._local.work
        return made


def to_units(
    data: bytes, held: Tables, work: Work
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return a text's units, their flags, and the ends of functions in units."""
    framed = np.frombuffer(b"\n" + data + bytes(16), np.uint8)
    room = _UNITS_A_BYTE * len(framed)
    found, flags = np.empty(room, np.uint16), np.empty(room, np.uint8)
    ends = np.empty(data.count(b"\n}") + 1, np.int64)
    count, functions = encoding.encode(framed, len(data) + 1, held, work, found, flags, ends)
    return found[:count].copy(), flags[:count].copy(), ends[:functions]


def to_text(found: npt.NDArray[np.uint16], held: Tables) -> bytes | None:
    """Return the text of units, or None where no text has them."""
    if not len(found) or found[0] not in _FIRST:
        return None
    out, size = text.decode(found, held, writing.reading(found), np.empty(8 * len(found) + 1024, np.uint8))
    return None if size < 0 else out[1:size].tobytes()


#: What the units of a text begin with: a line's start.
_FIRST = frozenset((_NEWLINE_BYTE, *range(NEWLINE, NEWLINE + 15)))
