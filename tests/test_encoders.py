from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill import encoders
from tokenmill.contract import Encoded, Failure, resolve
from tokenmill.encoders import encode_batch, loaded_encoder
from tokenmill.errors import AssetError, ItemError, SpecError
from tokenmill.registry import parse_tokenizer
from tokenmill.streams import Jagged, StreamSpec

SPECS = {"ids": StreamSpec("uint8", vocabulary_size=200), "pairs": StreamSpec("uint16", ("row", "two"), (None, 2))}


class Panic(BaseException):
    """What native code raises."""


class Fragile:
    """Encodes a number n as n bytes and n pairs; raises for some, and reports others as failures."""

    def __init__(self, raising: set[int], failing: set[int]) -> None:
        self._raising = raising
        self._failing = failing
        self.calls: list[int] = []

    def encode(self, payloads: Sequence[Any]) -> Encoded:
        self.calls.append(len(payloads))
        if self._raising & set(payloads):
            raise Panic("unwrap on a None value")
        kept = [payload for payload in payloads if payload not in self._failing]
        failures = tuple(Failure(i, "odd", f"{p}") for i, p in enumerate(payloads) if p in self._failing)
        ids = Jagged.from_rows([np.full(n, n) for n in kept], SPECS["ids"])
        return Encoded(
            {"ids": ids, "pairs": Jagged.from_rows([np.full((n, 2), n) for n in kept], SPECS["pairs"])}, failures
        )


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)))
def test_one_item_never_takes_others_with_it(payloads: list[int], raising: set[int], failing: set[int]) -> None:
    encoded = encode_batch(Fragile(raising, failing), SPECS, payloads)
    kept = [payload for payload in payloads if payload not in raising | failing]
    assert [len(encoded.streams["ids"][index]) for index in range(len(kept))] == kept
    assert [encoded.streams["pairs"][index].shape for index in range(len(kept))] == [(n, 2) for n in kept]
    assert {failure.index: failure.reason for failure in encoded.failures} == {
        index: "tokenizer_failed" if payload in raising else "odd"
        for index, payload in enumerate(payloads)
        if payload in raising | failing
    }


def test_a_failure_says_what_was_raised() -> None:
    (failure,) = encode_batch(Fragile({1}, set()), SPECS, [1]).failures
    assert failure == Failure(0, "tokenizer_failed", "Panic: unwrap on a None value")


def test_a_failure_says_what_is_lost_whatever_its_place_becomes() -> None:
    class Losing(Fragile):
        def encode(self, payloads: Sequence[Any]) -> Encoded:
            if 1 in payloads:
                raise ItemError("damaged", "it breaks off", lost_seconds=2.5)
            return super().encode(payloads)

    failures = encode_batch(Losing(set(), set()), SPECS, [0, 1, 2]).failures
    assert failures == (Failure(1, "damaged", "it breaks off", 2.5),)


def test_a_good_batch_is_encoded_once() -> None:
    encoder = Fragile({1}, set())
    encode_batch(encoder, SPECS, [2, 3, 4])
    assert encoder.calls == [3]
    encode_batch(encoder, SPECS, [1, 2])
    assert encoder.calls == [3, 2, 1, 1]


class Wrong:
    """Returns what it is told to."""

    def __init__(self, encoded: Encoded) -> None:
        self._encoded = encoded

    def encode(self, payloads: Sequence[Any]) -> Encoded:
        return self._encoded


IDS = {"ids": SPECS["ids"]}


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (Encoded({}), r"returned streams \[\]; its specs name \['ids'\]"),
        (Encoded({"ids": Jagged.from_lengths(np.array([200], np.uint8), np.array([1]))}), "holds id 200"),
        (
            Encoded({"ids": Jagged.from_lengths(np.array([1], np.uint8), np.array([1]))}, (Failure(0, "x", ""),)),
            "0 rows",
        ),
        (Encoded({"ids": Jagged.from_lengths(np.array([1, 2], np.uint8), np.array([1, 1]))}), "1 rows"),
        (Encoded({"ids": Jagged.from_lengths(np.array([1], np.int64), np.array([1]))}), "holds int64"),
        (
            Encoded(
                {"ids": Jagged.from_lengths(np.array([], np.uint8), np.array([], np.int64))}, (Failure(1, "x", ""),)
            ),
            r"failures at \[1\]",
        ),
        (
            Encoded(
                {"ids": Jagged.from_lengths(np.array([], np.uint8), np.array([], np.int64))}, (Failure(-1, "x", ""),)
            ),
            r"failures at \[-1\]",
        ),
    ],
)
def test_a_fault_of_the_plug_in_is_no_reject(encoded: Encoded, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        encode_batch(Wrong(encoded), IDS, ["x"])


def test_two_failures_of_one_item_are_a_fault() -> None:
    ids = Jagged.from_lengths(np.array([], np.uint8), np.array([], np.int64))
    with pytest.raises(SpecError, match="twice"):
        encode_batch(Wrong(Encoded({"ids": ids}, (Failure(0, "a", ""), Failure(0, "b", "")))), IDS, ["x", "y"])


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), SystemExit(1), SpecError("x")])
def test_what_is_no_items_fault_passes_through(error: BaseException) -> None:
    class Raising:
        def encode(self, payloads: Sequence[Any]) -> Encoded:
            raise error

    with pytest.raises(type(error)):
        encode_batch(Raising(), IDS, ["x"])


def test_encoders_are_loaded_once() -> None:
    resolved = resolve(parse_tokenizer({"id": "bytes"}))
    assert loaded_encoder(resolved, "auto") is loaded_encoder(resolved, "cpu")


def test_another_vocabulary_than_the_planned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "_loaded", {})
    path = tmp_path / "ranks.tiktoken"
    write_ranks(path, 256)
    config = {"id": "tiktoken", "ranks": str(path), "pattern": "cl100k_base"}
    planned = resolve(parse_tokenizer(config))
    write_ranks(path, 257)
    with pytest.raises(
        AssetError, match=r"found here has fingerprint .* the plan has .*asset 'ranks' at .* differs"
    ) as caught:
        loaded_encoder(planned, "cpu")
    assert caught.value.fix is not None


def write_ranks(path: Path, count: int) -> None:
    """Write a rank file of all bytes and of `count - 256` pairs."""
    import base64

    tokens = [bytes([byte]) for byte in range(256)] + [bytes([97, 97 + number]) for number in range(count - 256)]
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens)))
