from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.statistics import cases
from tokenmill.contract import TokenClasses
from tokenmill.sources.items import Reject
from tokenmill.statistics import MergedStatistics, PartStatistics, merge_parts
from tokenmill.statistics.describing import QUANTILES, entropy_bits
from tokenmill.statistics.summary import summarize, zipf_exponent
from tokenmill.streams import Jagged, StreamSpec

DOCUMENTS = [cases.Document(30, (5, 5, 5, 6)), cases.Document(0, ()), cases.Document(90, (7, 6, 5, 9, 1, 5))]


def texts(ids: Sequence[int]) -> list[str]:
    return [f"<{number}>" for number in ids]


def summary_of(documents: list[cases.Document], rejects: list[Reject], **options: Any) -> dict[str, Any]:
    merged = merge_parts([("web", cases.part(documents, rejects)), ("books", cases.part(documents))], cases.SPECS)
    return summarize(merged, **options)


def test_every_figure_of_a_small_table() -> None:
    classes = TokenClasses(byte_fallback=(6, 9), unknown=(1,))
    rejects = [cases.reject("torn_file", 5, 100), cases.reject("invalid_json"), cases.reject("invalid_json")]
    summary = summary_of(DOCUMENTS, rejects, classes=classes, token_text=texts, top=2)
    assert list(summary["sources"]) == ["books", "web"]
    web = summary["sources"]["web"]
    assert (web["items"], web["documents"], web["input_bytes"]) == (10, 3, 120)
    assert web["rejected"] == {
        "items": 7,
        "fraction": 0.7,
        "lost_bytes": 100,
        "by_reason": {"torn_file": 5, "invalid_json": 2},
    }
    assert web["bytes_per_document"]["p50"] == 30
    ids = web["streams"]["ids"]
    assert (ids["tokens"], ids["bytes_per_token"]) == (10, 12)
    assert ids["tokens_per_document"] == {
        **dict(zip(QUANTILES, [0, 0, 0, 0, 4, 4, 4, 4, 6], strict=True)),
        "mean": 3.33333,
    }
    probabilities = [5 / 10, 2 / 10, 1 / 10, 1 / 10, 1 / 10]
    assert ids["vocabulary"] == {
        "size": 5_000,
        "used": 5,
        "used_fraction": 0.001,
        "entropy_bits": pytest.approx(-sum(p * math.log2(p) for p in probabilities), rel=1e-5),
        "zipf_exponent": None,
        "byte_fallback_rate": 0.3,
        "unknown_rate": 0.1,
        "special_rate": None,
        "top": [
            {"id": 5, "text": "<5>", "count": 5, "share": 0.5},
            {"id": 6, "text": "<6>", "count": 2, "share": 0.2},
        ],
    }
    assert web["streams"]["latents"]["vocabulary"] is None
    assert summary["overall"]["documents"] == 6
    assert summary["overall"]["rejected"]["fraction"] == pytest.approx(7 / 13, rel=1e-5)
    assert summary["overall"]["streams"]["ids"]["vocabulary"]["top"][0]["count"] == 10


def test_of_equally_frequent_ids_the_smaller_comes_first() -> None:
    summary = summary_of([cases.Document(1, (9, 3, 8, 3, 9, 1))], [])
    assert [token["id"] for token in summary["overall"]["streams"]["ids"]["vocabulary"]["top"]] == [3, 9, 1, 8]


def pictures_summary(pictures: list[cases.Picture]) -> dict[str, Any]:
    merged = merge_parts([("web", cases.picture_part(pictures))], cases.IMAGE_SPECS)
    return cast("dict[str, Any]", summarize(merged)["overall"]["streams"])


