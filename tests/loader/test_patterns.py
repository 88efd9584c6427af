from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenmill
from tests.loader.corpora import CODEBOOK_SIZE, IDS, RAGGED, coded, write_corpus
from tests.loader.reference import samples_of, take
from tokenmill.errors import LoaderError
from tokenmill.loader import Delayed, Flat, PackedWindows, Parallel, Pattern, Source, TokenCorpus, TokenLoader
from tokenmill.loader.layouts import DelayedLayout, FlatLayout, ParallelLayout

PATTERNS: list[tuple[str | None, Pattern]] = [
    ("codes", Flat()), ("codes", Flat(2)), ("codes", Flat(offsets=False)), ("codes", Parallel()),
    ("codes", Parallel(2)), ("codes", Delayed()), ("codes", Delayed(2, 2000)), (None, Flat()), (None, Flat(2)),
]  # fmt: skip


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    streams = {"ids": IDS, "codes": coded(3), **RAGGED}
    return write_corpus(tmp_path_factory.mktemp("corpus"), [[7, 0, 20], [], [1, 33], [12, 5]], streams=streams)


def test_layouts_of_patterns() -> None:
    flat = Flat(2).layout(4, 10)
    assert isinstance(flat, FlatLayout)
    assert (flat.codebooks, flat.steps_per_frame, flat.step_shape, flat.vocabulary_size) == (2, 2, (), 20)
    assert Flat(2, offsets=False).layout(4, 10).vocabulary_size == 10
    parallel = Parallel().layout(4, 10)
    assert isinstance(parallel, ParallelLayout)
    assert (parallel.steps_per_frame, parallel.step_shape, parallel.vocabulary_size) == (1, (4,), 10)
    delayed = Delayed(3).layout(4, 10)
    assert isinstance(delayed, DelayedLayout)
    assert (delayed.hole_id, delayed.more_steps, delayed.step_shape, delayed.vocabulary_size) == (10, 2, (3,), 11)
    assert Delayed(3, 15).layout(4, 10).vocabulary_size == 16


@pytest.mark.parametrize("kind", [Flat, Parallel, Delayed])
def test_more_codebooks_than_there_are_or_none_are_refused(kind: Any) -> None:
    assert kind(8).layout(8, 4).codebooks == kind().layout(8, 4).codebooks == 8
    for count in (0, -1, 9):
        with pytest.raises(LoaderError, match=f"first {count} codebooks; 8 are stored") as caught:
            kind(count).layout(8, 4)
        assert "1 … 8" in str(caught.value)


def test_holes_that_are_codes_are_refused() -> None:
    for hole in (-1, 0, 9):
        with pytest.raises(LoaderError, match=rf"holes .* to be {hole}, which is a code \(0 … 9\)"):
            Delayed(hole_id=hole).layout(4, 10)


def test_codebooks_of_different_rates_have_only_a_flat_pattern() -> None:
    for pattern in (Parallel(), Delayed()):
        with pytest.raises(LoaderError, match="codebooks of different frame rates") as caught:
            pattern.layout_of((0, 1, 1), 10)
        assert "Flat()" in str(caught.value)


def test_a_state_names_all_that_decides_the_tokens() -> None:
    assert Flat().what == "flat, all codebooks"
    assert Delayed(4, 2000).what == "delayed, 4 codebooks, holes 2000"
    several = [Flat(), Flat(2), Flat(offsets=False), Parallel(), Parallel(2), Delayed(), Delayed(2), Delayed(None, 9)]
    assert len({pattern.what for pattern in several}) == len(several)


@pytest.mark.parametrize(("stream", "pattern"), PATTERNS)
@pytest.mark.parametrize("separator", [None, 9999])
def test_documents_of_a_batch_become_their_rows_again(
    uri: str, stream: str | None, pattern: Pattern, separator: int | None
) -> None:
    # Windows are as long as the longest row: packed by documents, none is cut.
    loader = TokenLoader(
        uri, window=300, global_batch_size=1, packing="documents", tail="pad", stream=stream, pattern=pattern,
        separator=separator,
    )  # fmt: skip
    table, found = tokenmill.open(uri)["text"], 0
    for batch in loader:
        ids, documents = batch["ids"][0], batch["document_ids"][0]
        for number in set(documents.tolist()) - {-1}:
            streams = loader.sources[0].undo(ids[documents == number])
            for name, codes in streams.items():
                stored = table[number].streams[name]
                np.testing.assert_array_equal(codes, stored[:, : codes.shape[1]])
                found += codes.size
            assert list(streams) == ([stream] if stream else list(RAGGED)[: pattern.codebooks])
    frames, count = 78, pattern.codebooks
    per_frame = (count or 3) if stream else (1 + 2 * 2 + 4 if count is None else 1 + 2)
    assert found == frames * per_frame


