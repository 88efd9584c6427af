from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import floor

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audio.samples import tones
from tokenmill.audio.audio_file import Samples
from tokenmill.audio.resampling import fixed_blocks, resampled, resampled_length

RATES_HZ = (1_000, 8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000, 192_000, 768_000)


def cut(samples: Samples, lengths: list[int]) -> Iterator[Samples]:
    at = 0
    for length in lengths:
        yield samples[at : at + length]
        at += length
    yield samples[at:]


def joined(samples: Samples, lengths: list[int], from_hz: int, to_hz: int) -> Samples:
    blocks = list(resampled(cut(samples, lengths), from_hz, to_hz))
    return np.concatenate([np.empty(0, np.float32), *blocks])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 50_000),
    st.lists(st.integers(0, 20_000), max_size=8),
    st.sampled_from(RATES_HZ),
    st.sampled_from((8_000, 16_000, 24_000, 44_100, 48_000)),
)
def test_bits_do_not_depend_on_how_sound_comes_in(count: int, lengths: list[int], from_hz: int, to_hz: int) -> None:
    samples = tones(count, 1, from_hz)[:, 0]
    whole = joined(samples, [], from_hz, to_hz)
    np.testing.assert_array_equal(joined(samples, lengths, from_hz, to_hz), whole)
    assert len(whole) == resampled_length(count, from_hz, to_hz)


@pytest.mark.parametrize("from_hz", RATES_HZ)
@pytest.mark.parametrize("to_hz", [16_000, 44_100])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 10, 441, 9_999])
def test_length_is_the_ratio_rounded_to_the_nearest(count: int, from_hz: int, to_hz: int) -> None:
    expected = floor(Fraction(count * to_hz, from_hz) + Fraction(1, 2))
    assert resampled_length(count, from_hz, to_hz) == expected
    assert len(joined(np.ones(count, np.float32), [], from_hz, to_hz)) == expected


def test_it_is_what_soxr_makes_of_all_at_once() -> None:
    samples = tones(100_003, 1, 44_100)[:, 0]
    expected = soxr.resample(samples, 44_100, 24_000, quality="HQ")
    np.testing.assert_array_equal(joined(samples, [70_000], 44_100, 24_000), expected)


def test_one_rate_is_passed_on_bit_by_bit() -> None:
    samples = np.array([0.1, np.float32(1e-42), -3.5], np.float32)
    np.testing.assert_array_equal(joined(samples, [1], 16_000, 16_000), samples)


def test_sound_stays_in_its_place() -> None:
    time = np.arange(48_000) / 48_000
    sine = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    expected = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(joined(sine, [], 48_000, 16_000)[200:-200], expected[200:-200], atol=1e-4)


def test_blocks_of_a_length() -> None:
    samples = np.arange(25, dtype=np.float32)
    blocks = list(fixed_blocks(cut(samples, [3, 0, 14, 1]), 7))
    assert [len(block) for block in blocks] == [7, 7, 7, 4]
    np.testing.assert_array_equal(np.concatenate(blocks), samples)
    assert list(fixed_blocks(iter(()), 7)) == []
