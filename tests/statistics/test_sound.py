"""Recordings are counted exactly, in any order, and come back from files as they were."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.statistics import cases
from tests.statistics.test_render import shown
from tokenmill.errors import CorruptionError
from tokenmill.sources.items import Reject
from tokenmill.statistics import PartStatistics, arrow, merge_parts
from tokenmill.statistics.render import details, rejects, render_markdown, rows, top_tokens
from tokenmill.statistics.sound import SoundStatistics, level_quantiles, microseconds
from tokenmill.statistics.summary import summarize
from tokenmill.streams import StreamSpec

GOLDEN = Path(__file__).parent / "golden" / "part-sound-v1.arrow"


def sound_of(part: PartStatistics) -> SoundStatistics:
    assert part.sound is not None
    return part.sound


@cases.whole_parts
@given(cases.sounds, cases.lost_recordings)
def test_counts_are_those_of_a_slow_and_obvious_count(sounds: list[cases.Sounding], lost: list[Reject]) -> None:
    part = cases.sound_part(sounds, lost)
    counted = sound_of(part)
    assert counted.seconds == sum(Fraction(one.samples, one.source_hz) for one in sounds)
    assert counted.lengths.count == len(sounds)
    assert counted.lengths.total == sum(one.samples * 1000 // one.source_hz for one in sounds)
    assert counted.by_rate == {
        one.source_hz: sum(other.source_hz == one.source_hz for other in sounds) for one in sounds
    }
    assert sum(channels * count for channels, count in counted.by_channels.items()) == sum(s.channels for s in sounds)
    silent = sum(float(np.float32(one.silence)) * one.samples / one.source_hz for one in sounds)
    assert counted.silent_microseconds == pytest.approx(silent * 1e6, abs=len(sounds))
    lost_seconds = {reason: counts.lost_microseconds for reason, counts in part.rejected.items()}
    assert lost_seconds == {
        one.reason: sum(round(1e6 * other.lost_seconds) for other in lost if other.reason == one.reason) for one in lost
    }


@cases.whole_parts
@given(cases.sounds, cases.lost_recordings, st.integers(0, 8), st.integers(1, 9))
def test_neither_parts_nor_batches_nor_order_show(
    sounds: list[cases.Sounding], lost: list[Reject], cut: int, batch_rows: int
) -> None:
    whole = cases.sound_part(sounds, lost)
    data = whole.to_arrow_bytes()
    read = PartStatistics.from_arrow_bytes(data)
    assert read == whole
    assert read.to_arrow_bytes() == data
    assert cases.sound_part(sounds[::-1], lost[::-1], batch_rows).to_arrow_bytes() == data
    one, other = cases.sound_part(sounds[:cut]), cases.sound_part(sounds[cut:], lost)
    other.merge(one)
    assert other.to_arrow_bytes() == data


@cases.single_values
@given(st.lists(st.floats(-119, 3, width=32), min_size=1), st.floats(0, 1))
def test_levels_are_right_to_a_tenth_of_a_decibel(levels: list[float], fraction: float) -> None:
    part = cases.sound_part([cases.Sounding(8_000, 1, 80, level, level, 0) for level in levels], batch_rows=100)
    (found,) = level_quantiles(sound_of(part).peak, [fraction])
    assert found == pytest.approx(sorted(levels)[int(fraction * (len(levels) - 1))], abs=0.0501)


def test_levels_beyond_reason_are_counted_as_the_nearest_that_are() -> None:
    levels = [float("nan"), float("-inf"), -200.0, 500.0, float("inf")]
    part = cases.sound_part([cases.Sounding(8_000, 1, 80, level, level, 0) for level in levels])
    assert sound_of(part).rms == {0: 3, 2400: 2}
    assert level_quantiles({}, [0.5]) == [None]


def test_the_golden_file_is_read_and_written_again_byte_for_byte() -> None:
    read = PartStatistics.from_arrow_bytes(GOLDEN.read_bytes())
    assert read == cases.golden_sound_part()
    assert cases.golden_sound_part().to_arrow_bytes(cases.GOLDEN_EXTRA) == GOLDEN.read_bytes()


@pytest.mark.parametrize(
    "measure",
    [
        "documents_by_milliseconds",
        "documents_by_source_hz",
        "documents_by_source_channels",
        "documents_by_rms_decibel_tenths",
        "documents_by_peak_decibel_tenths",
    ],
)
def test_counts_that_are_absent_or_do_not_add_up_are_refused(measure: str) -> None:
    read = arrow.decode(GOLDEN.read_bytes())
    for changed in (None, 1):
        series = [
            arrow.Series(*names, keys, counts + (changed or 0 if names[2] == measure else 0))
            for names, (keys, counts) in read.series.items()
            if names[2] != measure or changed is not None
        ]
        with pytest.raises(CorruptionError):
            PartStatistics.from_arrow_bytes(arrow.encode(read.header, series, {}))


def test_streams_of_these_names_that_are_something_else_are_no_sound() -> None:
    named = {**cases.SOUND_SPECS, "level": StreamSpec("uint8", vocabulary_size=3)}
    assert PartStatistics.start(named).sound is None
    assert PartStatistics.start(cases.SPECS).sound is None


def test_seconds_are_counted_to_the_microsecond() -> None:
    assert [microseconds(seconds) for seconds in (-1.0, float("nan"), float("inf"))] == [0, 0, 0]
    assert [microseconds(seconds) for seconds in (0.0, 1e-6, 0.1, 10_800.25)] == [0, 1, 100_000, 10_800_250_000]


@pytest.fixture
def summary() -> dict[str, Any]:
    speech = cases.sound_part(
        [cases.Sounding(16_000, 1, 16_000 * 60 * minutes, -23.04, -3, 0.25) for minutes in (30, 50)],
        [Reject(0, "k", "f", "damaged_audio", "m", lost_seconds=5400.0), cases.reject("empty_file")],
    )
    music = cases.sound_part([cases.Sounding(44_100, 2, 44_100 * 90, -12, 0.5, 0)])
    return summarize(merge_parts([("speech", speech), ("music", music)], cases.SOUND_SPECS))


def test_a_summary_says_how_much_there_is(summary: dict[str, Any]) -> None:
    sound = summary["overall"]["sound"]
    assert (sound["seconds"], sound["silent_seconds"]) == (4890.0, 1200.0)
    assert sound["silent_fraction"] == pytest.approx(1200 / 4890, rel=1e-5)
    assert sound["seconds_per_document"]["max"] == 3000.0
    assert (sound["rms_dbfs"]["p50"], sound["peak_dbfs"]["max"]) == (-23.0, 0.5)
    assert sound["source_hz"] == [
        {"hz": 16_000, "documents": 2, "seconds": 4800.0},
        {"hz": 44_100, "documents": 1, "seconds": 90.0},
    ]
    assert sound["source_channels"] == [{"channels": 1, "documents": 2}, {"channels": 2, "documents": 1}]
    assert sound["rejected_seconds"] == 5400.0
    assert sound["rejected_seconds_by_reason"] == {"damaged_audio": 5400.0}
    assert summary["sources"]["music"]["sound"]["rejected_seconds"] == 0


def test_a_summary_says_what_codes_take(summary: dict[str, Any]) -> None:
    streams = summary["overall"]["streams"]
    assert streams["codes_1"]["sound"] == {
        "frame_hz": 50.0,
        "codebooks": 2,
        "frames": 50 * 4890,
        "tokens_per_second": 100.0,
        "kbits_per_second": 0.4,
        # One codebook takes 16 ids evenly, 4 bits; the other one id alone, 0 bits.
        "entropy_kbits_per_second": pytest.approx(0.2, rel=1e-4),
    }
    assert (streams["codes_2"]["sound"]["codebooks"], streams["codes_2"]["sound"]["kbits_per_second"]) == (1, 0.1)
    phones = streams["phones"]["sound"]
    assert (phones["frame_hz"], phones["codebooks"], phones["frames"]) == (None, None, None)
    assert phones["kbits_per_second"] == pytest.approx(8.333 * np.log2(40) / 1000, rel=1e-3)
    assert "sound" not in streams["recording"]


def test_sound_is_shown_in_hours_and_decibels(summary: dict[str, Any]) -> None:
    recordings, codes, *books = details(summary)
    assert recordings.title == "Recordings, and their levels in dBFS"
    assert recordings.rows == [
        ("music", "1.5 min", "0", "1.5 min", "1.5 min", "1.5 min", "0%", "-12.0", "0.5"),
        ("speech", "1.3 h", "1.5 h", "30.0 min", "30.0 min", "50.0 min", "25%", "-23.0", "-3.0"),
        ("all", "1.4 h", "1.5 h", "30.2 min", "30.2 min", "50.0 min", "25%", "-23.0", "0.5"),
    ]
    assert codes.rows[0] == ("codes_1", "50", "2", "100", "0.4", "0.2", "244k")
    assert codes.rows[-1] == ("all", "–", "–", "133.3", "0.5443", "0.2943", "–")
    assert [detail.title for detail in books] == ["Ids of codes_1 by codebook", "Ids of codes_2 by codebook"]
    assert books[0].rows[1][2:4] == ("1", "15")
    assert rejects(summary) == "1 damaged_audio (1.5 h), 1 empty_file"
    markdown = render_markdown(summary)
    assert "source rates: 1.3 h at 16 kHz, 1.5 min at 44.1 kHz" in markdown
    assert "source channels: 2 of 1, 1 of 2" in markdown
    for cell in (cell for row in [recordings.columns, *recordings.rows, codes.columns] for cell in row):
        assert all(word in shown(summary) for word in cell.split())


def test_ids_of_different_codebooks_are_not_thrown_together(summary: dict[str, Any]) -> None:
    codes = next(row for row in rows(summary) if row[:2] == ["all", "codes_1"])
    assert codes[-2:] == ["2.00", "53%"]
    assert [name for name, _ in top_tokens(summary)] == ["phones"]


def test_a_table_of_no_recordings_is_shown() -> None:
    summary = summarize(merge_parts([("speech", cases.sound_part([]))], cases.SOUND_SPECS))
    recordings, codes = details(summary)
    assert recordings.rows[0] == ("speech", "0 s", "0", "–", "–", "–", "–", "–", "–")
    assert codes.rows[0] == ("codes_1", "50", "2", "–", "0.4", "–", "0")
    assert "source rates" not in render_markdown(summary)
