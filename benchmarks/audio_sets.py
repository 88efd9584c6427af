"""The recordings that benchmarks measure on and weights are trained on: two lists, and the files made of them.

`train_audio.tsv` and `heldout_audio.tsv` beside this file have one line for each recording: what it is, the Debian
package, version and path that it comes from, the SHA-256 of the file there, its licence, its language where it is
speech, how it is coded there, and the piece of it that is taken.  `build_audio.py` makes the files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy
import numpy.typing

SETS = ("train", "heldout")
KINDS = ("speech", "music", "effects")
HEADINGS = (
    "kind",
    "package",
    "version",
    "path",
    "sha256",
    "licence",
    "language",
    "coding",
    "rate_hz",
    "channels",
    "start_seconds",
    "seconds",
    "transcript",
)
#: Codings whose samples are those that were recorded or mixed.
LOSSLESS = ("wav", "flac", "aiff")

Samples = numpy.typing.NDArray[numpy.float32]


class Listed(NamedTuple):
    """One recording of a list; the fields are the columns."""

    kind: str
    package: str
    version: str
    path: str
    sha256: str
    licence: str
    language: str
    coding: str
    rate_hz: str
    channels: str
    start_seconds: str
    seconds: str
    transcript: str

    def file_name(self) -> str:
        """Return the name that the recording's file gets."""
        return f"{self.package}-{self.sha256[:16]}.flac"

    def group(self) -> str:
        """Return what tables of figures group it by: its kind, and the language of speech."""
        return f"speech, {self.language}" if self.kind == "speech" else self.kind


@dataclass(frozen=True)
class Measured:
    """A recording to measure on.

    Attributes:
        listed: Its line of the list.
        path: Its file.
    """

    listed: Listed
    path: Path

    def samples(self) -> tuple[Samples, int]:
        """Return the mean of its channels, float32 `[sample]`, and its rate in Hz."""
        import soundfile

        samples, rate_hz = soundfile.read(self.path, dtype="float32", always_2d=True)
        return samples.mean(axis=1, dtype=numpy.float32), rate_hz

    def resampled(self, rate_hz: int) -> Samples:
        """Return the mean of its channels at a rate, float32 `[sample]`."""
        import soxr

        samples, own_hz = self.samples()
        return numpy.asarray(soxr.resample(samples, own_hz, rate_hz), numpy.float32)


def list_path(part: str) -> Path:
    """Return the path of the list of a set."""
    return Path(__file__).parent / f"{part}_audio.tsv"


def read_list(part: str) -> list[Listed]:
    """Return the list of a set."""
    lines = list_path(part).read_text(encoding="utf-8").splitlines()
    return [Listed(*line.split("\t")) for line in lines[1:]]


def write_list(part: str, rows: list[Listed]) -> None:
    """Write the list of a set."""
    lines = ["\t".join(row) for row in (HEADINGS, *sorted(rows))]
    list_path(part).write_text("\n".join(lines) + "\n", encoding="utf-8")


def measured_recordings(audio: Path, every: int = 1, part: str = "heldout") -> list[Measured]:
    """Return the recordings of a set in the folder that build_audio.py wrote, or each nth of every group."""
    groups: dict[str, list[Measured]] = {}
    for row in sorted(read_list(part), key=lambda row: (KINDS.index(row.kind), row.language, row.sha256)):
        path = audio / part / row.kind / row.file_name()
        groups.setdefault(row.group(), []).append(Measured(row, path))
    return [one for group in groups.values() for one in group[::every]]
