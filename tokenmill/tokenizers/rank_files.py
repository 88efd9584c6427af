"""Rank files (`.tiktoken`) and the well-known vocabularies: where they lie, what is in them, what is wrong with them.

A rank file has a line a token: the token's bytes in base64, a space, its rank (which is its id and its priority).
"""

from __future__ import annotations

import binascii
import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from tokenmill.errors import AssetError, MissingExtraError

Ranks = dict[bytes, int]

# The pre-tokenization patterns and special tokens are those of tiktoken_ext.openai_public; a test compares them.
_CL100K_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
_O200K_PATTERN = "|".join(
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
_R50K_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"

#: Pre-tokenization patterns that a config may name instead of spelling them out.
PATTERNS: Mapping[str, str] = {
    "cl100k_base": _CL100K_PATTERN,
    "o200k_base": _O200K_PATTERN,
    "r50k_base": _R50K_PATTERN,
}

_O200K_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
_HARMONY_NAMES = {
    "<|startoftext|>": 199998,
    "<|endoftext|>": 199999,
    "<|return|>": 200002,
    "<|constrain|>": 200003,
    "<|channel|>": 200005,
    "<|start|>": 200006,
    "<|end|>": 200007,
    "<|message|>": 200008,
    "<|call|>": 200012,
    "<|endofprompt|>": 200018,
}


@dataclass(frozen=True)
class WellKnown:
    """A vocabulary that a config may name.

    Attributes:
        file: Name of its rank file in the package `bpe_openai`, in `data/`.
        pattern: Name of its pattern in PATTERNS.
        sha256: Of the rank file's text, decompressed.
        rank_count: Number of ranks; they are 0 … rank_count - 1.
        special_tokens: Names and ids.
    """

    file: str
    pattern: str
    sha256: str
    rank_count: int
    special_tokens: Mapping[str, int] = field(hash=False)


VOCABULARIES: Mapping[str, WellKnown] = {
    "cl100k_base": WellKnown(
        "cl100k_base.tiktoken.gz",
        "cl100k_base",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        100256,
        {
            "<|endoftext|>": 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
    "o200k_base": WellKnown(
        "o200k_base.tiktoken.gz",
        "o200k_base",
        _O200K_SHA256,
        199998,
        {"<|endoftext|>": 199999, "<|endofprompt|>": 200018},
    ),
    "o200k_harmony": WellKnown(
        "o200k_base.tiktoken.gz",
        "o200k_base",
        _O200K_SHA256,
        199998,
        _HARMONY_NAMES
        | {f"<|reserved_{number}|>": number for number in (200000, 200001, 200004, 200009, 200010, 200011)}
        | {f"<|reserved_{number}|>": number for number in range(200013, 201088)},
    ),
}


def well_known_file(vocabulary: str) -> Path:
    """Return the path of a well-known vocabulary's rank file; the package's native module is not imported.

    Raises:
        MissingExtraError: The package that ships it is not installed.
        AssetError: The package is installed but does not hold the file.
    """
    spec = find_spec("bpe_openai")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            f"vocabulary {vocabulary!r} is shipped in the package bpe-openai, which is not installed",
            fix="pip install 'tokenmill[text]', or give the path of a rank file as `ranks`",
        )
    path = Path(spec.submodule_search_locations[0]) / "data" / VOCABULARIES[vocabulary].file
    if not path.is_file():
        raise AssetError(
            "this package holds no such rank file", where=str(path), fix="reinstall bpe-openai, or give `ranks`"
        )
    return path


def read_rank_file(path: Path) -> bytes:
    """Return a rank file's text, decompressed if its name ends in `.gz`; raises AssetError."""
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise AssetError(
            f"this rank file is not intact gzip: {error}", where=str(path), fix="fetch it again"
        ) from error
    except OSError as error:
        raise AssetError(f"cannot read this rank file: {error.strerror}", where=str(path)) from error


def parse_ranks(data: bytes, where: str) -> Ranks:
    """Parse and check a rank file's text.

    Raises:
        AssetError: Naming the line: base64 or a rank that does not parse, a token or a rank that occurs twice; or
            naming the first of the 256 single bytes that is absent (without it some text has no encoding).
    """
    ranks: Ranks = {}
    numbers: set[int] = set()
    for line_number, line in enumerate(data.split(b"\n"), 1):
        if not line or line == b"\r":
            continue
        try:
            encoded, number = line.split()
            token, rank = binascii.a2b_base64(encoded, strict_mode=True), int(number)
        except (ValueError, binascii.Error) as error:
            raise _corrupt(f"{line[:60]!r} is not `<base64> <rank>`: {error}", where, line_number) from error
        if not token or rank < 0 or rank > _LARGEST_RANK:
            raise _corrupt(
                f"token {token!r} with rank {rank}: an empty token or an impossible rank", where, line_number
            )
        if token in ranks:
            raise _corrupt(f"token {token!r} occurs a second time", where, line_number)
        if rank in numbers:
            raise _corrupt(f"rank {rank} occurs a second time", where, line_number)
        ranks[token] = rank
        numbers.add(rank)
    missing = next((byte for byte in range(256) if bytes((byte,)) not in ranks), None)
    if missing is not None:
        raise AssetError(
            f"no line holds the single byte 0x{missing:02X}; a byte-level vocabulary needs all 256",
            where=where,
            fix="the file is truncated or no rank file; fetch it again",
        )
    return ranks


_LARGEST_RANK = 2**31 - 1


def _corrupt(what: str, where: str, line_number: int) -> AssetError:
    return AssetError(what, where=f"{where}:{line_number}", fix="the file is corrupt or no rank file; fetch it again")
