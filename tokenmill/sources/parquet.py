"""Parquet: a row an item. Reads the needed columns only, a bounded run of rows at a time.

An item's ordinal is its row number in the split, so that what comes after a damaged row group keeps its place. Cursor
positions are row numbers in the split. Binary columns are taken as UTF-8, but for the one that holds images or
recordings: that is binary, or a struct of `bytes` and `path` as the Hugging Face hub has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tokenmill.errors import InputError
from tokenmill.job_sources import Source
from tokenmill.sources import reasons
from tokenmill.sources.assemble import ItemAssembler, as_string
from tokenmill.sources.file_task import FileTask
from tokenmill.sources.items import Cursor, ItemBatch, Reject
from tokenmill.sources.limits import BATCH_BYTES, BATCH_ITEMS
from tokenmill.sources.payloads import MISSING, payload_field
from tokenmill.storage.inputs import open_input

_MAGIC = b"PAR1"
#: Bytes of a column that are read ahead.
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class RowGroup:
    """What a footer tells of one row group: its rows, and the stored bytes of the columns that a source needs."""

    rows: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class Footer:
    """A footer that could be read; `None` instead of one stands for a file that has to be quarantined."""

    groups: list[RowGroup]


def read_footer(source: Source, uri: str) -> Footer | None:
    """Read a Parquet file's footer and check the source's columns against it. None: the file is damaged.

    Raises:
        InputError: Where the file cannot be opened, or has no such columns, or the column of texts, images or
            recordings holds none.
    """
    with open_input(uri) as file:
        try:
            metadata = pq.read_metadata(file)
            schema = metadata.schema.to_arrow_schema()
        except (pa.ArrowException, OSError, ValueError):
            return None
        leaves = _leaves(source, schema, uri)
        numbers = [
            number
            for number in range(metadata.num_columns)
            if any(_below(metadata.schema.column(number).path, leaf) for leaf in leaves)
        ]
        groups = []
        for index in range(metadata.num_row_groups):
            group = metadata.row_group(index)
            stored = sum(group.column(number).total_compressed_size for number in numbers)
            groups.append(RowGroup(group.num_rows, stored))
    return Footer(groups)


def _below(path: str, leaf: str) -> bool:
    return path == leaf or path.startswith(f"{leaf}.")


def _leaves(source: Source, schema: Any, uri: str) -> list[str]:
    """Return the columns that a source needs, the items' first; raises InputError where they are not to be had."""
    fields = source.fields
    payload = _payload_leaf(source, schema, uri)
    if fields.id is not None and _type_at(schema, fields.id) is None:
        raise InputError(
            f"source {source.name!r}: there is no column {fields.id!r}; the columns are {_named(schema)}",
            where=uri,
            fix="set `fields.id` to the column that holds the id, or leave it out",
        )
    for name in source.where:
        if _type_at(schema, name) is None:
            raise InputError(
                f"source {source.name!r}: there is no column {name!r}; the columns are {_named(schema)}",
                where=uri,
                fix="name columns of the file in `where`",
            )
    wanted = [payload, *([fields.id] if fields.id is not None else []), *source.metadata, *source.where]
    return [name for name in dict.fromkeys(wanted) if _type_at(schema, name) is not None]


def _payload_leaf(source: Source, schema: Any, uri: str) -> str:
    """Return the column of texts, images or recordings; raises InputError where there is none."""
    name, modality = payload_field(source), source.modality
    kind = _type_at(schema, name)
    if modality != "text" and kind is not None and pa.types.is_struct(kind):
        name, kind = f"{name}.bytes", _type_at(schema, f"{name}.bytes")
    if kind is None:
        what = f"there is no column {name!r}"
    elif not (_is_binary(kind) or (modality == "text" and _is_string(kind))):
        what = f"column {name!r} holds {kind}, no {modality}"
    else:
        return name
    raise InputError(
        f"source {source.name!r}: {what}; the columns are {_named(schema)}",
        where=uri,
        fix=f"set `fields.{modality.replace('-', '_')}` to the column that holds the {modality}",
    )


