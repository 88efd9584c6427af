"""Speed of images: `python -m flows run` with two workers beside two plain processes; `klt` beside decoding alone.

A corpus of 512-pixel JPEGs, cut out of the held-out images, lies in a folder and in tar files, small and large.  The
floor's two processes decode and encode with the same tokenizer and drop the result.  Shows the marginal rates (images
of the large corpus less those of the small one, by the time that they take; target 0.8x of the floor's) and start-up
beside them, in one interleaved run; and the CPU time of decoding and placing an image alone beside that with `klt` at
32 tokens for each tile, on one core (target 0.5x).
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

from PIL import Image

import tokenmill
from benchmarks import measuring
from benchmarks.image_sets import measured_images
from benchmarks.measuring import Run
from tokenmill.images.image_file import ImageFile

SIDE, QUALITY, TAR_IMAGES = 512, 90, 100
RATE_RATIO, ENCODE_RATIO = 0.8, 0.5
TOKENIZER = {"id": "klt", "length": {"policy": "fixed", "tokens": 32, "per": "tile"}}
FEW_TOKENS = {"id": "klt", "length": {"policy": "fixed", "tokens": 32, "per": "image"}}
FORMATS, SIZES = ("folder", "tar"), ("small", "large")


def crops(images: Path, count: int) -> list[bytes]:
    """Return JPEGs of SIDE x SIDE pixels, cut at random places out of the held-out images."""
    draw = random.Random(1)
    held = [one.data for one in measured_images(images) if one.set.startswith("held-out")]
    found = []
    for number, data in enumerate(held):
        image = Image.fromarray(ImageFile(data).pixels())
        for _ in range(number, count, len(held)):
            scale = SIDE / min(image.size) * draw.uniform(1, 1.5)
            wide = image.resize((round(image.width * scale) + 1, round(image.height * scale) + 1))
            left, top = draw.randint(0, wide.width - SIDE), draw.randint(0, wide.height - SIDE)
            file = io.BytesIO()
            wide.crop((left, top, left + SIDE, top + SIDE)).save(file, "JPEG", quality=QUALITY)
            found.append(file.getvalue())
    draw.shuffle(found)
    return found


def write_corpora(found: list[bytes], scratch: Path, small: int) -> dict[tuple[str, str], Path]:
    """Write the corpora anew; returns their folders by format and size."""
    corpora = {(kind, size): scratch / f"{kind}-{size}" for kind in FORMATS for size in SIZES}
    for (kind, size), folder in corpora.items():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        some = found[:small] if size == "small" else found
        if kind == "folder":
            for number, data in enumerate(some):
                (folder / f"{number:06}.jpg").write_bytes(data)
            continue
        for start in range(0, len(some), TAR_IMAGES):
            with tarfile.open(folder / f"{start:06}.tar", "w") as archive:
                for number, data in enumerate(some[start : start + TAR_IMAGES], start):
                    member = tarfile.TarInfo(f"{number:06}.jpg")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    return corpora


def run_floor(corpus: Path, workers: int, tokenizer: dict[str, Any] | None = None) -> tuple[Run, dict[str, Any]]:
    """Run the floor once, one native thread a process, as tokenmill's workers have."""
    command = ["env", "OPENBLAS_NUM_THREADS=1", sys.executable, "-m", "benchmarks.floor_images"]
    command += ["--corpus", str(corpus), "--tokenizer", json.dumps(tokenizer or TOKENIZER), "--workers", str(workers)]
    run = measuring.run_command(command)
    return run, json.loads(run.output)


def decoding_share(corpus: Path, tokenizer: dict[str, Any]) -> float:
    """Return which share of one process's CPU time goes into decoding and placing images."""
    found = run_floor(corpus, 1, tokenizer)[1]
    return float(found["prepare_seconds"] / (found["prepare_seconds"] + found["encode_seconds"]))


