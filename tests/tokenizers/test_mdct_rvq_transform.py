"""The transform of `mdct-rvq`: it gives sound back, sample by sample, and knows nothing of blocks."""

from __future__ import annotations

import numpy as np
import pytest

from tokenmill.audio.audio_file import Samples
from tokenmill.tokenizers.mdct_rvq.transform import (
    BLOCK_FRAMES,
    HOP,
    SAMPLE_UNIT,
    Floats,
    Synthesis,
    analyse,
    frame_count,
)

BLOCK = BLOCK_FRAMES * HOP
LENGTHS = (1, 240, HOP - 1, HOP, HOP + 1, 5 * HOP, BLOCK - 1, BLOCK, 3 * BLOCK + 7)


def noise(samples: int, level: float = 0.3) -> Samples:
    return (level * np.random.default_rng(samples).standard_normal(samples)).astype(np.float32)


def coefficients(*blocks: Samples) -> Floats:
    return np.concatenate([np.empty((0, HOP)), *analyse(blocks)])


@pytest.mark.parametrize("samples", LENGTHS)
def test_what_is_not_quantised_comes_back(samples: int) -> None:
    sound = noise(samples)
    found = coefficients(sound)
    assert found.shape == (frame_count(samples), HOP)
    synthesis = Synthesis()
    pieces = [synthesis.samples(found[start : start + 300]) for start in range(0, len(found), 300)]
    back = np.concatenate(pieces)
    assert len(back) == -(-samples // HOP) * HOP
    assert np.abs(back[:samples] - sound).max() < 1e-5
    assert np.abs(back[samples:]).max(initial=0) < 1e-5


@pytest.mark.parametrize("samples", LENGTHS)
def test_blocks_of_any_length_give_the_same(samples: int) -> None:
    sound = noise(samples)
    whole = coefficients(sound)
    draw = np.random.default_rng(1)
    for count in (1, 7, 60):
        cuts = np.sort(draw.integers(0, samples + 1, count))
        assert coefficients(*np.split(sound, cuts)).tobytes() == whole.tobytes()


def test_blocks_are_bounded() -> None:
    """However long the recording, and however long its blocks."""
    for found in analyse([noise(10 * BLOCK_FRAMES * HOP), noise(100), noise(3 * BLOCK_FRAMES * HOP)]):
        assert 0 < len(found) <= BLOCK_FRAMES


def test_no_sound_has_no_frames() -> None:
    assert list(analyse([])) == []
    assert list(analyse([np.empty(0, np.float32)] * 3)) == []
    assert frame_count(0) == 0
    assert len(Synthesis().samples(np.empty((0, HOP)))) == 0


def test_a_frame_is_centred_where_it_says() -> None:
    sound = np.zeros(20 * HOP, np.float32)
    sound[7 * HOP + HOP // 2] = 1
    loud = np.flatnonzero(coefficients(sound).any(axis=1))
    assert loud.tolist() == [7, 8]


def test_coefficients_are_whole_and_keep_their_power() -> None:
    sound = noise(200 * HOP)
    found = coefficients(sound)
    assert (found == np.rint(found)).all()
    power = np.square(found).sum() / SAMPLE_UNIT**2
    assert power == pytest.approx(np.square(sound.astype(np.float64)).sum(), rel=0.02)


def test_overloaded_sound_is_cut_off_and_what_is_no_number_is_silent() -> None:
    sound, same = noise(20 * HOP), noise(20 * HOP)
    for number, meant in ((1e9, 4.0), (np.inf, 4.0), (-np.inf, -4.0), (np.nan, 0.0)):
        place = np.random.default_rng(2).integers(0, len(sound), 50)
        sound[place], same[place] = number, meant
        assert coefficients(sound).tobytes() == coefficients(same).tobytes()
