from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenmill
from tests.loader.corpora import RAGGED, coded, write_corpus
from tokenmill.loader import Flat, Parallel, Pattern, Ragged, frames
from tokenmill.loader.frames import FrameValues, gather_steps
from tokenmill.loader.layouts import TokenLayout
from tokenmill.loader.values import LocalValues, ShardValues

#: Frames of the rows of each shard, those of the coarsest codebook.
SHARDS = [[4, 0, 30], [], [0], [50, 1]]
COUNTS = [34, 0, 0, 51]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_corpus(tmp_path_factory.mktemp("corpus"), SHARDS, streams={"codes": coded(3), **RAGGED})


def local(uri: str, name: str) -> LocalValues:
    table = tokenmill.open(uri)["text"]
    return LocalValues(table.storage, table.shards, name, table.streams[name].dtype)


def opened(uri: str, names: dict[str, int]) -> FrameValues:
    return FrameValues([(local(uri, name), width) for name, width in names.items()], np.dtype(np.int32))


def stored(uri: str, shard: int, names: dict[str, int]) -> Any:
    """Return the frames of a shard, by way of its rows."""
    ends = np.cumsum([0, *map(len, SHARDS)])
    rows = [tokenmill.open(uri)["text"][number].streams for number in range(ends[shard], ends[shard + 1])]
    parts = [
        np.concatenate([np.empty((0, width), np.int64), *(row[name].reshape(-1, width) for row in rows)])
        for name, width in names.items()
    ]
    return np.concatenate(parts, axis=1)


WIDTHS: list[dict[str, int]] = [{"codes": 3}, dict(Ragged((4, 2, 2, 1)).widths)]


@pytest.mark.parametrize("names", WIDTHS)
def test_frames_are_those_of_the_rows(uri: str, names: dict[str, int]) -> None:
    values = opened(uri, names)
    assert values.width == sum(names.values())
    for shard, count in enumerate(COUNTS):
        whole = stored(uri, shard, names)
        assert whole.shape == (count, values.width)
        for start, stop in [(0, count), (0, 0), (min(3, count), min(9, count)), (count, count)]:
            np.testing.assert_array_equal(values.read(shard, start, stop), whole[start:stop])


@settings(max_examples=150)
@given(
    st.sampled_from([(0, Flat()), (0, Flat(2)), (0, Parallel()), (0, Parallel(1)), (1, Flat()), (1, Flat(3))]),
    st.integers(1, 40),
    st.lists(st.tuples(st.sampled_from([0, 3]), st.floats(0, 1)), max_size=12),
    st.booleans(),
)
def test_steps_of_several_runs_at_once(
    uri: str, case: tuple[int, Pattern], count: int, asked: list[tuple[int, float]], aligned: bool
) -> None:
    kind, pattern = case
    names, books = WIDTHS[kind], [range(3), Ragged((4, 2, 2, 1)).books][kind]
    layout = pattern.layout_of(books, 1009)
    tokens = {shard: layout.lay_out(stored(uri, shard, names)) for shard in (0, 3)}
    count = min(count, len(tokens[0]))
    shards = np.array([shard for shard, _ in asked], np.int64)
    starts = np.array([int(part * (len(tokens[shard]) - count)) for shard, part in asked], np.int64)
    if aligned:
        starts -= starts % layout.steps_per_frame
    out = np.full((len(asked), count, *layout.step_shape), -1, np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "_COPIED_CODES", 100)  # so that runs are copied by way of several pieces
        gather_steps(opened(uri, names), layout, shards, starts, out)
    for run, (shard, start) in enumerate(zip(shards.tolist(), starts.tolist(), strict=True)):
        np.testing.assert_array_equal(out[run], tokens[shard][start : start + count])


def test_values_that_are_no_frames_are_copied_as_they_are(uri: str) -> None:
    out = np.empty((2, 3), np.int64)
    gather_steps(local(uri, "codes_1"), TokenLayout(None), np.array([0, 3]), np.array([5, 0]), out)
    assert out.tolist() == [[5, 6, 7], [136, 137, 138]]


class Noting(ShardValues):
    """Values that take note of what is announced, and are closed."""

    def __init__(self) -> None:
        self.announced: list[tuple[int, int, int]] = []
        self.closed = False

    def read(self, shard: int, start: int, stop: int) -> Any:
        raise NotImplementedError

    def shard_bytes(self, shard: int) -> Any:
        return self, shard

    def prefetch(self, pieces: Any) -> None:
        self.announced += pieces

    def close(self) -> None:
        self.closed = True


def test_every_stream_is_told_what_will_be_read_of_it() -> None:
    coarse, fine = Noting(), Noting()
    values = FrameValues([(coarse, 1), (fine, 4)], np.dtype(np.uint16))
    values.prefetch(iter([(2, 5, 7), (0, 0, 1)]))
    assert coarse.announced == [(2, 5, 7), (0, 0, 1)]
    assert fine.announced == [(2, 20, 28), (0, 0, 4)]
    found: Any = values.shard_bytes(3)
    assert found == (coarse, 3)
    values.close()
    assert coarse.closed
    assert fine.closed


def test_a_table_of_no_rows(tmp_path: Path) -> None:
    uri = write_corpus(tmp_path, [[]], streams={"codes": coded(3)})
    assert opened(uri, {"codes": 3}).read(0, 0, 0).shape == (0, 3)
