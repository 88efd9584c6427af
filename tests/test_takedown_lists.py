from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill import layout
from tokenmill.errors import CorruptionError
from tokenmill.sealed import seal, unseal
from tokenmill.sources.items import ItemBatch, Reject
from tokenmill.storage.outputs import Storage
from tokenmill.takedown_lists import (
    Takedown,
    key_digests,
    newest_number,
    newest_takedown,
    read_takedown,
    takedown_files,
    write_takedown,
)

SALT = bytes(range(16))


def list_of(keys: list[str], number: int = 2, **members: Any) -> Takedown:
    return Takedown(
        **{
            "number": number,
            "created": "2026-01-01T00:00:00+00:00",
            "salt": SALT,
            "digests": np.unique(key_digests(SALT, keys)),
            "splits": 3,
            "tables": {"text": ("docs",)},
            "parts": {("text", 1, 0): 1, ("text", 1, 1): 2},
            **members,
        }
    )


@given(st.sets(st.text()), st.lists(st.text()))
def test_keys_on_a_list_are_known(listed: set[str], asked: list[str]) -> None:
    """Half surrogate pairs among them: no row has such a key, but anybody may ask for it."""
    takedown = list_of(sorted(listed))
    asked += sorted(listed)[::2]
    assert takedown.taken(asked).tolist() == [key in listed for key in asked]
    assert len(takedown) == len(listed)


def test_digests_that_end_with_zeros_are_told_apart() -> None:
    """numpy's strings of bytes leave out zeros at the end."""
    digests = np.array([b"\x01" + bytes(31), b"\x01\x00\x01" + bytes(29)], "S32")
    takedown = replace(list_of([]), digests=digests[:1])
    assert takedown.holds(digests).tolist() == [True, False]


def test_a_digest_tells_of_its_key_under_its_salt_only() -> None:
    assert key_digests(SALT, ["a"]).tolist() == key_digests(SALT, ["b", "a"]).tolist()[1:]
    assert key_digests(SALT, ["a"]).tolist() != key_digests(SALT[::-1], ["a"]).tolist()


def a_batch(keys: list[str]) -> ItemBatch:
    count = len(keys)
    numbers = np.arange(count)
    return ItemBatch(
        numbers * 2,
        numbers * 10 + 10,
        numbers + 1,
        keys,
        [f"text of {key}" for key in keys],
        {"n": numbers.tolist()},
        "a.jsonl",
        [f"a.jsonl:{n}" for n in range(count)],
        documents=numbers // 2,
        document_positions=numbers % 2,
    )


def a_reject(ordinal: int, key: str) -> Reject:
    return Reject(ordinal, key, f"a.jsonl:{ordinal}", "null_text", "")


def test_items_and_rejects_are_left_out() -> None:
    takedown = list_of(["b", "d", "x"])
    rejects = [a_reject(1, "x"), a_reject(3, "y")]
    batch, kept, count = takedown.without(a_batch(["a", "b", "c", "d"]), rejects)
    assert count == 3
    assert [reject.key for reject in kept] == ["y"]
    assert (batch.ordinals.tolist(), batch.ends.tolist(), batch.sizes.tolist()) == ([0, 4], [10, 30], [1, 3])
    assert (batch.keys, batch.payloads) == (["a", "c"], ["text of a", "text of c"])
    assert (batch.metadata, batch.locators, batch.path) == ({"n": [0, 2]}, ["a.jsonl:0", "a.jsonl:2"], "a.jsonl")
    assert batch.documents is not None
    assert batch.document_positions is not None
    assert (batch.documents.tolist(), batch.document_positions.tolist()) == ([0, 1], [0, 0])


def test_a_batch_without_such_keys_stays_as_it_is() -> None:
    batch, rejects = a_batch(["a", "c"]), [a_reject(1, "y")]
    found = list_of(["b"]).without(batch, rejects)
    assert (found[0] is batch, found[1] is rejects, found[2]) == (True, True, 0)


@pytest.mark.parametrize(
    ("place", "source", "made_under", "settled"),
    [
        (("text", 9, 9), "docs", 2, True),
        (("text", 1, 1), "docs", 3, True),
        (("text", 0, 0), "docs", 0, True),  # searched, and nothing found
        (("text", 1, 0), "docs", 0, False),  # found by list 1
        (("text", 1, 0), "docs", 1, True),
        (("text", 1, 1), "docs", 1, False),  # found by list 2
        (("text", 3, 0), "docs", 1, False),  # none of the following was searched
        (("text", 0, 0), "other", 1, False),
        (("late", 0, 0), "docs", 0, False),
    ],
)
def test_which_parts_hold_none_of_the_keys(
    place: tuple[str, int, int], source: str, made_under: int, settled: bool
) -> None:
    assert list_of(["a"]).settles(place, source, made_under) is settled


def test_lists_come_back(any_root: str) -> None:
    storage = Storage.open(any_root)
    assert (newest_number(storage), newest_takedown(storage)) == (0, None)
    first = list_of(["a", "ключ"], 1, parts={}, tables={}, splits=0)
    second = list_of(["a", "ключ", "c"])
    assert [write_takedown(storage, one) for one in (first, second)] == [True, True]
    assert newest_number(storage) == 2
    for made, found in ((first, read_takedown(storage, 1)), (second, newest_takedown(storage))):
        assert found is not None
        assert found.digests.tolist() == made.digests.tolist()
        for name in ("number", "created", "salt", "splits", "tables", "parts"):
            assert getattr(found, name) == getattr(made, name)
        assert read_takedown(storage, found.number, found.sha256).number == found.number
    stored = {entry.path for entry in storage.list("takedowns/")}
    named = {layout.takedown(number) for number in (1, 2)}
    assert stored == named.union(*(takedown_files(storage, number) for number in (1, 2)))
    assert not any("ключ".encode() in storage.read(path) for path in stored)


def test_of_two_lists_of_one_number_the_first_counts(any_root: str) -> None:
    storage = Storage.open(any_root)
    assert write_takedown(storage, list_of(["a"], 1))
    assert not write_takedown(storage, list_of(["b"], 1))
    assert read_takedown(storage, 1).taken(["a", "b"]).tolist() == [True, False]


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("how", ["lost", "changed"])
def test_damage_is_noticed(tmp_path: Path, which: int, how: str) -> None:
    storage = Storage.open(str(tmp_path))
    write_takedown(storage, list_of(["a"], 1))
    path = (layout.takedown(1), *takedown_files(storage, 1))[which]
    data = bytearray((tmp_path / path).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / path).unlink()
    if how == "changed":
        (tmp_path / path).write_bytes(data)
    with pytest.raises(CorruptionError, match=path) as caught:
        read_takedown(storage, 1)
    assert "could come back" in str(caught.value)


def test_another_list_than_the_plans_is_noticed(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    write_takedown(storage, list_of(["a"], 1))
    with pytest.raises(CorruptionError, match="checksum of what names it"):
        read_takedown(storage, 1, "0" * 64)


def test_a_list_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    write_takedown(storage, list_of(["a"], 1))
    path = tmp_path / layout.takedown(1)
    path.write_bytes(seal({**unseal(path.read_bytes(), "x"), "format": 2}))
    with pytest.raises(CorruptionError, match="newer tokenmill"):
        read_takedown(storage, 1)