def test_a_piece_of_a_document_gives_its_whole_frames(uri: str) -> None:
    loader = TokenLoader(
        [Source(uri, stream="codes", pattern=Flat(), id_offset=500)], window=10, global_batch_size=1, shuffle="none"
    )
    for batch in take(loader, 9):
        ids, documents, positions = batch["ids"][0], batch["document_ids"][0], batch["positions"][0]
        for number in set(documents.tolist()):
            mine = documents == number
            first = int(positions[mine][0])
            codes = loader.sources[0].undo(ids[mine], first)["codes"]
            begin = -(-first // 3)
            stored = tokenmill.open(uri)["text"][number].streams["codes"]
            np.testing.assert_array_equal(codes, stored[begin : begin + len(codes)])


def test_windows_of_whole_frames_cut_none(uri: str) -> None:
    loader = TokenLoader(uri, window=6, global_batch_size=2, stream="codes", pattern=Flat())
    for _ in range(3):
        for batch in loader:
            assert (batch["positions"][:, 0] % 3 == 0).all()
            assert ((batch["ids"] // CODEBOOK_SIZE) == np.arange(6) % 3).all()


def test_a_run_goes_on_with_the_same_pattern_only(uri: str) -> None:
    def make(pattern: Pattern, stream: str | None = "codes") -> TokenLoader:
        return TokenLoader(uri, window=6, global_batch_size=2, stream=stream, pattern=pattern)

    for stream, pattern in PATTERNS:
        loader = make(pattern, stream)
        take(loader, 2)
        state = loader.state_dict()
        again = make(pattern, stream)
        again.load_state_dict(state)
        assert samples_of(*again) == samples_of(*loader)
        for other_stream, other in PATTERNS:
            if (other_stream, other) != (stream, pattern):
                with pytest.raises(
                    LoaderError, match=r"state was saved with stream '.*', this loader has '.*'"
                ) as caught:
                    make(other, other_stream).load_state_dict(state)
                assert pattern.what in str(caught.value)
                assert other.what in str(caught.value)


def test_text_and_codes_in_one_mix(uri: str, tmp_path: Path) -> None:
    text = write_corpus(tmp_path / "text", [[50]], tokenizer="words")
    sources = [
        Source(text, name="text", id_offset=0),
        Source(uri, name="sound", stream="codes", pattern=Flat(2), id_offset=1_000_000),
    ]
    loader = TokenLoader(sources, window=8, global_batch_size=4)
    seen = set()
    for batch in take(loader, 5):
        assert batch["ids"].shape == (4, 8)
        for ids, source in zip(batch["ids"], batch["sources"].tolist(), strict=True):
            assert (ids < 1_000_000).all() if source == 0 else ((ids - 1_000_000) // CODEBOOK_SIZE == [0, 1] * 4).all()
            seen.add(source)
    assert seen == {0, 1}
    # The codes of two codebooks take up that many ids.
    with pytest.raises(LoaderError, match=rf"'sound' \(5 … {5 + 2 * CODEBOOK_SIZE - 1}\)"):
        TokenLoader(
            [Source(uri, name="sound", stream="codes", pattern=Flat(2), id_offset=5), Source(text, id_offset=9)],
            window=8,
            global_batch_size=4,
        )
    with pytest.raises(LoaderError, match=r"different shapes cannot be mixed: 'text' \(\), 'sound' \(2,\)"):
        TokenLoader(
            [sources[0], Source(uri, name="sound", stream="codes", pattern=Parallel(2), id_offset=1_000_000)],
            window=8,
            global_batch_size=4,
        )


def test_patterns_belong_to_each_source(uri: str) -> None:
    with pytest.raises(LoaderError, match="pattern, prefix, generation and tokenizer belong to each source"):
        TokenLoader([Source(uri, stream="codes")], window=6, global_batch_size=2, pattern=Flat())


@pytest.mark.parametrize(("stream", "pattern"), PATTERNS)
def test_another_process_reads_the_same(uri: str, stream: str | None, pattern: Pattern) -> None:
    corpus = TokenCorpus(uri, stream=stream, pattern=pattern)
    again = pickle.loads(pickle.dumps(corpus))
    assert (again.what, again.tokens, again.lengths.tolist()) == (corpus.what, corpus.tokens, corpus.lengths.tolist())
    loader = TokenLoader(uri, window=6, global_batch_size=2, stream=stream, pattern=pattern)
    copied = pickle.loads(pickle.dumps(loader))
    assert samples_of(*copied) == samples_of(*loader)


@pytest.mark.parametrize(("stream", "pattern"), PATTERNS)
def test_samples_by_their_number(uri: str, stream: str | None, pattern: Pattern) -> None:
    windows = PackedWindows(TokenCorpus(uri, stream=stream, pattern=pattern), 6)
    loader = TokenLoader(uri, window=6, global_batch_size=1, stream=stream, pattern=pattern, shuffle="none")
    for number, batch in enumerate(loader):
        np.testing.assert_array_equal(windows[number]["ids"], batch["ids"][0])
        assert windows[number]["positions"].shape == (6,)
