import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_canonical import values
from tokenmill.errors import CorruptionError
from tokenmill.sealed import seal, unseal

objects = st.dictionaries(st.text(max_size=8).filter(lambda name: name != "sha256"), values, max_size=5)


@given(objects)
def test_gives_back_what_was_sealed(value: dict[str, Any]) -> None:
    data = seal(value)
    assert unseal(data, "x") == json.loads(json.dumps(value))
    assert json.dumps(unseal(data, "x")) == json.dumps(value), "members keep their order"
    assert seal(unseal(data, "x")) == data


def test_every_flipped_bit_is_noticed() -> None:
    data = seal({"format": 1, "name": "Straße", "next": None, "fraction": 0.1, "big": 1 << 60, "list": [True, {}]})
    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            with pytest.raises(CorruptionError, match=r"plans/1\.json: "):
                unseal(bytes(changed), "plans/1.json")


def test_every_truncation_and_addition_is_noticed() -> None:
    data = seal({"format": 1, "name": "x"})
    for length in range(len(data)):
        with pytest.raises(CorruptionError):
            unseal(data[:length], "x")
    for more in (b"\n", b" ", b"{}"):
        with pytest.raises(CorruptionError):
            unseal(data + more, "x")


def test_other_json_carries_no_checksum() -> None:
    for text in (b"{}", b"[]", b"null", b'{"format": 1}'):
        with pytest.raises(CorruptionError, match="carries no checksum"):
            unseal(text, "x")


def test_says_what_to_do() -> None:
    with pytest.raises(CorruptionError, match="restore the file from a copy, or delete it and run the job again"):
        unseal(b"", "x")
