from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenmill
from tests.loader.corpora import CODEBOOK_SIZE, IDS, RAGGED, coded, write_corpus
from tokenmill.dataset import Table
from tokenmill.errors import LoaderError
from tokenmill.loader import Delayed, Flat, Parallel
from tokenmill.loader.chosen import choose
from tokenmill.loader.layouts import FlatLayout, TokenLayout
from tokenmill.streams import StreamSpec

RECORDING = StreamSpec("int64", ("number",), (6,))


def table_of(folder: Path, streams: dict[str, StreamSpec]) -> Table:
    return tokenmill.open(write_corpus(folder, [[6]], streams=streams))["text"]


def test_a_stream_of_one_dimension_needs_no_pattern(tmp_path: Path) -> None:
    table = table_of(tmp_path, {"ids": IDS, "codes": coded(3)})
    for asked in (None, "ids"):
        chosen = choose(table, asked, None, "here")
        assert (chosen.name, dict(chosen.widths), chosen.token_bytes) == ("ids", {"ids": 1}, 4)
        assert isinstance(chosen.layout, TokenLayout)
        assert chosen.undo(np.arange(3), 5)["ids"].tolist() == [0, 1, 2]


def test_codes_are_found_where_they_are(tmp_path: Path) -> None:
    table = table_of(tmp_path, {"ids": IDS, "codes": coded(3), "semantic": coded(1)})
    chosen = choose(table, None, Flat(2), "here")
    assert (chosen.name, dict(chosen.widths), chosen.token_bytes) == ("codes", {"codes": 3}, 3)
    assert chosen.dtype == np.dtype("uint16")
    assert choose(table, None, Delayed(), "here").token_bytes == 2
    assert choose(table, None, Parallel(1), "here").token_bytes == 6
    assert choose(table, "semantic", Parallel(), "here").name == "semantic"


def test_codes_of_different_rates_are_read_together(tmp_path: Path) -> None:
    table = table_of(tmp_path, {"ids": IDS, **dict(reversed(RAGGED.items()))})
    chosen = choose(table, None, Flat(), "here")
    assert chosen.name == "codes_4+codes_2+codes_1"
    assert dict(chosen.widths) == {"codes_4": 1, "codes_2": 4, "codes_1": 4}
    assert (chosen.dtype, chosen.token_bytes) == (np.dtype("int32"), 26 / 9)
    assert isinstance(chosen.layout, FlatLayout)
    assert chosen.layout.vocabulary_size == 4 * CODEBOOK_SIZE
    alone = choose(table, "codes_2", Parallel(), "here")
    assert (alone.name, alone.layout.step_shape) == ("codes_2", (2,))
    with pytest.raises(LoaderError, match="here: codebooks of different frame rates") as caught:
        choose(table, None, Delayed(), "here")
    assert "Flat()" in str(caught.value)


def test_codebooks_of_different_sizes_are_not_read_together(tmp_path: Path) -> None:
    other = StreamSpec("uint16", ("frame", "codebook"), (None, 1), 12, frame_hz=2.0)
    table = table_of(tmp_path, {"codes_2": coded(1), "codes_1": other})
    with pytest.raises(LoaderError, match=r"codebooks of different sizes \(12, 1009\)") as caught:
        choose(table, None, Flat(), "here")
    assert "stream=" in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "pattern", "said", "fix"),
    [
        ("nope", None, "no stream 'nope'; it has codes, ids, grid, loose", None),
        ("nope", Flat(), "no stream 'nope'", None),
        (
            None,
            None,
            "stream 'codes' of table 'text' holds codes of 3 codebooks a frame",
            "Flat(), Parallel() or Delay",
        ),
        ("codes", None, "how they are to be laid out as tokens was not said", "codebooks=n"),
        ("ids", Flat(), r"stream 'ids' .* has the dimensions \(token\); a pattern lays out codes", "stream: codes"),
        ("grid", Parallel(), r"stream 'grid' .* has the dimensions \(row, column\)", "stream: codes"),
        ("grid", None, r"stream 'grid' .* holds uint8 with dimensions \(row, column\); windows are cut from", None),
        ("loose", Flat(), r"stream 'loose' .* has the dimensions \(frame, codebook\)", "stream: codes"),
        ("codes", Delayed(4), "a pattern of the first 4 codebooks; 3 are stored", "1 … 3"),
    ],
)
def test_streams_and_patterns_that_do_not_go_together(
    tmp_path: Path, asked: str | None, pattern: Any, said: str, fix: str | None
) -> None:
    grid = StreamSpec("uint8", ("row", "column"), (None, 4), 16)
    # Frames without a fixed number of codes have no pattern.
    loose = StreamSpec("uint8", ("frame", "codebook"), (None, None), 16)
    table = table_of(tmp_path, {"codes": coded(3), "ids": IDS, "grid": grid, "loose": loose})
    with pytest.raises(LoaderError, match=f"^here: .*{said}") as caught:
        choose(table, asked, pattern, "here")
    assert fix is None or fix in str(caught.value)


def test_a_table_without_codes_has_no_pattern(tmp_path: Path) -> None:
    with pytest.raises(LoaderError, match="stream 'ids'") as caught:
        choose(table_of(tmp_path, {"ids": IDS}), None, Flat(), "here")
    assert str(caught.value).endswith("leave it out")


def test_separators_are_no_codes(tmp_path: Path) -> None:
    table = table_of(tmp_path, {"codes": coded(3), "ids": IDS})
    for pattern, least in [(Flat(), 3 * CODEBOOK_SIZE), (Parallel(), CODEBOOK_SIZE), (Delayed(), CODEBOOK_SIZE + 1)]:
        chosen = choose(table, None, pattern, "here")
        chosen.check_separator(least, "here")
        for wrong in (least - 1, 0, -1):
            with pytest.raises(LoaderError, match=f"separator {wrong} is a token of stream 'codes'") as caught:
                chosen.check_separator(wrong, "here")
            assert f"take {least} or more" in str(caught.value)
    with pytest.raises(LoaderError, match="is not an id of stream 'ids'"):
        choose(table, "ids", None, "here").check_separator(1_000_000, "here")
