"""Bytes of a file in order, with a look ahead: what the parsers of containers read from. It knows no format."""

from __future__ import annotations

from typing import BinaryIO

_FILL_BYTES = 128 << 10


class ByteReader:
    """A buffered reader that never holds more than what was asked for at once and one filling.

    Args:
        file: The file, open for reading and seeking.
        size_bytes: How long it is; nothing beyond is read.

    Attributes:
        size_bytes: That length.
    """

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._file = file
        self._buffer = b""
        self._at = 0  # in the buffer
        self._end = file.tell()  # in the file, where the buffer ends

    @property
    def position(self) -> int:
        """Where the next byte lies in the file."""
        return self._end - len(self._buffer) + self._at

    @property
    def left_bytes(self) -> int:
        """How many bytes come after the position."""
        return self.size_bytes - self.position

    def peek(self, count: int) -> bytes:
        """Return the next bytes, fewer only where the file ends, and stay in front of them."""
        if len(self._buffer) - self._at < count:
            self._fill(count)
        return self._buffer[self._at : self._at + count]

    def read(self, count: int) -> bytes:
        """Return the next bytes, fewer only where the file ends."""
        data = self.peek(count)
        self._at += len(data)
        return data

    def seek(self, position: int) -> None:
        """Go to a place in the file; where that is beyond its end, to the end."""
        position = min(position, self.size_bytes)
        start = self._end - len(self._buffer)
        if start <= position <= self._end:
            self._at = position - start
            return
        self._file.seek(position)
        self._buffer, self._at, self._end = b"", 0, position

    def skip(self, count: int) -> None:
        """Go on without reading; where that is far, without fetching what is between."""
        self.seek(self.position + count)

    def _fill(self, count: int) -> None:
        parts = [self._buffer[self._at :]]
        have = len(parts[0])
        while have < count:
            wanted = min(max(count - have, _FILL_BYTES), self.size_bytes - self._end)
            data = self._file.read(wanted) if wanted > 0 else b""
            if not data:
                break
            parts.append(data)
            have += len(data)
            self._end += len(data)
        self._buffer, self._at = b"".join(parts), 0
