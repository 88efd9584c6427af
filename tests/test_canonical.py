import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.canonical import canonical_json, digest

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(values, st.randoms(use_true_random=False))
def test_order_of_members_does_not_matter(value: Any, generator: random.Random) -> None:
    assert canonical_json(_shuffled(value, generator)) == canonical_json(value)


@given(values)
def test_it_is_json_of_the_same_value(value: Any) -> None:
    assert canonical_json(json.loads(canonical_json(value))) == canonical_json(value)


def test_known_form() -> None:
    value = {"b": [1, None, 2.5], "a": {"é": True, "new": None}, "c": ()}
    assert canonical_json(value) == '{"a":{"é":true},"b":[1,null,2.5],"c":[]}'.encode()
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_absent_and_none_are_one_identity() -> None:
    assert digest({"a": 1, "b": None}) == digest({"a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})
    assert digest([1, None]) != digest([1])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [-float("inf")]])
def test_refuses_what_json_cannot_say(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(value)


def _shuffled(value: Any, generator: random.Random) -> Any:
    if isinstance(value, dict):
        members = [(key, _shuffled(member, generator)) for key, member in value.items()]
        generator.shuffle(members)
        return dict(members)
    return [_shuffled(member, generator) for member in value] if isinstance(value, list) else value