def _type_at(schema: Any, name: str) -> Any | None:
    """Return the type of a column, or of a member of a struct column given with dots; None where there is none."""
    names = [name] if name in schema.names else name.split(".")
    fields = schema
    kind = None
    for step in names:
        index = fields.get_field_index(step) if fields is not None else -1
        if index < 0:
            return None
        kind = fields.field(index).type
        fields = kind if pa.types.is_struct(kind) else None
    return kind


def _is_string(kind: Any) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _is_binary(kind: Any) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(test(kind) for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view))


def _named(schema: Any) -> str:
    names = [f"{field.name} ({field.type})" for field in schema]
    return ", ".join(names[:40]) + (" …" if len(names) > 40 else "")


def read_parquet(task: FileTask, cursor: Cursor) -> Iterator[ItemBatch]:
    """Yield the rows of a Parquet file, or of a range of its row groups."""
    with task.open_stored() as file:
        try:
            opened = pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True)
            schema = opened.schema_arrow
        except (pa.ArrowException, OSError, ValueError) as error:
            if task.file.size_bytes and not cursor.position:
                yield task.rejects_only([_file_reject(task, file, error, cursor)])
            return
        leaves = _leaves(task.source, schema, task.uri)
        yield from _RowReader(task, opened, leaves).batches(cursor)


def _file_reject(task: FileTask, file: Any, error: Exception, cursor: Cursor) -> Reject:
    file.seek(0)
    begins_well = file.read(len(_MAGIC)) == _MAGIC[: task.file.size_bytes]
    return Reject(
        cursor.ordinal,
        task.file.path,
        f"{task.file.path}:0",
        reasons.TORN_FILE if begins_well else reasons.UNREADABLE_FILE,
        f"the Parquet footer cannot be read: {error}"[:500],
        lost_bytes=task.file.size_bytes,
    )


