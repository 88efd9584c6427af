"""The decompressed bytes of one file, in order, in bounded memory, and where they broke off.

A damaged or truncated file never raises here: the stream ends early, and `tear` says why. What storage raises
(a server that is gone) passes through.
"""

from __future__ import annotations

import bz2
import lzma
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self

from isal import igzip_lib

from tokenmill.errors import ChangedError, StorageError
from tokenmill.sources.formats import Compression
from tokenmill.sources.limits import CHUNK_BYTES

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: Stored bytes that are fed to a decompressor at once, and when a damaged place is approached again.
_PIECE_BYTES = 256 << 10
_CAREFUL_PIECE_BYTES = 4 << 10
#: Decompressed bytes that are asked for at once: on the first approach to a damaged place, on the next …
_STEPS = (1 << 30, 64 << 10, 1 << 10, 16, 1)
#: The largest zstd window, and the largest lzma dictionary, that is accepted.
WINDOW_BYTES = 128 << 20

_GzipError: Any = igzip_lib.error
_DAMAGED = (zstd.ZstdError, _GzipError, lzma.LZMAError, EOFError, OSError, ValueError, MemoryError)


class _Decompressor(Protocol):
    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    "gz": lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP),
    "zst": lambda: zstd.ZstdDecompressor(
        options={zstd.DecompressionParameter.window_log_max: WINDOW_BYTES.bit_length() - 1}
    ),
    "xz": lambda: lzma.LZMADecompressor(memlimit=2 * WINDOW_BYTES),
    "bz2": bz2.BZ2Decompressor,
}


@dataclass(frozen=True, slots=True)
class Tear:
    """Where a file broke off.

    Attributes:
        message: What was wrong.
        stored_bytes: Bytes of the file, as stored, that were read before.
        at_start: Whether nothing at all could be read: the file is not what its ending says.
    """

    message: str
    stored_bytes: int
    at_start: bool = False


class _DamageError(Exception):
    """What a decompressor says about bytes that it cannot take."""


class ByteStream:
    """Sequential reading of one file: uncompressed here, decompressed in the subclass.

    Attributes:
        position: Decompressed bytes handed out or passed over so far.
        tear: Why the stream ended early; None while all is well.
    """

    def __init__(self, file: BinaryIO, size_bytes: int, uri: str) -> None:
        self.position = 0
        self.tear: Tear | None = None
        self.size_bytes = size_bytes
        self._file = file
        self._uri = uri
        self._stored_position = 0

    @property
    def stored_position(self) -> int:
        """Bytes used up so far, as stored."""
        return self._stored_position

    def read(self, limit: int = CHUNK_BYTES) -> bytes:
        """Return at most `limit` bytes, at least one unless the stream has ended."""
        data = self._read_stored(limit)
        self.position += len(data)
        return data

    def read_exactly(self, count: int) -> bytes:
        """Return `count` bytes, fewer only where the stream ends."""
        pieces = []
        while count and (piece := self.read(min(count, CHUNK_BYTES))):
            pieces.append(piece)
            count -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def skip_to(self, position: int) -> None:
        """Pass over everything before `position`."""
        self.position = self._stored_position = min(position, self.size_bytes)
        self._file.seek(self.position)

    def close(self) -> None:
        """Close the file underneath."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_stored(self, limit: int) -> bytes:
        """Read bytes as stored, never past the size that the file had when it was planned."""
        limit = min(limit, self.size_bytes - self._stored_position)
        try:
            data = self._file.read(limit)
        except OSError as error:
            raise StorageError(f"cannot be read: {error.strerror or error}", where=self._uri) from error
        if limit and not data:
            raise ChangedError(
                f"the input file became shorter while it was read: {self._stored_position} bytes of {self.size_bytes}",
                where=self._uri,
                fix="put the old file back, or write to a new output",
            )
        self._stored_position += len(data)
        return data


class DecompressedStream(ByteStream):
    """Sequential reading of a compressed file: any number of members or frames, one after another.

    Where a decompressor finds damage, what it had decompressed in that call is lost; so the file is read again up to
    there, and approached in smaller and smaller steps. In the end every byte before the damage was handed out, whatever
    the sizes that were asked for, so that reading from anywhere stops at the same place.
    """

    def __init__(self, file: BinaryIO, size_bytes: int, uri: str, compression: Compression) -> None:
        super().__init__(file, size_bytes, uri)
        self._new = _DECOMPRESSORS[compression]
        self._approaches = 0
        self._piece_bytes = _PIECE_BYTES
        self._decompressor: _Decompressor | None = None
        self._used = 0

    @property
    def stored_position(self) -> int:
        """Bytes that went into what was handed out, as stored."""
        return self._used

    def read(self, limit: int = CHUNK_BYTES) -> bytes:
        """Return at most `limit` bytes, at least one unless the stream has ended or is torn."""
        while self.tear is None:
            try:
                data = self._step(min(limit, _STEPS[self._approaches]))
            except _DamageError as error:
                if self._approaches + 1 < len(_STEPS):
                    self._approach()
                else:
                    self.tear = Tear(f"damaged: {error}", self._used, at_start=self._used == 0)
                continue
            if data is None:
                break
            self._used = self._stored_position
            if data:
                self.position += len(data)
                return data
        return b""

    def skip_to(self, position: int) -> None:
        """Pass over everything before `position`."""
        while self.position < position and self.read(min(position - self.position, CHUNK_BYTES)):
            pass

    def _step(self, limit: int) -> bytes | None:
        """Return what comes next, perhaps nothing yet; None at the end."""
        decompressor = self._decompressor
        if decompressor is not None and not decompressor.eof:
            data = b""
            if decompressor.needs_input and not (data := self._read_stored(self._piece_bytes)):
                self.tear = Tear("the file ends in the middle of its compressed data", self._used)
                return None
            return self._decompress(decompressor, data, limit)
        data = b"" if decompressor is None else decompressor.unused_data.lstrip(b"\0")  # zeros pad between members
        if not data:
            stored = self._read_stored(self._piece_bytes)
            data = stored if decompressor is None else stored.lstrip(b"\0")
            if not data:
                return b"" if stored else None
        self._decompressor = decompressor = self._new()
        return self._decompress(decompressor, data, limit)

    def _decompress(self, decompressor: _Decompressor, data: bytes, limit: int) -> bytes:
        try:
            return decompressor.decompress(data, limit)
        except _DAMAGED as error:
            raise _DamageError(str(error)) from error

    def _approach(self) -> None:
        """Read again up to where this stream is, and go on in smaller steps."""
        target = self.position
        steps = self._approaches + 1
        self._approaches = 0
        self._piece_bytes = _CAREFUL_PIECE_BYTES
        self._decompressor = None
        self._file.seek(0)
        self.position = self._stored_position = self._used = 0
        self.skip_to(target)
        self._approaches = steps


def byte_stream(opened: BinaryIO, size_bytes: int, uri: str, compression: Compression) -> ByteStream:
    """Return the decompressed bytes of an open file, which the stream closes.

    Args:
        opened: The file, at its start.
        size_bytes: Its size as stored; nothing behind it is read.
        uri: Names the file in errors.
        compression: What is around its bytes.
    """
    if compression == "none":
        return ByteStream(opened, size_bytes, uri)
    return DecompressedStream(opened, size_bytes, uri, compression)
