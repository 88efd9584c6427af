"""Thousands of damaged files: each decodes or is refused with a known reason, in bounded time and memory."""

from __future__ import annotations

import random
import re
import struct
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.images.samples import every_sort, png_chunk
from tokenmill.errors import ItemError
from tokenmill.images import reasons
from tokenmill.images.geometry import Geometry
from tokenmill.images.image_file import DecodingOptions, ImageFile

OPTIONS = DecodingOptions(max_pixels=4_000_000)
GEOMETRIES = (Geometry(mode="native"), Geometry(edge=16), Geometry(mode="fit", edge=16))

#: Numbers that lengths, counts and offsets break at.
EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutated(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Return the file after one to four changes, half of them within its first 200 bytes."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(min(len(changed), 200) if rng.random() < 0.5 else len(changed)) if changed else 0
        change = rng.randrange(8)
        if change == 0 and changed:
            changed[at] ^= 1 << rng.randrange(8)
        elif change == 1 and changed:
            changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, rng.randrange(256)))
        elif change == 2:
            del changed[at:]
        elif change == 3:
            changed[at:at] = rng.randbytes(rng.choice((1, 3, 20, 500)))
        elif change == 4:
            del changed[at : at + rng.choice((1, 2, 7, 64))]
        elif change == 5:
            packed = struct.pack(rng.choice("<>") + "I", rng.choice(EDGES))
            changed[at : at + 4] = packed if rng.random() < 0.5 else packed[:2] + changed[at + 2 : at + 4]
        elif change == 6:
            length = rng.choice((4, 40, 400))
            start = rng.randrange(max(len(changed), 1))
            changed[at:at] = changed[start : start + length] * rng.choice((1, 1, 50))
        else:
            other = rng.choice(others)
            start = rng.randrange(len(other))
            changed[at : at + 30] = other[start : start + 30]
    return mended(bytes(changed)) if rng.random() < 0.5 else bytes(changed)


def mended(data: bytes) -> bytes:
    """Return a PNG with right checksums, so that its decoder gets to see what was changed; others as they are."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    chunks, at = [data[:8]], 8
    while at + 12 <= len(data):
        length = min(struct.unpack_from(">I", data, at)[0], len(data) - at - 12)
        chunks.append(png_chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return b"".join(chunks)


def resident_mib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) // 1024


def outcome_of(file: ImageFile, geometry: Geometry) -> str:
    try:
        placed = file.placed(geometry)
    except ItemError as error:
        return error.reason
    assert placed.pixels.ndim == 3
    assert placed.pixels.shape[2] == 3
    assert placed.original[0] * placed.original[1] <= OPTIONS.max_pixels
    return "decoded"


def fuzz(files: int, seed: int) -> Counter[str]:
    samples = every_sort()
    names, contents = list(samples), list(samples.values())
    for data in contents:  # so that what decoders keep for good is there before memory is looked at
        ImageFile(data, OPTIONS).pixels()
    rng, outcomes, before, slowest = random.Random(seed), Counter[str](), resident_mib(), 0.0
    for number in range(files):
        data = mutated(samples[names[number % len(names)]], contents, rng)
        start = time.process_time()
        outcomes[outcome_of(ImageFile(data, OPTIONS), GEOMETRIES[number % 3])] += 1
        slowest = max(slowest, time.process_time() - start)
    assert set(outcomes) <= {"decoded", *reasons.REASONS}
    assert slowest < 3, "seconds of processor time for one file"
    assert resident_mib() - before < 150, "MiB"
    return outcomes


def test_mutated_files_decode_or_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    outcomes = fuzz(300, seed=1)
    assert outcomes["decoded"] > 30
    assert outcomes[reasons.DAMAGED_IMAGE] > 30
    captured = capfd.readouterr()
    assert captured.out == ""
    for line in captured.err.splitlines():  # libtiff alone complains, in lines of its own
        assert re.match(r"(TIFF|JPEG|ZIP|LZW|Fax|tempfile)[\w.]*: ", line)


@pytest.mark.slow
def test_five_thousand_mutated_files_decode_or_are_refused() -> None:
    outcomes = fuzz(5000, seed=2)
    assert outcomes.total() == 5000
    assert set(outcomes) >= {"decoded", *reasons.REASONS} - {reasons.IMAGE_BOMB, reasons.EMPTY_FILE}
