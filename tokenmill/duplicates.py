"""Duplicates: which rows of a table repeat the content of an earlier row, and the file that says so.

A table whose rows carry the SHA-256 of their content, as those of LLVM IR do, knows its duplicates. Every part keeps
the leading half of its rows' digests beside its statistics; publication compares those of all parts, and lists the rows
that repeat one. The row with the lowest number survives: of equal items the one in the lowest (split, ordinal).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.errors import CorruptionError
from tokenmill.ir.streams import SHA256
from tokenmill.streams import StreamSpec

FORMAT = 1
#: Leading bytes of a SHA-256 that are compared: contents that differ do not have them in common.
DIGEST_BYTES = 16
_SHA256_BYTES = 32
#: Digests are sorted in so many shares, by their first bits, which bounds the memory beside the digests.
_SHARES = 16
_FORMAT_KEY = "duplicates_format"
_SCHEMA = pa.schema(
    [pa.field("row", pa.int64(), nullable=False), pa.field("of", pa.int64(), nullable=False)],
    metadata={"tokenmill": json.dumps({_FORMAT_KEY: FORMAT}, separators=(",", ":"))},
)
_FIX = "restore the file from a copy"


@dataclass(frozen=True, eq=False)
class Duplicates:
    """The rows of a table that repeat an earlier row.

    Attributes:
        rows: int64 `[duplicate]`, their numbers in the table, strictly increasing.
        of: int64 `[duplicate]`, the row that each repeats: the first with its content, which is no duplicate itself.
    """

    rows: npt.NDArray[np.int64]
    of: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Duplicates):
            return NotImplemented
        return np.array_equal(self.rows, other.rows) and np.array_equal(self.of, other.of)

    __hash__ = None  # type: ignore[assignment]  # arrays have none

    def survivors(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return int64 `[row]`: for each of some rows the first row with its content, which may be itself."""
        survivors = np.array(rows, np.int64)
        if len(self):
            places = np.minimum(np.searchsorted(self.rows, survivors), len(self) - 1)
            survivors = np.where(self.rows[places] == survivors, self.of[places], survivors)
        return survivors

    def kept(self, first: int, last: int) -> npt.NDArray[np.int64]:
        """Return int64 `[row]`, increasing: which of the rows first … last - 1 are no duplicates."""
        start, stop = np.searchsorted(self.rows, [first, last])
        return np.delete(np.arange(first, last, dtype=np.int64), self.rows[start:stop] - first)

    def to_bytes(self) -> bytes:
        """Return them as an Arrow IPC file; equal ones give equal bytes (with one pyarrow version)."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, _SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_batch(pa.record_batch([pa.array(self.rows), pa.array(self.of)], schema=_SCHEMA))
        return bytes(sink.getvalue())

    @classmethod
    def from_bytes(cls, data: bytes, where: str, rows: int) -> Duplicates:
        """Read what `to_bytes` wrote.

        Args:
            data: The file.
            where: Its place, for messages.
            rows: How many rows the table has.

        Raises:
            CorruptionError: where it is another file, of a newer format, or cannot be true of a table with these rows.
        """
        try:
            table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
            version = json.loads(table.schema.metadata[b"tokenmill"])[_FORMAT_KEY]
            if version > FORMAT:
                raise CorruptionError("was written by a newer tokenmill", where=where, fix="install a newer tokenmill")
            table.validate(full=True)
            found = cls(*(np.asarray(table[name].to_numpy(), np.int64) for name in ("row", "of")))
        except (pa.ArrowException, KeyError, OSError, TypeError, ValueError) as error:
            raise CorruptionError(f"is no list of duplicates: {error}", where=where, fix=_FIX) from error
        if not found._possible(rows):
            raise CorruptionError(f"lists what cannot be duplicates of {rows} rows", where=where, fix=_FIX)
        return found

    def _possible(self, rows: int) -> bool:
        if not len(self):
            return True
        inside = self.of.min() >= 0 and self.rows[-1] < rows
        ordered = (np.diff(self.rows) > 0).all() and (self.of < self.rows).all()
        return bool(inside and ordered and (self.survivors(self.of) == self.of).all())


def has_digests(streams: Mapping[str, StreamSpec]) -> bool:
    """Say whether a table with these streams knows its duplicates: one of them is the SHA-256 of a row's content."""
    spec = streams.get(SHA256)
    return spec is not None and (spec.dtype, spec.shape) == ("uint8", (_SHA256_BYTES,))


def digests_of(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return uint8 `[row * DIGEST_BYTES]`, the digests of rows whose SHA-256, uint8 `[byte]`, lie end to end."""
    return values.reshape(-1, _SHA256_BYTES)[:, :DIGEST_BYTES].reshape(-1)


class DigestCollector:
    """Gathers the digests of a table's rows part by part; 16 bytes a row in memory.

    Args:
        rows: How many rows the table has.
    """

    def __init__(self, rows: int) -> None:
        self._digests = np.empty((rows, DIGEST_BYTES), np.uint8)
        self._filled = 0
        self._complete = True

    def add(self, digests: npt.NDArray[np.uint8] | None, rows: int, where: str) -> None:
        """Take the digests of the next part's rows.

        Args:
            digests: uint8 `[row * DIGEST_BYTES]`; None where they are not known.
            rows: How many rows the part has.
            where: The file that they are from.

        Raises:
            CorruptionError: where they are not those of so many rows.
        """
        if digests is None:
            self._complete = self._complete and not rows
            return
        if len(digests) != rows * DIGEST_BYTES:
            raise CorruptionError(f"has {len(digests)} bytes of digests for {rows} rows", where=where, fix=_FIX)
        stop = self._filled + rows
        self._digests[self._filled : stop] = digests.reshape(rows, DIGEST_BYTES)
        self._filled = stop

    def find(self) -> Duplicates | None:
        """Return the duplicates; None where the digests of some rows are not known."""
        return find_duplicates(self._digests) if self._complete else None


def find_duplicates(digests: npt.NDArray[np.uint8]) -> Duplicates:
    """Find the rows that repeat an earlier one.

    Memory: beside the digests some 50 bytes for each row of the largest of 16 shares, and what is returned.

    Args:
        digests: uint8 `[row, DIGEST_BYTES]`, contiguous.
    """
    halves = digests.view(np.uint64)
    share_of = digests[:, 0] // (256 // _SHARES)
    rows, of = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for share in range(_SHARES):
        numbers = np.flatnonzero(share_of == share)
        first, second = halves[numbers, 0], halves[numbers, 1]
        order = np.lexsort((second, first))  # stable: equal digests stay in the order of their rows
        first, second, numbers = first[order], second[order], numbers[order]
        repeats = np.zeros(len(numbers), np.bool_)
        repeats[1:] = (first[1:] == first[:-1]) & (second[1:] == second[:-1])
        survivors = numbers[~repeats][np.cumsum(~repeats) - 1]
        rows.append(numbers[repeats])
        of.append(survivors[repeats])
    found, survivors = np.concatenate(rows), np.concatenate(of)
    order = np.argsort(found)
    return Duplicates(found[order], survivors[order])
