"""The vocabulary: frequent lexemes, common names, the merges of both modes, and the one file that holds them.

The file: `MAGIC`, the SHA-256 of what follows, then, compressed by LZMA: a line of JSON, and the pairs of merges of
each mode, uint16 `[merge, side]`, little-endian.
"""

from __future__ import annotations

import hashlib
import json
import lzma
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from tokenmill.errors import AssetError
from tokenmill.tokenizers.llvm_ir.layout import FIRST_LEXEME, LONGEST_LEXEME

Mode = Literal["lexeme", "line"]
MODES: tuple[Mode, ...] = get_args(Mode)

MAGIC = b"tokenmill llvm-ir vocabulary\n"
#: Of the file and of the alphabet in `layout`, which the numbers in merges mean.
VERSION = 1
#: Tokens of a vocabulary, units included, at most: ids are uint16.
MOST_TOKENS = 1 << 16
_LARGEST = 1 << 26


@dataclass(frozen=True)
class Vocabulary:
    """What training learned.

    Attributes:
        lexemes: Byte strings that are units, each with the space before it; " label" is one of them.
        names: Common names, without sigils, that are units.
        merges: Of each mode, uint16 `[merge, side]`, in their order.
    """

    lexemes: tuple[bytes, ...]
    names: tuple[bytes, ...]
    merges: dict[Mode, npt.NDArray[np.uint16]]

    @property
    def units(self) -> int:
        """How many units there are; tokens made by merges are numbered from there on."""
        return FIRST_LEXEME + len(self.lexemes) + len(self.names)

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        head = {
            "version": VERSION,
            "first_lexeme": FIRST_LEXEME,
            "lexemes": [lexeme.decode("latin-1") for lexeme in self.lexemes],
            "names": [name.decode("latin-1") for name in self.names],
            "merges": {mode: len(self.merges[mode]) for mode in MODES},
        }
        pairs = b"".join(np.ascontiguousarray(self.merges[mode], "<u2").tobytes() for mode in MODES)
        body = lzma.compress(json.dumps(head, separators=(",", ":")).encode() + b"\n" + pairs, preset=9)
        return MAGIC + hashlib.sha256(body).digest() + body

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Vocabulary:
        """Read and check a file's content; raises AssetError naming `where`."""
        if not data.startswith(MAGIC):
            raise AssetError("this is no vocabulary of LLVM IR", where=where, fix="make one: `tokenmill train llvm-ir`")
        body = data[len(MAGIC) + 32 :]
        if hashlib.sha256(body).digest() != data[len(MAGIC) : len(MAGIC) + 32]:
            raise AssetError("this vocabulary is damaged: its checksum does not fit", where=where)
        try:
            reader = lzma.LZMADecompressor()
            head, pairs = reader.decompress(body, _LARGEST).split(b"\n", 1)
            said = json.loads(head)
            if said["version"] != VERSION or said["first_lexeme"] != FIRST_LEXEME:
                raise ValueError(f"version {said['version']}; this release reads version {VERSION}")
            merges: dict[Mode, npt.NDArray[np.uint16]] = {}
            for mode in MODES:
                size = 4 * said["merges"][mode]
                merges[mode] = np.frombuffer(pairs[:size], "<u2").astype(np.uint16).reshape(-1, 2)
                pairs = pairs[size:]
            made = cls(
                tuple(text.encode("latin-1") for text in said["lexemes"]),
                tuple(text.encode("latin-1") for text in said["names"]),
                merges,
            )
            made.check()
        except (lzma.LZMAError, ValueError, KeyError, TypeError, AttributeError) as problem:
            raise AssetError(f"this vocabulary cannot be read: {problem}", where=where) from problem
        return made

    def check(self) -> None:
        """Raise ValueError where a vocabulary cannot be."""
        if b" label" not in self.lexemes:
            raise ValueError("' label' is not among the lexemes")
        for strings in (self.lexemes, self.names):
            if len(set(strings)) != len(strings) or b"" in strings:
                raise ValueError("a lexeme or name is empty, or there twice")
        if max(map(len, self.lexemes)) > LONGEST_LEXEME or any(b"\n" in lexeme for lexeme in self.lexemes):
            raise ValueError("a lexeme is too long, or goes over a line")
        if any(self.units + len(self.merges[mode]) > MOST_TOKENS for mode in MODES):
            raise ValueError(f"there are more than {MOST_TOKENS:,} tokens")
