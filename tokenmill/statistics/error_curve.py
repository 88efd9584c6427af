"""Errors that an adaptive tokenizer reached, against the tokens that it took: a joint histogram that merges exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.errors import SpecError
from tokenmill.statistics.octaves import OCTAVE_ENDS, octaves_of
from tokenmill.statistics.sketch import BUCKET_ENDS, Sketch
from tokenmill.streams import StreamSpec

#: What counted errors are integers of: a power of two, so that no platform rounds otherwise.
ERROR_UNIT = 2.0**-30
#: Larger errors are counted as this one.
LARGEST_ERROR = 2.0**32

#: int64 `[bucket]`, last length of each bucket: the sketch's buckets, cut where an octave ends in the midst of one, so
#: that 127 tokens and 128 are never counted together.
LENGTH_ENDS = np.union1d(BUCKET_ENDS, OCTAVE_ENDS)
_PENDING = 1 << 16


class ErrorCurve:
    """How many rows took how many tokens and reached which error, with both in buckets of 1 % relative accuracy.

    An error is a number of 0 or more. What is none (NaN, an infinity, below 0) counts as `unknown`, and is in no other
    figure. Errors are rounded to whole units of `ERROR_UNIT`, about 1e-9.

    Attributes:
        of: Name of the adaptive stream, whose values per row are the tokens.
        errors: Sketch of the errors, in units.
        unknown: Rows whose error is none.
    """

    __slots__ = ("_counts", "_keys", "_pending", "_pending_keys", "errors", "of", "unknown")

    def __init__(self, of: str) -> None:
        self.of = of
        self.errors = Sketch()
        self.unknown = 0
        self._keys = np.empty(0, np.uint32)
        self._counts = np.empty(0, np.int64)
        self._pending: list[tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]] = []
        self._pending_keys = 0

    @classmethod
    def for_stream(cls, name: str, specs: Mapping[str, StreamSpec]) -> ErrorCurve | None:
        """Return the curve of no rows; None for a stream that is no error.

        Raises SpecError where it is the error of no stream of the table, or not one float a row.
        """
        spec = specs[name]
        if spec.error_of is None:
            return None
        if spec.error_of not in specs:
            raise SpecError(f"stream {name!r} is the error of {spec.error_of!r}; the table has {', '.join(specs)}")
        if spec.shape != (1,) or np.dtype(spec.dtype).kind != "f":
            raise SpecError(f"stream {name!r} is an error, and holds {spec.dtype} {spec.shape} in place of one float")
        return cls(spec.error_of)

    def add(self, lengths: npt.NDArray[np.int64], errors: npt.NDArray[np.floating]) -> None:
        """Count rows: their tokens int64 `[row]`, and the errors they reached, float `[row]`."""
        known = np.isfinite(errors) & (errors >= 0)
        self.unknown += len(errors) - int(known.sum())
        units = np.rint(np.minimum(errors[known].astype(np.float64), LARGEST_ERROR) / ERROR_UNIT).astype(np.int64)
        self.errors.add(units)
        keys = LENGTH_ENDS.searchsorted(lengths[known]) * len(BUCKET_ENDS) + BUCKET_ENDS.searchsorted(units)
        found, counts = np.unique(keys.astype(np.uint32), return_counts=True)
        self._put(found, counts.astype(np.int64))

    def merge(self, other: ErrorCurve) -> None:
        """Add what another counted of a stream of the same spec."""
        self.unknown += other.unknown
        self.errors.merge(other.errors)
        self._put(*other.sparse())

    def sparse(self) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """Return the pairs of buckets that hold rows, increasing, and how many rows each holds.

        A pair is a bucket of `LENGTH_ENDS`, times the number of `BUCKET_ENDS`, plus a bucket of those.
        """
        if self._pending:
            keys, places = np.unique(
                np.concatenate([self._keys, *(keys for keys, _ in self._pending)]), return_inverse=True
            )
            counts = np.zeros(len(keys), np.int64)
            np.add.at(counts, places, np.concatenate([self._counts, *(counts for _, counts in self._pending)]))
            self._keys, self._counts, self._pending, self._pending_keys = keys, counts, [], 0
        return self._keys, self._counts

    def fill(
        self,
        keys: npt.NDArray[np.uint32],
        counts: npt.NDArray[np.int64],
        others: Mapping[str, Any],
    ) -> None:
        """Take over what `sparse` and `others` returned, in place of all there was; raises IndexError and KeyError."""
        if len(keys) and int(keys[-1]) >= len(LENGTH_ENDS) * len(BUCKET_ENDS):
            raise IndexError(
                f"pair {keys[-1]} of {len(LENGTH_ENDS)} buckets of lengths and {len(BUCKET_ENDS)} of errors"
            )
        self._keys, self._counts, self._pending, self._pending_keys = keys, counts, [], 0
        buckets = np.zeros(len(BUCKET_ENDS), np.int64)
        np.add.at(buckets, keys % len(BUCKET_ENDS), counts)
        found = np.flatnonzero(buckets)
        self.errors.fill(found.astype(np.uint32), buckets[found], others)
        self.unknown = others["unknown"]

    def others(self) -> dict[str, int | None]:
        """Return, for a file's JSON header, all that `sparse` leaves out."""
        return {**self.errors.ends(), "unknown": self.unknown}

    def by_octave(self) -> dict[int, npt.NDArray[np.int64]]:
        """Return, by octave of the tokens, int64 `[bucket]`: rows by bucket of their error."""
        keys, counts = self.sparse()
        octaves = octaves_of(LENGTH_ENDS)[keys // len(BUCKET_ENDS)]
        found = {}
        for octave in np.unique(octaves):
            chosen = octaves == octave
            found[int(octave)] = np.zeros(len(BUCKET_ENDS), np.int64)
            np.add.at(found[int(octave)], keys[chosen] % len(BUCKET_ENDS), counts[chosen])
        return found

    def _put(self, keys: npt.NDArray[np.uint32], counts: npt.NDArray[np.int64]) -> None:
        """Count pairs; those that wait to be sorted in are never more than those that are, or than 65,536."""
        self._pending.append((keys, counts))
        self._pending_keys += len(keys)
        if self._pending_keys > max(_PENDING, len(self._keys)):
            self.sparse()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ErrorCurve):
            return NotImplemented
        (keys, counts), (other_keys, other_counts) = self.sparse(), other.sparse()
        return (
            (self.of, self.unknown, self.errors) == (other.of, other.unknown, other.errors)
            and np.array_equal(keys, other_keys)
            and np.array_equal(counts, other_counts)
        )

    __hash__ = None  # type: ignore[assignment]  # it changes
