"""What the subcommands share: their common parameters, and how things are written to standard output."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy.typing as npt

    from tokenmill.streams import StreamSpec

Uri = Annotated[str, typer.Argument(metavar="URI", help="The dataset: a directory, or s3://bucket/prefix.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

#: How many of a row's values are shown.
SHOWN_VALUES = 16
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def write_json(value: Any) -> None:
    """Write one JSON document; numbers that JSON does not have (NaN, infinities) become null."""
    try:
        text = json.dumps(value, indent=1, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), indent=1)
    sys.stdout.write(text + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(member) for member in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_lines(lines: Iterable[str]) -> None:
    """Write lines of text."""
    for line in lines:
        sys.stdout.write(line + "\n")


def write_table(table: Any) -> None:
    """Write a rich table."""
    from rich.console import Console

    Console(highlight=False).print(table)


def printable(text: str, most: int | None = None) -> str:
    """Return text with everything escaped that would not print, or that a terminal would obey; cut to a length."""
    cut = text if most is None else text[:most]
    shown = "".join(character if character.isprintable() else _escaped(character) for character in cut)
    return shown if len(cut) == len(text) else f"{shown}…"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def size(count: int) -> str:
    """Return a number of bytes for people."""
    value = float(count)
    for unit in _UNITS[:-1]:
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} {_UNITS[-1]}"


def fields(pairs: Iterable[tuple[str, str]], indent: str = "  ") -> list[str]:
    """Return lines of names and values, the values aligned."""
    listed = list(pairs)
    width = max((len(name) for name, _ in listed), default=0)
    return [f"{indent}{name:<{width}}  {value}" for name, value in listed]


def described(values: npt.NDArray[Any], spec: StreamSpec, name: str) -> str:
    """Return one line on a row's values of a stream: what they mean where that is known, else the first of them."""
    from tokenmill.audio.streams import LEVEL, LEVEL_SPEC, RECORDING, RECORDING_SPEC

    if spec.error_of is not None:
        return f"{values.item():.3g}"
    if spec.labels is not None and values.size == 1:
        return spec.labels[int(values.item())]
    if name == "geometry" and values.shape == (6,):
        height, width, used_height, used_width, rows, columns = values.tolist()
        return f"{width}×{height} pixels, used {used_width}×{used_height}, {columns}×{rows} tiles"
    if name == RECORDING and spec == RECORDING_SPEC:
        return _recording(*values.tolist())
    if name == LEVEL and spec == LEVEL_SPEC:
        rms, peak, silence = values.tolist()
        return f"RMS {rms:.1f} dBFS, peak {peak:.1f} dBFS, {100 * silence:.0f}% silence"
    more = " …" if values.size > SHOWN_VALUES else ""
    if spec.frame_hz is not None:
        frames = f"{len(values):,} {'frame' if len(values) == 1 else 'frames'} at {spec.frame_hz:g} Hz"
        if values.ndim == 2 and spec.dims[1] == "codebook":
            books = "1 codebook" if values.shape[1] == 1 else f"{values.shape[1]} codebooks"
            return f"{frames} × {books} {values.dtype}: {_frames(values)}"
        return f"{frames} {values.dtype}: {_first(values, spec)}{more}"
    shape = f"{values.size:,}" if values.ndim == 1 else "×".join(map(str, values.shape))
    return f"{shape} {values.dtype}: {_first(values, spec)}{more}"


def _first(values: npt.NDArray[Any], spec: StreamSpec) -> str:
    """Return the first values, by their names where they have some."""
    first = values.reshape(-1)[:SHOWN_VALUES].tolist()
    return " ".join(map(str, first) if spec.labels is None else (spec.labels[value] for value in first))


def _recording(source_hz: int, channels: int, channel: int, start: int, samples: int, _: int) -> str:
    """Return what the stream `recording` says."""
    came = f"{samples / source_hz:.2f} s of {source_hz / 1000:g} kHz"
    begin = f", from {start / source_hz:.2f} s on" if start else ""
    if channels == 1:
        return f"{came}, 1 channel{begin}"
    taken = f"the mean of {channels} channels" if channel < 0 else f"channel {channel + 1} of {channels}"
    return f"{came}, {taken}{begin}"


def _frames(codes: npt.NDArray[Any]) -> str:
    """Return the first frames of codes `[frame, codebook]`, of some of their codebooks."""
    frames = codes[:4, : SHOWN_VALUES // 4].tolist()
    shown = " | ".join(" ".join(map(str, frame)) + (" …" if codes.shape[1] > len(frame) else "") for frame in frames)
    return f"{shown} | …" if len(codes) > len(frames) else shown
