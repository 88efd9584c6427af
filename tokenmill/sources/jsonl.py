"""JSON lines: an object a line.

- Blank lines are passed over and have no ordinal. A byte order mark at the file's start is dropped. CRLF is fine.
- Of a member that occurs twice the last counts. Members that the job does not ask for are only skimmed.
- A dot in a field's name descends into nested objects.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tokenmill.job_sources import Source
from tokenmill.sources import reasons
from tokenmill.sources.assemble import ItemAssembler
from tokenmill.sources.file_task import FileTask
from tokenmill.sources.items import Cursor, ItemBatch, Reject
from tokenmill.sources.limits import BATCH_BYTES, BATCH_ITEMS
from tokenmill.sources.line_scan import LineBlock, LongLine, scan_lines
from tokenmill.sources.payloads import MISSING

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_OPENING, _CLOSING = b"{}"
_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_NOWHERE = np.empty(0, np.int64)

#: All of JSON's types; unlike Any this keeps integers of any size exact.
JsonValue = str | int | float | bool | list[Any] | dict[str, Any] | None


class RecordFields:
    """Decodes lines into records that hold only the members a source asks for.

    Attributes:
        decode: Turns a line into a record; raises msgspec.DecodeError, UnicodeDecodeError or RecursionError.
        decode_lines: Turns a run of lines into a list of records; raises the same.
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
        decoder = msgspec.json.Decoder(record)
        self.decode: Callable[[Any], Any] = decoder.decode
        self.decode_lines: Callable[[Any], list[Any]] = decoder.decode_lines
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
        self._starts: list[npt.NDArray[np.int64]] = []  # of the records' lines, in the file
        self._ends: list[npt.NDArray[np.int64]] = []
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
        """Decode lines of `data[begin:end]` until the batch is full; return where the next one starts."""
        find = data.find
        limit = self._task.limits.max_item_bytes
        large = min(BATCH_BYTES, limit + 1)
        full = min(end, begin + BATCH_BYTES - self._bytes)
        room = BATCH_ITEMS - len(self.records) - len(self.rejects)
        bounds = [begin]
        while begin < full and len(bounds) <= room:  # nothing else is done for each line in Python
            stop = find(b"\n", begin, end)
            if stop < 0:
                stop = end
            if stop - begin >= large:
                if self.records or len(bounds) > 1:  # a large item is a batch of its own
                    self._bytes = BATCH_BYTES
                    break
                if stop - begin > limit:
                    self.add_long_line(LongLine(begin + shift, stop + 1 + shift, data[begin : begin + 1000]))
                    return stop + 1
            begin = min(stop + 1, end)
            bounds.append(begin)
        if len(bounds) > 1:
            self._decode(data, bounds, shift)
        self._bytes += begin - bounds[0]
        return begin

    def _decode(self, data: bytes, bounds: list[int], shift: int) -> None:
        """Decode the lines that lie between each two bounds: all at once if each is an object, else one by one."""
        places = np.array(bounds)
        starts, ends = places[:-1], places[1:]
        kept: slice | list[int] = slice(None)
        records = self._decode_objects(data, starts, ends)
        if records is not None:
            self.records += records
        else:
            kept = self._decode_singly(data, bounds, shift)
        self._starts.append(starts[kept] + shift)
        self._ends.append(ends[kept] + shift)

    def _decode_objects(
        self, data: bytes, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
    ) -> list[Any] | None:
        """Return the records of lines that are an object each; None where they are not, or where one is damaged.

        The decoder takes white space for a separator, line feeds or not. But where each line begins with `{` and ends
        with `}`, no object reaches into the next line: JSON has no `}` before a `{` without a comma in between, and no
        line feed in a string. So each line holds at least one object, and as many objects as lines are one in each.
        """
        characters = np.frombuffer(data, np.uint8)
        if (characters[starts] != _OPENING).any() or (characters[ends - 2] != _CLOSING).any():
            return None
        try:
            records = self._fields.decode_lines(memoryview(data)[starts[0] : ends[-1]])
        except _UNDECODABLE:
            return None
        return records if len(records) == len(starts) else None

    def _decode_singly(self, data: bytes, bounds: list[int], shift: int) -> list[int]:
        """Decode lines one by one; returns the numbers of those that gave a record."""
        view = memoryview(data)
        kept = []
        for number, (start, stop) in enumerate(pairwise(bounds)):
            try:
                self.records.append(self._fields.decode(view[start:stop]))
                kept.append(number)
            except _UNDECODABLE as error:
                if line := data[start:stop].strip(b" \t\r\n"):
                    self._reject(start + shift, *explain(line, error))
        return kept

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
        records, fields, following = self.records, self._fields, self.ordinal
        starts, ends = (np.concatenate([_NOWHERE, *places]) for places in (self._starts, self._ends))
        ordinals = np.arange(self._first, following)
        if self.rejects:
            ordinals = np.delete(ordinals, [reject.ordinal - self._first for reject in self.rejects])
        batch = self._assembler.batch(
            ordinals,
            ends,
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
