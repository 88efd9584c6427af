"""The rejected items of a part, as the JSON lines that an operator reads.

A part may reject millions of items (a wrong field name rejects them all), so lines go to a temporary file once they
are many.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import tempfile
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from tokenmill.sources.items import Reject

_HELD_BYTES = 4 << 20


class RejectLines:
    """Collects the rejects of one part of one table, in the order of their ordinals. Close it.

    Attributes:
        lost_items: Items rejected, and items estimated lost in torn files.
        sha256: Of the lines so far, in hexadecimal.
    """

    def __init__(self, table: str, split: int, source: str) -> None:
        self.lost_items = 0
        self._table = table
        self._split = split
        self._source = source
        self._hasher = hashlib.sha256()
        self._file = tempfile.SpooledTemporaryFile(_HELD_BYTES)  # noqa: SIM115  `close` closes it
        self._mapped: mmap.mmap | None = None

    @property
    def sha256(self) -> str:
        """Checksum of all lines, in hexadecimal."""
        return self._hasher.hexdigest()

    def add(self, rejects: Iterable[Reject]) -> None:
        """Write the rejects of a batch, whose ordinals are above those of all batches before."""
        for reject in sorted(rejects, key=lambda reject: reject.ordinal):
            line = self._line(reject)
            self._hasher.update(line)
            self._file.write(line)
            self.lost_items += reject.lost_items

    def content(self) -> memoryview:
        """Return all lines; nothing may be added any more."""
        size = self._file.tell()
        if size <= _HELD_BYTES:
            self._file.seek(0)
            return memoryview(self._file.read())
        self._file.flush()
        self._mapped = mmap.mmap(self._file.fileno(), size, prot=mmap.PROT_READ)
        return memoryview(self._mapped)

    def close(self) -> None:
        """Remove the temporary file; what `content` returned must not be used any more."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _line(self, reject: Reject) -> bytes:
        place = f"--table {self._table} --split {self._split} --ordinal {reject.ordinal}"
        value = {
            "split": self._split,
            "ordinal": reject.ordinal,
            "source": self._source,
            "key": reject.key,
            "locator": reject.locator,
            "reason": reject.reason,
            "message": reject.message,
            "lost_items": reject.lost_items,
            "lost_bytes": reject.lost_bytes,
            # Left out where nothing is lost of it, so that rejects of text and images stay as they were.
            **({"lost_seconds": reject.lost_seconds} if reject.lost_seconds else {}),
            "replay": f"tokenmill replay . {place}",
        }
        return (json.dumps(value, ensure_ascii=True) + "\n").encode()
