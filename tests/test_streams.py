from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.errors import SpecError
from tokenmill.streams import DTYPES, Jagged, StreamSpec, checked_cast, narrowest_dtype

IDS = StreamSpec("uint16", vocabulary_size=1000)
CODES = StreamSpec("uint16", ("frame", "codebook"), (None, 8), 1024)


@pytest.mark.parametrize(
    ("size", "dtype"),
    [
        (1, "uint8"),
        (256, "uint8"),
        (257, "uint16"),
        (65536, "uint16"),
        (65537, "uint32"),
        (1 << 32, "uint32"),
        ((1 << 32) + 1, "uint64"),
    ],
)
def test_narrowest_dtype_holds_the_largest_id(size: int, dtype: str) -> None:
    assert narrowest_dtype(size) == dtype
    assert np.array([size - 1], dtype)[0] == size - 1


@pytest.mark.parametrize(
    "spec", [IDS, CODES, StreamSpec("float16", ("token", "channel"), (None, 16)), StreamSpec("uint32", ends_of="x")]
)
def test_specs_survive_json(spec: StreamSpec) -> None:
    assert StreamSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    "wrong", [{"dtype": "int"}, {"dtype": ">u4"}, {"dims": ()}, {"shape": (None, 8)}, {"dims": (), "shape": ()}]
)
def test_wrong_specs_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        StreamSpec(**{"dtype": "uint8", **wrong})


@given(st.sampled_from(DTYPES), st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=5))
def test_casts_never_wrap(dtype: str, values: list[int]) -> None:
    array = np.array(values, np.int64)
    whole = np.dtype(dtype).kind in "iu"
    limits = np.iinfo(dtype) if whole else np.finfo(dtype)
    low, high = (int(limits.min), int(limits.max)) if whole else (float(limits.min), float(limits.max))
    # What lies just above the largest float is rounded to it.
    fits = all(low <= value <= high for value in values) or (not whole and np.isfinite(_rounded(values, dtype)).all())
    if not fits:
        with pytest.raises(SpecError, match=f"do not fit {dtype}"):
            checked_cast(array, dtype)
        return
    cast = checked_cast(array, dtype)
    assert cast.dtype == np.dtype(dtype)
    if np.dtype(dtype).kind in "iu":
        assert cast.tolist() == values
    else:
        assert np.isfinite(cast).all()


def _rounded(values: list[int], dtype: str) -> Any:
    with np.errstate(over="ignore"):
        return np.array(values, np.int64).astype(dtype)


@pytest.mark.parametrize("values", [[0.5], [float("nan")], [1e30], [-1.0]])
def test_floats_do_not_become_other_integers(values: list[float]) -> None:
    with pytest.raises(SpecError):
        checked_cast(np.array(values), "uint32")


def test_latents_that_overflow_are_refused() -> None:
    with pytest.raises(SpecError, match=r"do not fit float16 \(-65504.0 … 65504.0\)"):
        checked_cast(np.array([1.0, -1e6], np.float32), "float16")
    kept = checked_cast(np.array([0.1, np.inf, np.nan], np.float32), "float16")
    assert kept.dtype == np.float16
    assert np.isinf(kept[1])
    assert np.isnan(kept[2])


def test_whole_floats_become_integers() -> None:
    assert checked_cast(np.array([0.0, 7.0]), "uint8").tolist() == [0, 7]


shapes_2d = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=6)


@given(shapes_2d)
def test_rows_come_back_in_their_shapes(shapes: list[tuple[int, int]]) -> None:
    spec = StreamSpec("uint16", ("row", "column"), (None, None), 1000)
    count = 0
    rows = []
    for height, width in shapes:
        rows.append(np.arange(count, count + height * width).reshape(height, width))
        count += height * width
    batch = Jagged.from_rows(rows, spec)
    batch.check("grid", spec, len(rows))
    assert batch.values.dtype == np.uint16
    assert len(batch) == len(rows)
    for index, row in enumerate(rows):
        assert np.array_equal(batch[index], row)
        assert batch[index].shape == row.shape
    assert [int(length) for length in batch.lengths] == [row.size for row in rows]


def test_from_lengths() -> None:
    batch = Jagged.from_lengths(np.arange(5, dtype=np.uint16), np.array([2, 0, 3]))
    batch.check("ids", IDS, 3)
    assert [batch[index].tolist() for index in range(3)] == [[0, 1], [], [2, 3, 4]]
    assert batch[-1].tolist() == [2, 3, 4]


def _ids(values: Any, lengths: list[int], dtype: str = "uint16") -> Jagged:
    return Jagged.from_lengths(np.array(values, dtype), np.array(lengths, np.int64))


@pytest.mark.parametrize(
    ("batch", "spec", "rows", "message"),
    [
        (_ids([1, 2], [2], "int64"), IDS, 1, "holds int64 .* its spec says a flat uint16"),
        (Jagged(np.zeros((2, 2), np.uint16), np.array([[4]])), IDS, 1, "in 2 dimensions"),
        (_ids([1, 2], [2]), IDS, 2, "its spec says .2 rows, 1 dims."),
        (_ids([1, 2], [1]), IDS, 1, "shapes hold 1 values, 2 came"),
        (_ids([1, 2], [3]), IDS, 1, "shapes hold 3 values, 2 came"),
        (_ids([1, 1000], [2]), IDS, 1, "holds id 1000; its vocabulary has 1000 ids"),
        (_ids([-1, 5], [2], "int16"), StreamSpec("int16", vocabulary_size=10), 1, "holds id -1"),
        (Jagged(np.zeros(6, np.uint16), np.array([[2, 3]])), CODES, 1, "dimension 'codebook' must be 8 in every row"),
        (_ids([1, 2], [2]), CODES, 1, r"its spec says \(1 rows, 2 dims\)"),
        (_ids([1, 2, 3], [4, -1]), IDS, 2, "negative"),
        (
            Jagged(np.zeros(4, np.uint16), np.array([[-2, -2]])),
            StreamSpec("uint16", ("row", "column"), (None, None)),
            1,
            "negative",
        ),
    ],
)
def test_what_a_spec_does_not_allow_is_refused(batch: Jagged, spec: StreamSpec, rows: int, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        batch.check("ids", spec, rows)


def test_no_rows_pass() -> None:
    Jagged.from_rows([], CODES).check("codes", CODES, 0)
    _ids([], []).check("ids", IDS, 0)