def run_tokenmill(corpus: Path, out: Path, workers: int, environment: dict[str, str]) -> tuple[Run, float, int]:
    """Run tokenmill once; return the run, the seconds until the first part began, and the tokens."""
    shutil.rmtree(out, ignore_errors=True)
    job = out.parent / f"{out.name}.yaml"
    content = {
        "name": "benchmark",
        "sources": [{"name": "images", "modality": "image", "uris": [f"{corpus}/"]}],
        "tables": [{"name": "images", "tokenizer": TOKENIZER}],
        "output": str(out),
        "runner": {"workers": workers},
    }
    job.write_text(json.dumps(content, indent=1))
    run = measuring.run_job(job, environment)
    start_seconds = measuring.first_part_began(out) - run.began
    tokens = tokenmill.open(str(out)).manifest.tables["images"].tokens["ids"]
    shutil.rmtree(out)
    return run, start_seconds, int(tokens)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of build_images.py")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for corpora and outputs")
    parser.add_argument("--small", type=int, default=200, help="images of the small corpus")
    parser.add_argument("--large", type=int, default=1000, help="images of the large corpus")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    counts = {"small": options.small, "large": options.large}
    corpora = write_corpora(crops(options.images, options.large), options.scratch, options.small)

    seconds: dict[str, list[float]] = {
        f"{who}, {kind}, {size}": [] for kind in FORMATS for who in ("floor", "tokenmill") for size in SIZES
    }
    cpu: dict[str, list[float]] = {name: [] for name in seconds}
    starts: list[float] = []
    shares: dict[str, list[float]] = {"32 a tile": [], "32 an image": []}
    loads: list[dict[str, Any]] = []
    with measuring.prefect_server() as environment:
        for _ in range(options.repeats):
            loads.append(measuring.machine())
            for tokenizer, found in zip((TOKENIZER, FEW_TOKENS), shares.values(), strict=True):
                found.append(decoding_share(corpora["folder", "small"], tokenizer))
            for (kind, size), corpus in corpora.items():
                floor, figures = run_floor(corpus, options.workers)
                ours, start, tokens = run_tokenmill(corpus, options.scratch / "dataset", options.workers, environment)
                if tokens != figures["tokens"]:
                    raise SystemExit(f"tokenmill made {tokens} tokens, the floor {figures['tokens']}")
                for who, run in (("floor", floor), ("tokenmill", ours)):
                    seconds[f"{who}, {kind}, {size}"].append(run.seconds)
                    cpu[f"{who}, {kind}, {size}"].append(run.cpu_seconds)
                starts.append(start)

    middle = {name: measuring.median(values) for name, values in seconds.items()}
    more = options.large - options.small
    rows = [
        [
            name,
            f"{middle[name]:.2f}",
            f"{min(values):.2f}–{max(values):.2f}",
            f"{counts[name.rpartition(' ')[2]] / middle[name]:.1f}",
            f"{measuring.median(cpu[name]):.1f}",
        ]
        for name, values in seconds.items()
    ]
    checks = []
    marginal = {}
    for kind in FORMATS:
        for who in ("floor", "tokenmill"):
            names = [f"{who}, {kind}, {size}" for size in SIZES]
            took = middle[names[1]] - middle[names[0]]
            marginal[f"{who}, {kind}"] = more / took
            busy = measuring.median(cpu[names[1]]) - measuring.median(cpu[names[0]])
            rows.append([f"{who}, {kind}, marginal", f"{took:.2f}", "", f"{more / took:.1f}", f"{busy:.1f}"])
        ratio = marginal[f"tokenmill, {kind}"] / marginal[f"floor, {kind}"]
        checks.append((f"marginal images/s, tokenmill / floor, {kind}", ratio, RATE_RATIO))
    for tokens, found in shares.items():
        checks.append(
            (f"decoding and placing alone / with klt at {tokens}, CPU", measuring.median(found), ENCODE_RATIO)
        )
    markdown = "\n\n".join(
        (
            f"{SIDE}-pixel JPEGs: {options.small} small, {options.large} large; {options.workers} workers",
            measuring.table(["run", "seconds (median)", "range", "images/s", "CPU seconds"], rows),
            measuring.table(
                ["what", "measured", "target", "verdict"],
                [
                    *(
                        [what, f"{value:.2f}", f"≥ {bound}", measuring.verdict(value, bound, at_least=True)]
                        for what, value, bound in checks
                    ),
                    ["seconds until the first part begins", f"{measuring.median(starts):.2f}", "", ""],
                ],
            ),
        )
    )
    result = {
        "machine": loads,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "start_seconds": starts,
        "marginal_images_per_second": marginal,
        "prepare_share": shares,
        "checks": {what: {"measured": value, "target": bound} for what, value, bound in checks},
    }
    measuring.report(result, markdown, options.json)


if __name__ == "__main__":
    main()
