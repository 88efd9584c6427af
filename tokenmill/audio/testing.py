"""What the contract kit asks of audio tokenizers beside the rest, and the sounds that it asks with.

`tokenmill.testing` is the kit; plug-ins call that.
"""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.audio.audio_file import AudioClip, AudioFile, AudioOptions, HeldContent, Samples
from tokenmill.audio.sound import Sound
from tokenmill.streams import StreamSpec

Row = Mapping[str, npt.NDArray[Any]]

#: By how many frames a stream may be longer or shorter than its recording, whose ends a codec may fill up.
_FRAMES_APART = 2
#: Lengths in samples of the blocks that a recording is cut into, over and over: none divides a codec's hop.
_PIECES = (1, 4099, 997, 20011)


def sounds(seconds: float = 0.5) -> list[AudioFile | AudioClip]:
    """Return synthesized sounds, files and clips: tone, noise, silence, 10 ms, nothing, and one ten times as long.

    Args:
        seconds: How long a sound is, roughly.

    Returns:
        Sounds of several rates, of one channel and of two, of very unequal lengths.
    """
    noise = np.random.default_rng(0)
    time = np.arange(round(10 * seconds * 16_000)) / 16_000
    sweep = 0.4 * np.sin(2 * np.pi * (100 + 150 * time / seconds) * time) * np.abs(np.sin(2 * np.pi * time))
    sweep += 0.01 * noise.standard_normal(len(time))
    beat = _tone(440, seconds, 44_100)
    return [
        AudioFile(HeldContent(wav(np.stack([beat, 0.5 * _tone(660, seconds, 44_100)], axis=1), 44_100))),
        AudioClip((0.1 * noise.standard_normal(round(0.7 * seconds * 22_050))).astype(np.float32), 22_050, 2, 1, 1000),
        AudioClip(np.zeros(round(1.3 * seconds * 16_000), np.float32), 16_000, 1),
        AudioClip(_tone(300, 0.01, 8_000), 8_000, 1),
        AudioFile(HeldContent(wav(sweep[:, None], 16_000)), AudioOptions(channel=0)),
        no_sound(),
    ]


def no_sound() -> AudioClip:
    """Return a clip of no samples."""
    return AudioClip(np.empty(0, np.float32), 16_000, 1)


def wav(samples: npt.NDArray[Any], rate_hz: int) -> bytes:
    """Return a WAV file of 16 bits a sample of float `[sample, channel]`, -1 … 1."""
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(samples.shape[1])
        written.setsampwidth(2)
        written.setframerate(rate_hz)
        written.writeframes(np.round(samples.clip(-1, 1) * 32_767).astype("<i2").tobytes())
    return file.getvalue()


def _tone(hz: float, seconds: float, rate_hz: int) -> Samples:
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * hz * time)).astype(np.float32)


class InPieces:
    """A recording as another thread might have decoded it: the same samples, in blocks of other lengths."""

    def __init__(self, recording: Any) -> None:
        self._recording = recording

    def blocks(self) -> Iterator[Samples]:
        """Yield float32 `[sample]`, of lengths that no codec likes."""
        count = 0
        for block in self._recording.blocks():
            start = 0
            while start < len(block):
                stop = start + _PIECES[count % len(_PIECES)]
                yield block[start:stop]
                start, count = stop, count + 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recording, name)


def recording_faults(row: Row, specs: Mapping[str, StreamSpec], recording: Any) -> Iterator[str]:
    """Say how a row's streams differ from its recording: what they say of it, and how long those in time are.

    Args:
        row: The row.
        specs: Its streams.
        recording: The recording as `prepare` opens it; it is read to its end.
    """
    for _ in recording.blocks():
        pass
    for name, wanted in {"recording": recording.numbers(), "level": recording.level()}.items():
        if row[name].tobytes() != wanted.tobytes():
            yield f"stream {name!r} is {row[name].tolist()}, its recording's {wanted.tolist()}"
    source_hz, _, _, _, source_samples, _ = recording.numbers().tolist()
    for name, spec in specs.items():
        if spec.frame_hz is not None:
            seconds = source_samples / source_hz
            frames, expected = len(row[name]), seconds * spec.frame_hz
            if abs(frames - expected) > _FRAMES_APART:
                yield (
                    f"stream {name!r} has {frames} frames; {seconds:.3f} s at its frame_hz of {spec.frame_hz:g} "
                    f"are {expected:.1f}"
                )


def sound_faults(decoded: Any, row: Row, recording: Any) -> Iterator[str]:
    """Say what is wrong with what a row decodes to: it is to be sound of the recording's rate and length."""
    if not isinstance(decoded, Sound):
        yield f"is {type(decoded).__name__}, no Sound"
        return
    samples = decoded.samples
    if samples.dtype != np.float32 or samples.ndim != 1:
        yield f"holds {samples.dtype}{list(samples.shape)} in place of float32 [sample]"
    elif not np.isfinite(samples).all():
        yield "holds samples that are no finite numbers"
    if decoded.rate_hz != recording.rate_hz:
        yield f"has a rate of {decoded.rate_hz} Hz; the tokenizer was given {recording.rate_hz} Hz"
    if len(samples) != row["recording"][5]:
        yield f"has {len(samples)} samples; the recording had {row['recording'][5]}"
