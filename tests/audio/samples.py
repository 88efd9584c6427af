"""Audio files made in memory, one of every sort that is decoded, and the pieces to make unusual ones by hand."""

from __future__ import annotations

import io
import struct
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import soundfile
from av.audio.stream import AudioStream

from tokenmill.audio.audio_file import AudioFile, AudioOptions, HeldContent
from tokenmill.audio.decoding import AudioInfo, DecodedAudio

Block = npt.NDArray[np.float32]

#: Codecs and muxers of FFmpeg that make what soundfile does not.
ENCODERS = {
    "ogg opus": ("libopus", "ogg"),
    "ogg flac": ("flac", "ogg"),
    "mp3 gapless": ("libmp3lame", "mp3"),
    "m4a aac": ("aac", "ipod"),
    "m4a alac": ("alac", "ipod"),
}


def tones(samples: int, channels: int = 1, rate_hz: int = 48_000, seed: int = 0) -> Block:
    """Return float32 `[sample, channel]`: a chord with some noise, another in each channel, in -0.7 … 0.7."""
    time = np.arange(samples)[:, None] / rate_hz
    pitch = 220 * 1.5 ** np.arange(channels)[None, :] % 3000 + 100
    noise = np.random.default_rng(seed).uniform(-0.05, 0.05, (samples, channels))
    return (0.4 * np.sin(2 * np.pi * pitch * time) + 0.2 * np.sin(2 * np.pi * 7.5 * time) + noise).astype(np.float32)


def written(sound: Block, rate_hz: int = 48_000, kind: str = "WAV", subtype: str = "PCM_16") -> bytes:
    """Return a file as libsndfile writes it."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate_hz, sound.shape[1], subtype, format=kind) as file:
        for start in range(0, len(sound), rate_hz):  # libsndfile's writer of Vorbis needs stack for all at once
            file.write(sound[start : start + rate_hz])
    return buffer.getvalue()


def encoded(sound: Block, rate_hz: int, codec: str, muxer: str, **options: str) -> bytes:
    """Return a file as FFmpeg writes it, of one or two channels."""
    with TemporaryDirectory() as directory:  # to put tables in front, FFmpeg opens what it wrote once more
        path = Path(directory) / "sound"
        _encode(sound, rate_hz, codec, path, muxer, options)
        return path.read_bytes()


def _encode(sound: Block, rate_hz: int, codec: str, path: Path, muxer: str, options: dict[str, str]) -> None:
    layout = "stereo" if sound.shape[1] == 2 else "mono"
    with av.open(str(path), "w", format=muxer, options=options) as container:
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        assert isinstance(stream, AudioStream)
        context = stream.codec_context
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound.T), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate_hz, 0
        resampler = av.AudioResampler(context.format, layout, rate_hz, frame_size=context.frame_size or 4096)
        for piece in [*(resampler.resample(frame) if len(sound) else []), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


def wav(data: bytes, channels: int = 1, rate_hz: int = 48_000, bits: int = 16, tag: int = 1, **sizes: int) -> bytes:
    """Return a WAV file by hand; `riff`, `announced` and `align` override what its header says."""
    align = sizes.get("align", channels * bits // 8)
    form = struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * align % 2**32, align, bits)
    body = b"WAVE" + chunk(b"fmt ", form) + b"data" + struct.pack("<I", sizes.get("announced", len(data))) + data
    return b"RIFF" + struct.pack("<I", sizes.get("riff", len(body))) + body


def chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content


def id3v2(content_bytes: int) -> bytes:
    """Return an ID3v2 tag of so many zeros."""
    size = bytes(content_bytes >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x04\0\0" + size + bytes(content_bytes)


def decoded(data: bytes, max_seconds: float = 1e6) -> tuple[AudioInfo, Block]:
    """Decode a file to its end: what its header says, and float32 `[sample, channel]`."""
    with DecodedAudio(HeldContent(data), max_seconds) as audio:
        return audio.info, np.concatenate([np.empty((0, audio.info.channels), np.float32), *audio.blocks()])


def audio_file(data: bytes, **options: Any) -> AudioFile:
    return AudioFile(HeldContent(data), AudioOptions(**options))


@cache
def every_sort(samples: int = 24_077, rate_hz: int = 48_000) -> dict[str, bytes]:
    """Return one file of every sort of half a second, by name, all of the same stereo sound."""
    sound = tones(samples, 2, rate_hz)
    wavs = {"u8": "PCM_U8", "s16": "PCM_16", "s24": "PCM_24", "s32": "PCM_32", "f32": "FLOAT", "f64": "DOUBLE"}
    files = {f"wav {name}": written(sound, rate_hz, "WAV", subtype) for name, subtype in wavs.items()}
    files |= {
        "wav a-law": written(sound, rate_hz, "WAV", "ALAW"),
        "wav mu-law": written(sound, rate_hz, "WAV", "ULAW"),
        "wav extensible": written(sound, rate_hz, "WAVEX", "PCM_24"),
        "rf64": written(sound, rate_hz, "RF64", "PCM_16"),
        "w64": written(sound, rate_hz, "W64", "PCM_16"),
        "flac": written(sound, rate_hz, "FLAC", "PCM_16"),
        "flac 24": written(sound, rate_hz, "FLAC", "PCM_24"),
        "ogg vorbis": written(sound, rate_hz, "OGG", "VORBIS"),
        "mp3": written(sound, rate_hz, "MP3", "MPEG_LAYER_III"),
    }
    files |= {name: encoded(sound, rate_hz, *encoder) for name, encoder in ENCODERS.items()}
    return files
