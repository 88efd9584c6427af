"""fastokens as a batch function: one native thread a process, and safe to use on both sides of a fork."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tokenmill.tokenizers.text import Batch, Ids, Lengths

NativeBatch = Callable[[list[str]], tuple[bytes, bytes]]

# fastokens hands texts of 64 KiB and more to a thread pool, if it has no scanner of its own for their pattern. The pool
# belongs to the process that started it: in a child forked later it has no threads, and whoever asks it waits forever.
_POOLED_BYTES = 1 << 16
_pool_process: int | None = None


def load_native() -> Any:
    """Import fastokens' tokenizer class, set to one native thread; raises ModuleNotFoundError."""
    os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")
    os.environ.setdefault("RAYON_NUM_THREADS", "1")
    from fastokens._native import Tokenizer

    return Tokenizer


class FastokensBatch:
    """Tokenizes texts with fastokens.

    Args:
        native: Its `encode_batch_flat` with all options given.
        slow: Makes the reference's batch function, which takes the long texts where fastokens' thread pool was left
            behind in the parent process.
        may_pool: False where fastokens is known to have a scanner of its own for the pattern, and so to start no pool:
            finding out would cost every long text one more encoding to UTF-8.
    """

    def __init__(self, native: NativeBatch, slow: Callable[[], Batch], *, may_pool: bool = True) -> None:
        self._native = native
        self._may_pool = may_pool
        self._make_slow = slow

    @cached_property
    def _slow(self) -> Batch:
        return self._make_slow()

    def __call__(self, texts: list[str]) -> tuple[Ids, Lengths]:
        """Tokenize a batch of texts."""
        global _pool_process
        if not self._may_pool or _pool_process == os.getpid() or not any(map(_is_pooled, texts)):
            return self._fast(texts)
        if _pool_process is None:
            before = _threads()
            result = self._fast(texts)
            after = _threads()
            if before is None or after is None or after - before:
                _pool_process = os.getpid()
            return result
        parts = [(self._slow if _is_pooled(text) else self._fast)([text]) for text in texts]
        return np.concatenate([values for values, _ in parts]), np.concatenate([lengths for _, lengths in parts])

    def _fast(self, texts: list[str]) -> tuple[Ids, Lengths]:
        ids, offsets = self._native(texts)
        return np.frombuffer(ids, np.uint32), np.diff(np.frombuffer(offsets, np.int64))


def _is_pooled(text: str) -> bool:
    return len(text) * 4 >= _POOLED_BYTES and len(text.encode()) >= _POOLED_BYTES


def _threads() -> set[str] | None:
    """Return the ids of this process's threads, native ones included; None where the system does not tell."""
    try:
        return {path.name for path in Path("/proc/self/task").iterdir()}
    except OSError:
        return None
