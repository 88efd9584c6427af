from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datasets import build_dataset, job_of
from tests.ir.samples import COMPILED, MODULES, TEXT
from tests.loader.corpora import ENDS, IDS, KINDS, coded, write_corpus
from tests.loader.reference import Reference, samples_of
from tests.loader.test_corpus import MORE, SHARDS, WAYS
from tokenmill.dataset import open_dataset
from tokenmill.errors import CorruptionError, LoaderError
from tokenmill.loader import Flat, PackedDocuments, TokenCorpus, TokenLoader, table_documents
from tokenmill.shards import BLOCK_BYTES
from tokenmill.streams import Jagged


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_corpus(tmp_path_factory.mktemp("corpus"), SHARDS, **MORE)


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Modules that real compilers wrote, some of them twice, one without functions; in several shards."""
    root = tmp_path_factory.mktemp("modules")
    inputs = root / "in"
    inputs.mkdir()
    for name in COMPILED:
        (inputs / name).write_bytes((MODULES / name).read_bytes())
    (inputs / "a-text.ll").write_bytes(TEXT)
    (inputs / "b-nothing.ll").write_bytes(b"@x = global i32 7\n")
    (inputs / "z-again.ll").write_bytes(TEXT)
    build_dataset(
        job_of(
            str(root / "out"),
            inputs,
            source={"modality": "llvm-ir", "fields": {}},
            tables=[{"name": "line", "tokenizer": {"id": "llvm-ir"}}],
            splitting={"part_bytes": 40_000},
        )
    )
    return str(root / "out")


@pytest.mark.parametrize("way", WAYS)
def test_documents_of_shards(uri: str, way: dict[str, Any]) -> None:
    before = set(threading.enumerate())
    corpus = TokenCorpus(uri, **way)
    reference = Reference(uri, **way)
    numbers: list[int] = []
    for found in corpus.documents.every(range(len(SHARDS))):
        count = len(found.values)
        own = found.numbers(0, count).tolist()
        assert own == [found.number(document) for document in range(count)]
        numbers += own
        assert [len(reference.documents[number]) for number in own] == [
            stop - start for start, stop in pairwise(found.starts.tolist())
        ]
    assert numbers == list(reference.documents)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("way", WAYS)
def test_documents_are_found_again(uri: str, way: dict[str, Any]) -> None:
    corpus = TokenCorpus(uri, **way)
    reference = Reference(uri, **way)
    numbers = np.array([-1, *reference.documents, -1])
    rows, places = corpus.locate(numbers)
    assert list(zip(rows.tolist(), places.tolist(), strict=True)) == [(-1, -1), *reference.places.values(), (-1, -1)]
    both = corpus.locate(np.stack([numbers, numbers[::-1]]))
    assert [array.tolist() for array in both] == [[array.tolist(), array[::-1].tolist()] for array in (rows, places)]
    assert [array.size for array in corpus.locate(np.array([], np.int64))] == [0, 0]
    total = int(corpus.documents.counts.sum())
    with pytest.raises(LoaderError, match=f"no document {total} of table 'text': it has {total}"):
        corpus.locate(np.array([0, total]))


def test_a_number_says_where_a_document_is_whatever_is_left_out(uri: str) -> None:
    every = TokenCorpus(uri, documents="pieces")
    total = np.arange(every.documents.counts.sum())
    for way in WAYS:
        if "documents" in way:
            other = TokenCorpus(uri, **way)
            assert [one.tolist() for one in other.locate(total)] == [one.tolist() for one in every.locate(total)]


@settings(max_examples=30)
@given(st.sampled_from(WAYS), st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(1, 12))
def test_documents_of_few_shards_are_remembered(uri: str, way: dict[str, Any], asked: list[int], most: int) -> None:
    documents, fresh = (TokenCorpus(uri, **way).documents for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_documents, "_REMEMBERED_DOCUMENTS", most)
        for shard in asked:
            found, expected = documents.shard(shard), next(iter(fresh.every([shard])))
            assert found.starts.tolist() == expected.starts.tolist()
            assert found.values.tolist() == expected.values.tolist()
            assert documents._remembered == sum(len(some.values) for some in documents._found.values())
            assert documents.known(shard) is found
            assert documents._remembered <= most or len(documents._found) == 1


def test_lengths_are_counted_without_reading_rows_where_nothing_depends_on_them(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: Any) -> Any:
        raise AssertionError("a shard was opened")

    expected = TokenCorpus(uri).lengths.tolist()
    monkeypatch.setattr(table_documents.TableDocuments, "_read", read)
    assert TokenCorpus(uri, documents="pieces").lengths.tolist() == expected
    # Nor are they to be read for ids alone.
    loader = TokenLoader(uri, documents="pieces", window=4, global_batch_size=2, fields=("ids",))
    assert len([batch["ids"] for batch in loader]) == len(loader) == sum(expected) // 8


@pytest.mark.parametrize("ends", [[4, 3], [9, 11], [0, 10, 11]])
def test_ends_that_cut_no_row_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: list[int]) -> None:
    rows = [np.array(some) for some in ([1, 5], ends, [2])]
    monkeypatch.setattr("tests.loader.corpora._counting", broken(rows))
    uri = write_corpus(tmp_path, [[10, 10, 10]], streams={"ids": IDS, "pieces": ENDS})
    corpus = TokenCorpus(uri, documents="pieces")
    with pytest.raises(LoaderError, match=r"\.arrow: stream 'pieces' cuts no row") as caught:
        corpus.documents.shard(0)
    assert "ends ascend" in str(caught.value)
    assert TokenCorpus(uri).documents.shard(0).starts.tolist() == [0, 10, 20, 30]


def broken(rows: list[Any]) -> Any:
    def counting(_first: int, lengths: list[int], spec: Any) -> Jagged:
        values = np.arange(sum(lengths)).astype(spec.dtype)
        return Jagged.from_rows(rows, spec) if spec.ends_of else Jagged.from_lengths(values, np.array(lengths))

    return counting


def test_ends_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.loader.corpora._counting", broken([np.repeat(np.arange(60_000), 20)]))
    uri = write_corpus(tmp_path, [[60_000]], streams={"ids": IDS, "pieces": ENDS})
    corpus = TokenCorpus(uri, documents="pieces", check=False)
    # In a block of which nothing else is.
    place = int(corpus.shards.column("value_offset.pieces")[0]) + BLOCK_BYTES
    path = tmp_path / corpus.shards.path(0)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptionError, match="does not match its checksum"):
        corpus.documents.shard(0)
    assert len(TokenCorpus(uri).documents.shard(0).values) == 1


def test_only_streams_that_end_stretches_of_the_one_read_make_documents(tmp_path: Path) -> None:
    streams = {"ids": IDS, "more": IDS, "pieces": ENDS, "codes": coded(2)}
    uri = write_corpus(tmp_path, [[5, 4]], streams=streams)
    for name in ("more", "nothing"):
        with pytest.raises(LoaderError, match="says where stretches of 'ids' end") as caught:
            TokenCorpus(uri, documents=name)
        assert "name one that does: pieces" in str(caught.value)
    others: list[dict[str, Any]] = [{"stream": "more"}, {"stream": "codes", "pattern": Flat()}]
    for other in others:
        with pytest.raises(LoaderError, match="documents='pieces': no such stream of table 'text'") as caught:
            TokenCorpus(uri, documents="pieces", **other)
        assert "a row is one" in str(caught.value)


def test_duplicates_that_are_not_known(tmp_path: Path) -> None:
    uri = write_corpus(tmp_path, [[5, 4]])
    with pytest.raises(LoaderError, match="table 'text' has no list of duplicates: rows have no digests") as caught:
        TokenLoader(uri, window=2, global_batch_size=1, skip_duplicates=True)
    assert "leave skip_duplicates out" in str(caught.value)


def test_no_duplicates_to_skip(tmp_path: Path) -> None:
    uri = write_corpus(tmp_path, [[5, 4]], duplicates={})
    assert TokenCorpus(uri, skip_duplicates=True).tokens == 9


def test_functions_of_modules(modules: str) -> None:
    table = open_dataset(modules)["line"]
    corpus = TokenCorpus(modules, documents="functions")
    reference = Reference(modules, table="line", documents="functions")
    assert len(corpus.shards) > 2
    packed = PackedDocuments(corpus, 4096)
    seen = {}
    for number in range(len(packed)):
        for ids, documents, _ in samples_of({name: array[None] for name, array in packed[number].items()}):
            for document in set(documents) - {-1}:
                found = [token for token, other in zip(ids, documents, strict=True) if other == document]
                assert found == reference.documents[document]
                seen[document] = found
    rows, places = corpus.locate(np.array(sorted(seen)))
    for number, row in enumerate(table):
        of_row = [
            seen[document] for document, other in zip(sorted(seen), rows.tolist(), strict=True) if other == number
        ]
        functions = int(row.streams["module"][2])
        text = table.decode(row)
        assert np.concatenate(of_row).tolist() == row.streams["ids"].tolist()
        assert places[rows == number].max() <= functions
        assert len(of_row) - functions in (0, 1)
        assert text.count("\ndefine ") == functions


def test_modules_that_are_there_twice_are_read_once(modules: str) -> None:
    table = open_dataset(modules)["line"]
    skipped = table.known_duplicates().rows.tolist()
    assert len(skipped) >= 1
    for documents in (None, "functions"):
        corpus = TokenCorpus(modules, documents=documents, skip_duplicates=True)
        kept = [row.streams["ids"] for number, row in enumerate(table) if number not in skipped]
        out = np.empty(corpus.tokens, np.int64)
        at = 0
        for shard, start, stop in corpus.runs(0, corpus.tokens):
            corpus.read(shard, start, stop, out[at : at + stop - start])
            at += stop - start
        assert out.tolist() == np.concatenate(kept).tolist()


def test_functions_that_are_there_twice_are_read_once(modules: str) -> None:
    corpus = TokenCorpus(modules, documents="functions", distinct="function_hashes")
    rows = list(open_dataset(modules)["line"])
    hashes = np.concatenate([row.streams["function_hashes"] for row in rows])
    places = [(number, part) for number, row in enumerate(rows) for part in range(len(row.streams["functions"]))]
    firsts = {places[index] for index in np.unique(hashes, return_index=True)[1].tolist()}
    assert len(firsts) < len(hashes)
    numbers = np.concatenate(
        [some.numbers(0, len(some.values)) for some in corpus.documents.every(range(len(corpus.shards)))]
    )
    found = set(zip(*(array.tolist() for array in corpus.locate(numbers)), strict=True))
    # What stands behind a module's last function is told apart by nothing.
    assert found & set(places) == firsts
    assert len(found) == len(numbers) == len(firsts) + len(rows)


def test_values_that_tell_documents_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = {"ids": IDS, "pieces": ENDS, "kinds": KINDS}
    uri = write_corpus(tmp_path / "good", [[5, 4]], streams=streams)
    for name in ("ids", "pieces", "nothing"):
        with pytest.raises(LoaderError, match=f"distinct='{name}': no such stream of table 'text'") as caught:
            TokenCorpus(uri, documents="pieces", distinct=name)
        assert "name one that has: kinds" in str(caught.value)
    with pytest.raises(LoaderError, match="distinct='kinds'") as caught:
        TokenCorpus(uri, distinct="kinds")
    assert "name documents too" in str(caught.value)
    values = {"ids": np.arange(5), "pieces": np.array([2, 4]), "kinds": np.array([1])}
    by_spec = {id(spec): values[name] for name, spec in streams.items()}
    monkeypatch.setattr(
        "tests.loader.corpora._counting", lambda _first, _lengths, spec: Jagged.from_rows([by_spec[id(spec)]], spec)
    )
    other = write_corpus(tmp_path / "other", [[5]], streams=streams)
    with pytest.raises(LoaderError, match="'kinds' tells no documents apart: a row has not as many values as ends"):
        TokenCorpus(other, documents="pieces", distinct="kinds")


@pytest.mark.parametrize("packing", ["windows", "documents"])
@pytest.mark.parametrize("shuffle", ["global", "blocks"])
def test_a_run_on_functions_goes_on_at_every_batch(modules: str, packing: Any, shuffle: Any) -> None:
    options: dict[str, Any] = {
        "window": 256,
        "packing": packing,
        "shuffle": shuffle,
        "block_tokens": 1024,
        "open_blocks": 2,
        "documents": "functions",
        "skip_duplicates": True,
        "distinct": "function_hashes",
        "separator": 0,
    }
    names = ("documents", "skip_duplicates", "distinct", "separator")
    reference = Reference(modules, table="line", **{name: options[name] for name in names})
    whole = TokenLoader(modules, global_batch_size=2, **options)
    batches = [batch for _ in range(2) for batch in whole]
    expected = samples_of(*batches)
    epoch = len(whole)
    assert epoch > 5
    for batch in batches:
        reference.check(batch)
    first = TokenLoader(modules, global_batch_size=2, **options)
    for number, batch in enumerate([batch for _ in range(2) for batch in first], 1):
        again = TokenLoader(modules, global_batch_size=2, **options)
        again.load_state_dict(first.state_dict(batch))
        left = -number % epoch if number % epoch else epoch * (number < 2 * epoch)
        if left:
            assert samples_of(*again) == expected[2 * number :][: 2 * left]
