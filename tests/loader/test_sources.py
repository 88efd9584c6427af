from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets import build_dataset, job_of, write_jsonl
from tests.loader.corpora import CODEBOOK_SIZE, IDS, SEPARATOR, coded, write_corpus
from tests.loader.reference import PADDING, samples_of, take
from tokenmill.errors import DatasetError, LoaderError
from tokenmill.loader import Flat, Parallel, Source, Subset, TokenLoader
from tokenmill.loader.feeds import Place
from tokenmill.loader.sources import Reading, open_sources
from tokenmill.streams import StreamSpec

SMALL = {"ids": StreamSpec("uint16", vocabulary_size=300)}


def reading(**changes: Any) -> Reading:
    options: dict[str, Any] = {
        "window": 4, "seed": 3, "packing": "windows", "shuffle": "global", "block_tokens": 16, "open_blocks": 2,
        "separator": None, "tail": "drop", "pad_id": 0, "subset": None, "fields": ("ids",), "check": True,
        "cache": None,
    }  # fmt: skip
    return Reading(**{**options, **changes})


@pytest.fixture(scope="module")
def uris(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Datasets by name: `a` and `b` of one tokenizer, `c` of another, `small` of a smaller vocabulary."""
    root = tmp_path_factory.mktemp("datasets")
    return {
        "a": write_corpus(root / "a", [[30], [9]]),
        "b": write_corpus(root / "b", [[25]]),
        "c": write_corpus(root / "c", [[25]], tokenizer="other"),
        "small": write_corpus(root / "small", [[9, 7, 1]], tokenizer="small", streams=SMALL),
    }


def test_names(uris: dict[str, str]) -> None:
    sources = [Source(uris["a"]), Source(uris["b"] + "/", name="mine"), Source(uris["b"])]
    assert [source.name for source in open_sources(sources, reading())] == ["a/text", "mine", "b/text"]
    for wrong in ([Source(uris["a"])] * 2, [Source(uris["a"], name="b/text"), Source(uris["b"])]):
        with pytest.raises(LoaderError, match=r"two sources are named '(a|b)/text'") as caught:
            open_sources(wrong, reading())
        assert "name=…" in str(caught.value)


def test_no_sources() -> None:
    with pytest.raises(LoaderError, match="a loader of no sources"):
        TokenLoader([], window=4, global_batch_size=1)


def test_sources_of_one_tokenizer_go_together(uris: dict[str, str]) -> None:
    loader = TokenLoader([Source(uris["a"]), Source(uris["b"])], window=4, global_batch_size=2)
    assert [source.corpus.id_offset for source in loader.sources] == [0, 0]
    with pytest.raises(LoaderError, match="'a/text' and 'b/text' have one tokenizer, and id_offset 0 and 5"):
        open_sources([Source(uris["a"]), Source(uris["b"], id_offset=5)], reading())
    assert open_sources([Source(uris["a"], id_offset=5), Source(uris["b"], id_offset=5)], reading())


def test_sources_of_different_tokenizers_are_refused(uris: dict[str, str]) -> None:
    a, c = (open_sources([Source(uris[name])], reading())[0].corpus.table.tokenizer.fingerprint for name in "ac")
    with pytest.raises(
        LoaderError, match=f"'a/text' and 'c/text' have .* tokenizers {a[:16]}… and {c[:16]}…"
    ) as caught:
        open_sources([Source(uris["a"]), Source(uris["c"])], reading())
    assert "id_offset" in str(caught.value)
    with pytest.raises(LoaderError, match="have different vocabularies"):
        open_sources([Source(uris["a"], id_offset=0), Source(uris["c"])], reading())


@pytest.mark.parametrize(
    ("offsets", "said"),
    [
        ((0, 999_999), r"'a/text' \(0 … 999999\) and 'c/text' \(999999 … 1999998\) overlap"),
        ((5, 0), r"'a/text' \(5 … 1000004\) and 'c/text' \(0 … 999999\) overlap"),
        ((0, 0), "overlap"),
    ],
)
def test_vocabularies_that_overlap_are_refused(uris: dict[str, str], offsets: tuple[int, int], said: str) -> None:
    sources = [Source(uris[name], id_offset=offset) for name, offset in zip("ac", offsets, strict=True)]
    with pytest.raises(LoaderError, match=said):
        open_sources(sources, reading())


def test_every_two_of_many_sources_are_compared(uris: dict[str, str]) -> None:
    sources = [Source(uris["a"]), Source(uris["b"]), Source(uris["small"], id_offset=1_000_000)]
    assert len(open_sources(sources, reading())) == 3
    with pytest.raises(LoaderError, match=r"'small/text' .* and 'c/text' .* overlap"):
        open_sources([*sources, Source(uris["c"], id_offset=1_000_299)], reading())
    assert len(open_sources([*sources, Source(uris["c"], id_offset=1_000_300)], reading())) == 4
    sources[2] = Source(uris["small"], id_offset=5_000_000)
    with pytest.raises(LoaderError, match=r"'b/text' .* and 'c/text' .* overlap"):
        open_sources([*sources, Source(uris["c"], id_offset=999_999)], reading())


@pytest.mark.parametrize("packing", ["windows", "documents"])
def test_vocabularies_side_by_side(uris: dict[str, str], packing: Any) -> None:
    sources = [Source(uris["small"]), Source(uris["a"], id_offset=300), Source(uris["c"], id_offset=1_000_300)]
    options: dict[str, Any] = {"packing": packing, "tail": "pad", "pad_id": 7, "window": 6, "separator": 299}
    loader = TokenLoader(sources, global_batch_size=9, **options)
    places = [(0, 300), (300, 1_000_300), (1_000_300, 2_000_300)]
    alone = [samples_of(*TokenLoader(uris[name], global_batch_size=1, **options)) for name in ("small", "a", "c")]
    taken = [0, 0, 0]
    padded = set()
    for batch in take(loader, 4):
        for (ids, documents, positions), source in zip(samples_of(batch), batch["sources"].tolist(), strict=True):
            if taken[source] < len(alone[source]):
                ids_alone, *rest = alone[source][taken[source]]
                assert [documents, positions] == rest
                for token, plain, document in zip(ids, ids_alone, documents, strict=True):
                    # What pads is no token of any source.
                    assert token == (7 if document == PADDING else plain + places[source][0])
                    if document == PADDING:
                        padded.add(source)
                    else:
                        assert places[source][0] <= token < places[source][1]
            taken[source] += 1
    assert padded == {0, 1, 2}


def test_streams_of_one_table_have_different_vocabularies(tmp_path: Path) -> None:
    uri = write_corpus(tmp_path, [[30]], streams={"ids": IDS, "more": IDS})
    sources = [Source(uri, name="x"), Source(uri, name="y", stream="more")]
    with pytest.raises(LoaderError, match="'x' and 'y' have different vocabularies"):
        open_sources(sources, reading())


def test_each_source_is_opened_as_it_asks(uris: dict[str, str], tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", [{"id": "a", "text": "one and more"}])
    tables = [{"name": name, "tokenizer": {"id": "bytes"}} for name in ("text", "raw")]
    job = job_of(str(tmp_path / "out"), tmp_path / "in", tables=tables)
    build_dataset(job)
    write_jsonl(tmp_path / "in/b.jsonl", [{"id": "b", "text": "two"}])
    build_dataset(job)
    (found,) = open_sources([Source(job.output, "raw", generation=1)], reading())
    assert (found.name, found.corpus.generation, found.corpus.tokens) == ("out/raw", 1, 12)
    with pytest.raises(LoaderError, match="has 2 tables"):
        open_sources([Source(job.output)], reading())
    with pytest.raises(DatasetError, match="no generation 3"):
        open_sources([Source(job.output, "raw", generation=3)], reading())
    with pytest.raises(LoaderError, match="and 0123456789 was asked for"):
        open_sources([Source(job.output, "raw", tokenizer="0123456789")], reading())


def test_another_process_opens_the_same(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", [{"id": "a", "text": "one and more"}])
    job = job_of(str(tmp_path / "out"), tmp_path / "in")
    build_dataset(job)
    (source,) = open_sources([Source(job.output, weight=2.5)], reading())
    assert source.pinned() == Source(job.output, "text", weight=2.5, name="out/text", generation=1)


def test_what_decides_the_order(uris: dict[str, str]) -> None:
    assert reading().order() == {
        "seed": 3, "window": 4, "packing": "windows", "shuffle": "global", "separator": None, "tail": "drop",
        "subset": None,
    }  # fmt: skip
    several = [
        reading(seed=4), reading(window=5), reading(packing="documents"), reading(shuffle="none"),
        reading(shuffle="blocks"), reading(shuffle="blocks", block_tokens=20), reading(shuffle="blocks", open_blocks=3),
        reading(separator=0), reading(tail="pad"), reading(subset=Subset("train")), reading(),
        reading(subset=Subset("validation")), reading(subset=Subset("train", 0.02)),
        reading(subset=Subset("train", seed=1)),
    ]  # fmt: skip
    assert len({str(one.order()) for one in several}) == len(several)
    # What changes nothing but how batches are laid out may differ between a state and who resumes it.
    for same in (reading(pad_id=5), reading(fields=("ids", "positions")), reading(check=False), reading(open_blocks=9)):
        assert same.order() == reading().order()


@pytest.mark.parametrize(
    ("name", "value", "known"),
    [
        ("packing", "window", "'windows', 'documents'"),
        ("shuffle", True, "'global', 'blocks', 'none'"),
        ("tail", None, "'drop', 'pad'"),
    ],
)
def test_words_that_are_refused(name: str, value: Any, known: str) -> None:
    with pytest.raises(LoaderError, match=f"{name} {value!r} is not one of {known}"):
        reading(**{name: value})


@pytest.mark.parametrize("changes", [{"block_tokens": 3}, {"open_blocks": 0}])
def test_blocks_that_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(LoaderError, match="a block must hold a window of 4 tokens, and one or more must be open"):
        reading(**changes)


def test_the_separator_is_an_id_of_every_source(uris: dict[str, str]) -> None:
    sources = [Source(uris["a"]), Source(uris["small"], id_offset=1_000_000)]
    with pytest.raises(LoaderError, match=f"separator {SEPARATOR} is not an id of stream 'ids', .* has 300"):
        open_sources(sources, reading(separator=SEPARATOR))
    assert np.asarray(open_sources(sources, reading(separator=299))[1].corpus.tokens) == 20


def test_a_source_may_have_a_separator_of_its_own(uris: dict[str, str]) -> None:
    sources = [Source(uris["a"], id_offset=0), Source(uris["small"], id_offset=1_000_000, separator=299)]
    for asked, expected in [(None, None), (SEPARATOR, SEPARATOR)]:
        first, second = open_sources(sources, reading(separator=asked))
        assert (first.corpus.separator, second.corpus.separator) == (expected, 299)
        assert second.corpus.tokens == 17 + 3
        ids = np.empty(20, np.int64)
        second.corpus.read(0, 0, 20, ids)
        assert ids[[9, 17, 19]].tolist() == [1_000_299] * 3
        assert second.state(Place()).stream == "ids, separator 299"
        assert first.state(Place()).stream == "ids"


def test_the_separator_of_codes_has_a_place_in_the_vocabulary(tmp_path: Path, uris: dict[str, str]) -> None:
    codes = write_corpus(tmp_path, [[5]], tokenizer="codec", streams={"codes": coded(2)})
    ends = 2 * CODEBOOK_SIZE

    def mix(first_id: int) -> Any:
        speech = Source(codes, name="speech", id_offset=0, pattern=Flat(), separator=ends)
        return open_sources([speech, Source(uris["small"], id_offset=first_id)], reading())

    assert [one.corpus.vocabulary_size for one in mix(ends + 1)] == [ends + 1, 300]
    with pytest.raises(LoaderError, match=rf"'speech' \(0 … {ends}\) and .* overlap"):
        mix(ends)


@pytest.mark.parametrize("packing", ["windows", "documents"])
def test_blocks_hold_equally_many_ids_whatever_the_pattern(tmp_path: Path, packing: Any) -> None:
    uri = write_corpus(tmp_path, [[40]] * 12, streams={"codes": coded(4)})
    blocks = reading(packing=packing, shuffle="blocks", block_tokens=320, open_blocks=2)
    for pattern, samples in [(Flat(), 80 * 2), (Parallel(), 20 * 2)]:
        (source,) = open_sources([Source(uri, pattern=pattern)], blocks)
        assert source.feed.order.size(0, 0) == samples
    (small,) = open_sources([Source(uri, pattern=Parallel())], reading(shuffle="blocks", block_tokens=4, open_blocks=1))
    assert small.feed.order.size(0, 0) == 1
