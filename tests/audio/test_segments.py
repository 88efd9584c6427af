"""Speech segmentation: the rules on made-up probabilities, and the detector on a sentence that was really spoken.

`speech.flac` is of pocketsphinx's test data (BSD-2-Clause): a sentence of a LibriVox reading of Sense and Sensibility.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.audio import reasons
from tokenmill.audio.audio_file import AudioClip, HeldContent
from tokenmill.audio.decoding import DecodedAudio
from tokenmill.audio.segments import FRAME_SAMPLES, RATE_HZ, Span, SpeechFrames, speech_clips
from tokenmill.audio.tracks import AudioInfo
from tokenmill.errors import ItemError
from tokenmill.job_sources import Segments

_FRAME_SECONDS = FRAME_SAMPLES / RATE_HZ


def rules(least: int = 3, most: int = 40, pause: int = 5, pad: int = 0, threshold: float = 0.5) -> Segments:
    """Return rules in frames."""
    return Segments(
        min_seconds=least * _FRAME_SECONDS,
        max_seconds=most * _FRAME_SECONDS,
        pause_seconds=pause * _FRAME_SECONDS,
        pad_seconds=pad * _FRAME_SECONDS,
        threshold=threshold,
    )


def spans(probabilities: Sequence[float], given: Segments) -> list[Span]:
    """Return all spans, checking that no one begins before what was said to be needed."""
    speech = SpeechFrames(given)
    found = []
    for probability in probabilities:
        needed = speech.needed_from
        span = speech.add(probability)
        if span is not None:
            assert span[0] >= needed
            found.append(span)
        assert speech.needed_from >= needed
    needed, span = speech.needed_from, speech.finish()
    if span is not None:
        assert span[0] >= needed
        found.append(span)
    return found


def test_speech_between_pauses() -> None:
    assert spans([0.0] * 10 + [0.9] * 12 + [0.0] * 8 + [0.7] * 6 + [0.1] * 20, rules()) == [(10, 22), (30, 36)]


def test_nothing_and_silence() -> None:
    assert spans([], rules()) == []
    assert spans([0.49] * 200, rules()) == []


def test_the_recordings_end_ends_speech() -> None:
    assert spans([0.0] * 4 + [0.9] * 9, rules()) == [(4, 13)]
    assert spans([0.9] * 9 + [0.0] * 2, rules()) == [(0, 9)]
    assert spans([0.9] * 9 + [0.0] * 2, rules(pad=1)) == [(0, 10)]


def test_a_short_pause_is_part_of_the_segment() -> None:
    speech = [0.9] * 8
    assert spans([*speech, *[0.0] * 4, *speech, *[0.0] * 9], rules()) == [(0, 20)]
    assert spans([*speech, *[0.0] * 5, *speech, *[0.0] * 9], rules()) == [(0, 8), (13, 21)]


def test_a_probability_just_below_the_threshold_keeps_speech_going_and_begins_none() -> None:
    assert spans([0.4] * 9 + [0.9] * 4 + [0.4] * 9 + [0.9] * 4 + [0.0] * 9, rules()) == [(9, 26)]


def test_what_goes_on_just_below_the_threshold_is_no_speech_of_its_own() -> None:
    assert spans([0.9] * 6 + [0.4] * 100 + [0.0] * 9, rules()) == [(0, 20)]


def test_short_speech_is_left_out() -> None:
    assert spans([0.9] * 2 + [0.0] * 9 + [0.9] * 3 + [0.0] * 9, rules()) == [(11, 14)]


def test_padding_reaches_into_pauses_and_no_further() -> None:
    probabilities = [0.0] + [0.9] * 6 + [0.0] * 5 + [0.9] * 6 + [0.0] * 9
    assert spans(probabilities, rules(pad=2)) == [(0, 9), (10, 20)]


def test_long_speech_is_cut_where_it_is_least_like_speech() -> None:
    speech = [0.9] * 100
    speech[10] = speech[33] = 0.51
    speech[71] = 0.6
    assert spans(speech, rules()) == [(0, 33), (33, 71), (71, 100)]


def test_a_pause_just_where_a_segment_is_full_ends_it() -> None:
    assert spans([0.9] * 38 + [0.0] * 4 + [0.9] * 20, rules()) == [(0, 38), (42, 62)]


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.4, 0.5, 0.51, 0.9, 1.0]), st.integers(1, 70)), max_size=20),
    st.integers(1, 10),
    st.integers(32, 60),
    st.integers(1, 12),
    st.integers(0, 6),
)
def test_whatever_comes_segments_keep_the_rules(
    runs: list[tuple[float, int]], least: int, most: int, pause: int, pad: int
) -> None:
    probabilities = [probability for probability, frames in runs for _ in range(frames)]
    pad = min(pad, pause // 2)
    found = spans(probabilities, rules(least, most, pause, pad))
    for one, following in pairwise(found):
        assert one[1] <= following[0]
    covered = np.zeros(len(probabilities), bool)
    for start, stop in found:
        assert 0 <= start < stop <= len(probabilities)
        assert least <= stop - start <= most
        assert max(probabilities[start:stop]) >= 0.5
        covered[start:stop] = True
    # What is left out never held a stretch of speech that was long enough.
    spoken = np.array([*(p >= 0.5 for p in probabilities), False]) & ~np.array([*covered, False])
    lengths = np.diff(np.flatnonzero(np.diff([0, *spoken.astype(int), 0])))[::2]
    assert max(lengths, default=0) < least


class Sound:
    """A recording that is at hand, in place of one being decoded; it may break off."""

    def __init__(
        self, samples: npt.NDArray[np.float32], rate_hz: int = RATE_HZ, block: int = 1152, *, breaks: bool = False
    ) -> None:
        self._samples = samples if samples.ndim == 2 else samples[:, None]
        self.info = AudioInfo("wav", "pcm_s16le", rate_hz, self._samples.shape[1], len(samples))
        self._block = block
        self._breaks = breaks

    def blocks(self) -> Iterator[npt.NDArray[np.float32]]:
        for start in range(0, len(self._samples), self._block):
            yield self._samples[start : start + self._block]
        if self._breaks:
            raise ItemError(reasons.DAMAGED_AUDIO, "it breaks off")


@pytest.fixture(scope="module")
def sentence() -> npt.NDArray[np.float32]:
    """Three seconds of speech at 16 kHz."""
    content = HeldContent((Path(__file__).parent / "speech.flac").read_bytes())
    with DecodedAudio(content, 60) as decoded:
        return np.concatenate(list(decoded.blocks()))[:, 0]


def clips(sound: Any, channels: Any = "mix", **given: float) -> list[AudioClip]:
    return list(speech_clips(sound, channels, Segments.model_validate(given)))


def places(found: Sequence[AudioClip]) -> list[tuple[int | None, int, int]]:
    return [(clip.channel, clip.start_sample, clip.start_sample + len(clip.samples)) for clip in found]


def silence(seconds: float) -> npt.NDArray[np.float32]:
    return np.zeros(round(seconds * RATE_HZ), np.float32)


def test_two_sentences_are_two_segments(sentence: npt.NDArray[np.float32]) -> None:
    samples = np.concatenate([silence(2), sentence, silence(1.5), sentence, silence(2)])
    found = clips(Sound(samples))
    assert len(found) == 2
    for clip, start in zip(found, (2.0, 2 + len(sentence) / RATE_HZ + 1.5), strict=True):
        assert (clip.rate_hz, clip.channels, clip.channel) == (RATE_HZ, 1, None)
        assert abs(clip.start_sample / RATE_HZ - start) < 0.4
        assert abs(len(clip.samples) - len(sentence)) / RATE_HZ < 0.6
        assert (clip.samples == samples[clip.start_sample :][: len(clip.samples)]).all()


def test_segments_are_at_the_recordings_own_rate(sentence: npt.NDArray[np.float32]) -> None:
    samples = soxr.resample(np.concatenate([silence(1), sentence, silence(1)]), RATE_HZ, 44_100)
    (clip,) = clips(Sound(samples, 44_100))
    (reference,) = clips(Sound(np.concatenate([silence(1), sentence, silence(1)])))
    assert clip.rate_hz == 44_100
    assert abs(clip.start_sample / 44_100 - reference.start_sample / RATE_HZ) < 0.1
    assert abs(len(clip.samples) / 44_100 - len(reference.samples) / RATE_HZ) < 0.2
    assert (clip.samples == samples[clip.start_sample :][: len(clip.samples)]).all()


def test_what_is_no_speech_gives_none() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(5 * RATE_HZ).astype(np.float32)
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(5 * RATE_HZ) / RATE_HZ).astype(np.float32)
    for samples in (noise, tone, silence(5), silence(0), silence(0.01)):
        assert clips(Sound(samples)) == []


def test_no_segment_is_longer_than_it_may_be(sentence: npt.NDArray[np.float32]) -> None:
    samples = np.tile(sentence, 4)
    found = clips(Sound(samples), max_seconds=2, pause_seconds=1, min_seconds=0.2)
    assert len(found) > 5
    assert max(len(clip.samples) for clip in found) <= 2 * RATE_HZ
    spoken = sum(len(clip.samples) for clip in found)
    assert spoken > 0.9 * len(samples)


def test_channels(sentence: npt.NDArray[np.float32]) -> None:
    """One speaker on the left, then one on the right, then both at once."""
    pause = silence(1)
    left = np.concatenate([pause, sentence, pause, 0 * sentence, pause, sentence, pause])
    right = np.concatenate([pause, 0 * sentence, pause, sentence, pause, sentence, pause])
    sound = Sound(np.stack([left, right], axis=1))
    each = clips(sound, "each")
    assert [clip.channel for clip in each] == [0, 1, 0, 1]
    assert {clip.channels for clip in each} == {2}
    for channel, samples in enumerate((left, right)):
        alone = clips(Sound(samples))
        own = [clip for clip in each if clip.channel == channel]
        assert [place[1:] for place in places(own)] == [place[1:] for place in places(alone)]
        for clip, other in zip(own, alone, strict=True):
            assert (clip.samples == other.samples).all()
    assert places(clips(sound, "first")) == [place for place in places(each) if place[0] == 0]
    mixed = clips(sound)
    assert [clip.channel for clip in mixed] == [None] * 3
    start = mixed[2].start_sample
    assert (mixed[2].samples == (left + right)[start : start + len(mixed[2].samples)] / 2).all()


def test_a_recording_gives_the_same_segments_again(sentence: npt.NDArray[np.float32]) -> None:
    """Detectors are used again: nothing of the recording before is left in them."""
    samples = np.concatenate([sentence, silence(1), sentence])
    first = clips(Sound(samples))
    clips(Sound(np.tile(sentence, 2)))
    assert places(clips(Sound(samples))) == places(first)
    assert places(clips(Sound(samples, block=100_000))) == places(first)


def test_segments_before_damage_are_given(sentence: npt.NDArray[np.float32]) -> None:
    samples = np.concatenate([sentence, silence(1), sentence, silence(1), sentence[: RATE_HZ * 2]])
    whole = clips(Sound(samples))
    assert len(whole) == 3
    breaking = speech_clips(Sound(samples, breaks=True), "mix", Segments())  # type: ignore[arg-type]
    assert places([next(breaking), next(breaking)]) == places(whole[:2])
    with pytest.raises(ItemError, match="it breaks off"):
        next(breaking)


def test_memory_does_not_grow_with_the_recording(sentence: npt.NDArray[np.float32]) -> None:
    def peak(copies: int) -> int:
        sound = Sound(np.tile(np.concatenate([sentence, silence(1)]), copies))
        tracemalloc.start()
        found = sum(len(clip.samples) > 0 for clip in speech_clips(sound, "mix", Segments()))  # type: ignore[arg-type]
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found == copies
        return most

    peak(1)
    assert peak(12) < 1.5 * peak(3) + 100_000
