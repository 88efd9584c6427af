from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.loader.reference import Batch
from tokenmill.loader.batches import FIELDS, BatchBuilder, Pieces

#: Of one row: (document, place of the first token in it, tokens) in turn, and how many tokens are padding.
Row = tuple[list[tuple[int, int, int]], int]


@st.composite
def rows(draw: st.DrawFn) -> tuple[int, int, list[Row]]:
    """Rows of one window each, for whole batches: samples of a batch, window, rows."""
    window, samples = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    made: list[Row] = []
    for _ in range(samples * draw(st.integers(1, 3))):
        pieces, left = [], window
        while left and draw(st.booleans()):
            # A document of no tokens is a piece, too.
            length = draw(st.integers(0, left))
            pieces.append((draw(st.integers(0, 10**12)), draw(st.integers(0, 10**9)), length))
            left -= length
        made.append((pieces, left))
    return samples, window, made


def build(samples: int, window: int, made: Sequence[Row], fields: Sequence[str] = FIELDS) -> list[Batch]:
    builder = BatchBuilder(len(made) // samples, samples, window, fields)
    # Rows may be filled in any order.
    for row in reversed(range(len(made))):
        pieces, left = made[row]
        builder.ids[row, : window - left] = 100 * row + np.arange(window - left)
        if builder.wants_pieces:
            for document, begin, length in pieces:
                builder.add_pieces(Pieces(*(np.array([number]) for number in (row, document, begin, length))))
        builder.pad(row, window - left, 7)
    return builder.finish()


@given(rows())
def test_arrays_say_what_each_token_is(case: tuple[int, int, list[Row]]) -> None:
    samples, window, made = case
    batches = build(samples, window, made)
    assert len(batches) * samples == len(made)
    for number, batch in enumerate(batches):
        ends = [0]
        for place in range(samples):
            row = number * samples + place
            pieces, left = made[row]
            documents = [document for document, _, length in pieces for _ in range(length)] + [-1] * left
            positions = [begin + step for _, begin, length in pieces for step in range(length)] + [0] * left
            assert batch["ids"][place].tolist() == [100 * row + step for step in range(window - left)] + [7] * left
            assert batch["document_ids"][place].tolist() == documents
            assert batch["positions"][place].tolist() == positions
            for length in [*(length for _, _, length in pieces), left]:
                if length:
                    ends.append(ends[-1] + length)
        assert batch["cu_seqlens"].tolist() == ends
        assert {name: str(array.dtype) for name, array in batch.items()} == {
            "ids": "int64", "document_ids": "int64", "positions": "int64", "cu_seqlens": "int32",
        }  # fmt: skip


@given(rows(), st.lists(st.sampled_from(FIELDS), unique=True))
def test_only_the_arrays_asked_for_are_made(case: tuple[int, int, list[Row]], asked: list[str]) -> None:
    fields = [*asked, *({"ids"} - set(asked))]
    whole, some = build(*case), build(*case, fields)
    for one, other in zip(whole, some, strict=True):
        assert list(other) == fields
        assert all(other[name].tolist() == one[name].tolist() for name in fields)


def test_ids_alone_need_no_pieces() -> None:
    builder = BatchBuilder(2, 1, 3, ["ids"])
    assert not builder.wants_pieces
    builder.ids[0] = 5
    builder.pad(1, 1, 9)
    builder.ids[1, 0] = 6
    assert [batch["ids"].tolist() for batch in builder.finish()] == [[[5, 5, 5]], [[6, 9, 9]]]


def test_pieces_of_several_rows_may_be_said_together() -> None:
    builder = BatchBuilder(2, 2, 3, FIELDS)
    builder.ids[:] = 0
    columns = [1, 2, 2, 3], [4, 5, 6, 6], [1, 0, 2, 4], [3, 1, 2, 3]
    builder.add_pieces(Pieces(*map(np.array, columns)))
    builder.add_pieces(Pieces(*map(np.array, ([0], [3], [0], [3]))))
    first, second = builder.finish()
    assert first["document_ids"].tolist() == [[3, 3, 3], [4, 4, 4]]
    assert second["document_ids"].tolist() == [[5, 6, 6], [6, 6, 6]]
    assert second["positions"].tolist() == [[0, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("fields", [FIELDS, ("ids",)])
def test_nothing_is_padded_where_a_row_is_full(fields: tuple[str, ...]) -> None:
    builder = BatchBuilder(1, 1, 2, fields)
    builder.ids[:] = 3
    if builder.wants_pieces:
        builder.add_pieces(Pieces(*map(np.array, ([0], [1], [5], [2]))))
    builder.pad(0, 2, 7)
    (batch,) = builder.finish()
    assert batch["ids"].tolist() == [[3, 3]]
    assert batch.get("cu_seqlens", np.array([0, 2])).tolist() == [0, 2]
