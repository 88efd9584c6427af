"""The engine under the `huggingface` tokenizer: fastokens where its ids are those of `tokenizers`, else the latter."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from tokenmill.errors import AssetError
from tokenmill.registry import missing_extra
from tokenmill.tokenizers.fastokens_batch import FastokensBatch, load_native
from tokenmill.tokenizers.probe import PROBE_TEXTS
from tokenmill.tokenizers.text import Batch, Ids, Lengths


@dataclass(frozen=True)
class Definition:
    """What fixes the ids.

    Attributes:
        path: The `tokenizer.json`.
        changed: Its time of change in nanoseconds, so that a changed file is another definition.
        allows_special: Whether special tokens are recognised in text.
        adds_special: Whether the post-processor adds its tokens.
    """

    path: str
    changed: int
    allows_special: bool
    adds_special: bool


@dataclass(frozen=True)
class Header:
    """What a plan needs of a `tokenizer.json`, without building the tokenizer.

    Attributes:
        vocabulary_size: One more than the largest id, added tokens included.
        special: Ids of added tokens marked as special.
        unknown: The id of the unknown token, if any.
        byte_fallback: Ids that stand for one raw byte each.
        notes: What the file asks for and does not get.
    """

    vocabulary_size: int
    special: tuple[int, ...]
    unknown: tuple[int, ...]
    byte_fallback: tuple[int, ...]
    notes: tuple[str, ...]


@lru_cache(maxsize=4)
def read_header(path: str, changed: int) -> Header:
    """Read a `tokenizer.json` (`changed` is its time of change); raises AssetError."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        return _header(content)
    except OSError as error:
        raise AssetError(f"cannot read this tokenizer: {error.strerror}", where=path) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _not_a_tokenizer(error, path) from error


def _header(content: dict[str, Any]) -> Header:
    model = content["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):  # Unigram: [piece, score]
        ids = {piece: number for number, (piece, _) in enumerate(vocabulary)}
    else:
        ids = {str(piece): int(number) for piece, number in vocabulary.items()}
    added = content.get("added_tokens") or []
    largest = max([*ids.values(), *(token["id"] for token in added)])
    if isinstance(model.get("unk_id"), int):
        unknown: tuple[int, ...] = (model["unk_id"],)
    else:
        unknown = tuple(ids[name] for name in [model.get("unk_token")] if name in ids)
    byte_names = [f"<0x{byte:02X}>" for byte in range(256)] if model.get("byte_fallback") else []
    if any(part.get("type") == "ByteLevel" for part in _parts(content.get("pre_tokenizer"), "pretokenizers")):
        byte_names = list(_byte_level_alphabet())
    notes = [
        f"the file's {name} is turned off: documents are tokenized whole, rows keep their own lengths"
        for name in ("truncation", "padding")
        if content.get(name)
    ]
    return Header(
        vocabulary_size=largest + 1,
        special=tuple(sorted({token["id"] for token in added if token.get("special")})),
        unknown=unknown,
        byte_fallback=tuple(sorted(ids[name] for name in byte_names if name in ids)),
        notes=tuple(notes),
    )


def _parts(component: dict[str, Any] | None, name: str) -> Iterator[dict[str, Any]]:
    if component is not None:
        yield component
        for part in component.get(name) or ():
            yield from _parts(part, name)


def _byte_level_alphabet() -> Iterator[str]:
    """Yield the characters that stand for the 256 bytes in byte-level vocabularies (as GPT-2 has it)."""
    moved = 256
    for byte in range(256):
        if 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or 0xAE <= byte <= 0xFF:
            yield chr(byte)
        else:
            yield chr(moved)
            moved += 1


class Engine:
    """Tokenizes texts to the ids of `tokenizers`.

    Attributes:
        batch: Tokenizes texts.
        notes: Why the fast engine is not used.
    """

    def __init__(self, definition: Definition) -> None:
        reference = _reference_batch(definition)
        fast = _fastokens(definition)
        self.notes: tuple[str, ...] = ()
        self.batch: Batch = reference
        if isinstance(fast, str):
            self.notes = (f"{fast}; the library tokenizers itself is used, some fifty times slower",)
        elif not _agree(fast, reference):
            why = "fastokens' ids differ from those of tokenizers on the probe texts"
            self.notes = (f"{why}; the library tokenizers itself is used, some fifty times slower",)
        else:
            self.batch = fast


@lru_cache(maxsize=4)
def engine(definition: Definition) -> Engine:
    """Return the engine for a definition; one a process, shared by planning, workers forked from it and encoders."""
    return Engine(definition)


def reference_tokenizer(definition: Definition) -> Any:
    """Build the library's own tokenizer; raises AssetError or MissingExtraError."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # one native thread a worker
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise missing_extra(error, "tokenizer 'huggingface'") from error
    try:
        tokenizer = Tokenizer.from_file(definition.path)
    except Exception as error:  # tokenizers raises plain Exception
        raise _not_a_tokenizer(error, definition.path) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = not definition.allows_special
    return tokenizer


def _reference_batch(definition: Definition) -> Batch:
    tokenizer = reference_tokenizer(definition)

    def encode(texts: list[str]) -> tuple[Ids, Lengths]:
        encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=definition.adds_special)
        rows = [np.array(encoding.ids, np.uint32) for encoding in encodings]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return (np.concatenate(rows) if rows else np.empty(0, np.uint32)), lengths

    return encode


def _fastokens(definition: Definition) -> Batch | str:
    """Return fastokens' batch function, or why there is none."""
    try:
        native_class = load_native()
    except ModuleNotFoundError:
        return "fastokens is not installed"
    try:
        native = native_class.from_file(definition.path)
    except (ValueError, RuntimeError) as error:
        return f"fastokens does not take this tokenizer ({error})"
    native.no_truncation()
    native.no_padding()

    def encode(texts: list[str]) -> tuple[bytes, bytes]:
        flat: tuple[bytes, bytes] = native.encode_batch_flat(
            texts, definition.adds_special, not definition.allows_special
        )
        return flat

    return FastokensBatch(encode, lambda: _reference_batch(definition))


def _agree(fast: Batch, reference: Batch) -> bool:
    """Tell whether two engines give the same ids on the probe texts."""
    texts = list(PROBE_TEXTS)
    try:
        pairs = zip(fast(texts), reference(texts), strict=True)
        return all(np.array_equal(left, right) for left, right in pairs)
    except (ValueError, RuntimeError):
        return False


def _not_a_tokenizer(error: BaseException, path: str) -> AssetError:
    return AssetError(f"this is no valid tokenizer.json: {error}", where=path, fix="fetch it again")
