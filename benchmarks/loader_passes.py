"""What every side of `speed_loader` does in a process of its own: the first batch, a first pass, timed passes, a check.

numpy only, so that a rival's environment can import it. A side is anything that gives one epoch after another of
arrays of ids, `[token]` or `[sample, token]`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

#: A fast side makes more passes than it is asked for, until they last so long.
TIMED_SECONDS = 1.0
Epochs = Callable[[], Iterable[Any]]


class Sums:
    """An order-free check of tokens: how many, their sum, and the sum of their squares, modulo 2^64."""

    def __init__(self) -> None:
        self.tokens = 0
        self._sum = np.uint64(0)
        self._squares = np.uint64(0)

    def add(self, ids: Any) -> None:
        """Take in an array of ids of any integer type and shape; a torch tensor will do."""
        flat = np.asarray(ids).reshape(-1).astype(np.uint64)
        self.tokens += len(flat)
        with np.errstate(over="ignore"):
            self._sum += flat.sum(dtype=np.uint64)
            self._squares += np.dot(flat, flat)

    def to_json(self) -> dict[str, int]:
        """Return the sums."""
        return {"tokens": self.tokens, "sum": int(self._sum), "squares": int(self._squares)}


def sums_of(ids: npt.NDArray[Any], chunk: int = 1 << 22) -> dict[str, int]:
    """Return the sums of an array, which may be a mapped file."""
    sums = Sums()
    for start in range(0, len(ids), chunk):
        sums.add(ids[start : start + chunk])
    return sums.to_json()


def run_side(make: Callable[[], Epochs], passes: int) -> dict[str, Any]:
    """Measure a side.

    Args:
        make: The constructor: returns what gives the epochs, one a call.
        passes: Timed passes after the first one, at least.

    Returns:
        `first_batch_seconds` (constructor to first batch), `dtype` and `shape` of a batch, `passes` (seconds, CPU
        seconds of all threads and tokens of each; the first pass is number 0, less the
        first batch, which came before its clock), and `sums` of one more pass.
    """
    begin = time.perf_counter()
    epochs = make()
    iterator = iter(epochs())
    first = next(iterator)
    result: dict[str, Any] = {
        "first_batch_seconds": time.perf_counter() - begin,
        "dtype": str(first.dtype).removeprefix("torch."),
        "shape": list(first.shape),
        "passes": [],
    }
    del first
    timed = 0.0
    while len(result["passes"]) <= passes or timed < TIMED_SECONDS:
        first_pass = not result["passes"]
        tokens = 0
        begin, cpu = time.perf_counter(), time.process_time()
        for ids in iterator if first_pass else epochs():
            shape = ids.shape
            tokens += shape[0] if len(shape) == 1 else shape[0] * shape[1]
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
        timed += 0.0 if first_pass else seconds
        result["passes"].append({"seconds": seconds, "cpu_seconds": cpu, "tokens": tokens})
    sums = Sums()
    for ids in epochs():
        sums.add(ids)
    result["sums"] = sums.to_json()
    return result


def mapped_tokens(path: Path, count: int) -> npt.NDArray[np.uint32]:
    """Map the flat file of the corpus' tokens: uint32 `[count]`, without what follows them."""
    return np.memmap(path, np.uint32, "r", shape=(count,))


def print_result(result: dict[str, Any]) -> None:
    """Print a side's figures as the one line of JSON that `speed_loader` reads."""
    print(json.dumps(result), flush=True)
