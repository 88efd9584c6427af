"""Text to tokens and back, in one mode of a vocabulary: what encoders and decoders share."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tokenmill.errors import CorruptionError, ItemError
from tokenmill.ir.reasons import TOO_LARGE
from tokenmill.tokenizers.llvm_ir import encoding, text, units, writing
from tokenmill.tokenizers.llvm_ir.layout import LAST_LINE_START, NEWLINE, Tables, tables
from tokenmill.tokenizers.llvm_ir.merging import Merges, expand, merge, merges
from tokenmill.tokenizers.llvm_ir.units import INSIDE, LEXEME_START, LINE_START, Work
from tokenmill.tokenizers.llvm_ir.vocabulary import Mode, Vocabulary

#: Most bytes of a text, to encode or decoded: few tokens can stand for very many bytes.
LARGEST_TEXT = 1 << 30
#: A text has no more units than this times its bytes, and a few. Memory that is not written to costs nothing.
_UNITS_A_BYTE = 3
_BYTES_A_UNIT = 8
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
        """Return the tokens of a text. What they decode to has been compared.

        Raises ItemError for a text of more than LARGEST_TEXT bytes.
        """
        if len(data) > LARGEST_TEXT:
            raise ItemError(TOO_LARGE, f"the text has {len(data):,} bytes; at most {LARGEST_TEXT:,} can be encoded")
        found, flags, ends = self.units(data)
        out, size = _decode(found, self._tables, len(data) + 1)
        exact = size == len(data) + 1 and out.data[1:size] == data
        del out
        if not exact:
            found = np.concatenate([np.array([_NEWLINE_BYTE], np.uint16), np.frombuffer(data, np.uint8)])
            flags = np.where(found == _NEWLINE_BYTE, LINE_START, INSIDE).astype(np.uint8)
            ends = ends[:0]
        ids = np.empty(len(found), np.uint16)
        functions = np.empty(len(ends), np.int64)
        count = merge(found, flags, self._boundary, ends, self._merges, ids, functions)
        return Tokens(ids[:count].copy(), functions.astype(np.uint32), exact)

    def decode(self, ids: npt.NDArray[np.uint16]) -> bytes:
        """Return the text of tokens; raises CorruptionError for ids that no text, or none within LARGEST_TEXT, has."""
        found = expand(ids, self._merges)
        out, size = _decode(found, self._tables, LARGEST_TEXT)
        if size == writing.TOO_LARGE:
            raise CorruptionError(f"these tokens make a text of more than {LARGEST_TEXT:,} bytes")
        if size < 0:
            raise CorruptionError("these tokens are of no text")
        return out[1:size].tobytes()

    def _work(self) -> Work:
        if not hasattr(self._local, "work"):
            self._local.work = units.work()
        made: Work = self._local.work
        return made


def to_units(
    data: bytes, held: Tables, work: Work
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return a text's units, their flags, and the ends of functions in units."""
    framed = np.zeros(len(data) + 17, np.uint8)
    framed[0] = _NEWLINE_BYTE
    framed[1 : len(data) + 1] = np.frombuffer(data, np.uint8)
    room = _UNITS_A_BYTE * len(framed)
    found, flags = np.empty(room, np.uint16), np.empty(room, np.uint8)
    ends = np.empty(data.count(b"\n}") + 1, np.int64)
    count, functions = encoding.encode(framed, len(data) + 1, held, work, found, flags, ends)
    return found[:count], flags[:count], ends[:functions]


def _decode(found: npt.NDArray[np.uint16], held: Tables, limit: int) -> tuple[npt.NDArray[np.uint8], int]:
    """Return a buffer with a newline and the text of units, and its size: NO_TEXT, or TOO_LARGE beyond the limit."""
    if not len(found) or found[0] not in _FIRST:
        return np.empty(0, np.uint8), writing.NO_TEXT
    first = np.empty(min(_BYTES_A_UNIT * len(found), limit) + 1024, np.uint8)
    return text.decode(found, held, writing.reading(found), first, limit)


#: What the units of a text begin with: a line's start.
_FIRST = frozenset((_NEWLINE_BYTE, *range(NEWLINE, LAST_LINE_START + 1)))
