"""Thousands of damaged files: each decodes or is refused with a known reason, in bounded time and memory.

They are decoded by a process of their own, so that one which brings the decoders down is seen, and told by its number.
"""

from __future__ import annotations

import json
import os
import random
import resource
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.audio.samples import audio_file, every_sort
from tokenmill.audio import ogg_pages, reasons
from tokenmill.errors import ItemError

#: Numbers that lengths, counts and offsets break at.
EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
MAX_SECONDS = 100.0
#: Address space of the process: a table or frame of the size that a header claims would not fit.
MOST_BYTES = 3 << 30


def mutated(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Return the file after one to four changes, half of them within its first 300 bytes or its last ones."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        length = max(len(changed), 1)
        at = rng.choice((rng.randrange(min(length, 300)), rng.randrange(length), rng.randrange(length)))
        if rng.random() < 0.15:
            at = length - 1 - rng.randrange(min(length, 1500))
        change = rng.randrange(9)
        if change == 0 and changed:
            changed[at] ^= 1 << rng.randrange(8)
        elif change == 1 and changed:
            changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, rng.randrange(256)))
        elif change == 2:
            del changed[at:]
        elif change == 3:
            changed[at:at] = rng.randbytes(rng.choice((1, 3, 20, 500, 9000)))
        elif change == 4:
            del changed[at : at + rng.choice((1, 2, 7, 64, 2000))]
        elif change == 5:
            packed = struct.pack(rng.choice("<>") + "I", rng.choice(EDGES))
            changed[at : at + 4] = packed if rng.random() < 0.5 else packed[:2] + changed[at + 2 : at + 4]
        elif change == 6:
            size = rng.choice((4, 40, 400))
            start = rng.randrange(length)
            changed[at:at] = changed[start : start + size] * rng.choice((1, 1, 50))
        elif change == 7:  # another file goes on in the middle of this one
            other = rng.choice(others)
            changed[at:] = other[rng.randrange(len(other)) :]
        else:
            other = rng.choice(others)
            start = rng.randrange(len(other))
            changed[at : at + 30] = other[start : start + 30]
    return mended(bytes(changed)) if rng.random() < 0.5 else bytes(changed)


def mended(data: bytes) -> bytes:
    """Return an Ogg file with right checksums, so that its decoder gets to see what was changed; others as they are."""
    changed = bytearray(data)
    at = 0
    while changed[at : at + 4] == b"OggS" and len(changed) > at + 27:
        lacing = changed[at + 27 : at + 27 + changed[at + 26]]
        end = at + 27 + len(lacing) + sum(lacing)
        changed[at + 22 : at + 26] = bytes(4)
        changed[at + 22 : at + 26] = struct.pack("<I", ogg_pages.checksum(bytes(changed[at:end])))
        at = end
    return bytes(changed)


def resident_mib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) // 1024


def outcome_of(data: bytes, rate_hz: int) -> str:
    recording = audio_file(data, max_seconds=MAX_SECONDS).recording(rate_hz)
    try:
        samples = sum(len(block) for block in recording.blocks())
    except ItemError as error:
        if error.lost_seconds < 0 or (error.reason != reasons.TOO_LONG and error.lost_seconds > MAX_SECONDS):
            raise
        return error.reason
    assert recording.numbers()[5] == samples
    assert samples <= (MAX_SECONDS + 1) * rate_hz
    assert np.isfinite(recording.level()).all()
    return "decoded"


def fuzz(files: int, seed: int) -> None:
    """Decode files, note which one is at work, and print what became of them."""
    samples = every_sort()
    names, contents = list(samples), list(samples.values())
    for data in contents:  # so that what decoders keep for good is there before memory is looked at
        outcome_of(data, 16_000)
    rng, outcomes, before, slowest = random.Random(seed), Counter[str](), resident_mib(), 0.0
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    for number in range(files):
        data = mutated(samples[names[number % len(names)]], contents, rng)
        os.write(2, f"{number} {names[number % len(names)]}\n".encode())
        start = time.process_time()
        outcomes[outcome_of(data, (16_000, 24_000, 48_000)[number % 3])] += 1
        slowest = max(slowest, time.process_time() - start)
    json.dump({"outcomes": outcomes, "slowest": slowest, "grown_mib": resident_mib() - before}, sys.stdout)


def fuzzed(files: int, seed: int) -> dict[str, int]:
    command = [
        sys.executable,
        "-X",
        "faulthandler",
        "-W",
        "error",
        "-m",
        "tests.audio.test_fuzz",
        str(files),
        str(seed),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, f"seed {seed} ended the process: {done.stderr[-2000:]}"
    found = json.loads(done.stdout)
    numbers = [line.split()[0] for line in done.stderr.splitlines()]
    assert numbers == [str(number) for number in range(files)], "the decoders write nothing themselves"
    assert set(found["outcomes"]) <= {"decoded", *reasons.REASONS}
    assert found["slowest"] < 3, "seconds of processor time for one file"
    assert found["grown_mib"] < 150
    outcomes: dict[str, int] = found["outcomes"]
    return outcomes


def test_mutated_files_decode_or_are_refused() -> None:
    outcomes = fuzzed(400, seed=1)
    assert outcomes["decoded"] > 40
    assert outcomes[reasons.DAMAGED_AUDIO] > 40


@pytest.mark.slow
def test_five_thousand_mutated_files_decode_or_are_refused() -> None:
    outcomes = fuzzed(5000, seed=2)
    assert sum(outcomes.values()) == 5000
    assert set(outcomes) >= {"decoded", *reasons.REASONS} - {reasons.EMPTY_FILE}


if __name__ == "__main__":
    fuzz(int(sys.argv[1]), int(sys.argv[2]))
