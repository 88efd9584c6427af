"""A keyed permutation of 0 … n - 1 in constant memory: the shuffle of a corpus of any size.

A Feistel network over the smallest power of two that holds n, walked until it lands below n ("cycle walking", Black and
Rogaway 2002, Ciphers with Arbitrary Finite Domains). It is a shuffle, not a cipher: nothing here is secret. The
permutation of a given size and key is part of what a saved training state means, and never changes.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

_ROUNDS = 6
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # of SplitMix64's finaliser
_SHIFT = np.uint64(32)


def keyed_number(key: str) -> int:
    """Return a number in 0 … 2^64 - 1 that depends on every letter of a key, the same everywhere and always."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")


class KeyedPermutation:
    """A permutation of 0 … size - 1 that its key determines.

    Args:
        size: Number of elements, up to 2^62.
        key: Any text.
    """

    def __init__(self, size: int, key: str) -> None:
        if not 0 <= size <= 1 << 62:
            raise ValueError(f"a permutation of {size} elements; 0 to 2^62 are possible")
        self.size = size
        bits = max((size - 1).bit_length(), 2)
        self._low_bits = np.uint64(bits // 2)
        self._low_mask = np.uint64((1 << (bits // 2)) - 1)
        self._high_mask = np.uint64((1 << (bits - bits // 2)) - 1)
        self._keys = [np.uint64(keyed_number(f"{key}/{number}")) for number in range(_ROUNDS)]

    def __len__(self) -> int:
        return self.size

    def __call__(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return what stands at places `indices`, int64 of the same shape."""
        return self._walk(indices, range(_ROUNDS))

    def inverse(self, elements: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the places at which `elements` stand, int64 of the same shape."""
        return self._walk(elements, range(_ROUNDS - 1, -1, -1))

    def _walk(self, values: npt.NDArray[np.int64], rounds: range) -> npt.NDArray[np.int64]:
        given = np.asarray(values, np.int64)
        if given.size and (given.min() < 0 or given.max() >= self.size):
            raise IndexError(f"indices {given.min()} … {given.max()} of a permutation of {self.size}")
        flat = self._rounds(given.reshape(-1).astype(np.uint64), rounds)
        outside = np.flatnonzero(flat >= self.size)
        while outside.size:
            flat[outside] = self._rounds(flat[outside], rounds)
            outside = outside[flat[outside] >= self.size]
        return flat.astype(np.int64).reshape(given.shape)

    def _rounds(self, values: npt.NDArray[np.uint64], rounds: range) -> npt.NDArray[np.uint64]:
        low, high = values & self._low_mask, values >> self._low_bits
        for number in rounds:
            if number % 2:
                high ^= self._mix(low, number) & self._high_mask
            else:
                low ^= self._mix(high, number) & self._low_mask
        return (high << self._low_bits) | low

    def _mix(self, half: npt.NDArray[np.uint64], number: int) -> npt.NDArray[np.uint64]:
        mixed = half ^ self._keys[number]
        mixed *= _MULTIPLIERS[0]
        mixed ^= mixed >> _SHIFT
        mixed *= _MULTIPLIERS[1]
        mixed >>= _SHIFT
        return mixed
