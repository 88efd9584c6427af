import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.streams import StreamSpec
from tokenmill.tokenizers.text import Ids, Lengths, TextEncoder, frame


def letters(texts: list[str]) -> tuple[Ids, Lengths]:
    """A batch function that gives up on `!` and panics on `?`."""
    for text in texts:
        if "!" in text:
            raise RuntimeError("an exclamation")
        if "?" in text:
            raise PanicException("a question")
    lengths = np.array([len(text) for text in texts], np.int64)
    return np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32), lengths


class PanicException(BaseException):
    pass


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=5),
    st.one_of(st.none(), st.just(10)),
    st.one_of(st.none(), st.just(11)),
)
def test_frame_surrounds_each_document(rows: list[list[int]], bos: int | None, eos: int | None) -> None:
    values = np.array([number for row in rows for number in row], np.uint16)
    framed, lengths = frame(values, np.array([len(row) for row in rows], np.int64), bos, eos)
    expected = [[*([] if bos is None else [bos]), *row, *([] if eos is None else [eos])] for row in rows]
    assert framed.dtype == np.uint16
    assert lengths.tolist() == [len(row) for row in expected]
    assert framed.tolist() == [number for row in expected for number in row]


def test_nothing_is_copied_where_nothing_is_added() -> None:
    values = np.arange(5, dtype=np.uint32)
    assert frame(values, np.array([2, 3]), None, None)[0] is values
    encoded = TextEncoder(lambda _: (values, np.array([5])), "uint32").encode(["hello"])
    assert encoded.streams["ids"].values is values


def test_items_that_break_the_engine_fail_alone() -> None:
    encoded = TextEncoder(letters, "uint32", eos_id=7).encode(["a", "!", "b", "?", 5, "\ud800"])
    assert [(failure.index, failure.reason) for failure in encoded.failures] == [
        (1, "tokenizer_failed"),
        (3, "tokenizer_failed"),
        (4, "not_text"),
        (5, "invalid_unicode"),
    ]
    assert "an exclamation" in encoded.failures[0].message
    assert "PanicException: a question" in encoded.failures[1].message
    assert encoded.streams["ids"].values.tolist() == [97, 7, 98, 7]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, MemoryError, SystemExit])
def test_what_concerns_the_process_is_no_failure_of_an_item(kind: type[BaseException]) -> None:
    def broken(texts: list[str]) -> tuple[Ids, Lengths]:
        raise kind

    with pytest.raises(kind):
        TextEncoder(broken, "uint32").encode(["a"])


def test_the_size_limit_counts_bytes() -> None:
    encoder = TextEncoder(letters, "uint32", max_document_bytes=6)
    encoded = encoder.encode(["abcdef", "ééé", "éééa", "abcdefg"])
    assert [(failure.index, failure.reason) for failure in encoded.failures] == [(2, "too_long"), (3, "too_long")]
    assert "7 bytes" in encoded.failures[0].message
    assert encoded.streams["ids"].lengths.tolist() == [6, 3]


def test_all_failing_leaves_no_rows() -> None:
    encoded = TextEncoder(letters, "uint16").encode(["!", "?"])
    assert len(encoded.failures) == 2
    encoded.streams["ids"].check("ids", StreamSpec("uint16", vocabulary_size=100), 0)
