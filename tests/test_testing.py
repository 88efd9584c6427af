"""The contract kit passes what keeps the contract, and names each promise that is broken."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from tokenmill.contract import Asset, Decoder, Encoded, Encoder, TokenClasses, Tokenizer, hash_file
from tokenmill.errors import SpecError, TokenizerError
from tokenmill.streams import Jagged, StreamSpec
from tokenmill.testing import Case, check_tokenizer

COUNTER = itertools.count()


class Characters(Tokenizer):
    """A tokenizer of ASCII characters that keeps every promise."""

    id: ClassVar[str] = "characters"
    locations: ClassVar[frozenset[str]] = frozenset({"path"})

    path: str
    upper: bool = False

    def assets(self) -> dict[str, Asset]:
        return {"vocabulary": hash_file(self.path)}

    def streams(self) -> dict[str, StreamSpec]:
        return {"ids": StreamSpec("uint8", vocabulary_size=128)}

    def load(self, device: str = "cpu") -> Encoder:
        if device != "cpu":
            raise TokenizerError(f"{device!r} is not a device of this tokenizer")
        return _Encoder(self)

    def decoder(self) -> Decoder | None:
        return _Decoder()

    def ids_of(self, texts: Sequence[str]) -> list[bytes]:
        return [text.encode("ascii") for text in texts]


class _Encoder:
    def __init__(self, tokenizer: Characters) -> None:
        self._tokenizer = tokenizer

    def encode(self, payloads: Sequence[Any]) -> Encoded:
        rows = self._tokenizer.ids_of(payloads)
        lengths = np.array([len(row) for row in rows], np.int64)
        return Encoded({"ids": Jagged.from_lengths(np.frombuffer(b"".join(rows), np.uint8), lengths)})


class _Decoder:
    def decode(self, streams: Mapping[str, Any]) -> str:
        text: str = streams["ids"].tobytes().decode()
        return text


class DependsOnNeighbours(Characters):
    def ids_of(self, texts: Sequence[str]) -> list[bytes]:
        width = max((len(text) for text in texts), default=0)
        return [text.ljust(width).encode() if text else b"" for text in texts]


class DependsOnThePast(Characters):
    def ids_of(self, texts: Sequence[str]) -> list[bytes]:
        return [text.encode() + bytes([next(COUNTER) % 100]) if text else b"" for text in texts]


class LeavesTheVocabulary(Characters):
    def ids_of(self, texts: Sequence[str]) -> list[bytes]:
        return [b"\xff" if text else b"" for text in texts]


class DropsEmptyTexts(Characters):
    def ids_of(self, texts: Sequence[str]) -> list[bytes]:
        return [text.encode() or b"?" for text in texts]


class DecodesWrongly(Characters):
    def decoder(self) -> Decoder:
        class Wrong:
            def decode(self, streams: Mapping[str, Any]) -> str:
                return "?"

        return Wrong()


class NeedsItsWeightsToPlan(Characters):
    def streams(self) -> dict[str, StreamSpec]:
        self.load()
        return super().streams()


class TakesAnyDevice(Characters):
    def load(self, device: str = "cpu") -> Encoder:
        return _Encoder(self)


class ForgetsAField(Characters):
    locations: ClassVar[frozenset[str]] = frozenset({"path", "upper"})


class IgnoresItsAsset(Characters):
    def assets(self) -> dict[str, Asset]:
        return {"vocabulary": Asset(self.path, "0" * 64, 1)}


class HasRandomStreams(Characters):
    def streams(self) -> dict[str, StreamSpec]:
        return {"ids": StreamSpec("uint8", vocabulary_size=128 + next(COUNTER))}


class HasClassesOutside(Characters):
    def token_classes(self) -> TokenClasses:
        return TokenClasses(special=(128,))


class HidesAField(Characters):
    def __repr__(self) -> str:
        return "HidesAField()"


class IsNotFrozen(Characters, frozen=False):
    pass


class NamesNoFieldAsLocation(Characters):
    locations: ClassVar[frozenset[str]] = frozenset({"path", "pth"})


def case(kind: type[Characters], directory: Path, **changes: Any) -> Case:
    source = directory / "vocabulary"
    source.write_bytes(b"abc")

    def moved(to: Path) -> Characters:
        (to / "moved").write_bytes(b"abc")
        return kind(path=str(to / "moved"))

    fields: dict[str, Any] = {
        "tokenizer": kind(path=str(source)),
        "payloads": ["a", "bc" * 20, "d e f"],
        "variants": [kind(path=str(source), upper=True)],
        "moved": moved,
    }
    return Case(**(fields | changes))


def run(checked: Case, directory: Path) -> None:
    (directory / "work").mkdir()
    check_tokenizer(checked, directory / "work")


def test_what_keeps_the_contract_passes(tmp_path: Path) -> None:
    run(case(Characters, tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (DependsOnNeighbours, "all in one batch, payload 0"),
        (DependsOnThePast, "payload 0: stream 'ids'"),
        (LeavesTheVocabulary, "holds id 255"),
        (DropsEmptyTexts, "empty payloads have 1 and 1 tokens"),
        (DecodesWrongly, "payload 0 decodes to"),
        (NeedsItsWeightsToPlan, "planning must do without"),
        (TakesAnyDevice, "did not raise TokenizerError"),
        (ForgetsAField, "has the fingerprint of"),
        (IgnoresItsAsset, "did not notice"),
        (HasRandomStreams, "in another process"),
        (HasClassesOutside, "outside the vocabulary of 128"),
        (HidesAField, r"lacks \['path', 'upper'\]"),
        (IsNotFrozen, "must be frozen"),
        (NamesNoFieldAsLocation, "what are no fields"),
    ],
)
def test_what_breaks_it_is_named(kind: type[Characters], says: str, tmp_path: Path) -> None:
    with pytest.raises((AssertionError, SpecError), match=says):
        run(case(kind, tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (lambda made: {"variants": []}, "no variant changes the field 'upper'"),
        (lambda made: {"payloads": ["a"]}, "at least three payloads"),
        (lambda made: {"moved": None}, "the case needs `moved`"),
        (lambda made: {"moved": lambda _: made}, "outside"),
        (lambda made: {"decodes_to": ["a", "x", "d e f"]}, "payload 1 decodes to"),
    ],
)
def test_a_case_that_checks_too_little_is_refused(
    changes: Callable[[Characters], dict[str, Any]], says: str, tmp_path: Path
) -> None:
    source = tmp_path / "vocabulary"
    source.write_bytes(b"abc")
    with pytest.raises(AssertionError, match=says):
        run(case(Characters, tmp_path, **changes(Characters(path=str(source)))), tmp_path)
