import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenmill
from tests.datasets import build_dataset, job_of, write_jsonl
from tests.loader.corpora import ENDS, IDS, KINDS, SEPARATOR, write_corpus
from tests.loader.reference import Reference
from tokenmill.errors import DatasetError, LoaderError
from tokenmill.loader import Subset, TokenCorpus
from tokenmill.streams import StreamSpec

SHARDS = [[], [0, 5, 1], [30, 0, 0], [], [0], [7, 2, 0, 1]]
#: Pieces of documents, and rows that are said to repeat another.
MORE: dict[str, Any] = {"streams": {"ids": IDS, "pieces": ENDS, "kinds": KINDS}, "duplicates": {3: 0, 7: 1}}
#: Half of the keys `doc-<number>` or so.
HALF = Subset("train", 0.5, 1)
WAYS: list[dict[str, Any]] = [
    {}, {"separator": SEPARATOR}, {"subset": HALF}, {"separator": SEPARATOR, "subset": HALF},
    {"prefix": 4}, {"separator": SEPARATOR, "subset": HALF, "prefix": 1},
    {"documents": "pieces"}, {"documents": "pieces", "separator": SEPARATOR}, {"documents": "pieces", "prefix": 3},
    {"subset": HALF, "documents": "pieces"},
    {"skip_duplicates": True}, {"documents": "pieces", "skip_duplicates": True},
    {"documents": "pieces", "separator": SEPARATOR, "subset": HALF, "prefix": 3, "skip_duplicates": True},
    {"documents": "pieces", "distinct": "kinds"},
    {"documents": "pieces", "distinct": "kinds", "separator": SEPARATOR, "skip_duplicates": True},
]  # fmt: skip


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_corpus(tmp_path_factory.mktemp("corpus"), SHARDS, **MORE)


