from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tokenmill
from tests.loader.corpora import RAGGED, coded, write_corpus
from tokenmill.errors import LoaderError
from tokenmill.loader import Delayed, Flat, Parallel, TokenCorpus
from tokenmill.loader.chosen import choose
from tokenmill.loader.laid_out import Access, LaidOutStreams
from tokenmill.loader.remote_values import LEAST_MEMORY_BYTES, RemoteValues
from tokenmill.shards import BLOCK_BYTES
from tokenmill.streams import StreamSpec

SHARDS = [[4, 0, 30], [], [0], [50, 1]]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_corpus(tmp_path_factory.mktemp("corpus"), SHARDS, streams={"codes": coded(3), **RAGGED})


def test_shards_are_counted_in_frames(uri: str) -> None:
    table = tokenmill.open(uri)["text"]
    for stream, pattern in [("codes", Parallel()), ("codes", Flat(2)), ("codes", Delayed()), (None, Flat())]:
        streams = LaidOutStreams(table, choose(table, stream, pattern, uri), Access())
        assert streams.frames.tolist() == [34, 0, 0, 51]
        assert streams.even == (not isinstance(pattern, Delayed))
        opened = table.open_shard(0, streams.values.shard_bytes(0))
        assert streams.offsets(opened).tolist() == [0, 4, 4, 34]
        assert streams.local


def test_every_row_of_a_delayed_stream_has_more_steps(uri: str) -> None:
    corpus = TokenCorpus(uri, stream="codes", pattern=Delayed())
    assert corpus.lengths.tolist() == [34 + 3 * 2, 0, 2, 51 + 2 * 2]
    assert [corpus.documents.shard(shard).starts.tolist() for shard in range(4)] == [
        [0, 6, 8, 40],
        [0],
        [0, 2],
        [0, 52, 55],
    ]
    assert TokenCorpus(uri, stream="codes", pattern=Delayed(), separator=2000).tokens == corpus.tokens + 6


def test_codes_of_rows_that_are_not_equally_long_are_not_read_together(tmp_path: Path) -> None:
    # Frames of the second stream are half as many as its name says.
    streams = {"codes_4": coded(1, 1.0), "codes_1": coded(1, 2.0)}
    with pytest.raises(LoaderError, match=r"streams codes_4\+codes_1 of table 'text' are not equally long in time"):
        TokenCorpus(write_corpus(tmp_path, SHARDS, streams=streams), pattern=Flat())


@pytest.mark.parametrize(
    ("stream", "pattern", "token_bytes"),
    [("wide", Parallel(1), 64), ("wide", Parallel(), 2), ("wide", Flat(16), 4), ("ids", None, 4)],
)
def test_memory_holds_the_blocks_that_are_open_twice(
    tmp_path: Path, s3_root: str, stream: str, pattern: Parallel | Flat | None, token_bytes: int
) -> None:
    from tests.loader.test_object_storage import copied

    streams = {"ids": StreamSpec("uint32", vocabulary_size=1_000_000), "wide": coded(32)}
    root = copied(write_corpus(tmp_path, SHARDS, streams=streams), s3_root)
    table = tokenmill.open(root)["text"]
    access = Access(memory_bytes=1, open_blocks=3, block_tokens=100_000)
    opened = LaidOutStreams(table, choose(table, stream, pattern, root), access)
    assert not opened.local
    found = opened.values if pattern is None else opened.values.streams[0][0]  # type: ignore[attr-defined]
    assert isinstance(found, RemoteValues)
    expected = 2 * 3 * (100_000 * token_bytes + BLOCK_BYTES) + LEAST_MEMORY_BYTES
    assert found._options["memory_bytes"] == expected
    opened.values.close()


def test_offsets_of_an_opened_shard_are_compared(tmp_path: Path) -> None:
    # Both streams have 40 frames in all, but not the same in each row.
    uri = write_corpus(tmp_path, [[10, 30]], streams={"codes_2": coded(1), "codes_1": coded(1, 2.0)})
    table = tokenmill.open(uri)["text"]
    streams = LaidOutStreams(table, choose(table, None, Flat(), uri), Access())
    opened = table.open_shard(0, streams.values.shard_bytes(0))
    opened.streams["codes_1"].offsets = np.array([0, 22, 80])
    with pytest.raises(LoaderError, match="not equally long in time") as caught:
        streams.offsets(opened)
    assert str(caught.value).startswith(opened.data.where)
    assert json.loads(json.dumps(caught.value.to_json()))["fix"] == "read one of them: stream=…"
