"""From units to tokens and back: merges of pairs, the most frequent first, within stretches. Compiled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenmill.ir.compiled import compiled, whole
from tokenmill.tokenizers.llvm_ir.layout import Bytes, Ints, Units

#: Most units of a stretch; longer ones are cut, so that no text makes merging slow.
STRETCH = 192
_NONE = 1 << 30


class Merges(NamedTuple):
    """Pairs of tokens to merge, and what tokens are made of.

    Attributes:
        keys: int64 `[bucket]`, open addressing, a power of two: left << 16 | right, or -1.
        ranks: int32 `[bucket]`, the pair's place in the order of merges.
        results: uint16 `[merge]`, the token that a pair becomes.
        data: uint16 `[unit]`, the units of all tokens, laid end to end.
        starts: int64 `[token + 1]`.
    """

    keys: npt.NDArray[np.int64]
    ranks: npt.NDArray[np.int32]
    results: npt.NDArray[np.uint16]
    data: npt.NDArray[np.uint16]
    starts: npt.NDArray[np.int64]


def merges(units: int, pairs: npt.NDArray[np.uint16]) -> Merges:
    """Lay out merges, given how many units there are and the pairs `[merge, side]` in their order.

    A pair that gives the units of an earlier token becomes that token. Raises ValueError for pairs that cannot be.
    """
    size = 16
    while size < 3 * len(pairs):
        size *= 2
    keys, ranks = np.full(size, -1, np.int64), np.zeros(size, np.int32)
    tokens: list[tuple[int, ...]] = [(unit,) for unit in range(units)]
    known = {token: number for number, token in enumerate(tokens)}
    results = np.zeros(len(pairs), np.uint16)
    for rank, (left, right) in enumerate(pairs.tolist()):
        if max(left, right) >= len(tokens):
            raise ValueError(f"merge {rank} is of a token that there is none of")
        made = tokens[left] + tokens[right]
        if len(made) > STRETCH:
            raise ValueError(f"merge {rank} makes a token of more than {STRETCH} units")
        if made not in known:
            known[made] = len(tokens)
            tokens.append(made)
        if len(tokens) > 1 << 16:
            raise ValueError(f"there are more than {1 << 16:,} tokens")
        results[rank] = known[made]
        key = left << 16 | right
        place = _place(key) & (size - 1)
        while keys[place] >= 0:
            if keys[place] == key:
                raise ValueError(f"merge {rank} is there twice")
            place = (place + 1) & (size - 1)
        keys[place], ranks[place] = key, rank
    starts = np.zeros(len(tokens) + 1, np.int64)
    np.cumsum([len(token) for token in tokens], out=starts[1:])
    data = np.fromiter((unit for token in tokens for unit in token), np.uint16, int(starts[-1]))
    return Merges(keys, ranks, results, data, starts)


def _place(key: int) -> int:
    """Return where the search for a key begins."""
    return ((key * 2654435761) & 0xFFFFFFFFFFFF) >> 13


@compiled
def _rank(merges: Merges, left: int, right: int) -> int:
    """Return a pair's rank, or _NONE."""
    key = (whole(left) << 16) | whole(right)
    mask = len(merges.keys) - 1
    place = (((key * 2654435761) & 0xFFFFFFFFFFFF) >> 13) & mask
    while merges.keys[place] >= 0:
        if merges.keys[place] == key:
            return whole(merges.ranks[place])
        place = (place + 1) & mask
    return whole(_NONE)


@compiled
def merge(units: Units, flags: Bytes, boundary: int, ends: Ints, merges: Merges, ids: Units, token_ends: Ints) -> int:
    """Merge units to tokens, never across a unit whose flag is `boundary` or more.

    Args:
        units: uint16 `[unit]`.
        flags: uint8 `[unit]`.
        boundary: The least flag that begins a stretch.
        ends: int64 `[function]`, ends of functions in units; they end stretches.
        merges: The vocabulary's.
        ids: uint16, filled; as long as `units`.
        token_ends: int64 `[function]`, filled: the same ends in tokens.

    Returns:
        How many tokens.
    """
    count, out, at, function = len(units), 0, 0, 0
    held = np.empty(STRETCH, np.uint16)
    ranks = np.empty(STRETCH, np.int64)
    while at < count:
        start = at
        at += 1
        while at < count and at - start < STRETCH and flags[at] < boundary:
            at += 1
        length = at - start
        for place in range(length):
            held[place] = units[start + place]
        least = whole(_NONE)
        best = 0
        for place in range(length - 1):
            ranks[place] = _rank(merges, held[place], held[place + 1])
            if ranks[place] < least:
                least = ranks[place]
                best = place
        while least < _NONE:
            held[best] = merges.results[least]
            length -= 1
            for place in range(best + 1, length):
                held[place] = held[place + 1]
                ranks[place] = ranks[place + 1]
            if best > 0:
                ranks[best - 1] = _rank(merges, held[best - 1], held[best])
            if best < length - 1:
                ranks[best] = _rank(merges, held[best], held[best + 1])
            least = whole(_NONE)
            for place in range(length - 1):
                if ranks[place] < least:
                    least = ranks[place]
                    best = place
        for place in range(length):
            ids[out] = held[place]
            out += 1
        while function < len(ends) and ends[function] <= at:
            token_ends[function] = out
            function += 1
    return out


@compiled
def expand(ids: Units, merges: Merges) -> Units:
    """Return the units that tokens are made of; an empty array where an id is no token's."""
    total = 0
    for token in ids:
        if token >= len(merges.starts) - 1:
            return np.empty(0, np.uint16)
        total += merges.starts[token + 1] - merges.starts[token]
    units = np.empty(total, np.uint16)
    out = 0
    for token in ids:
        for place in range(merges.starts[token], merges.starts[token + 1]):
            units[out] = merges.data[place]
            out += 1
    return units
