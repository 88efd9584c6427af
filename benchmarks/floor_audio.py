"""The floor for audio: plain processes that decode, resample, encode with the same tokenizer and write `.npy` files.

No job, no shards, no statistics: files go through a queue; each process reads one with soundfile, takes the mean of its
channels, resamples it with soxr, encodes a batch with the tokenizer's own encoder and writes the codes, on one core.
`frames` is how many frames of codes there are, `seconds` the time from the first file to the last of all processes.

`--own dac` is the way of the command `dac encode` instead, with the same model: one process with a thread for each
core, one file at a time: decode, resample, fill up to a whole frame, encode the whole file at once, write its codes.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":  # before they are loaded
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import numpy
import orjson
import soundfile
import soxr

from benchmarks.audio_codecs import Coder
from benchmarks.audio_sets import Samples
from tokenmill.audio.audio_file import AudioClip


class Done(NamedTuple):
    """What a process did; `began` and `ended` are Unix times."""

    files: int
    audio_seconds: float
    frames: int
    decode_seconds: float
    encode_seconds: float
    began: float
    ended: float


def contents(paths: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and bytes of each recording."""
    for path in paths:
        if not path.endswith(".tar"):
            yield Path(path).stem, Path(path).read_bytes()
            continue
        with tarfile.open(path, "r|") as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is not None:
                    yield Path(member.name).stem, content.read()


def decoded(data: bytes, rate_hz: int) -> Samples:
    """Return the mean of a file's channels at a rate, float32 `[sample]`."""
    samples, own_hz = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    return numpy.asarray(soxr.resample(samples.mean(axis=1, dtype=numpy.float32), own_hz, rate_hz), numpy.float32)


def batches(paths: list[str], items: int) -> Iterator[list[tuple[str, bytes]]]:
    """Yield the recordings of files in batches."""
    batch: list[tuple[str, bytes]] = []
    for one in contents(paths):
        batch.append(one)
        if len(batch) == items:
            yield batch
            batch = []
    if batch:
        yield batch


def work(
    config: bytes,
    rate_hz: int,
    out: str,
    files: multiprocessing.SimpleQueue[list[str] | None],
    done: multiprocessing.SimpleQueue[Done],
) -> None:
    """Be one process: take files until there are no more."""
    encoder = Coder(orjson.loads(config)).encoder
    count, audio_seconds, frames, decode_seconds, encode_seconds = 0, 0.0, 0, 0.0, 0.0
    began = time.time()
    while (paths := files.get()) is not None:
        for batch in batches(paths, encoder.batch_items):
            start = time.process_time()
            sounds = [decoded(data, rate_hz) for _, data in batch]
            between = time.process_time()
            streams = encoder.encode([encoder.prepare(AudioClip(one, rate_hz, 1)) for one in sounds]).streams
            for number, (name, _) in enumerate(batch):
                codes = streams["codes"][number]
                frames += len(codes)
                numpy.save(Path(out) / f"{name}.npy", codes)
            decode_seconds += between - start
            encode_seconds += time.process_time() - between
            count += len(batch)
            audio_seconds += sum(map(len, sounds)) / rate_hz
    done.put(Done(count, audio_seconds, frames, decode_seconds, encode_seconds, began, time.time()))


def own_dac(directory: str, paths: list[str], out: Path) -> Done:
    """Do what `dac encode` does, with a model of transformers."""
    import torch
    from transformers import DacModel

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = DacModel.from_pretrained(directory).eval()
    rate_hz, hop = model.config.sampling_rate, model.config.hop_length
    count, audio_seconds, frames, began, start = 0, 0.0, 0, time.time(), time.process_time()
    with torch.inference_mode():
        for name, data in contents(paths):
            samples = decoded(data, rate_hz)
            filled = numpy.pad(samples, (0, -len(samples) % hop))
            codes = model.encode(torch.from_numpy(filled)[None, None]).audio_codes[0].numpy().astype(numpy.uint16)
            numpy.save(out / f"{name}.npy", codes)
            count, audio_seconds = count + 1, audio_seconds + len(samples) / rate_hz
            frames += codes.shape[1]
    return Done(count, audio_seconds, frames, 0.0, time.process_time() - start, began, time.time())


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder of recordings or *.tar files")
    parser.add_argument("--tokenizer", required=True, help="config as JSON")
    parser.add_argument("--out", type=Path, required=True, help="folder for the .npy files")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--own", choices=["dac"], help="encode in the model's own way")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    paths = sorted(str(path) for path in options.corpus.iterdir())
    if options.own:
        found = [own_dac(orjson.loads(options.tokenizer)["directory"], paths, options.out)]
    else:
        from tokenmill.registry import parse_tokenizer

        shape = parse_tokenizer(orjson.loads(options.tokenizer)).shape()  # type: ignore[attr-defined]
        context = multiprocessing.get_context("fork")
        files: multiprocessing.SimpleQueue[list[str] | None] = context.SimpleQueue()
        done: multiprocessing.SimpleQueue[Done] = context.SimpleQueue()
        arguments = (options.tokenizer.encode(), shape.rate_hz, str(options.out), files, done)
        workers = [context.Process(target=work, args=arguments) for _ in range(options.workers)]
        for worker in workers:
            worker.start()
        run = 1 if paths[0].endswith(".tar") or len(paths) < 32 * options.workers else 16
        for start in range(0, len(paths), run):
            files.put(paths[start : start + run])
        for _ in workers:
            files.put(None)
        found = [done.get() for _ in workers]
        for worker in workers:
            worker.join()
    totals = {name: sum(getattr(one, name) for one in found) for name in Done._fields[:5]}
    totals["seconds"] = max(one.ended for one in found) - min(one.began for one in found)
    print(orjson.dumps(totals).decode())


if __name__ == "__main__":
    main()
