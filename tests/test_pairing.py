"""Rows of several tables of the same items, and the frames of one that fall on those of the other."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from tests import hashed_text
from tests.datasets import build_dataset, job_of, write_jsonl
from tests.toy_codec import register, sound_job, write_sounds
from tokenmill.dataset import Dataset, open_dataset
from tokenmill.errors import DatasetError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Nine recordings of 0.2 s, 0.4 s …, the last of which is damaged; `coarse` and `late` reject short ones."""
    root = tmp_path_factory.mktemp("paired")
    with pytest.MonkeyPatch.context() as patch:
        register(patch)
        toy = {"id": "toy-codec", "codebooks": 1}
        tables = [
            {"name": "fine", "tokenizer": {"id": "toy-codec", "hop_samples": 107}},
            {"name": "coarse", "tokenizer": {**toy, "hop_samples": 320, "fewest_frames": 15}},
            {"name": "none", "tokenizer": {**toy, "fewest_frames": 1_000_000}},
        ]
        changes = {"tables": tables, "splitting": {"part_bytes": 30_000, "split_bytes": 100_000}}
        build_dataset(sound_job(root / "out", write_sounds(root / "in", 9), **changes))
    return open_dataset(str(root / "out"))


def test_items_that_all_tables_have_come_in_order(dataset: Dataset) -> None:
    pairs = dataset.paired("fine", "coarse")
    assert (len(dataset["fine"]), len(dataset["coarse"])) == (8, 6)
    assert len(pairs) == 6
    assert pairs.left_out == {"fine": 2, "coarse": 0}
    found = list(pairs)
    in_both = {f"{number}.wav" for number in range(2, 8)}
    assert [rows["fine"].key for rows in found] == [row.key for row in dataset["fine"] if row.key in in_both]
    for index, rows in enumerate(found):
        assert list(rows) == ["fine", "coarse"]
        fine, coarse = rows["fine"], rows["coarse"]
        assert (fine.split, fine.ordinal) == (coarse.split, coarse.ordinal)
        for same in (pairs[index], pairs[index - 6]):
            assert [same[name].key for name in same] == [fine.key] * 2
            assert (same["coarse"].streams["codes"] == coarse.streams["codes"]).all()


def test_several_splits_are_paired(dataset: Dataset) -> None:
    assert len({row.split for row in dataset["fine"]}) > 1


def test_tables_are_found_in_any_order_and_number(dataset: Dataset) -> None:
    assert [list(rows) for rows in dataset.paired("coarse", "fine")] == [["coarse", "fine"]] * 6
    nothing = dataset.paired("fine", "none", "coarse")
    assert (len(nothing), list(nothing)) == (0, [])
    assert nothing.left_out == {"fine": 8, "none": 0, "coarse": 6}


def test_spans_are_those_of_the_tables_rates(dataset: Dataset) -> None:
    pairs = dataset.paired("coarse", "fine")
    rows = pairs[0]
    spans = pairs.spans(rows, each="coarse", of="fine.codes")
    assert len(spans) == len(rows["coarse"].streams["codes"]) + 1
    starts = np.arange(len(rows["fine"].streams["codes"])) * 107
    for frame in range(len(spans) - 1):
        assert (starts[spans[frame] : spans[frame + 1]] // 320 == frame).all()
    assert spans[0] == 0
    assert starts[spans[-1] :].size <= 1


@pytest.mark.parametrize("place", ["fine.level", "nope", "fine.nope", ""])
def test_what_does_not_run_in_time_has_no_spans(dataset: Dataset, place: str) -> None:
    pairs = dataset.paired("coarse", "fine")
    with pytest.raises(DatasetError, match=r"those are: coarse\.codes, fine\.codes"):
        pairs.spans(pairs[0], each="coarse", of=place)


def test_tables_must_be_two_and_there(dataset: Dataset) -> None:
    for names in (["fine"], ["fine", "fine"], []):
        with pytest.raises(ValueError, match="two different tables"):
            dataset.paired(*names)
    with pytest.raises(DatasetError, match="no table 'nope'"):
        dataset.paired("fine", "nope")
    with pytest.raises(IndexError, match="item 6 of fine, coarse, which have 6 in common"):
        dataset.paired("fine", "coarse")[6]


def test_pairs_are_pickled(dataset: Dataset) -> None:
    pairs = pickle.loads(pickle.dumps(dataset.paired("fine", "coarse")))
    assert {rows["fine"].key for rows in pairs} == {f"{number}.wav" for number in range(2, 8)}


def test_items_that_repeat_an_earlier_one_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of equal items the first that all tables have stays, though one of them may have an earlier one."""
    hashed_text.register(monkeypatch)
    texts = {"a": {"a0": "one", "a1": "two"}, "b": {"b0": "one", "b1": "bad", "b2": "one", "b3": "three", "b4": "bad"}}
    for name, records in texts.items():
        write_jsonl(tmp_path / name / "x.jsonl", [{"id": key, "text": text} for key, text in records.items()])
    sources = [{"name": name, "uris": [str(tmp_path / name)], "fields": {"id": "id"}} for name in texts]
    tables = [
        {"name": "all", "tokenizer": {"id": "hashed-text"}},
        {"name": "good", "tokenizer": {"id": "hashed-text", "refuses": "bad"}, "sources": ["b"]},
        {"name": "text", "tokenizer": {"id": "bytes"}},
    ]
    build_dataset(job_of(str(tmp_path / "out"), "", sources=sources, tables=tables))
    opened = open_dataset(str(tmp_path / "out"))
    pairs = opened.paired("all", "good", distinct=True)
    assert [rows["good"].key for rows in opened.paired("all", "good")] == ["b0", "b2", "b3"]
    assert [rows["good"].key for rows in pairs] == ["b0", "b3"] == [pairs[number]["all"].key for number in range(2)]
    assert pairs.left_out == {"all": 5, "good": 1}
    assert [rows["text"].key for rows in opened.paired("all", "text", distinct=True)] == ["a0", "a1", "b1", "b3"]
    with pytest.raises(DatasetError, match="table 'text' has no list of duplicates"):
        opened.paired("text", "all", distinct=True)
