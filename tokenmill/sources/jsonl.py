"""JSON lines: an object a line.

- Blank lines are passed over and have no ordinal. A byte order mark at the file's start is dropped. CRLF is fine.
- Of a member that occurs twice the last counts. Members that the job does not ask for are only skimmed.
- A dot in a field's name descends into nested objects.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np

from tokenmill.jobs import Source
from tokenmill.sources import reasons
from tokenmill.sources.assemble import MISSING, ItemAssembler
from tokenmill.sources.file_task import FileTask
from tokenmill.sources.items import Cursor, ItemBatch, Reject
from tokenmill.sources.limits import BATCH_BYTES, BATCH_ITEMS
from tokenmill.sources.line_scan import LineBlock, LongLine, scan_lines

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

#: All of JSON's types; unlike Any this keeps integers of any size exact.
JsonValue = str | int | float | bool | list[Any] | dict[str, Any] | None


class RecordFields:
    """Decodes lines into records that hold only the members a source asks for.

    Attributes:
        decode: Turns a line into a record; raises msgspec.DecodeError, UnicodeDecodeError or RecursionError.
        text: Takes the text out of a record; MISSING where it is absent.
        id: The same for the id; None where the source names no id.
        metadata: The same for each metadata column.
    """

    def __init__(self, source: Source) -> None:
        fields = source.fields
        names = [fields.text, *([fields.id] if fields.id is not None else []), *source.metadata]
        members = {name.split(".")[0]: "" for name in names}
        members = {member: f"member_{number}" for number, member in enumerate(members)}
        record = msgspec.defstruct(
            "Record",
            [(attribute, JsonValue | msgspec.UnsetType, MISSING) for attribute in members.values()],
            rename={attribute: member for member, attribute in members.items()},
            gc=False,
        )
        self.decode: Callable[[Any], Any] = msgspec.json.Decoder(record).decode
        self.text = _getter(fields.text, members)
        self.id = None if fields.id is None else _getter(fields.id, members)
        self.metadata = {name: _getter(name, members) for name in source.metadata}


def _getter(name: str, members: dict[str, str]) -> Callable[[Any], Any]:
    member, *steps = name.split(".")
    take = attrgetter(members[member])
    if not steps:
        return take

    def descend(record: Any) -> Any:
        value = take(record)
        for step in steps:
            value = value.get(step, MISSING) if isinstance(value, dict) else MISSING
        return value

    return descend


def read_jsonl(task: FileTask, cursor: Cursor) -> Iterator[ItemBatch]:
    """Yield the items of a JSONL file, or of a byte range of it."""
    pending = _Pending(task, cursor)
    start = max(task.start, cursor.position)
    with task.open() as stream:
        for block in scan_lines(
            stream, start, task.stop, task.limits.max_item_bytes, exact=cursor.position > task.start
        ):
            if isinstance(block, LongLine):
                pending.add_long_line(block)
            else:
                yield from pending.add_block(block)
        if stream.tear is not None:
            pending.rejects.append(task.tear_reject(stream.tear, Cursor(pending.ordinal, pending.position)))
    if pending.records or pending.rejects:
        yield pending.flush()


class _Pending:
    """Records and rejects that wait to become a batch."""

    def __init__(self, task: FileTask, cursor: Cursor) -> None:
        self.position = cursor.position
        self.records: list[Any] = []
        self.rejects: list[Reject] = []
        self._first = cursor.ordinal  # of what is pending
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._bytes = 0
        self._task = task
        self._path = task.file.path
        self._fields = RecordFields(task.source)
        self._assembler = ItemAssembler(task.source, task.limits, task.file.path)

    @property
    def ordinal(self) -> int:
        """Number of the next item."""
        return self._first + len(self.records) + len(self.rejects)

    def add_block(self, block: LineBlock) -> Iterator[ItemBatch]:
        """Decode the lines of a block; yields batches as they fill."""
        data, begin, end = block.data, block.begin, block.end
        shift = block.offset - begin
        if not block.offset and data.startswith(BYTE_ORDER_MARK, begin):
            begin += len(BYTE_ORDER_MARK)
        while begin < end:
            begin = self._fill(data, begin, end, shift)
            if self._bytes >= BATCH_BYTES or len(self.records) + len(self.rejects) >= BATCH_ITEMS:
                if self.records or self.rejects:
                    yield self.flush()
                self._bytes = 0
        self.position = end + shift

    def _fill(self, data: bytes, begin: int, end: int, shift: int) -> int:
        """Decode lines of `data[begin:end]` until the batch is full; return where the next one starts.

        Everything that is done for each line is here, and nothing that need not be.
        """
        view = memoryview(data)
        find, decode = data.find, self._fields.decode
        add_record, add_start, add_end = self.records.append, self._starts.append, self._ends.append
        limit = self._task.limits.max_item_bytes
        large = min(BATCH_BYTES, limit + 1)
        first = begin
        full = min(end, begin + BATCH_BYTES - self._bytes)
        room = BATCH_ITEMS - len(self.records) - len(self.rejects)
        while begin < full and room:
            stop = find(b"\n", begin, end)
            if stop < 0:
                stop = end
            if stop - begin >= large:
                if stop - begin > limit:
                    self.add_long_line(LongLine(begin + shift, stop + 1 + shift, data[begin : begin + 1000]))
                    begin = stop + 1
                    break
                if self.records:  # a large item is a batch of its own
                    self._bytes = BATCH_BYTES
                    return begin
            try:
                add_record(decode(view[begin:stop]))
                add_start(begin + shift)
                add_end(stop + 1 + shift)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                if line := data[begin:stop].strip(b" \t\r"):
                    self._reject(begin + shift, *explain(line, error))
            begin = stop + 1
            room -= 1
        if begin > end and self._ends and self._ends[-1] == begin + shift:  # the last line has no line feed
            self._ends[-1] -= 1
        self._bytes += begin - first
        return begin

    def add_long_line(self, line: LongLine) -> None:
        """Note a line that is too long."""
        limit = self._task.limits.max_item_bytes
        message = f"the line has {line.stop - line.offset} bytes; max_item_bytes is {limit}"
        self._reject(line.offset, reasons.ITEM_TOO_LARGE, f"{message}: {reasons.quote(line.beginning)}")
        self.position = line.stop

    def _reject(self, offset: int, reason: str, message: str) -> None:
        self.rejects.append(Reject(self.ordinal, self._path, f"{self._path}:{offset}", reason, message))

    def flush(self) -> ItemBatch:
        """Return what is pending as a batch."""
        records, fields, starts, following = self.records, self._fields, self._starts, self.ordinal
        ordinals = np.arange(self._first, following)
        if self.rejects:
            ordinals = np.delete(ordinals, [reject.ordinal - self._first for reject in self.rejects])
        batch = self._assembler.batch(
            ordinals,
            self._ends,
            list(map(fields.text, records)),
            None if fields.id is None else list(map(fields.id, records)),
            {name: list(map(take, records)) for name, take in fields.metadata.items()},
            lambda index: f"{self._path}:{starts[index]}",
            self.rejects,
            [f"{self._path}:{start}" for start in starts] if self._task.explicit_locators else (),
        )
        self.records, self._starts, self._ends, self.rejects = [], [], [], []
        self._bytes, self._first = 0, following
        return batch


def explain(line: bytes, error: Exception) -> tuple[str, str]:
    """Return reason and message for a line that did not decode."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as undecodable:
        return (
            reasons.INVALID_UTF8,
            f"byte {undecodable.start} of the line is not UTF-8 ({undecodable.reason}): {reasons.quote(line)}",
        )
    try:
        value = json.loads(text)
    except RecursionError:
        return reasons.INVALID_JSON, f"nested too deeply: {reasons.quote(text)}"
    except ValueError as invalid:
        return reasons.INVALID_JSON, f"{invalid}: {reasons.quote(text)}"
    if not isinstance(value, dict):
        return reasons.NOT_AN_OBJECT, f"the line is {type(value).__name__}, no object: {reasons.quote(text)}"
    if "surrogate" in str(error) or "\\ud" in text.lower():
        return reasons.INVALID_UTF8, f"an escape stands for half a surrogate pair: {reasons.quote(text)}"
    return reasons.INVALID_JSON, f"{error}: {reasons.quote(text)}"
