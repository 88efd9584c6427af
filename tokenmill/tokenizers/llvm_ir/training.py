"""Learning a vocabulary from canonical texts: lexemes and names by how often, merges by byte-pair encoding of units.

The same texts in the same order give the same file, with one version of the library `tokenizers`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tokenmill.errors import InputError, MissingExtraError
from tokenmill.tokenizers.llvm_ir.coding import to_units
from tokenmill.tokenizers.llvm_ir.layout import FIRST_LEXEME, LONGEST_LEXEME, NEWLINE, tables
from tokenmill.tokenizers.llvm_ir.merging import STRETCH
from tokenmill.tokenizers.llvm_ir.units import LEXEME_START, LINE_START, work
from tokenmill.tokenizers.llvm_ir.vocabulary import MODES, MOST_TOKENS, Mode, Vocabulary

_NAME = re.compile(rb'[@%$](?:[A-Za-z._\-][A-Za-z0-9._\-]*|"[^"\n]+")')
#: Names that units count anyway.
_STRING = re.compile(rb"(?:\.str(?:\.\d+)?)?")
#: Always among the lexemes: punctuation, and the word before a block.
_ALWAYS = (b" label", b" =", b" {", b" (", b" [", *(bytes([byte]) for byte in b",()[]{}<>*=:"))
#: A lexeme counts no more than this often a text, so that no one module decides.
_MOST_IN_A_TEXT = 200
#: Units stand for these characters while pairs are counted.
_FIRST_CHARACTER = 0x10000
_STRETCH_END = 10


@dataclass(frozen=True)
class TrainingSettings:
    """How large a vocabulary becomes.

    Attributes:
        tokens: Tokens of each mode, units included.
        lexemes: Frequent lexemes that become units.
        names: Common names that become units.
        least_groups: Groups of texts (packages) that a lexeme or name must be found in.
    """

    tokens: int = 32768
    lexemes: int = 1600
    names: int = 1200
    least_groups: int = 3

    def __post_init__(self) -> None:
        units = FIRST_LEXEME + self.lexemes + len(_ALWAYS) + self.names
        if not units <= self.tokens <= MOST_TOKENS:
            raise InputError(
                f"a vocabulary of {self.tokens:,} tokens cannot hold {self.lexemes:,} lexemes and {self.names:,} names",
                fix=f"give {units:,} to {MOST_TOKENS:,} tokens",
            )


@dataclass(frozen=True)
class Sample:
    """A text to learn from, and the group (package) that it belongs to."""

    group: str
    text: bytes


def learn(samples: Sequence[Sample], settings: TrainingSettings, report: Callable[[str], None]) -> Vocabulary:
    """Learn a vocabulary; raises InputError where there is nothing to learn from, MissingExtraError."""
    if not samples:
        raise InputError("there is no text to learn from")
    lexemes, names = frequent(samples, settings)
    report(f"{len(lexemes):,} lexemes and {len(names):,} names in {len(samples):,} texts")
    held, memory = tables(lexemes, names), work()
    coded = []
    for sample in samples:
        found, flags, _ = to_units(sample.text, held, memory)
        coded.append((found, flags))
    count = FIRST_LEXEME + len(lexemes) + len(names)
    total = sum(len(sample.text) for sample in samples)
    report(f"{sum(len(found) for found, _ in coded):,} units for {total:,} bytes")
    merges: dict[Mode, npt.NDArray[np.uint16]] = {}
    for mode in MODES:
        boundary = LINE_START if mode == "line" else LEXEME_START
        merges[mode] = pairs((stretches(found, flags, boundary) for found, flags in coded), count, settings.tokens)
        report(f"mode {mode}: {len(merges[mode]):,} merges")
    made = Vocabulary(tuple(lexemes), tuple(names), merges)
    made.check()
    return made


def frequent(samples: Iterable[Sample], settings: TrainingSettings) -> tuple[list[bytes], list[bytes]]:
    """Return the lexemes that are most frequent, and the names that most groups have in common."""
    counts: Counter[bytes] = Counter()
    groups: dict[bytes, set[str]] = {}
    names: dict[bytes, set[str]] = {}
    bare, memory = tables(_ALWAYS[:1], ()), work()
    for sample in samples:
        found, flags, _ = to_units(sample.text, bare, memory)
        for lexeme, count in Counter(_raw_lexemes(found, flags)).items():
            if len(lexeme) <= LONGEST_LEXEME:
                counts[lexeme] += min(count, _MOST_IN_A_TEXT)
                groups.setdefault(lexeme, set()).add(sample.group)
        for name in set(_NAME.findall(sample.text)):
            bare_name = name[1:].strip(b'"')
            if not _STRING.fullmatch(bare_name):
                names.setdefault(bare_name, set()).add(sample.group)
    # Ties are broken by the bytes themselves: nothing depends on the order of a dictionary.
    chosen = sorted(
        (lexeme for lexeme in counts if len(groups[lexeme]) >= settings.least_groups),
        key=lambda lexeme: (-counts[lexeme], lexeme),
    )[: settings.lexemes]
    chosen += [lexeme for lexeme in _ALWAYS if lexeme not in set(chosen)]
    # What a name saves grows with its length, to a point: long names share parts, which merges find.
    common = sorted(
        (name for name, where in names.items() if len(where) >= settings.least_groups),
        key=lambda name: (-len(names[name]) * (12 + min(len(name), 60)), name),
    )[: settings.names]
    return chosen, common


def _raw_lexemes(found: npt.NDArray[np.uint16], flags: npt.NDArray[np.uint8]) -> list[bytes]:
    """Return the lexemes that units spell byte by byte."""
    raw = found < NEWLINE
    starts = np.flatnonzero(raw & (flags > 0))
    # A run ends with the next lexeme, or with the next unit that is no byte.
    others = np.flatnonzero(~raw | (flags > 0))
    ends = np.append(others, len(found))[np.searchsorted(others, starts, side="right")]
    data = found.astype(np.uint8).tobytes()
    return [data[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def stretches(found: npt.NDArray[np.uint16], flags: npt.NDArray[np.uint8], boundary: int) -> str:
    """Return units as characters, a newline between stretches over which no merge goes."""
    begins = flags >= boundary
    begins[:1] = True
    starts = np.flatnonzero(begins)
    lengths = np.diff(np.append(starts, len(found)))
    for start, length in zip(starts[lengths > STRETCH], lengths[lengths > STRETCH], strict=True):
        begins[start : start + length : STRETCH] = True
    characters = np.full(len(found) + int(begins.sum()), _STRETCH_END, np.uint32)
    characters[np.arange(len(found)) + np.cumsum(begins)] = found.astype(np.uint32) + _FIRST_CHARACTER
    return characters.tobytes().decode("utf-32-le")


def pairs(texts: Iterator[str], units: int, tokens: int) -> npt.NDArray[np.uint16]:
    """Return the merges that byte-pair encoding finds, uint16 `[merge, side]`; raises MissingExtraError."""
    try:
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    except ImportError as error:
        raise MissingExtraError("training needs the library 'tokenizers'", fix="pip install 'tokenmill[ir]'") from error
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.Split("\n", "removed")
    alphabet = [chr(_FIRST_CHARACTER + unit) for unit in range(units)]
    trainer = trainers.BpeTrainer(
        vocab_size=tokens, show_progress=False, initial_alphabet=alphabet, limit_alphabet=units
    )
    model.train_from_iterator(texts, trainer)
    numbers = {character: number for number, character in enumerate(alphabet)}
    found = []
    for left, right in json.loads(model.to_str())["model"]["merges"]:
        numbers.setdefault(left + right, len(numbers))
        found.append((numbers[left], numbers[right]))
    return np.array(found, np.uint16).reshape(-1, 2)
