"""Thousands of damaged modules: each is read or refused with a known reason, and what reads them goes on."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.ir.samples import COMPILED, TEXT, compiled, descriptors
from tokenmill.errors import ItemError
from tokenmill.ir import reasons
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.ir_file import IrFile, IrOptions
from tokenmill.ir.readers import shared_readers
from tokenmill.ir.tokenizer import IrPreparation

OPTIONS = IrOptions(cpu_seconds=10, memory_bytes=1_000_000_000)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return the module after bits were turned, bytes overwritten, put in or cut out, or its end was lost."""
    changed = bytearray(data)
    change = rng.randrange(8)
    if change < 4:
        for _ in range(8):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    elif change == 4:
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    elif change == 5:
        del changed[rng.randrange(len(changed)) :]
    elif change == 6:
        at = rng.randrange(len(changed))
        changed[at : at + rng.choice((0, 4, 40))] = rng.randbytes(rng.choice((0, 4, 100)))
    else:
        changed[4:] = rng.randbytes(len(changed) - 4)
    return bytes(changed)


class Unencoded(IrPreparation):
    """What readers' side of every encoder is, without one's tokens."""


PREPARATION = Unencoded(Canonical())


def outcome_of(data: bytes) -> str:
    try:
        module = PREPARATION.prepare(IrFile(data, OPTIONS))
    except ItemError as error:
        return error.reason if error.what else "no message"
    assert module.census.defined == len(module.function_hashes)
    return "read"


def fuzz(files: int, seed: int) -> Counter[str]:
    rng = random.Random(seed)
    samples = [compiled(name) for name in COMPILED] + [TEXT]
    outcome_of(TEXT)
    readers, before = shared_readers(), descriptors()
    damaged = (mutated(samples[number % len(samples)], rng) for number in range(files))
    with ThreadPoolExecutor(2) as pool:
        outcomes = Counter(pool.map(outcome_of, damaged))
    assert set(outcomes) <= {"read", *reasons.REASONS}
    assert shared_readers() is readers
    children = psutil.Process(readers.pid).children()
    assert len(children) <= 2
    assert all(child.status() != psutil.STATUS_ZOMBIE for child in children)
    assert descriptors() <= before + 4
    return outcomes


def test_mutated_modules_are_read_or_refused(capfd: pytest.CaptureFixture[str]) -> None:
    outcomes = fuzz(300, seed=1)
    assert outcomes["read"] > 10
    assert outcomes[reasons.DAMAGED_MODULE] > 100
    assert outcomes[reasons.READER_CRASHED] > 5
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_mutated_modules_are_read_or_refused(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    outcomes = fuzz(10_000, seed=2)
    seconds = time.monotonic() - began
    assert outcomes.total() == 10_000
    assert len(outcomes) >= 4
    with capsys.disabled():
        sys.stdout.write(f"\n{10_000 / seconds:.0f} mutated modules a second: {dict(outcomes.most_common())}\n")
