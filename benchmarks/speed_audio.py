"""Speed of audio: `python -m flows run` with two workers beside two plain processes, and each codec's realtime factor.

A corpus of FLAC files of ten seconds, cut out of the held-out recordings at 44.1 kHz, lies in a folder and in tar
files, small and large.  The floor's two processes (`floor_audio.py`) decode with soundfile, resample with soxr, encode
with the same tokenizer and write `.npy` files.  Shows the marginal rates (seconds of audio of the large corpus less
those of the small one, by the time that they take; target 0.8x of the floor's) and start-up beside them, in one
interleaved run.

Then the realtime factor, seconds of audio for each second of two cores, of every codec by those plain processes: the
neural ones with random weights, at published sizes; and of `dac` beside the way of its own command `dac encode`, one
file at a time, whole, with the same weights (target: faster).
"""

from __future__ import annotations

import argparse
import io
import json
import random
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy
import soundfile

import tokenmill
from benchmarks import measuring
from benchmarks.audio_models import MODELS, save_model
from benchmarks.audio_sets import measured_recordings
from benchmarks.measuring import Run

RATE_HZ, SECONDS, TAR_FILES = 44_100, 10.0, 25
RATE_RATIO, OWN_RATIO = 0.8, 1.0
TOKENIZER = {"id": "mdct-rvq"}
FORMATS, SIZES = ("folder", "tar"), ("small", "large")


