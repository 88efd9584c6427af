"""Codecs that benchmarks compare: this project's tokenizers at their bitrates, and Opus.

A codec is given a recording's file and gives the sound that comes back at each of its bitrates.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy
import numpy.typing

from benchmarks.audio_sets import Samples
from tokenmill.audio.audio_file import AudioFile, HeldContent
from tokenmill.contract import PreparingEncoder, Tokenizer
from tokenmill.registry import parse_tokenizer

Row = Mapping[str, numpy.typing.NDArray[Any]]

#: Codebooks of `mdct-rvq` at 3, 6, 12 and 24 kbit/s, and of `lyra` at its own 3.2, 6 and 9.2.
MDCT_RVQ_CODEBOOKS, LYRA_CODEBOOKS = (4, 8, 16, 32), (16, 30, 46)
NAMES = ("mdct-rvq", "lyra", "Opus")
OPUS_BITRATES = (6_000, 12_000, 24_000)
OPUS_HZ = 48_000


class Returned(NamedTuple):
    """What a codec gives back.

    Attributes:
        setting: What it was set to.
        kilobits: Its bitrate, in kbit/s.
        samples: float32 `[sample]`.
        rate_hz: Their rate.
    """

    setting: str
    kilobits: float
    samples: Samples
    rate_hz: int


class Codec(Protocol):
    """A codec at some bitrates.

    Attributes:
        name: Its name in tables.
    """

    name: str

    def returned(self, path: Path, samples: Samples, rate_hz: int) -> Iterator[Returned]:
        """Yield the sound that a recording, given as a file and as one channel, is at each bitrate."""
        ...


class Coder:
    """A tokenizer as configured, loaded on the CPU."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.tokenizer: Tokenizer = parse_tokenizer(config)
        encoder = self.tokenizer.load()
        if not isinstance(encoder, PreparingEncoder):
            raise TypeError(f"{config['id']} prepares no recordings")
        self.encoder = encoder
        self.decoder = self.tokenizer.decoder()

    def row(self, data: bytes) -> Row:
        """Return the streams of a file."""
        encoded = self.encoder.encode([self.encoder.prepare(AudioFile(HeldContent(data)))])
        if encoded.failures:
            raise ValueError(encoded.failures[0].message)
        return {name: stream[0] for name, stream in encoded.streams.items()}

    def decode(self, row: Row) -> tuple[Samples, int]:
        """Return the sound of a row and its rate."""
        if self.decoder is None:
            raise TypeError("this tokenizer has no decoder")
        sound = self.decoder.decode(row)
        return sound.samples, sound.rate_hz


class CodebookCodec:
    """A tokenizer of `codes`, encoded once with all its codebooks and decoded from the first of them."""

    def __init__(self, config: Mapping[str, Any], codebooks: Sequence[int]) -> None:
        self.name = str(config["id"])
        self._counts = codebooks
        self._coder = Coder({**config, "codebooks": max(codebooks)})

    def returned(self, path: Path, samples: Samples, rate_hz: int) -> Iterator[Returned]:
        """Yield the sound at each number of codebooks."""
        row = self._coder.row(path.read_bytes())
        spec = self._coder.tokenizer.streams()["codes"]
        bits_a_second = (spec.frame_hz or 0) * math.log2(spec.vocabulary_size or 1)
        for count in self._counts:
            found, found_hz = self._coder.decode({**row, "codes": row["codes"][:, :count]})
            yield Returned(f"{count} codebooks", count * bits_a_second / 1000, found, found_hz)


class OpusCodec:
    """libopus in an Ogg file, one channel, constant bitrate and frames of 20 ms; it picks its own bandwidth."""

    name = "Opus"

    def returned(self, path: Path, samples: Samples, rate_hz: int) -> Iterator[Returned]:
        """Yield the sound at each bitrate."""
        import soxr

        whole = numpy.asarray(soxr.resample(samples, rate_hz, OPUS_HZ), numpy.float32)
        for bitrate in OPUS_BITRATES:
            yield Returned("", bitrate / 1000, opus_and_back(whole, bitrate), OPUS_HZ)


def opus_and_back(samples: Samples, bitrate: int) -> Samples:
    """Encode and decode float32 `[sample]` at OPUS_HZ."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        options = {"vbr": "off", "application": "audio"}
        stream = container.add_stream("libopus", rate=OPUS_HZ, options=options, layout="mono")
        stream.bit_rate = bitrate
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = OPUS_HZ, Fraction(1, OPUS_HZ), 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        blocks = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    return numpy.concatenate(blocks).astype(numpy.float32)


def codecs(names: Sequence[str], lyra: Path | None) -> list[Codec]:
    """Return the codecs of these names; without the folder of Lyra's networks, those without it."""
    found: list[Codec] = []
    if "mdct-rvq" in names:
        found.append(CodebookCodec({"id": "mdct-rvq"}, MDCT_RVQ_CODEBOOKS))
    if "lyra" in names and lyra is not None:
        found.append(CodebookCodec({"id": "lyra", "weights": str(lyra)}, LYRA_CODEBOOKS))
    if "Opus" in names:
        found.append(OpusCodec())
    return found
