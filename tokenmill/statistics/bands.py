"""Codes counted by band and id: of each codebook, or of each octave of places in the row, which ids came how often."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tokenmill.statistics.octaves import octaves_of
from tokenmill.statistics.unigrams import LARGEST_COUNTED_VOCABULARY
from tokenmill.streams import Jagged, StreamSpec

#: Values whose bands are found at once: what that takes is a few arrays of this length.
_CHUNK_VALUES = 1 << 18


class Bands:
    """How often each id came in each band. What is added must have been checked against the spec.

    There is one count for each band that came and each id, at most `LARGEST_COUNTED_VOCABULARY` in all: where a large
    vocabulary leaves room for fewer bands, the last of them counts those above, too. As in `Unigrams`, counts that
    were read from a file stay sparse until something is added to them.

    Args:
        vocabulary_size: Number of ids.
        axis: The dimension whose index is the band; None for octaves of the place in the row.
    """

    __slots__ = ("_axis", "_dense", "_sparse", "most", "vocabulary_size")

    def __init__(self, vocabulary_size: int, axis: int | None) -> None:
        self.vocabulary_size = vocabulary_size
        #: How many bands are told apart.
        self.most = LARGEST_COUNTED_VOCABULARY // vocabulary_size
        self._axis = axis
        #: int64 `[band * vocabulary + id]`.
        self._dense: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._sparse: tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]] | None = None

    @classmethod
    def for_stream(cls, spec: StreamSpec) -> Bands | None:
        """Return counts of no codes; None for streams without bands, or whose ids are not counted."""
        if spec.bands is None or not spec.vocabulary_size or spec.vocabulary_size > LARGEST_COUNTED_VOCABULARY:
            return None
        return cls(spec.vocabulary_size, None if spec.bands == "octave" else spec.dims.index(spec.bands))

    def add(self, batch: Jagged) -> None:
        """Count the codes of rows."""
        ends = batch.lengths.cumsum()
        for start in range(0, len(batch.values), _CHUNK_VALUES):
            stop = min(start + _CHUNK_VALUES, len(batch.values))
            rows = slice(
                int(ends.searchsorted(start, side="right")), int(ends.searchsorted(stop - 1, side="right")) + 1
            )
            starts = ends[rows] - batch.lengths[rows]
            counts = np.minimum(ends[rows], stop) - np.maximum(starts, start)
            places = np.arange(start, stop) - np.repeat(starts, counts)
            self._add(
                batch.values[start:stop], places, np.repeat(np.arange(rows.start, rows.stop), counts), batch.shapes
            )

    def merge(self, other: Bands) -> None:
        """Add what another counted of a stream of the same spec."""
        keys, counts = other.sparse()
        self._counted(keys)[keys] += counts

    def sparse(self) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """Return the keys (band * vocabulary + id) that came, increasing, and how often each did."""
        if self._sparse is not None:
            return self._sparse
        keys = np.flatnonzero(self._dense)
        return keys.astype(np.uint32), self._dense[keys]

    def fill(self, keys: npt.NDArray[np.uint32], counts: npt.NDArray[np.int64]) -> None:
        """Take over what `sparse` returned, in place of all there was; raises IndexError for a key too large."""
        if len(keys) and int(keys[-1]) >= self.most * self.vocabulary_size:
            raise IndexError(f"code {keys[-1]} in {self.most} bands of {self.vocabulary_size} ids")
        self._dense, self._sparse = np.zeros(0, np.int64), (keys, counts)

    def by_band(self) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
        """Give each band that came, increasing, with int64 `[n]`, the counts of the ids that came in it."""
        keys, counts = self.sparse()
        bands = keys // self.vocabulary_size
        for band in np.unique(bands):
            first, stop = np.searchsorted(bands, [band, band + 1])
            yield int(band), counts[first:stop]

    def _add(
        self,
        values: npt.NDArray[np.generic],
        places: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int64],
        shapes: npt.NDArray[np.int64],
    ) -> None:
        """Count values `[n]`, given the place of each in its row, and that row's number among shapes `[row, dim]`."""
        if self._axis is None:
            bands = octaves_of(places)
        else:
            inner = shapes[:, self._axis + 1 :].prod(axis=1)
            bands = places // inner[rows] % shapes[rows, self._axis]
        keys = np.minimum(bands, self.most - 1) * self.vocabulary_size + values.astype(np.int64)
        np.add.at(self._counted(keys), keys, 1)

    def _counted(self, keys: npt.NDArray[np.unsignedinteger] | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the dense counts, with room for keys `[n]`."""
        known, self._sparse = self._sparse, None
        largest = max((int(one.max()) for one in (keys, *(known or ())[:1]) if len(one)), default=-1)
        size = (largest // self.vocabulary_size + 1) * self.vocabulary_size
        if size > len(self._dense):
            grown = np.zeros(size, np.int64)
            grown[: len(self._dense)] = self._dense
            self._dense = grown
        if known is not None:
            self._dense[known[0]] = known[1]
        return self._dense

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Bands):
            return NotImplemented
        (keys, counts), (other_keys, other_counts) = self.sparse(), other.sparse()
        return np.array_equal(keys, other_keys) and np.array_equal(counts, other_counts)

    __hash__ = None  # type: ignore[assignment]  # it changes