def test_what_is_said_of_images() -> None:
    picture = cases.Picture
    ids = tuple(range(9))
    streams = pictures_summary(
        [
            picture(9, ids, 0.03, 1),
            picture(9, ids[:8], 0.5, 2),
            picture(9, (7, 7, 7, 7), math.nan, 1),
            picture(9, ids, 0.01, 1),
            picture(9, (), 0.25, 1),
        ]
    )
    assert streams["ids"]["octaves"] == [
        {"first": 0, "last": 0, "documents": 1},
        {"first": 4, "last": 7, "documents": 1},
        {"first": 8, "last": 15, "documents": 3},
    ]
    assert streams["books"]["octaves"][1] == {"first": 8, "last": 15, "documents": 1}
    assert streams["ids"]["bands"]["by"] == "octave"
    spans = [(band["first"], band["last"], band["tokens"]) for band in streams["ids"]["bands"]["bands"]]
    assert spans == [(0, 0, 4), (1, 1, 4), (2, 3, 8), (4, 7, 12), (8, 15, 2)]
    assert streams["ids"]["bands"]["bands"][0] == {
        "first": 0,
        "last": 0,
        "tokens": 4,
        "used": 2,
        "dead": 298,
        "used_fraction": 0.00666667,
        "entropy_bits": 0.811278,
        "perplexity": 1.75477,
    }
    books = streams["books"]["bands"]
    assert books["by"] == "codebook"
    assert [(band["first"], band["last"], band["tokens"]) for band in books["bands"]] == [
        (0, 0, 30), (1, 1, 30), (2, 2, 30),
    ]  # fmt: skip
    assert (books["bands"][2]["used"], books["bands"][2]["dead"]) == (9, 0)
    errors = streams["error"]["errors"]
    assert (errors["of"], errors["unknown"]) == ("ids", 1)
    assert (errors["quantiles"]["min"], errors["quantiles"]["max"], errors["quantiles"]["mean"]) == (0.01, 0.5, 0.1975)
    assert errors["octaves"] == [
        {"first": 0, "last": 0, "documents": 1, "p50": pytest.approx(0.25, rel=0.01), "p95": pytest.approx(0.25, 0.01)},
        {"first": 8, "last": 15, "documents": 3, "p50": pytest.approx(0.03, 0.01), "p95": pytest.approx(0.03, 0.01)},
    ]
    assert streams["outcome"]["labels"] == {"fixed": 0, "met": 4, "capped": 1}
    about = {name for name, stream in streams.items() if "about_rows" in stream}
    assert about == {"error", "outcome", "geometry"}


def test_the_last_band_that_is_told_apart_has_no_end() -> None:
    specs = {"ids": StreamSpec("uint32", vocabulary_size=1 << 21, bands="octave")}
    part = PartStatistics.start(specs)
    part.add_rows(np.array([1]), {"ids": Jagged.from_rows([np.arange(5)], specs["ids"])})
    bands = summarize(merge_parts([("a", part)], specs))["overall"]["streams"]["ids"]["bands"]["bands"]
    assert [(band["first"], band["last"], band["tokens"]) for band in bands] == [(0, 0, 1), (1, None, 4)]


def test_text_has_nothing_of_what_images_have() -> None:
    ids = summary_of(DOCUMENTS, [])["overall"]["streams"]["ids"]
    assert list(ids) == ["tokens", "bytes_per_token", "tokens_per_document", "vocabulary"]


@cases.whole_parts
@given(cases.pictures)
def test_a_summary_of_images_is_strict_json(pictures: list[cases.Picture]) -> None:
    summary = pictures_summary(pictures)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


@cases.whole_parts
@given(cases.documents, cases.rejects)
def test_a_summary_is_strict_json(documents: list[cases.Document], rejects: list[Reject]) -> None:
    summary = summary_of(documents, rejects, token_text=texts)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_a_table_of_nothing_has_a_summary() -> None:
    summary = summarize(MergedStatistics.start(cases.SPECS), TokenClasses(unknown=(0,)), texts)
    assert summary["sources"] == {}
    ids = summary["overall"]["streams"]["ids"]
    assert ids["bytes_per_token"] is None
    assert ids["tokens_per_document"]["p50"] is None
    assert ids["vocabulary"]["entropy_bits"] is None
    assert ids["vocabulary"]["unknown_rate"] is None
    assert summary["overall"]["rejected"]["fraction"] is None


@pytest.mark.parametrize("bits", [0, 1, 5, 16])
def test_the_entropy_of_equally_frequent_ids(bits: int) -> None:
    assert entropy_bits(np.full(1 << bits, 12_345, np.int64)) == pytest.approx(bits)


@cases.whole_parts
@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=50))
def test_entropy_equals_its_definition(counts: list[int]) -> None:
    total = sum(counts)
    expected = math.fsum(-count / total * math.log2(count / total) for count in counts)
    assert entropy_bits(np.array(counts, np.int64)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("exponent", [0.6, 0.8, 1.0, 1.2, 1.5])
@pytest.mark.parametrize("vocabulary", [3_000, 100_000])
def test_the_zipf_exponent_of_samples_is_found(exponent: float, vocabulary: int) -> None:
    shares = np.arange(1, vocabulary + 1, dtype=np.float64) ** -exponent
    counts = np.random.default_rng(7).multinomial(3_000_000, shares / shares.sum())
    ordered = np.sort(counts[counts > 0])[::-1].astype(np.int64)
    assert zipf_exponent(ordered) == pytest.approx(exponent, abs=0.02)


def test_the_zipf_exponent_of_exact_frequencies_and_of_too_few() -> None:
    exact = (1e15 * np.arange(1, 20_001, dtype=np.float64) ** -1.1).astype(np.int64)
    assert zipf_exponent(exact) == pytest.approx(1.1, abs=1e-4)
    assert zipf_exponent(exact[:59]) == pytest.approx(1.1, abs=1e-4)
    assert zipf_exponent(exact[:58]) is None
    assert zipf_exponent(np.full(1000, 3, np.int64)) == pytest.approx(0, abs=1e-6)
