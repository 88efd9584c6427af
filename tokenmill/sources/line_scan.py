"""Finds lines in a byte stream, without copying them, in bounded memory. What a line holds is the format's business."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tokenmill.sources.byte_streams import ByteStream
from tokenmill.sources.limits import CHUNK_BYTES
from tokenmill.sources.reasons import QUOTED_CHARACTERS


@dataclass(slots=True)
class LineBlock:
    """A run of complete lines: `data[begin:end]`. Only the last line of a file may lack its line feed.

    Attributes:
        data: Bytes that hold the run.
        begin: Where it begins in `data`.
        end: Where it ends.
        offset: Where it begins in the decompressed file.
    """

    data: bytes
    begin: int
    end: int
    offset: int


@dataclass(slots=True)
class LongLine:
    """A line that is longer than allowed, and was passed over: [offset, stop) in the decompressed file."""

    offset: int
    stop: int
    beginning: bytes


def scan_lines(
    stream: ByteStream, start: int, stop: int | None, max_line_bytes: int, *, exact: bool
) -> Iterator[LineBlock | LongLine]:
    """Yield the lines that start in [start, stop) of a decompressed file.

    Args:
        stream: The file, not yet read.
        start: Where to begin.
        stop: Where to end; None: with the file.
        max_line_bytes: Longer lines are passed over (line feed not counted).
        exact: Whether a line is known to start at `start`; else the first one that starts there or later is looked for.

    After a tear the line that it cut off is not handed out.
    """
    if stop is not None and start >= stop:
        return
    aligned = exact or start == 0
    stream.skip_to(start if aligned else start - 1)
    carry: list[bytes] = []
    carried = 0
    beginning: bytes | None = None  # of a line that is being passed over
    offset = stream.position  # of the carried line
    while chunk := stream.read(CHUNK_BYTES):
        chunk_offset = stream.position - len(chunk)
        begin = 0
        if not aligned:
            begin = chunk.find(b"\n") + 1
            if not begin:
                continue
            aligned = True
            offset = chunk_offset + begin
            if stop is not None and offset >= stop:
                return
        last, end = _owned_end(chunk, chunk_offset, begin, stop)
        first = chunk.find(b"\n", begin) + 1 if carry or beginning is not None else begin
        if end and first and first > begin:  # the carried line ends in this chunk
            length = carried + first - begin
            if beginning is None and length - 1 > max_line_bytes:
                beginning = b"".join(carry)[:QUOTED_CHARACTERS]
            if beginning is not None:
                yield LongLine(offset, offset + length, beginning)
                beginning = None
            else:
                carry.append(chunk[begin:first])
                yield LineBlock(b"".join(carry), 0, length, offset)
            carry, carried, begin = [], 0, first
            offset = chunk_offset + begin
        if end > begin:
            yield LineBlock(chunk, begin, end, chunk_offset + begin)
            begin = end
            offset = chunk_offset + begin
        if last:
            return
        if begin < len(chunk):
            carried += len(chunk) - begin
            if beginning is None:
                carry.append(chunk[begin:] if begin else chunk)
                if carried > max_line_bytes:
                    beginning, carry = b"".join(carry)[:QUOTED_CHARACTERS], []
    if stream.tear is not None or not carried:
        return
    if beginning is not None:
        yield LongLine(offset, offset + carried, beginning)
    else:
        yield LineBlock(b"".join(carry), 0, carried, offset)


def lines_of(block: LineBlock | LongLine) -> Iterator[tuple[int, bytes | None, int]]:
    """Yield each line's start, its bytes without line feed (None: it is too long), and its end, in the file."""
    if isinstance(block, LongLine):
        yield block.offset, None, block.stop
        return
    data, begin = block.data, block.begin
    shift = block.offset - begin
    while begin < block.end:
        stop = data.find(b"\n", begin, block.end)
        following = stop + 1 if stop >= 0 else block.end
        yield begin + shift, data[begin : stop if stop >= 0 else block.end], following + shift
        begin = following


def _owned_end(chunk: bytes, offset: int, begin: int, stop: int | None) -> tuple[bool, int]:
    """Return whether the last line to read ends in this chunk, and where its complete lines end (0: nowhere)."""
    if stop is not None and stop - 1 - offset < len(chunk):
        end = chunk.find(b"\n", max(begin, stop - 1 - offset)) + 1
        if end:
            return True, end
    return False, chunk.rfind(b"\n", begin) + 1
