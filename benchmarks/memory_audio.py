"""Memory of audio: the peak of every process of `python -m flows run` on one recording of three hours.

The recording is made of held-out sound, two channels at 44.1 kHz, and stored as WAV, FLAC and MP3; each is a job of its
own, with one worker.  Beside the peaks: those of the same job on a minute, so that it shows what the length adds.
Target: 1 GB for the process that tokenizes: with one worker, the driver itself may be it.  The figure is the process's
own high-water mark (VmHWM).  Linux only.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy

import tokenmill
from benchmarks import measuring
from benchmarks.audio_sets import Samples, measured_recordings
from benchmarks.measuring import MB

RATE_HZ, SHORT_SECONDS = 44_100, 60.0
WORKER_BYTES = 1_000 * MB
#: Of each format: PyAV's name of the container, the codec, and the layout of its samples.
FORMATS = {
    "wav": ("wav", "pcm_s16le", "s16"),
    "flac": ("flac", "flac", "s16"),
    "mp3": ("mp3", "libmp3lame", "s16p"),
}


def sound(audio: Path) -> Samples:
    """Return a few minutes of held-out sound at RATE_HZ, float32 `[sample]`."""
    return numpy.concatenate([one.resampled(RATE_HZ) for one in measured_recordings(audio)])


def blocks(samples: Samples, seconds: float) -> Iterator[numpy.ndarray]:
    """Yield int16 `[channel=2, sample]` of so many seconds in all; the second channel is ahead of the first."""
    ahead, size, left = len(samples) // 3, 1 << 16, round(seconds * RATE_HZ)
    start = 0
    while left:
        size = min(size, left)
        places = numpy.arange(start, start + size)
        both = numpy.stack([samples[places % len(samples)], samples[(places + ahead) % len(samples)]])
        yield (numpy.clip(both, -1, 1) * 32767).astype(numpy.int16)
        start, left = start + size, left - size


def write_recording(path: Path, samples: Samples, seconds: float) -> None:
    """Write a recording of two channels in the format that its name ends with."""
    container, codec, layout = FORMATS[path.suffix[1:]]
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=RATE_HZ, layout="stereo")
        stream.format = layout
        for block in blocks(samples, seconds):
            planes = block if layout.endswith("p") else numpy.ascontiguousarray(block.T).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(planes, format=layout, layout="stereo")
            frame.sample_rate = RATE_HZ
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def run_case(path: Path, tokenizer: dict[str, Any], environment: dict[str, str]) -> dict[str, Any]:
    """Run a job on one file; return its figures."""
    out, job = path.parent / "dataset", path.parent / "job.yaml"
    shutil.rmtree(out, ignore_errors=True)
    content = {
        "name": "benchmark",
        "sources": [{"name": "audio", "modality": "audio", "uris": [str(path)]}],
        "tables": [{"name": "audio", "tokenizer": tokenizer}],
        "output": str(out),
        "runner": {"workers": 1},
    }
    job.write_text(json.dumps(content))
    run, watch = measuring.run_watched([sys.executable, "-m", "flows", "run", str(job)], environment)
    (row,) = tokenmill.open(str(out))["audio"]
    figures: dict[str, Any] = {role: watch.highest(role).resident for role in ("flow", "launcher", "driver", "worker")}
    figures["tokenizing"] = max(figures["driver"], figures["worker"])
    if not figures["tokenizing"]:
        raise SystemExit("the process that tokenizes was not found")
    figures |= {"seconds": run.seconds, "samples": int(row.streams["recording"][4]), "file_bytes": path.stat().st_size}
    shutil.rmtree(out)
    return figures


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--audio", type=Path, required=True, help="folder of build_audio.py")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for recordings and outputs")
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--tokenizer", type=json.loads, default={"id": "mdct-rvq"}, help="config as JSON")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    shutil.rmtree(options.scratch, ignore_errors=True)
    options.scratch.mkdir(parents=True)
    samples = sound(options.audio)
    result: dict[str, Any] = {"machine": measuring.machine()}
    rows = []
    with measuring.prefect_server() as environment:
        for ending in options.formats:
            peaks = {}
            for length, seconds in (("short", SHORT_SECONDS), ("long", options.hours * 3600)):
                path = options.scratch / f"{length}.{ending}"
                write_recording(path, samples, seconds)
                figures = run_case(path, options.tokenizer, environment)
                if abs(figures["samples"] - seconds * RATE_HZ) > RATE_HZ:
                    raise SystemExit(f"{path} has {figures['samples']} samples of {seconds * RATE_HZ:.0f}")
                peaks[length] = figures["tokenizing"]
                result[f"{ending}, {length}"] = figures
                path.unlink()
            rows.append(
                [
                    ending.upper(),
                    f"{figures['file_bytes'] / MB:.0f}",
                    f"{peaks['short'] / MB:.0f}",
                    f"{peaks['long'] / MB:.0f}",
                    f"≤ {WORKER_BYTES / MB:.0f}",
                    measuring.verdict(peaks["long"], WORKER_BYTES),
                    f"{figures['seconds']:.0f}",
                ]
            )
    headings = ["format", "file, MB", "worker, a minute, MB", f"worker, {options.hours:g} hours, MB"]
    markdown = measuring.table([*headings, "target", "verdict", "seconds"], rows)
    measuring.report(result, f"{options.tokenizer['id']}\n\n{markdown}", options.json)


if __name__ == "__main__":
    main()