class _RowReader:
    """Reads row groups one after another; a damaged one costs its own rows only."""

    def __init__(self, task: FileTask, opened: Any, leaves: Sequence[str]) -> None:
        self._task = task
        self._opened = opened
        self._leaves = list(leaves)
        self._assembler = ItemAssembler(task.source, task.limits, task.file.path)
        metadata = opened.metadata
        stop = metadata.num_row_groups if task.stop is None else min(task.stop, metadata.num_row_groups)
        self._groups = range(task.start, stop)
        self._file_row = sum(metadata.row_group(index).num_rows for index in range(task.start))
        self._wanted = {name: frozenset(values) for name, values in task.source.where.items()}
        self._shift = 0  # from a row's number to its item's; it falls with every row that is passed over

    def batches(self, cursor: Cursor) -> Iterator[ItemBatch]:
        first_row = 0  # of the group, in the split
        total = sum(self._opened.metadata.row_group(index).num_rows for index in self._groups)
        self._shift = cursor.ordinal - cursor.position
        for index in self._groups:
            rows = self._opened.metadata.row_group(index).num_rows
            skipped = max(cursor.position - first_row, 0)
            if skipped < rows:
                for batch in self._group(index, first_row, skipped):
                    last = int(batch.ends[-1]) if len(batch) else first_row + rows
                    self._task.meter.share = last / total
                    yield batch
            first_row += rows

    def _group(self, index: int, first_row: int, skipped: int) -> Iterator[ItemBatch]:
        group = self._opened.metadata.row_group(index)
        row = 0
        batches = self._opened.iter_batches(
            batch_size=_batch_rows(group), row_groups=[index], columns=self._leaves, use_threads=False
        )
        while row < group.num_rows:
            try:
                batch = next(batches)
            except (pa.ArrowException, OSError, ValueError, StopIteration) as error:
                yield self._task.rejects_only([self._lost(group, max(row, skipped) + first_row, row, error, first_row)])
                return
            if row + len(batch) > skipped:
                part = batch.slice(max(skipped - row, 0))
                start = first_row + row + len(batch) - len(part)
                yield from self._pieces(part, start)
            row += len(batch)

    def _pieces(self, batch: Any, start: int) -> Iterator[ItemBatch]:
        """Cut a batch of rows where it holds more bytes than an ItemBatch should; leave out rows not asked for."""
        size = max(len(batch) * BATCH_BYTES // max(batch.nbytes, 1), 1)
        for offset in range(0, len(batch), size):
            piece = batch.slice(offset, size)
            rows = np.arange(start + offset, start + offset + len(piece))
            first = start + offset + self._shift
            if self._wanted:
                kept = self._kept(piece)
                self._shift -= len(piece) - int(kept.sum())
                piece, rows = piece.filter(pa.array(kept)), rows[kept]
                if not len(rows):
                    continue
            yield self._items(piece, rows, first)

    def _kept(self, batch: Any) -> npt.NDArray[np.bool_]:
        """Return bool `[row]`, which rows have the values that `where` asks for."""
        kept = np.ones(len(batch), bool)
        for name, wanted in self._wanted.items():
            kept &= [value is not None and as_string(value) in wanted for value in _values(batch, name)]
        return kept

    def _items(self, batch: Any, numbers: npt.NDArray[np.int64], first: int) -> ItemBatch:
        """Make items of rows, whose numbers in the split are given; `first` is the first item's."""
        source = self._task.source
        path = self._task.file.path
        rows = numbers.tolist()
        rejects: list[Reject] = []

        def locate(index: int) -> str:
            return f"{path}#row={self._file_row + rows[index]}"

        values = _values(batch, self._leaves[0], as_stored=source.modality != "text")
        ids = None if source.fields.id is None else _values(batch, source.fields.id)
        metadata = {name: _values(batch, name) for name in source.metadata}
        return self._assembler.batch(
            range(first, first + len(rows)),
            [row + 1 for row in rows],
            values,
            ids,
            metadata,
            locate,
            rejects,
            [locate(index) for index in range(len(batch))],
        )

    def _lost(self, group: Any, at: int, row: int, error: Exception, first_row: int) -> Reject:
        lost = first_row + group.num_rows - at
        path = self._task.file.path
        return Reject(
            at + self._shift,
            path,
            f"{path}#row={self._file_row + at}",
            reasons.TORN_FILE,
            f"a row group is damaged: {error}"[:500],
            lost_bytes=group.total_byte_size * (group.num_rows - row) // max(group.num_rows, 1),
            lost_items=max(lost, 1),
        )


def _batch_rows(group: Any) -> int:
    bytes_a_row: int = max(group.total_byte_size // max(group.num_rows, 1), 1)
    return max(min(BATCH_BYTES // bytes_a_row, BATCH_ITEMS), 1)


def _values(batch: Any, name: str, *, as_stored: bool = False) -> list[Any]:
    """Return a column's values; bytes become text where they are UTF-8, unless they are wanted `as_stored`."""
    names = [name] if name in batch.schema.names else name.split(".")
    if names[0] not in batch.schema.names:
        return [MISSING] * len(batch)
    column = batch.column(names[0])
    for step in names[1:]:
        if not pa.types.is_struct(column.type) or column.type.get_field_index(step) < 0:
            return [MISSING] * len(batch)
        column = pc.struct_field(column, step)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.to_pylist() if as_stored else _to_python(column)


def _to_python(column: Any) -> list[Any]:
    kind = column.type
    if _is_binary(kind):
        return [_decoded(value) for value in column.to_pylist()]
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        return [_decoded(value) for value in column.cast(_binary_of(kind)).to_pylist()]
    return values


def _binary_of(kind: Any) -> Any:
    return pa.large_binary() if pa.types.is_large_string(kind) else pa.binary()


def _decoded(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value
