from __future__ import annotations

import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.statistics import cases
from tokenmill.statistics import bands as module
from tokenmill.statistics.bands import Bands
from tokenmill.statistics.unigrams import LARGEST_COUNTED_VOCABULARY
from tokenmill.streams import Jagged, StreamSpec

SPECS = {
    "octave": StreamSpec("uint16", vocabulary_size=500, bands="octave"),
    "octave of a grid": StreamSpec("uint8", ("y", "x"), (None, None), vocabulary_size=200, bands="octave"),
    "outer": StreamSpec("uint16", ("codebook", "frame"), (None, None), vocabulary_size=500, bands="codebook"),
    "inner": StreamSpec("int32", ("frame", "codebook"), (None, None), vocabulary_size=500, bands="codebook"),
    "middle": StreamSpec("uint8", ("frame", "codebook", "half"), (None, 3, 2), vocabulary_size=200, bands="codebook"),
}


@st.composite
def rows(draw: st.DrawFn, name: str) -> list[np.ndarray]:
    """Draw rows of unequal shapes, and of ids that depend on the place."""
    spec = SPECS[name]
    found = []
    for _ in range(draw(st.integers(0, 5))):
        shape = [size if size is not None else draw(st.integers(0, 6)) for size in spec.shape]
        start = draw(st.integers(0, 100))
        found.append((np.arange(np.prod(shape, dtype=int)) * start % 150).reshape(shape))
    return found


def counted(name: str, batches: list[list[np.ndarray]]) -> Bands:
    bands = Bands.for_stream(SPECS[name])
    assert bands is not None
    for batch in batches:
        bands.add(Jagged.from_rows(batch, SPECS[name]))
    return bands


def slowly(name: str, batch: list[np.ndarray]) -> Counter[tuple[int, int]]:
    spec = SPECS[name]
    found: Counter[tuple[int, int]] = Counter()
    for row in batch:
        for place, index in enumerate(np.ndindex(row.shape)):
            band = place.bit_length() if spec.bands == "octave" else index[spec.dims.index(str(spec.bands))]
            found[band, int(row[index])] += 1
    return found


@pytest.mark.parametrize("name", SPECS)
@cases.whole_parts
@given(st.data(), st.sampled_from([1, 7, 1 << 18]))
def test_counts_are_those_of_a_slow_and_obvious_count(name: str, data: st.DataObject, chunk: int) -> None:
    batches = [data.draw(rows(name)), data.draw(rows(name))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK_VALUES", chunk)
        bands = counted(name, batches)
    expected = slowly(name, [*batches[0], *batches[1]])
    keys, counts = bands.sparse()
    found = zip(keys.tolist(), counts.tolist(), strict=True)
    assert {divmod(key, bands.vocabulary_size): count for key, count in found} == expected
    assert keys.tolist() == sorted(keys.tolist())
    by_band = {band: sorted(counts.tolist()) for band, counts in bands.by_band()}
    assert by_band == {
        band: sorted(count for (of, _), count in expected.items() if of == band) for band, _ in sorted(expected)
    }


@pytest.mark.parametrize("name", SPECS)
@cases.whole_parts
@given(st.data(), st.booleans(), st.booleans())
def test_merging_sparse_or_dense_counts_equals_counting_at_once(
    name: str, data: st.DataObject, sparse_target: bool, sparse_source: bool
) -> None:
    first, second, third = (data.draw(rows(name)) for _ in range(3))
    target, source = counted(name, [first]), counted(name, [second])
    if sparse_target:
        target.fill(*target.sparse())
    if sparse_source:
        source.fill(*source.sparse())
    before = [one.tolist() for one in source.sparse()]
    target.merge(source)
    assert target == counted(name, [first + second])
    target.add(Jagged.from_rows(third, SPECS[name]))
    assert target == counted(name, [first + second + third])
    assert before == [one.tolist() for one in source.sparse()]


def test_which_streams_are_counted() -> None:
    assert Bands.for_stream(StreamSpec("uint32", vocabulary_size=LARGEST_COUNTED_VOCABULARY)) is None
    assert Bands.for_stream(StreamSpec("float16", bands="octave")) is None
    over = StreamSpec("uint32", vocabulary_size=LARGEST_COUNTED_VOCABULARY + 1, bands="octave")
    assert Bands.for_stream(over) is None


def test_what_there_is_no_room_for_is_counted_in_the_last_band() -> None:
    spec = StreamSpec("uint32", vocabulary_size=LARGEST_COUNTED_VOCABULARY // 3, bands="octave")
    bands = Bands.for_stream(spec)
    assert bands is not None
    bands.add(Jagged.from_rows([np.arange(100)], spec))
    assert [(band, int(counts.sum())) for band, counts in bands.by_band()] == [(0, 1), (1, 1), (2, 98)]


def test_a_key_beyond_the_last_band_cannot_be_read_in() -> None:
    bands = counted("octave", [])
    beyond = bands.most * bands.vocabulary_size
    bands.fill(np.array([beyond - 1], np.uint32), np.array([1]))
    with pytest.raises(IndexError, match=str(beyond)):
        bands.fill(np.array([beyond], np.uint32), np.array([1]))


def test_memory_is_bounded_for_large_vocabularies_and_long_rows() -> None:
    spec = StreamSpec("uint16", vocabulary_size=65536, bands="octave")
    random = np.random.default_rng(0)
    bands = Bands.for_stream(spec)
    assert bands is not None
    tracemalloc.start()
    for _ in range(8):
        values = random.integers(0, 65536, 1 << 19).astype(np.uint16)
        bands.add(Jagged.from_lengths(values, np.full(8, 1 << 16)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(int(counts.sum()) for _, counts in bands.by_band()) == 8 << 19
    assert peak < 48 << 20
