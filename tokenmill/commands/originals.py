"""What rows were made of: their items, read from the sources again, for those who want to see or hear both."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tokenmill.errors import TokenmillError
from tokenmill.replaying import read_again

if TYPE_CHECKING:
    from tokenmill.dataset import Row, Table


def originals(table: Table, rows: Sequence[Row]) -> dict[tuple[int, int], Any]:
    """Return (split, ordinal) → payload; None where an item is not what it was, of which a note is left."""
    found: dict[tuple[int, int], Any] = {}
    for split in dict.fromkeys(row.split for row in rows):
        keys = {row.ordinal: row.key for row in rows if row.split == split}
        try:
            payloads, errors = read_again(table.storage, table.name, split, keys)
        except TokenmillError as error:
            payloads, errors = {}, dict.fromkeys(keys, error)
        found.update({(split, ordinal): payloads.get(ordinal) for ordinal in keys})
        for why in dict.fromkeys(map(str, errors.values())):
            sys.stderr.write(f"note: an original is not shown: {why}\n")
    return found
