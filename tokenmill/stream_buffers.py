"""Where the rows of a part's streams are collected before they become a shard."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenmill.streams import Jagged, StreamSpec

_FIRST_VALUES = 1 << 16
#: A larger buffer (after a huge document) is given back to the system instead of kept.
_SPARE_BYTES = 128 << 20


class GrowingStream:
    """The rows of one stream, laid end to end in one array that grows in place.

    `release` hands the memory to the next part of this process: fresh pages, which the kernel clears first, would cost
    each part about as much as copying its values.
    """

    _spare: ClassVar[dict[str, list[npt.NDArray[Any]]]] = {}

    def __init__(self, spec: StreamSpec) -> None:
        self._dims = len(spec.dims)
        self._dtype = spec.dtype
        spare = self._spare.get(spec.dtype)
        self._values: npt.NDArray[Any] = spare.pop() if spare else np.empty(_FIRST_VALUES, spec.dtype)
        self._filled = 0
        self._shapes: list[npt.NDArray[np.int64]] = []

    def extend(self, batch: Jagged) -> None:
        """Append the rows of a batch."""
        stop = self._filled + len(batch.values)
        if stop > len(self._values):
            # realloc moves pages, not bytes, for arrays of this size; nobody else holds this array yet
            self._values.resize(max(stop, len(self._values) * 3 // 2), refcheck=False)
        self._values[self._filled : stop] = batch.values
        self._filled = stop
        self._shapes.append(batch.shapes)

    def jagged(self) -> Jagged:
        """Return all rows, as views of this memory."""
        shapes = np.concatenate(self._shapes) if self._shapes else np.empty((0, self._dims), np.int64)
        return Jagged(self._values[: self._filled], shapes)

    def release(self) -> None:
        """Give the memory to the next stream of this dtype; nothing may use what `jagged` returned any more."""
        if self._values.nbytes <= _SPARE_BYTES:
            self._spare.setdefault(self._dtype, []).append(self._values)
