"""What rows decode to: told apart without loading a library, and turned into the bytes of a file."""

from __future__ import annotations

import sys
from io import BytesIO
from typing import TYPE_CHECKING, Any

from tokenmill.errors import DatasetError

if TYPE_CHECKING:
    from tokenmill.dataset import Table


def is_sound(decoded: Any) -> bool:
    """Say whether something is a Sound of ours, whose module is loaded where there is one."""
    sound = sys.modules.get("tokenmill.audio.sound")
    return sound is not None and isinstance(decoded, sound.Sound)


def is_image(decoded: Any) -> bool:
    """Say whether something is a picture of Pillow, which is loaded where there is one."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(decoded, pillow.Image)


def holds_sound(table: Table) -> bool:
    """Say whether a table's rows are of recordings."""
    from tokenmill.audio.streams import RECORDING, RECORDING_SPEC

    return table.streams.get(RECORDING) == RECORDING_SPEC


def holds_modules(table: Table) -> bool:
    """Say whether a table's rows are of modules of LLVM IR."""
    from tokenmill.ir.streams import MODULE, MODULE_STREAMS

    return table.streams.get(MODULE) == MODULE_STREAMS[MODULE]


def as_file(decoded: Any, table: Table) -> tuple[str, bytes]:
    """Return what a row decoded to as a file: its name's ending and its bytes.

    Text is UTF-8, bytes that it could not hold as they were; pictures become PNG, sound becomes WAV.

    Raises:
        DatasetError: It is something else.
    """
    if isinstance(decoded, str):
        return ".ll" if holds_modules(table) else ".txt", decoded.encode("utf-8", "surrogateescape")
    file = BytesIO()
    if is_image(decoded):
        decoded.save(file, "PNG")
        return ".png", file.getvalue()
    if is_sound(decoded):
        from tokenmill.audio.sound import write_wav

        write_wav(decoded, file)
        return ".wav", file.getvalue()
    raise DatasetError(
        f"the tokenizer {table.tokenizer.config['id']!r} decodes to {type(decoded).__name__}; text, pictures and sound "
        "are what can be written",
        fix="call `Table.decode` from Python",
    )
