"""Sizes of texts in UTF-8."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.sources.text_sizes import utf8_sizes


@given(texts=st.lists(st.text()))
def test_sizes_are_those_of_the_encoded_texts(texts: list[str]) -> None:
    assert utf8_sizes(texts).tolist() == [len(text.encode()) for text in texts]


def test_half_a_surrogate_pair_raises() -> None:
    with pytest.raises(UnicodeEncodeError):
        utf8_sizes(["a", "\ud800"])
