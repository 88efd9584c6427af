"""What statistics of recordings say, as plain JSON: hours, silence and levels, and what codes take a second."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tokenmill.statistics.describing import QUANTILES, describe, entropy_bits, rounded
from tokenmill.statistics.part import RejectCounts
from tokenmill.statistics.sound import SoundStatistics, level_quantiles
from tokenmill.statistics.stream import StreamStatistics
from tokenmill.streams import StreamSpec


def summarize_recordings(sound: SoundStatistics, rejected: Mapping[str, RejectCounts]) -> dict[str, Any]:
    """Return what is known of the recordings of a table, and how much of those has no row."""
    lost = sorted(((reason, counts.lost_microseconds / 1e6) for reason, counts in rejected.items()), key=_longest)
    silent = sound.silent_microseconds / 1e6
    return {
        "seconds": round(float(sound.seconds), 6),
        "seconds_per_document": describe(sound.lengths, 1e-3),
        "silent_seconds": silent,
        "silent_fraction": rounded(silent / float(sound.seconds)) if sound.seconds else None,
        "rms_dbfs": dict(zip(QUANTILES, level_quantiles(sound.rms, list(QUANTILES.values())), strict=True)),
        "peak_dbfs": dict(zip(QUANTILES, level_quantiles(sound.peak, list(QUANTILES.values())), strict=True)),
        "source_hz": [
            {"hz": hz, "documents": count, "seconds": round(sound.samples.get(hz, 0) / hz, 6)}
            for hz, count in sorted(sound.by_rate.items())
        ],
        "source_channels": [
            {"channels": channels, "documents": count} for channels, count in sorted(sound.by_channels.items())
        ],
        "rejected_seconds": round(sum(seconds for _, seconds in lost), 6),
        "rejected_seconds_by_reason": {reason: seconds for reason, seconds in lost if seconds},
    }


def summarize_rates(stream: StreamStatistics, sound: SoundStatistics) -> dict[str, Any]:
    """Return what a stream of codes takes a second, as its member `sound`; nothing for streams that hold no codes.

    `frame_hz` and `codebooks` are the tokenizer's own, as far as it has them. `tokens_per_second` is what was counted:
    where recordings are short, filled-up frames at their ends show. `kbits_per_second` is what the codec takes,
    frame_hz · codebooks · log2(ids); of streams that have no such rate it goes by the tokens that were counted.
    `entropy_kbits_per_second` is what an ideal coder of single codes, told apart by codebook, would take for them.
    """
    spec = stream.spec
    if not spec.vocabulary_size or spec.dims == ("value",):
        return {}
    seconds = float(sound.seconds)
    codebooks = _codes_a_frame(spec)
    counted = stream.tokens / seconds if seconds else None
    nominal = spec.frame_hz * codebooks if spec.frame_hz and codebooks else counted
    frames = stream.tokens // codebooks if codebooks and spec.frame_hz else None
    bits = _entropy_bits(stream)
    return {
        "sound": {
            "frame_hz": None if spec.frame_hz is None else rounded(spec.frame_hz),
            "codebooks": codebooks if "codebook" in spec.dims else None,
            "frames": frames,
            "tokens_per_second": rounded(counted),
            "kbits_per_second": rounded(nominal and nominal * math.log2(spec.vocabulary_size) / 1000),
            "entropy_kbits_per_second": rounded(bits / seconds / 1000) if seconds and bits is not None else None,
        }
    }


def _codes_a_frame(spec: StreamSpec) -> int | None:
    """Return how many codes stand for a step of the outermost dimension; None where that differs."""
    inner = [size for size in spec.shape[1:] if size is not None]
    return math.prod(inner) if len(inner) == len(spec.shape) - 1 else None


def _entropy_bits(stream: StreamStatistics) -> float | None:
    """Return the bits that an ideal coder takes for all codes, each by itself; None where they are not counted."""
    if stream.bands is not None:
        counts = [one for _, one in stream.bands.by_band()]
    elif stream.unigrams is not None:
        counts = [stream.unigrams.sparse()[1]]
    else:
        return None
    return sum(int(one.sum()) * (entropy_bits(one) or 0.0) for one in counts)


def _longest(lost: tuple[str, float]) -> tuple[float, str]:
    return -lost[1], lost[0]
