"""How much a reader hands out at once, and above which size it refuses an item. Constants of all formats."""

from __future__ import annotations

from dataclasses import dataclass

#: A batch is handed out once its items reach either; a larger item is a batch of its own.
BATCH_BYTES = 1 << 20
BATCH_ITEMS = 1024
#: Decompressed bytes that are read at once.
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """What a reader refuses.

    Attributes:
        max_item_bytes: A longer line, member, record or text becomes the reject `item_too_large`.
        max_metadata_bytes: A longer id or metadata value (in UTF-8) becomes the reject `metadata_too_large`.
    """

    max_item_bytes: int = 256_000_000
    max_metadata_bytes: int = 1_000_000
