"""Quality of audio: `mdct-rvq`, `lyra` and Opus at their bitrates, on recordings that no weight was trained on.

Every held-out recording (one channel, the mean of its own) is coded and decoded at each bitrate and compared with the
original, speech at 16 kHz, music and effects at 24 kHz: SI-SDR, log-spectral distance, and for speech PESQ (wide band)
and STOI.  The tables say the mean over recordings.  A codec's delay is one number for each of its settings: that by
which the correlations of decoded and original speech, summed over the calibration recordings, are highest; what is
decoded is moved back by it, and both are cut to what they share.

Words: pocketsphinx hears the recordings that have transcripts, and some English ones that have none, as they are and
decoded.  Of the first, the word error rate; of both, how many words are heard otherwise than in the original.

Lyra's networks are those of https://github.com/google/lyra; without `--lyra` its rows are left out.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # before they are loaded

import numpy
import soxr

from benchmarks import measuring
from benchmarks.audio_codecs import NAMES, Codec, codecs
from benchmarks.audio_scores import (
    SPEECH_HZ,
    WIDE_HZ,
    Listener,
    Score,
    aligned,
    correlations,
    delay_samples,
    score,
    word_error_rate,
)
from benchmarks.audio_sets import Measured, Samples, measured_recordings

CALIBRATION, HEARD = 6, 8
ORIGINAL = ("original", "", 0.0)

#: A codec, what it was set to and its bitrate in kbit/s: what a row of figures is of.
Setting = tuple[str, str, float]


class Found(NamedTuple):
    """What was found of one recording.

    Attributes:
        group: What tables group it by.
        scores: Its score at each setting.
        words: What was heard in it, and as it was, where it was listened to.
    """

    group: str
    scores: dict[Setting, Score]
    words: dict[Setting, str]


def compared_hz(measured: Measured) -> int:
    """Return the rate at which a recording is compared."""
    return SPEECH_HZ if measured.listed.kind == "speech" else WIDE_HZ


def at_rate(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """Return a sound at another rate."""
    return numpy.asarray(soxr.resample(samples, from_hz, to_hz), numpy.float32)


def delays(some: list[Codec], recordings: list[Measured]) -> dict[Setting, float]:
    """Return the delay of each codec at each setting, in seconds, from speech."""
    sums: dict[Setting, numpy.ndarray] = {}
    for measured in recordings:
        samples, rate_hz = measured.samples()
        original = at_rate(samples, rate_hz, WIDE_HZ)
        for codec in some:
            for back in codec.returned(measured.path, samples, rate_hz):
                found = correlations(original, at_rate(back.samples, back.rate_hz, WIDE_HZ), WIDE_HZ)
                setting = (codec.name, back.setting, back.kilobits)
                sums[setting] = sums.get(setting, 0.0) + found
    return {setting: delay_samples(total) / WIDE_HZ for setting, total in sums.items()}


def _begin(names: list[str], lyra: Path | None, found: dict[Setting, float], listened: set[Path]) -> None:
    global _codecs, _delays, _listened, _listener
    _codecs, _delays, _listened, _listener = codecs(names, lyra), found, listened, Listener()


_codecs: list[Codec]
_delays: dict[Setting, float]
_listened: set[Path]
_listener: Listener


def measure(measured: Measured) -> Found:
    """Code, decode and compare one recording."""
    samples, rate_hz = measured.samples()
    hz = compared_hz(measured)
    original = at_rate(samples, rate_hz, hz)
    found = Found(measured.listed.group(), {}, {})
    listens = measured.path in _listened
    if listens:
        found.words[ORIGINAL] = _listener.words(original)
    for codec in _codecs:
        for back in codec.returned(measured.path, samples, rate_hz):
            setting = (codec.name, back.setting, back.kilobits)
            decoded = at_rate(back.samples, back.rate_hz, hz)
            pair = aligned(original, decoded, round(_delays[setting] * hz))
            found.scores[setting] = score(*pair, hz, measured.listed.kind == "speech")
            if listens:
                found.words[setting] = _listener.words(decoded)
    return found


def mean(values: list[float | None], digits: int) -> str:
    """Return the mean of those there are."""
    there = [value for value in values if value is not None]
    return f"{sum(there) / len(there):.{digits}f}" if there else ""


def quality_table(found: list[Found], settings: list[Setting], group: str) -> str:
    """Return the table of a group of recordings."""
    rows = []
    for name, what, kilobits in settings:
        scores = [one.scores[name, what, kilobits] for one in found if one.group.startswith(group)]
        row = [name, what, f"{kilobits:g}"]
        row += [mean([one.si_sdr for one in scores], 1), mean([one.lsd for one in scores], 1)]
        if group.startswith("speech"):
            row += [mean([one.pesq for one in scores], 2), mean([one.stoi for one in scores], 3)]
        rows.append(row)
    headings = ["codec", "", "kbit/s", "SI-SDR, dB", "LSD, dB"]
    return measuring.table(headings + (["PESQ", "STOI"] if group.startswith("speech") else []), rows)


def words_table(said: dict[int, str], found: list[Found], settings: list[Setting]) -> tuple[str, dict[Setting, float]]:
    """Return the table of words, and the word error rates; `said` has the transcripts by the recording's place."""
    truth = list(said.values())
    first = word_error_rate(truth, [found[number].words[ORIGINAL] for number in said])
    listened = [one for one in found if one.words and one.words[ORIGINAL]]
    rows, rates = [], {}
    for setting in (ORIGINAL, *settings):
        rates[setting] = word_error_rate(truth, [found[number].words[setting] for number in said])
        other = word_error_rate([one.words[ORIGINAL] for one in listened], [one.words[setting] for one in listened])
        name, what, kilobits = setting
        rise = f"{100 * (rates[setting] - first):+.1f}"
        rows.append([name, what, f"{kilobits:g}", f"{rates[setting]:.1%}", rise, f"{other:.1%}"])
    headings = ["codec", "", "kbit/s", "word error rate", "rise, points", "heard otherwise than in the original"]
    return measuring.table(headings, rows), rates


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--audio", type=Path, required=True, help="folder of build_audio.py")
    parser.add_argument("--lyra", type=Path, help="folder with Lyra's networks")
    parser.add_argument("--codecs", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--every", type=int, default=1, help="take only each nth recording of every group")
    parser.add_argument("--every-heard", type=int, default=1, help="listen to each nth only")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    everything = measured_recordings(options.audio)
    recordings = measured_recordings(options.audio, options.every)
    spoken = [one for one in everything if one.listed.kind == "speech"]
    lags = delays(codecs(options.codecs, options.lyra), spoken[:: max(1, len(spoken) // CALIBRATION)])
    settings = list(lags)
    english = [one for one in everything if one.listed.language == "en"]
    transcribed = [one for one in english if one.listed.transcript][:: options.every_heard]
    heard = [one for one in english if not one.listed.transcript][: HEARD : options.every_heard]
    recordings += [one for one in (*transcribed, *heard) if one not in recordings]
    order = sorted(range(len(recordings)), key=lambda number: recordings[number] not in (*transcribed, *heard))
    recordings = [recordings[number] for number in order]  # those that take longest first
    context = multiprocessing.get_context("spawn")
    listened = {one.path for one in (*transcribed, *heard)}
    with context.Pool(options.processes, _begin, (options.codecs, options.lyra, lags, listened)) as pool:
        found = pool.map(measure, recordings, chunksize=1)

    counts: dict[str, int] = defaultdict(int)
    for one in found:
        counts[one.group] += 1
    parts = []
    for group in ("speech", *sorted(counts)):
        number = sum(count for name, count in counts.items() if name.startswith(group))
        parts.append(f"{group} ({number} recordings)\n\n{quality_table(found, settings, group)}")
    said = {number: one.listed.transcript for number, one in enumerate(recordings) if one in transcribed}
    words, rates = words_table(said, found, settings)
    total = sum(len(text.split()) for text in said.values())
    parts.append(f"Words ({len(said)} recordings with transcripts, {total} words; {len(heard)} without)\n\n{words}")
    rows = [[name, what, f"{kilobits:g}", f"{1000 * lags[name, what, kilobits]:.2f}"] for name, what, kilobits in lags]
    parts.append("Delays taken off\n\n" + measuring.table(["codec", "", "kbit/s", "delay, ms"], rows))
    result = {
        "machine": measuring.machine(),
        "delay_seconds": {" | ".join(map(str, key)): value for key, value in lags.items()},
        "word_error_rates": {" | ".join(map(str, key)): value for key, value in rates.items()},
        "scores": [
            {
                "group": one.group,
                "file": measured.path.name,
                "scores": {" | ".join(map(str, key)): value for key, value in one.scores.items()},
                "words": {" | ".join(map(str, key)): value for key, value in one.words.items()},
            }
            for measured, one in zip(recordings, found, strict=True)
        ],
    }
    measuring.report(result, "\n\n".join(parts), options.json)


if __name__ == "__main__":
    main()