@pytest.fixture(scope="module")
def two_tables(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dataset of two tables in several shards, tokenized by the real functions."""
    root = tmp_path_factory.mktemp("dataset")
    records = [{"id": f"d{number}", "text": "á text " * (number % 9)} for number in range(60)]
    write_jsonl(root / "in/a.jsonl", records)
    tables = [{"name": name, "tokenizer": {"id": "bytes", "eos": name == "framed"}} for name in ("text", "framed")]
    build_dataset(job_of(str(root / "out"), root / "in", tables=tables, splitting={"part_bytes": 1024}))
    return str(root / "out")


def read_all(corpus: TokenCorpus, begin: int, count: int) -> list[int]:
    """Read tokens of the ring through runs."""
    out = np.full(count, -1, np.int64)
    at = 0
    for shard, start, stop in corpus.runs(begin, count):
        corpus.read(shard, start, stop, out[at : at + stop - start])
        at += stop - start
    assert at == count
    return out.tolist()


def places_of(corpus: TokenCorpus, begin: int, count: int) -> list[tuple[int, int]]:
    """Return (document, position) of tokens of the ring."""
    return [
        (document, first + number)
        for shard, start, stop in corpus.runs(begin, count)
        for document, first, length in zip(
            *corpus.pieces(np.zeros(1, int), [shard], [start], stop - start)[1:], strict=True
        )
        for number in range(length)
    ]


@pytest.mark.parametrize("way", WAYS)
def test_places_are_the_rows_tokens_end_to_end(uri: str, way: dict[str, Any]) -> None:
    corpus = TokenCorpus(uri, **way)
    reference = Reference(uri, **way)
    ids = [token for document in reference.documents.values() for token in document]
    assert corpus.tokens == len(ids) == corpus.ends[-1] == corpus.lengths.sum()
    assert corpus.lengths.tolist() == [corpus.documents.shard(shard).starts[-1] for shard in range(len(SHARDS))]
    assert corpus.plain == (set(way) <= {"documents"})
    for begin in range(-3, len(ids) + 3):
        for count in (1, 2, 6, len(ids), 2 * len(ids) + 1):
            around = [(begin + number) % len(ids) for number in range(count)]
            assert read_all(corpus, begin, count) == [ids[place] for place in around]
            assert places_of(corpus, begin, count) == [reference.ring[place] for place in around]


@pytest.mark.parametrize("way", WAYS)
def test_the_values_of_places_are_announced(uri: str, way: dict[str, Any]) -> None:
    # What is announced to be read covers what is read; before rows are known it is a guess of the right size.
    corpus = TokenCorpus(uri, **way)
    for known in (False, True):
        for shard, length in enumerate(corpus.lengths.tolist()):
            values = sum(SHARDS[shard])
            if known:
                corpus.documents.shard(shard)
            for start in range(length):
                for stop in range(start + 1, length + 1):
                    first, last = corpus.values_between(shard, start, stop)
                    assert 0 <= first <= values
                    assert last <= values
                    if known:
                        read = watch_reads(corpus, shard, start, stop)
                        assert all(first <= one < last for one in read)


def watch_reads(corpus: TokenCorpus, shard: int, start: int, stop: int) -> set[int]:
    """Return which values a read of places takes."""
    taken: set[int] = set()
    real = corpus.values.read

    def read(shard: int, start: int, stop: int) -> Any:
        taken.update(range(start, stop))
        return real(shard, start, stop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus.values, "read", read)
        corpus.read(shard, start, stop, np.empty(stop - start, np.int64))
    return taken


@pytest.mark.parametrize("way", WAYS)
def test_pieces_of_several_runs_at_once(uri: str, way: dict[str, Any]) -> None:
    corpus = TokenCorpus(uri, **way)
    runs = [
        (shard, start)
        for shard, length in enumerate(corpus.lengths.tolist())
        for start in range(length - 2)
        if (shard + start) % 3
    ]
    targets = np.arange(len(runs)) * 2
    columns = corpus.pieces(targets, [shard for shard, _ in runs], [start for _, start in runs], 3)
    together = list(zip(*(column.tolist() for column in columns), strict=True))
    singly = [
        piece
        for target, (shard, start) in zip(targets, runs, strict=True)
        for piece in zip(
            *(column.tolist() for column in corpus.pieces(np.array([target]), [shard], [start], 3)), strict=True
        )
    ]
    assert [piece for piece in together if piece[3]] == [piece for piece in singly if piece[3]]


def test_tables_and_streams(two_tables: str) -> None:
    with pytest.raises(LoaderError, match=r"has 2 tables \(text, framed\)") as caught:
        TokenCorpus(two_tables)
    assert "table=…" in str(caught.value)
    with pytest.raises(DatasetError, match="no table 'nope'"):
        TokenCorpus(two_tables, "nope")
    for name in ("text", "framed"):
        corpus = TokenCorpus(two_tables, name)
        rows = [row.streams["ids"] for row in tokenmill.open(two_tables)[name]]
        assert len(corpus.shards) > 3
        assert read_all(corpus, 0, corpus.tokens) == np.concatenate(rows).tolist()
        assert corpus.fingerprint == tokenmill.open(two_tables)[name].fingerprint


def test_what_a_corpus_says_of_itself(uri: str) -> None:
    corpus = TokenCorpus(uri)
    assert repr(corpus) == f"<46 tokens: 'ids' of table 'text' of {uri}>"
    assert (corpus.uri, corpus.generation, corpus.stream, corpus.local) == (uri, 1, "ids", True)


def test_generations(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", [{"id": "a", "text": "one"}])
    job = job_of(str(tmp_path / "out"), tmp_path / "in")
    build_dataset(job)
    corpus = TokenCorpus(job.output)
    write_jsonl(tmp_path / "in/b.jsonl", [{"id": "b", "text": "fourth"}])
    build_dataset(job)
    newest, first = TokenCorpus(job.output), TokenCorpus(job.output, generation=1)
    assert (corpus.generation, newest.generation, first.generation) == (1, 2, 1)
    assert (corpus.tokens, newest.tokens, first.tokens) == (3, 9, 3)
    # Another process opens what was opened here.
    assert pickle.loads(pickle.dumps(corpus)).generation == 1
    assert corpus.fingerprint == first.fingerprint != newest.fingerprint


@pytest.mark.parametrize("way", WAYS)
def test_pickles(uri: str, way: dict[str, Any]) -> None:
    corpus = TokenCorpus(uri, **way, check=False, mapped_shards=3)
    again = pickle.loads(pickle.dumps(corpus))
    assert read_all(again, 1, corpus.tokens) == read_all(corpus, 1, corpus.tokens)
    assert again.__reduce__()[1] == corpus.__reduce__()[1]


def test_closing_lets_go_and_reading_opens_again(uri: str) -> None:
    corpus = TokenCorpus(uri, separator=SEPARATOR)
    before = read_all(corpus, 0, corpus.tokens)
    corpus.close()
    corpus.close()
    assert read_all(corpus, 0, corpus.tokens) == before


def test_the_tokenizer_asked_for(uri: str) -> None:
    fingerprint = tokenmill.open(uri)["text"].tokenizer.fingerprint
    for enough in (fingerprint, fingerprint[:8], fingerprint[:20]):
        assert TokenCorpus(uri, tokenizer=enough).tokens == 46
    for other in ("0" * 64, fingerprint[:7], "", fingerprint + "0", fingerprint[:8].upper() + "x"):
        with pytest.raises(LoaderError, match=f"made by the tokenizer {fingerprint}, and {other} was asked for"):
            TokenCorpus(uri, tokenizer=other)


@pytest.mark.parametrize("separator", [-1, 1_000_000, 1 << 63])
def test_a_separator_that_is_no_id_is_refused(uri: str, separator: int) -> None:
    with pytest.raises(LoaderError, match=f"the separator {separator} is not an id of stream 'ids', .* has 1000000"):
        TokenCorpus(uri, separator=separator)


STREAMS = {
    "codes": StreamSpec("uint16", ("frame", "codebook"), (None, 3), 1024),
    "latents": StreamSpec("float32"),
    "ends": StreamSpec("int64", ends_of="ids"),
    "wide": StreamSpec("uint64"),
    "ids": IDS,
}


def test_streams_in_one_dimension_of_whole_numbers_are_read(tmp_path: Path) -> None:
    uri = write_corpus(tmp_path, SHARDS, streams=STREAMS)
    for name in ("ends", "wide", "ids"):
        corpus = TokenCorpus(uri, stream=name, separator=5)
        reference = Reference(uri, stream=name, separator=5)
        assert read_all(corpus, 0, corpus.tokens) == [token for ids in reference.documents.values() for token in ids]
    with pytest.raises(LoaderError, match=r"stream 'codes' of table 'text' holds codes of 3 codebooks a frame"):
        TokenCorpus(uri)
    with pytest.raises(LoaderError, match=r"stream 'latents' of table 'text' holds float32 .* whole numbers"):
        TokenCorpus(uri, stream="latents")
    with pytest.raises(LoaderError, match="has no stream 'words'; it has codes, latents, ends, wide, ids"):
        TokenCorpus(uri, stream="words")


def test_a_table_of_no_shards(tmp_path: Path) -> None:
    corpus = TokenCorpus(write_corpus(tmp_path, []))
    assert (corpus.tokens, corpus.lengths.tolist()) == (0, [])
