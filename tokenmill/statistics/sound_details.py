"""How a summary of sound is shown: hours, silence and levels by source, and what each stream's codes take a second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenmill.statistics.detail import Detail
from tokenmill.statistics.figures import percent, short


def sound_details(summary: Mapping[str, Any]) -> list[Detail]:
    """Return the tables of recordings by source and of codes by stream; none where there are no recordings."""
    if "sound" not in summary["overall"]:
        return []
    groups = [*summary["sources"].items(), ("all", summary["overall"])]
    found = [
        Detail(
            "Recordings, and their levels in dBFS",
            ("source", "sound", "rejected", "length p50", "p95", "max", "silent", "RMS p50", "peak max"),
            [_recordings(source, counts["sound"]) for source, counts in groups],
        )
    ]
    streams = summary["overall"]["streams"]
    coded = {name: stream["sound"] for name, stream in sorted(streams.items()) if "sound" in stream}
    codes = [_codes(name, rates) for name, rates in coded.items()]
    if len(coded) > 1:  # such as the streams of a codec whose codebooks are of several rates
        codes.append(_codes("all", _together([*coded.values()])))
    columns = ("stream", "frames/s", "codebooks", "tokens/s", "kbit/s", "entropy-coded", "frames")
    return [*found, Detail("Codes a second", columns, codes)] if codes else found


def sound_lines(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return, by name, lines on the rates and the channels that recordings came with."""
    sound = summary["overall"].get("sound")
    if sound is None or not sound["source_hz"]:
        return []
    longest = sorted(sound["source_hz"], key=lambda rate: -rate["seconds"])
    channels = sorted(sound["source_channels"], key=lambda count: -count["documents"])
    return [
        ("source rates", ", ".join(f"{duration(rate['seconds'])} at {_hz(rate['hz'])}" for rate in longest)),
        ("source channels", ", ".join(f"{count['documents']:,} of {count['channels']}" for count in channels)),
    ]


def duration(seconds: float | None) -> str:
    """Return a time in hours from an hour on, else in minutes or seconds."""
    if seconds is None:
        return "–"
    if seconds >= 3600:
        return f"{seconds / 3600:,.{0 if seconds >= 360_000 else 1}f} h"
    if seconds >= 60:
        return f"{seconds / 60:.1f} min"
    return f"{seconds:.0f} s" if seconds >= 10 or not seconds else f"{seconds:.2f} s"


def _recordings(source: str, sound: Mapping[str, Any]) -> tuple[str, ...]:
    lengths = sound["seconds_per_document"]
    return (
        source,
        duration(sound["seconds"]),
        duration(sound["rejected_seconds"]) if sound["rejected_seconds"] else "0",
        *(duration(lengths[quantile]) for quantile in ("p50", "p95", "max")),
        percent(sound["silent_fraction"]),
        _level(sound["rms_dbfs"]["p50"]),
        _level(sound["peak_dbfs"]["max"]),
    )


def _codes(name: str, sound: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        name,
        _number(sound["frame_hz"]),
        _number(sound["codebooks"]),
        _number(sound["tokens_per_second"]),
        _number(sound["kbits_per_second"]),
        _number(sound["entropy_kbits_per_second"]),
        short(sound["frames"]),
    )


def _together(rates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what streams take together; None for what one of them does not say, and for what does not add up."""
    summed = ("codebooks", "tokens_per_second", "kbits_per_second", "entropy_kbits_per_second")
    columns = {name: [one[name] for one in rates] for name in summed}
    sums = {name: None if None in values else sum(values) for name, values in columns.items()}
    return {"frame_hz": None, "frames": None, **sums}


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}" if value < 1000 else f"{value:,.0f}"


def _level(decibels: float | None) -> str:
    return "–" if decibels is None else f"{decibels:.1f}"


def _hz(rate: int) -> str:
    return f"{rate / 1000:g} kHz"
