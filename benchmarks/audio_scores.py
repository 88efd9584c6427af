"""How near a decoded sound is to its original: alignment, SI-SDR, log-spectral distance, PESQ, STOI and word errors."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy
import numpy.typing

from benchmarks.audio_sets import Samples

#: The farthest that a codec's delay is looked for.
MOST_DELAY_SECONDS = 0.1
SPECTRUM_SECONDS, STEP_SECONDS, FLOOR_DB = 0.032, 0.008, 80.0
SPEECH_HZ, WIDE_HZ = 16_000, 24_000


class Score(NamedTuple):
    """How near a sound is to its original; None where a measure does not apply or found no speech.

    Attributes:
        si_sdr: Scale-invariant signal-to-distortion ratio, in dB: the higher the nearer.
        lsd: Log-spectral distance, in dB: the lower the nearer.
        pesq: Wide-band PESQ (ITU-T P.862.2), 1 … 4.64, of speech.
        stoi: Short-time objective intelligibility, 0 … 1, of speech.
    """

    si_sdr: float
    lsd: float
    pesq: float | None
    stoi: float | None


def correlations(original: Samples, decoded: Samples, rate_hz: int) -> numpy.typing.NDArray[numpy.float64]:
    """Return the normalized correlation at each delay of `decoded`, from -MOST_DELAY_SECONDS to as much after."""
    most = round(MOST_DELAY_SECONDS * rate_hz)
    size = 1 << (len(original) + len(decoded) + most).bit_length()
    product = numpy.fft.rfft(decoded, size) * numpy.conj(numpy.fft.rfft(original, size))
    found = numpy.fft.irfft(product, size)
    norm = float(numpy.linalg.norm(original) * numpy.linalg.norm(decoded)) or 1.0
    return numpy.concatenate([found[-most:], found[: most + 1]]) / norm


def delay_samples(sums: numpy.typing.NDArray[numpy.float64]) -> int:
    """Return the delay at which correlations, summed over recordings, are highest."""
    return int(numpy.argmax(sums)) - len(sums) // 2


def aligned(original: Samples, decoded: Samples, delay: int) -> tuple[Samples, Samples]:
    """Return both without what only one of them has, once `decoded` is moved back by its delay."""
    if delay < 0:
        original = original[-delay:]
    else:
        decoded = decoded[delay:]
    length = min(len(original), len(decoded))
    return original[:length], decoded[:length]


def si_sdr_db(original: Samples, decoded: Samples) -> float:
    """Return the scale-invariant signal-to-distortion ratio, both without their means; -50 … 100 dB."""
    one = original.astype(numpy.float64) - original.mean(dtype=numpy.float64)
    other = decoded.astype(numpy.float64) - decoded.mean(dtype=numpy.float64)
    target = one * (one @ other / max(one @ one, 1e-12))
    rest = other - target
    ratio = max(target @ target, 1e-12) / max(rest @ rest, 1e-12)
    return float(numpy.clip(10 * numpy.log10(ratio), -50, 100))


def log_spectral_distance_db(original: Samples, decoded: Samples, rate_hz: int) -> float:
    """Return the mean over frames of the root mean square over frequencies of the difference of spectra in dB.

    Both are floored at FLOOR_DB below the loudest point of the original.
    """
    size, step = round(SPECTRUM_SECONDS * rate_hz), round(STEP_SECONDS * rate_hz)
    window = numpy.hanning(size)

    def power(samples: Samples) -> numpy.typing.NDArray[numpy.float64]:
        padded = numpy.pad(samples, (0, max(0, size - len(samples))))
        frames = numpy.lib.stride_tricks.sliding_window_view(padded, size)[::step]
        return numpy.abs(numpy.fft.rfft(frames * window)) ** 2

    first, second = power(original), power(decoded)
    floor = max(float(first.max()) * 10 ** (-FLOOR_DB / 10), 1e-12)
    difference = 10 * (numpy.log10(numpy.maximum(first, floor)) - numpy.log10(numpy.maximum(second, floor)))
    return float(numpy.sqrt((difference**2).mean(axis=1)).mean())


def pesq_score(original: Samples, decoded: Samples) -> float | None:
    """Return wide-band PESQ at SPEECH_HZ; None where it finds no speech."""
    import pesq

    try:
        return float(pesq.pesq(SPEECH_HZ, original, decoded, "wb"))
    except (pesq.NoUtterancesError, pesq.BufferTooShortError):
        return None


def stoi_score(original: Samples, decoded: Samples) -> float | None:
    """Return STOI; None where there is too little speech for it."""
    import pystoi

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(pystoi.stoi(original, decoded, SPEECH_HZ))
        except RuntimeWarning:
            return None


def score(original: Samples, decoded: Samples, rate_hz: int, speech: bool) -> Score:
    """Compare two aligned sounds at a rate; those of speech are at SPEECH_HZ."""
    return Score(
        si_sdr_db(original, decoded),
        log_spectral_distance_db(original, decoded, rate_hz),
        pesq_score(original, decoded) if speech else None,
        stoi_score(original, decoded) if speech else None,
    )


class Listener:
    """pocketsphinx with its own American English model, which is fresh for every recording."""

    def __init__(self) -> None:
        import pocketsphinx

        self._make = lambda: pocketsphinx.Decoder(samprate=SPEECH_HZ, loglevel="FATAL")
        self._decoder = self._make()

    def words(self, samples: Samples) -> str:
        """Return what is heard in float32 `[sample]` at SPEECH_HZ."""
        self._decoder.reinit_feat()  # forgets the mean of the recordings before
        self._decoder.start_utt()
        data = numpy.round(numpy.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
        self._decoder.process_raw(data, full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return "" if found is None else str(found.hypstr)


def word_error_rate(said: Sequence[str], heard: Sequence[str]) -> float:
    """Return the share of wrong, missing and added words of all that were said."""
    import jiwer

    return float(jiwer.wer(list(said), list(heard)))
