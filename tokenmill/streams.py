"""Streams: the named arrays in a row, what they may hold (StreamSpec), and a batch of them (Jagged).

Every layout is the same case: BPE ids are (token), a codec's codes are (frame, codebook), a VQ grid is
(row, column), latents are (token, channel). Nothing here knows of files or of tokenizers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.errors import SpecError

DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


def narrowest_dtype(vocabulary_size: int) -> str:
    """Return the narrowest unsigned dtype that holds ids 0 … vocabulary_size - 1 (added tokens included)."""
    for name in ("uint8", "uint16", "uint32"):
        if vocabulary_size <= int(np.iinfo(name).max) + 1:
            return name
    return "uint64"


@dataclass(frozen=True)
class StreamSpec:
    """What one stream may hold.

    Attributes:
        dtype: Explicit width, the narrowest that holds the vocabulary.
        dims: Names of the dimensions, outermost first, such as ("frame", "codebook").
        shape: Sizes of the dimensions; None where the size differs from row to row.
        vocabulary_size: Number of ids, added tokens included; None for streams that are not ids.
        ends_of: Name of the stream into which this one's values point (byte ends of words); None otherwise.
        bands: By what statistics tell codes apart beside counting them together: the name of a dimension (such as
            "codebook"), or "octave", for a code's place in its row: 0, 1, 2-3, 4-7 …; None for nothing.
        error_of: Name of the adaptive stream whose error, reached in each row, is this stream's one value; None
            otherwise.
        labels: Names of the ids of a small vocabulary, such as the outcomes of a length policy; None where ids have
            none.
        frame_hz: How many steps of the outermost dimension a second of the recording has; None for streams that do not
            run in time.
    """

    dtype: str
    dims: tuple[str, ...] = ("token",)
    shape: tuple[int | None, ...] = (None,)
    vocabulary_size: int | None = None
    ends_of: str | None = None
    bands: str | None = None
    error_of: str | None = None
    labels: tuple[str, ...] | None = None
    frame_hz: float | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise SpecError(f"stream dtype {self.dtype!r} is not one of {', '.join(DTYPES)}")
        if len(self.dims) != len(self.shape) or not self.dims:
            raise SpecError(f"stream dims {self.dims} and shape {self.shape} differ in length, or are empty")
        if self.bands is not None and self.bands not in (*self.dims, "octave"):
            raise SpecError(f"stream bands {self.bands!r} is neither one of the dims {self.dims} nor 'octave'")
        if self.frame_hz is not None and not self.frame_hz > 0:
            raise SpecError(f"stream has {self.frame_hz} frames a second")
        if self.labels is not None and len(self.labels) != self.vocabulary_size:
            raise SpecError(f"stream has {len(self.labels)} labels for a vocabulary of {self.vocabulary_size} ids")

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, which `from_json` reads back."""
        optional = {
            "bands": self.bands,
            "error_of": self.error_of,
            "labels": self.labels and list(self.labels),
            "frame_hz": self.frame_hz,
        }
        return {
            "dtype": self.dtype,
            "dims": list(self.dims),
            "shape": list(self.shape),
            "vocabulary_size": self.vocabulary_size,
            "ends_of": self.ends_of,
            # Left out where there is none: fingerprints of tables made before these existed stay as they were.
            **{name: value for name, value in optional.items() if value is not None},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> StreamSpec:
        """Read what `to_json` wrote."""
        return cls(
            dtype=value["dtype"],
            dims=tuple(value["dims"]),
            shape=tuple(value["shape"]),
            vocabulary_size=value.get("vocabulary_size"),
            ends_of=value.get("ends_of"),
            bands=value.get("bands"),
            error_of=value.get("error_of"),
            labels=tuple(value["labels"]) if value.get("labels") is not None else None,
            frame_hz=value.get("frame_hz"),
        )


@dataclass(frozen=True)
class Jagged:
    """A batch of arrays of one stream: all values laid end to end, and each array's shape.

    Attributes:
        values: `[total]`, the rows' values in order, each row flattened in C order.
        shapes: int64 `[row, dim]`, the shape of each row.
    """

    values: npt.NDArray[Any]
    shapes: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        shapes = self.shapes
        lengths = shapes[:, 0] if shapes.shape[1] == 1 else shapes.prod(axis=1, dtype=np.int64)
        object.__setattr__(self, "lengths", lengths)

    @classmethod
    def from_lengths(cls, values: npt.NDArray[Any], lengths: npt.NDArray[np.int64]) -> Jagged:
        """Make a batch of one-dimensional rows: values `[total]`, lengths `[row]`."""
        return cls(values, np.asarray(lengths, np.int64).reshape(-1, 1))

    @classmethod
    def from_rows(cls, rows: list[npt.NDArray[Any]], spec: StreamSpec) -> Jagged:
        """Make a batch from one array a row, cast to the spec's dtype (the cast is checked, it never wraps)."""
        dims = len(spec.dims)
        shapes = np.array([row.shape for row in rows], np.int64).reshape(len(rows), dims)
        values = np.concatenate([row.reshape(-1) for row in rows]) if rows else np.empty(0, spec.dtype)
        return cls(checked_cast(values, spec.dtype), shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> npt.NDArray[Any]:
        """Return row `index` in its own shape; a negative index counts from the end."""
        index = range(len(self))[index]
        stop = int(self.lengths[: index + 1].sum())
        return self.values[stop - int(self.lengths[index]) : stop].reshape(self.shapes[index])

    def check(self, name: str, spec: StreamSpec, rows: int) -> None:
        """Check the batch against its spec; raises SpecError naming the stream and both values."""
        if self.values.ndim != 1 or self.values.dtype != np.dtype(spec.dtype):
            raise SpecError(
                f"stream {name!r} holds {self.values.dtype} in {self.values.ndim} dimensions; "
                f"its spec says a flat {spec.dtype}"
            )
        if self.shapes.shape != (rows, len(spec.dims)):
            raise SpecError(
                f"stream {name!r} has shapes {self.shapes.shape}; its spec says ({rows} rows, {len(spec.dims)} dims)"
            )
        for axis, size in enumerate(spec.shape):
            if size is not None and rows and not (self.shapes[:, axis] == size).all():
                raise SpecError(f"stream {name!r}: dimension {spec.dims[axis]!r} must be {size} in every row")
        if rows and int(self.shapes.min()) < 0:
            raise SpecError(f"stream {name!r}: a row has a negative size")
        if int(self.lengths.sum()) != len(self.values):
            raise SpecError(f"stream {name!r}: shapes hold {int(self.lengths.sum())} values, {len(self.values)} came")
        if spec.vocabulary_size is not None and len(self.values):
            ends = [int(self.values.max())]
            if self.values.dtype.kind == "i":
                ends.append(int(self.values.min()))
            for end in ends:
                if not 0 <= end < spec.vocabulary_size:
                    raise SpecError(f"stream {name!r} holds id {end}; its vocabulary has {spec.vocabulary_size} ids")


def checked_cast(values: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    """Cast to `dtype`; raises SpecError where a value does not fit. Between floats, rounding is all that may happen."""
    target = np.dtype(dtype)
    if values.dtype == target or not len(values):
        return values.astype(target, copy=False)
    if target.kind in "iu":
        if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.trunc(values)).all()):
            raise SpecError(f"values of {values.dtype} that are not whole numbers do not fit {dtype}")
        limits = np.iinfo(target)
        low, high = int(values.min()), int(values.max())
        if low < limits.min or high > limits.max:
            raise SpecError(f"values {low} … {high} do not fit {dtype} ({limits.min} … {limits.max})")
        return values.astype(target)
    with np.errstate(over="ignore"):
        cast = values.astype(target)
    if (np.isinf(cast) & np.isfinite(values)).any():
        limit = np.finfo(target).max
        raise SpecError(f"values {values.min()} … {values.max()} do not fit {dtype} ({-limit} … {limit})")
    return cast