def cuts(audio: Path, count: int) -> list[bytes]:
    """Return FLAC files of SECONDS, each of held-out recordings one after another, in random order."""
    draw = random.Random(1)
    recordings = [one.resampled(RATE_HZ) for one in measured_recordings(audio)]
    found, rest = [], numpy.empty(0, numpy.float32)
    size = round(SECONDS * RATE_HZ)
    while len(found) < count:
        draw.shuffle(recordings)
        whole = numpy.concatenate([rest, *recordings])
        for start in range(0, len(whole) - size, size):
            file = io.BytesIO()
            soundfile.write(file, whole[start : start + size], RATE_HZ, "PCM_16", format="FLAC")
            found.append(file.getvalue())
        rest = whole[len(whole) // size * size :]
    return found[:count]


def write_corpora(found: list[bytes], scratch: Path, counts: dict[str, int]) -> dict[tuple[str, str], Path]:
    """Write the corpora anew; returns their folders by format and size."""
    corpora = {(kind, size): scratch / f"{kind}-{size}" for kind in FORMATS for size in counts}
    for (kind, size), folder in corpora.items():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        some = found[: counts[size]]
        if kind == "folder":
            for number, data in enumerate(some):
                (folder / f"{number:06}.flac").write_bytes(data)
            continue
        for start in range(0, len(some), TAR_FILES):
            with tarfile.open(folder / f"{start:06}.tar", "w") as archive:
                for number, data in enumerate(some[start : start + TAR_FILES], start):
                    member = tarfile.TarInfo(f"{number:06}.flac")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    return corpora


def run_floor(
    corpus: Path, scratch: Path, workers: int, tokenizer: dict[str, Any], *more: str
) -> tuple[Run, dict[str, Any]]:
    """Run the floor once, one native thread a process unless it is a codec's own way."""
    out = scratch / "npy"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.floor_audio", "--corpus", str(corpus), "--out", str(out)]
    command += ["--tokenizer", json.dumps(tokenizer), "--workers", str(workers), *more]
    run = measuring.run_command(command)
    return run, json.loads(run.output.splitlines()[-1])


def run_tokenmill(corpus: Path, out: Path, workers: int, environment: dict[str, str]) -> tuple[Run, float, int]:
    """Run tokenmill once; return the run, the seconds until the first part began, and the frames."""
    shutil.rmtree(out, ignore_errors=True)
    job = out.parent / f"{out.name}.yaml"
    content = {
        "name": "benchmark",
        "sources": [{"name": "audio", "modality": "audio", "uris": [f"{corpus}/"]}],
        "tables": [{"name": "audio", "tokenizer": TOKENIZER}],
        "output": str(out),
        "runner": {"workers": workers},
    }
    job.write_text(json.dumps(content, indent=1))
    run = measuring.run_job(job, environment)
    start_seconds = measuring.first_part_began(out) - run.began
    table = tokenmill.open(str(out))["audio"]
    frames = sum(len(row.streams["codes"]) for row in table)
    shutil.rmtree(out)
    return run, start_seconds, frames


def job_speed(options: argparse.Namespace, found: list[bytes]) -> tuple[str, dict[str, Any]]:
    """Measure jobs beside the floor; return tables and figures."""
    counts = {"small": options.small, "large": options.large}
    corpora = write_corpora(found, options.scratch, counts)
    seconds: dict[str, list[float]] = {
        f"{who}, {kind}, {size}": [] for kind in FORMATS for who in ("floor", "tokenmill") for size in SIZES
    }
    cpu: dict[str, list[float]] = {name: [] for name in seconds}
    starts: list[float] = []
    with measuring.prefect_server() as environment:
        for _ in range(options.repeats):
            for (kind, size), corpus in corpora.items():
                floor, figures = run_floor(corpus, options.scratch, options.workers, TOKENIZER)
                ours, start, frames = run_tokenmill(corpus, options.scratch / "dataset", options.workers, environment)
                if frames != figures["frames"]:
                    raise SystemExit(f"tokenmill made {frames} frames, the floor {figures['frames']}")
                for who, run in (("floor", floor), ("tokenmill", ours)):
                    seconds[f"{who}, {kind}, {size}"].append(run.seconds)
                    cpu[f"{who}, {kind}, {size}"].append(run.cpu_seconds)
                starts.append(start)
    middle = {name: measuring.median(values) for name, values in seconds.items()}
    rows = [
        [
            name,
            f"{middle[name]:.2f}",
            f"{min(values):.2f}–{max(values):.2f}",
            f"{counts[name.rpartition(' ')[2]] * SECONDS / middle[name]:.0f}",
            f"{measuring.median(cpu[name]):.1f}",
        ]
        for name, values in seconds.items()
    ]
    more_seconds = (options.large - options.small) * SECONDS
    checks, ratios = [], {}
    for kind in FORMATS:
        marginal = {}
        busy = {}
        for who in ("floor", "tokenmill"):
            small, large = (f"{who}, {kind}, {size}" for size in SIZES)
            took = middle[large] - middle[small]
            marginal[who] = more_seconds / took
            busy[who] = measuring.median(cpu[large]) - measuring.median(cpu[small])
            rows.append([f"{who}, {kind}, marginal", f"{took:.2f}", "", f"{marginal[who]:.0f}", f"{busy[who]:.1f}"])
        ratio = ratios[kind] = marginal["tokenmill"] / marginal["floor"]
        verdict = measuring.verdict(ratio, RATE_RATIO, at_least=True)
        name = f"marginal speed, tokenmill / floor, {kind}"
        checks.append([name, f"{ratio:.2f}", f"≥ {RATE_RATIO}", verdict])
        checks.append([f"the same by CPU time, {kind}", f"{busy['floor'] / busy['tokenmill']:.2f}", "", ""])
    checks.append(["seconds until the first part begins", f"{measuring.median(starts):.2f}", "", ""])
    text = "\n\n".join(
        (
            f"FLAC files of {SECONDS:g} s at {RATE_HZ / 1000:g} kHz: {options.small} small, {options.large} large; "
            f"{options.workers} workers; {TOKENIZER['id']}",
            measuring.table(["run", "seconds (median)", "range", "seconds of audio a second", "CPU seconds"], rows),
            measuring.table(["what", "measured", "target", "verdict"], checks),
        )
    )
    return text, {"seconds": seconds, "cpu_seconds": cpu, "start_seconds": starts, "marginal_ratio": ratios}


def codec_speed(options: argparse.Namespace, found: list[bytes]) -> tuple[str, dict[str, Any]]:
    """Measure every codec's realtime factor, and that of `dac encode`; return tables and figures."""
    counts = {"codecs": options.codec_files, "fast": options.small}
    corpora = write_corpora(found, options.scratch, counts)
    models = options.scratch / "models"
    configs: dict[str, dict[str, Any]] = {"mdct-rvq": TOKENIZER}
    if options.lyra is not None:
        configs["lyra"] = {"id": "lyra", "weights": str(options.lyra)}
    configs |= {name: {"id": name, "directory": str(save_model(name, models))} for name in MODELS}
    rates: dict[str, float] = {}
    rows = []
    for name, config in configs.items():
        corpus = corpora["folder", "codecs" if name in MODELS else "fast"]
        ways = [(name, ()), *([(f"{name}, its own way", ("--own", name))] if name == "dac" else [])]
        for label, more in ways:
            figures = run_floor(corpus, options.scratch, options.workers, config, *more)[1]
            rates[label] = figures["audio_seconds"] / figures["seconds"]
            one_core = figures["audio_seconds"] / (figures["decode_seconds"] + figures["encode_seconds"])
            rows.append([label, f"{figures['audio_seconds']:.0f}", f"{rates[label]:.1f}", f"{one_core:.1f}"])
    ratio = rates["dac"] / rates["dac, its own way"]
    check = [
        "dac / its own way",
        f"{ratio:.2f}",
        f"> {OWN_RATIO:g}",
        measuring.verdict(ratio, OWN_RATIO, at_least=True),
    ]
    text = "\n\n".join(
        (
            f"Realtime factors, {options.workers} processes of one thread; dac's own way is one process of as many "
            "threads as cores",
            measuring.table(["codec", "seconds of audio", "× realtime", "× realtime by CPU time"], rows),
            measuring.table(["what", "measured", "target", "verdict"], [check]),
        )
    )
    return text, {"realtime": rates}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--audio", type=Path, required=True, help="folder of build_audio.py")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for corpora, models and outputs")
    parser.add_argument("--lyra", type=Path, help="folder with Lyra's networks")
    parser.add_argument("--small", type=int, default=60, help="files of the small corpus")
    parser.add_argument("--large", type=int, default=360, help="files of the large corpus")
    parser.add_argument("--codec-files", type=int, default=6, help="files for each neural codec")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--only", choices=["jobs", "codecs"], help="measure this alone")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    load = measuring.machine()
    found = cuts(options.audio, max(options.large, options.codec_files))
    texts, result = [], {"machine": load}
    for name, measure in (("jobs", job_speed), ("codecs", codec_speed)):
        if options.only in (None, name):
            text, figures = measure(options, found)
            texts.append(text)
            result |= figures
    measuring.report(result, "\n\n".join(texts), options.json)


if __name__ == "__main__":
    main()
