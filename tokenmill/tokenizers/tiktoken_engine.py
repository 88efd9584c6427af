"""The engine under the `tiktoken` tokenizer: fastokens where its ids are tiktoken's, else tiktoken itself.

Long texts go through `long_text` in both cases, so that no document needs more than a bounded time and memory.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import textwrap
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from tokenmill.errors import AssetError
from tokenmill.registry import missing_extra
from tokenmill.tokenizers.fastokens_batch import FastokensBatch, load_native
from tokenmill.tokenizers.long_text import CL100K, GPT2, O200K, ByteLevelPairs, Cutter, Family, Ids
from tokenmill.tokenizers.probe import PROBE_TEXTS
from tokenmill.tokenizers.rank_files import PATTERNS, VOCABULARIES, Ranks, parse_ranks, read_rank_file
from tokenmill.tokenizers.text import Batch, Lengths

LONG_CHARACTERS = 1 << 18
"""Texts up to this length need no care: the engine's worst case is 15 ms."""
WHOLE_CHARACTERS = 1 << 22
"""Texts above this length are always cut into pieces, to bound memory; between the two, those with a long pre-token."""

# Spellings that fastokens has fast scanners for, and that long texts can be cut for.
_CL100K_SCANNED = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_GPT2_SCANNED = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_FAMILIES: Mapping[str, Family] = {
    PATTERNS["o200k_base"]: O200K,
    _CL100K_SCANNED: CL100K,
    _GPT2_SCANNED: GPT2,
}
# Patterns for which fastokens was seen to start no thread, however long the text.
_POOL_FREE = (PATTERNS["o200k_base"], _CL100K_SCANNED)
_NEWLINE_THEN_SPACE = re.compile(rb"[\r\n][^\r\n]+\Z")


@dataclass(frozen=True)
class _Known:
    """What needs no working out for a well-known vocabulary.

    Attributes:
        scanned: What `scanned_pattern` gives.
        probe_digest: That of tiktoken's own ids on the probe texts.
    """

    scanned: str
    probe_digest: str


#: By sha256 of the rank file's text and pattern. A test works them out anew: tiktoken need not be loaded beside
#: fastokens, which saves half a second and 80 MB a process.
_KNOWN: Mapping[tuple[str, str], _Known] = {
    (VOCABULARIES["o200k_base"].sha256, PATTERNS["o200k_base"]): _Known(
        PATTERNS["o200k_base"], "79ca6b726a04f13a8f08bce2c1bfad4b55171d98125a86352e3358d1f18e5153"
    ),
    (VOCABULARIES["cl100k_base"].sha256, PATTERNS["cl100k_base"]): _Known(
        _CL100K_SCANNED, "1763b418217a74e3804feb68b4d79a685a1af8816c4d3f101bbee18c176adba0"
    ),
}


@dataclass(frozen=True)
class Definition:
    """What fixes the ids of a byte-level BPE.

    Attributes:
        path: The rank file.
        changed: The file's time of change in nanoseconds, so that a changed file is another definition.
        sha256: What the file's text, decompressed, must hash to; None for any.
        pattern: The pre-tokenization pattern.
        allowed: Names and ids of the special tokens to recognise in text.
    """

    path: str
    changed: int
    sha256: str | None
    pattern: str
    allowed: tuple[tuple[str, int], ...]

    def ranks(self) -> Ranks:
        """Return the rank file's content, checked."""
        return load_ranks(self.path, self.changed)


@lru_cache(maxsize=2)
def load_ranks(path: str, changed: int) -> Ranks:
    """Parse a rank file, once for each version of it (`changed` is its time of change)."""
    return parse_ranks(read_rank_file(Path(path)), path)


@lru_cache(maxsize=4)
def engine(definition: Definition) -> Engine:
    """Return the engine for a definition; one a process, shared by planning, workers forked from it and encoders."""
    return Engine(definition)


