"""The file format of statistics: sparse counts as rows of an Arrow IPC file, everything else as JSON in its schema.

A row is one series of counts: `source`, `stream`, `measure`, and the lists `keys` and `counts` (only what is not 0).
Where keys of 64 bits occur, the file has a column `wide_keys` as well, and each series has null in the one or the
other: that is format version 2; all else is version 1. It opens with any Arrow reader. Equal statistics give equal
bytes (with one pyarrow version). What the series mean is not known here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.canonical import canonical_json
from tokenmill.errors import CorruptionError, DatasetError, SpecError

FORMAT_VERSION = 1
#: That of files with keys of 64 bits.
WIDE_FORMAT_VERSION = 2
#: Key of the schema metadata under which the header lies.
HEADER_KEY = b"tokenmill.statistics"

_FIX = "remove the file and run the job again: its part is then made anew"
_FIELDS = [
    pa.field("source", pa.string(), nullable=False),
    pa.field("stream", pa.string(), nullable=False),
    pa.field("measure", pa.string(), nullable=False),
    pa.field("keys", pa.list_(pa.field("item", pa.uint32(), nullable=False)), nullable=False),
    pa.field("counts", pa.list_(pa.field("item", pa.int64(), nullable=False)), nullable=False),
]
_WIDE_FIELDS = [
    *_FIELDS[:3],
    _FIELDS[3].with_nullable(True),
    _FIELDS[4],
    pa.field("wide_keys", pa.list_(pa.field("item", pa.uint64(), nullable=False))),
]


@dataclass(frozen=True)
class Series:
    """Counts by an integer key.

    Attributes:
        source: Name of the source; empty in a part, which has one source only.
        stream: Name of the stream; empty where the counts are of documents.
        measure: What is counted by what, such as `unigrams`.
        keys: uint32 or uint64 `[n]`, strictly increasing.
        counts: int64 `[n]`, above 0.
    """

    source: str
    stream: str
    measure: str
    keys: npt.NDArray[np.uint32] | npt.NDArray[np.uint64]
    counts: npt.NDArray[np.int64]


@dataclass(frozen=True)
class StatisticsFile:
    """A statistics file as read.

    Attributes:
        header: The JSON header, `kind` and `format_version` among it.
        series: (source, stream, measure) → (keys, counts), sparse.
        wide_series: The same of series whose keys are of 64 bits.
        extra: The other members of the schema metadata.
    """

    header: dict[str, Any]
    series: Mapping[tuple[str, str, str], tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]]
    wide_series: Mapping[tuple[str, str, str], tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]]
    extra: Mapping[str, bytes]


def encode(header: Mapping[str, Any], series: Iterable[Series], extra: Mapping[str, bytes]) -> bytes:
    """Return the file's bytes; raises ValueError where `extra` takes the header's key."""
    metadata: dict[bytes, bytes] = {key.encode(): value for key, value in sorted(extra.items())}
    if HEADER_KEY in metadata:
        raise ValueError(f"the metadata key {HEADER_KEY.decode()} is the format's own")
    series = list(series)
    wide = any(one.keys.dtype == np.uint64 for one in series)
    version = WIDE_FORMAT_VERSION if wide else FORMAT_VERSION
    metadata[HEADER_KEY] = canonical_json({**header, "format_version": version})
    schema = pa.schema(_WIDE_FIELDS if wide else _FIELDS, metadata=metadata)
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1), use_threads=False)
    with pa.ipc.new_file(sink, schema, options=options) as writer:
        for one in series:
            widths = [_list(one.keys, _FIELDS[3])]
            if one.keys.dtype == np.uint64:
                widths = [pa.nulls(1, _FIELDS[3].type), _list(one.keys, _WIDE_FIELDS[5])]
            elif wide:
                widths += [pa.nulls(1, _WIDE_FIELDS[5].type)]
            columns = [
                pa.array([one.source], pa.string()),
                pa.array([one.stream], pa.string()),
                pa.array([one.measure], pa.string()),
                widths[0],
                _list(one.counts, _FIELDS[4]),
                *widths[1:],
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))
    return bytes(sink.getvalue())


def _list(values: npt.NDArray[Any], field: Any) -> Any:
    """Wrap an array as a column of one list, without a copy (and without the modules that `pa.array` loads, 60 ms)."""
    flat = [None, pa.py_buffer(np.ascontiguousarray(values))]
    offsets = pa.array([0, len(values)], pa.int32())
    return pa.ListArray.from_arrays(
        offsets, pa.Array.from_buffers(field.type.value_type, len(values), flat), type=field.type
    )


def decode(data: bytes, where: str | None = None) -> StatisticsFile:
    """Read what `encode` wrote; raises CorruptionError where it is not that, DatasetError where it is newer."""
    try:
        reader = pa.ipc.open_file(pa.BufferReader(data), options=pa.ipc.IpcReadOptions(use_threads=False))
        metadata = dict(reader.schema.metadata or {})
        header = json.loads(metadata.pop(HEADER_KEY))
        version = header["format_version"]
    except (pa.ArrowException, KeyError, OSError, TypeError, ValueError) as error:
        raise CorruptionError(f"this is no statistics file: {error}", where=where, fix=_FIX) from error
    if version not in (FORMAT_VERSION, WIDE_FORMAT_VERSION):
        raise DatasetError(
            f"the statistics have format version {version}; this tokenmill reads {FORMAT_VERSION} and"
            f" {WIDE_FORMAT_VERSION}",
            where=where,
            fix="use the version of tokenmill that wrote them, or a newer one",
        )
    series: dict[tuple[str, str, str], tuple[npt.NDArray[Any], npt.NDArray[np.int64]]] = {}
    wide_series: dict[tuple[str, str, str], tuple[npt.NDArray[Any], npt.NDArray[np.int64]]] = {}
    try:
        if not reader.schema.equals(pa.schema(_FIELDS if version == FORMAT_VERSION else _WIDE_FIELDS)):
            raise ValueError(f"its columns are {reader.schema.names}")
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            batch.validate(full=True)
            if batch.num_rows != 1:
                raise ValueError(f"record batch {number} has {batch.num_rows} rows in place of 1")
            names = (batch.column(0)[0].as_py(), batch.column(1)[0].as_py(), batch.column(2)[0].as_py())
            wide = batch.column(3).null_count == 1
            if version == WIDE_FORMAT_VERSION and batch.column(5).null_count == wide:
                raise ValueError(f"series {names} has keys of both widths, or of none")
            keys = batch.column(5 if wide else 3).values.to_numpy()
            counts = batch.column(4).values.to_numpy()
            if len(keys) != len(counts):
                raise ValueError(f"series {names} has {len(keys)} keys and {len(counts)} counts")
            if not ((keys[1:] > keys[:-1]).all() and (counts > 0).all()):
                raise ValueError(f"series {names} has keys out of order, or counts that are not above 0")
            (wide_series if wide else series)[names] = (keys, counts)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorruptionError(f"the statistics file is damaged: {error}", where=where, fix=_FIX) from error
    return StatisticsFile(header, series, wide_series, {key.decode(): value for key, value in metadata.items()})


@contextmanager
def reading(where: str | None) -> Iterator[None]:
    """Turn the errors that a wrong or absent member of a file causes into a CorruptionError."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError, SpecError) as error:
        raise CorruptionError(f"the statistics have a wrong member: {error!r}", where=where, fix=_FIX) from error
