"""How much a reader hands out at once, and above which size it refuses an item. Constants of all formats."""

from __future__ import annotations

from dataclasses import dataclass

from tokenmill.jobs import Limits

#: A batch is handed out once its items reach either; a larger item is a batch of its own.
BATCH_BYTES = 1 << 20
BATCH_ITEMS = 1024
#: Decompressed bytes that are read at once.
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """What a reader refuses.

    Attributes:
        max_item_bytes: A longer line, member, record, text or image file becomes the reject `item_too_large`.
            Recordings that are files of their own, and not compressed, are bound by `max_audio_bytes` instead.
        max_metadata_bytes: A longer id or metadata value (in UTF-8) becomes the reject `metadata_too_large`.
        max_pixels: An image of more pixels becomes the reject `too_many_pixels`, where it is decoded.
        max_audio_bytes: A larger file of one recording becomes the reject `item_too_large`.
        max_audio_seconds: A longer recording becomes the reject `too_long`, where it is decoded.
        max_ir_text_bytes: A module of LLVM IR with a longer text becomes the reject `too_large`, where it is read.
        max_ir_memory_bytes: A module that takes more memory becomes the reject `reader_out_of_memory`.
        max_ir_seconds: A module that takes more processor time becomes the reject `reader_timed_out`.
    """

    max_item_bytes: int = 256_000_000
    max_metadata_bytes: int = 1_000_000
    max_pixels: int = 64_000_000
    max_audio_bytes: int = 20_000_000_000
    max_audio_seconds: float = 86_400.0
    max_ir_text_bytes: int = 256_000_000
    max_ir_memory_bytes: int = 4_000_000_000
    max_ir_seconds: float = 120.0

    @classmethod
    def of(cls, limits: Limits) -> ReadLimits:
        """Return those that a job states."""
        return cls(
            int(limits.max_item_bytes),
            int(limits.max_metadata_bytes),
            limits.max_pixels,
            int(limits.max_audio_bytes),
            limits.max_audio_seconds,
            int(limits.max_ir_text_bytes),
            int(limits.max_ir_memory_bytes),
            limits.max_ir_seconds,
        )