class Engine:
    """Encodes texts to tiktoken's ids.

    Attributes:
        notes: Why the fast engine is not used, or what long texts it cannot cut.
    """

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        data = read_rank_file(Path(definition.path))
        sha256 = hashlib.sha256(data).hexdigest()
        if definition.sha256 not in (None, sha256):
            definition.ranks()  # names the line, where the damage shows
            raise AssetError(
                f"this is not the well-known rank file: its sha256 is {sha256}, not {definition.sha256}",
                where=definition.path,
                fix="reinstall the package that ships it; or give another rank file as `ranks`",
            )
        known = None if definition.allowed else _KNOWN.get((sha256, definition.pattern))
        notes: list[str] = []
        if known is not None:
            scanned = known.scanned
            fast = _fastokens(definition, scanned, data)
            agrees = not isinstance(fast, str) and _probe_digest(fast) == known.probe_digest
        else:
            ranks = definition.ranks()
            scanned = scanned_pattern(definition.pattern, ranks)
            with ThreadPoolExecutor(1) as executor:  # fastokens releases the interpreter while it builds its tables
                building = executor.submit(_fastokens, definition, scanned, data)
                reference = tiktoken_batch(definition)
                fast = building.result()
            agrees = not isinstance(fast, str) and _probe_digest(fast) == _probe_digest(reference)
        if not agrees:
            why = fast if isinstance(fast, str) else "fastokens' ids differ from tiktoken's on the probe texts"
            notes.append(f"{why}; tiktoken itself is used, about ten times slower")
        self._batch: Batch = fast if agrees and not isinstance(fast, str) else tiktoken_batch(definition)
        family = _FAMILIES.get(scanned)
        self._cutter = None if family is None else Cutter(family, self._one, self._pairs, LONG_CHARACTERS)
        if family is None:
            notes.append(
                f"long texts cannot be cut for the pattern {textwrap.shorten(definition.pattern, 60)}: a pre-token of "
                "megabytes may take minutes, or be rejected"
            )
        allowed = [re.escape(name) for name, _ in definition.allowed]
        self._special = re.compile("|".join(allowed)) if allowed else None
        self.notes = tuple(notes)

    def encode(self, texts: list[str]) -> tuple[Ids, Lengths]:
        """Encode a batch of texts: ids uint32 `[token]` end to end, lengths int64 `[text]`."""
        to_cut = [number for number, text in enumerate(texts) if self._has_to_be_cut(text)]
        if not to_cut:
            return self._batch(texts)
        parts: list[Ids] = []
        lengths: list[Lengths] = []
        start = 0
        for number in to_cut:
            for values, counts in (self._batch(texts[start:number]), self._long(texts[number])):
                parts.append(values)
                lengths.append(counts)
            start = number + 1
        values, counts = self._batch(texts[start:])
        return np.concatenate([*parts, values]), np.concatenate([*lengths, counts])

    def _has_to_be_cut(self, text: str) -> bool:
        if len(text) <= LONG_CHARACTERS or self._cutter is None:
            return False
        return len(text) > WHOLE_CHARACTERS or not self._cutter.has_short_pre_tokens(text)

    def _long(self, text: str) -> tuple[Ids, Lengths]:
        assert self._cutter is not None
        parts: list[Ids] = []
        position = 0
        specials = dict(self._definition.allowed)
        for found in self._special.finditer(text) if self._special is not None else ():
            parts += [self._cutter.encode(text[position : found.start()]), np.array([specials[found[0]]], np.uint32)]
            position = found.end()
        parts.append(self._cutter.encode(text[position:] if position else text))
        values = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return values, np.array([len(values)], np.int64)

    def _one(self, text: str) -> Ids:
        return self._batch([text])[0]

    @cached_property
    def _token_pairs(self) -> ByteLevelPairs:
        return ByteLevelPairs(self._definition.ranks())

    def _pairs(self) -> ByteLevelPairs:
        return self._token_pairs


def scanned_pattern(pattern: str, ranks: Ranks) -> str:
    r"""Return the spelling of a pattern that fast scanners know, where it gives the same ids with these ranks.

    tiktoken's newer spelling of cl100k_base takes white space at the very end of a text whole (`\s++$`), the older one
    cuts it after its last newline. The ids are the same unless a token of white space goes on after a newline.
    """
    if pattern == PATTERNS["r50k_base"]:
        return _GPT2_SCANNED  # these two differ in spelling only
    if pattern == PATTERNS["cl100k_base"] and not any(
        _NEWLINE_THEN_SPACE.search(token) and not token.decode(errors="ignore").strip() for token in ranks
    ):
        return _CL100K_SCANNED
    return pattern


def _fastokens(definition: Definition, pattern: str, data: bytes) -> Batch | str:
    """Return fastokens' batch function, or why there is none."""
    try:
        native_class = load_native()
    except ModuleNotFoundError:
        return "fastokens is not installed"
    with tempfile.NamedTemporaryFile(suffix=".tiktoken") as file:
        file.write(data)
        file.flush()
        try:
            native = native_class.from_tiktoken(file.name, pattern=pattern, special_tokens=dict(definition.allowed))
        except (ValueError, RuntimeError) as error:
            return f"fastokens does not take this vocabulary and pattern ({error})"
    return FastokensBatch(
        native.encode_batch_flat, lambda: tiktoken_batch(definition), may_pool=pattern not in _POOL_FREE
    )


def tiktoken_batch(definition: Definition) -> Batch:
    """Return the reference: tiktoken itself, a text at a time."""
    try:
        import tiktoken
    except ModuleNotFoundError as error:
        raise missing_extra(error, "tokenizer 'tiktoken'") from error
    specials = dict(definition.allowed)
    try:
        encoding = tiktoken.Encoding(
            definition.path,
            pat_str=definition.pattern,
            mergeable_ranks=definition.ranks(),
            special_tokens=specials,
        )
    except ValueError as error:
        raise AssetError(
            f"tiktoken refuses this vocabulary or pattern: {error}", where=definition.path, fix="correct `pattern`"
        ) from error
    names = set(specials)

    def encode(texts: list[str]) -> tuple[Ids, Lengths]:
        for text in texts:
            text.encode()  # tiktoken would replace a lone surrogate; this raises
        rows = [encoding.encode_to_numpy(text, allowed_special=names, disallowed_special=()) for text in texts]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return (np.concatenate(rows) if rows else np.empty(0, np.uint32)), lengths

    return encode


def _probe_digest(batch: Batch) -> str:
    values, lengths = batch(list(PROBE_TEXTS))
    return hashlib.sha256(values.tobytes() + lengths.tobytes()).hexdigest()
