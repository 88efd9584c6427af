"""What `tokenmill head --audio` leaves in a directory: rows as WAV files, with originals, and a picture of them all."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tokenmill.audio.audio_file import AudioClip, AudioFile
from tokenmill.audio.sound import Sound, write_wav
from tokenmill.commands.originals import originals
from tokenmill.commands.output import described, printable
from tokenmill.contract import PrefixDecoder
from tokenmill.errors import StorageError, TokenmillError

if TYPE_CHECKING:
    import numpy.typing as npt

    from tokenmill.commands.contact_sheet import Section
    from tokenmill.dataset import Row, Table
    from tokenmill.streams import StreamSpec

#: Name of the picture.
PICTURE = "spectrograms.png"
#: Fractions of the codebooks that are decoded beside all of them.
_FRACTIONS = {0.25: "quarter", 0.5: "half"}
_SHOWN_CHARACTERS = 100
#: What is written in the place of an original that could not be read again.
_GONE = "source gone or changed"


class _Sounds:
    """What is heard of one row.

    Attributes:
        row: The row, or the beginning of it.
        index: Its number in the table.
        heard: Name → what it is as sound (None for an original that is gone), and a caption.
    """

    def __init__(self, index: int, row: Row) -> None:
        self.index = index
        self.row = row
        self.heard: dict[str, tuple[Sound | None, str]] = {}


def write_sounds(directory: Path, tables: Sequence[tuple[Table, Sequence[tuple[int, Row, Sound]]]]) -> None:
    """Write the sounds of rows of tables, with their originals, and a picture of all.

    Args:
        directory: Where to; it is made. Files of the same names are replaced.
        tables: Tables, and of each: a row's number, the row (or its beginning), and what that decodes to.

    Raises:
        StorageError: where a file cannot be written.
    """
    found = [(table, _sounds_of(table, rows)) for table, rows in tables]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for table, some in found:
            for sounds in some:
                for name, (sound, _) in sounds.heard.items():
                    if sound is not None:
                        write_wav(sound, directory / f"{table.name}-{sounds.index}-{name}.wav")
        try:
            from tokenmill.commands.contact_sheet import draw
            from tokenmill.commands.spectrograms import HEIGHT, WIDTH
        except ModuleNotFoundError:
            sys.stderr.write("note: no spectrograms: they are drawn by Pillow; pip install 'tokenmill[image]'\n")
            return
        draw([_section(table, some) for table, some in found], WIDTH, HEIGHT).save(directory / PICTURE)
    except OSError as error:
        raise StorageError(f"cannot be written: {error.strerror or error}", where=str(directory)) from error


def _sounds_of(table: Table, rows: Sequence[tuple[int, Row, Sound]]) -> list[_Sounds]:
    payloads = originals(table, [row for _, row, _ in rows])
    decoder, found = table.decoder, []
    for index, row, decoded in rows:
        sounds = _Sounds(index, row)
        sounds.heard["original"] = _original(payloads[row.split, row.ordinal], decoded)
        if isinstance(decoder, PrefixDecoder):
            for fraction, name in _FRACTIONS.items():
                cut = decoder.prefix(row.streams, fraction)
                sounds.heard[name] = decoder.decode(cut), _rates(cut, row.streams, table.streams)
        sounds.heard["all"] = decoded, _rates(row.streams, row.streams, table.streams)
        found.append(sounds)
    return _without_repeats(found)


def _without_repeats(found: list[_Sounds]) -> list[_Sounds]:
    """Leave out fractions that are, in every row, what a larger one is: of one codebook, half is all."""
    names = list(found[0].heard)[1:]
    for name, larger in pairwise(names):
        if all(sounds.heard[name][1] == sounds.heard[larger][1] for sounds in found):
            for sounds in found:
                del sounds.heard[name]
    return found


def _original(payload: Any, decoded: Sound) -> tuple[Sound | None, str]:
    """Return what the tokenizer was given, as long as what is decoded, and at the same rate."""
    if not isinstance(payload, AudioFile | AudioClip):
        return None, _GONE
    wanted, blocks, held = len(decoded.samples), [np.empty(0, np.float32)], 0
    try:
        recording = payload.recording(decoded.rate_hz)
        for block in recording.blocks():
            blocks.append(block[: wanted - held])
            held += len(blocks[-1])
            if held >= wanted:
                break
    except TokenmillError as error:  # a file is opened here, not before
        sys.stderr.write(f"note: an original is not shown: {error}\n")
        return None, _GONE
    return Sound(np.concatenate(blocks), decoded.rate_hz), f"at {decoded.rate_hz / 1000:g} kHz"


def _rates(
    cut: Mapping[str, npt.NDArray[Any]], whole: Mapping[str, npt.NDArray[Any]], specs: Mapping[str, StreamSpec]
) -> str:
    """Say how many codebooks a row has left, and what they take a second."""
    books = of = 0
    rate = kbits = 0.0
    for name, spec in specs.items():
        if spec.frame_hz is not None and spec.vocabulary_size:
            width = math.prod(cut[name].shape[1:])
            books, of = books + width, of + math.prod(whole[name].shape[1:])
            rate += width * spec.frame_hz
            kbits += width * spec.frame_hz * math.log2(spec.vocabulary_size) / 1000
    plural = "codebook" if of == 1 else "codebooks"
    share = f"{of} {plural}" if books == of else f"{books} of {of} {plural}"
    return f"{share}, {rate:g} tokens/s, {kbits:.3g} kbit/s"


def _section(table: Table, some: Sequence[_Sounds]) -> Section:
    from tokenmill.commands.contact_sheet import Cell, Section, SheetRow
    from tokenmill.commands.spectrograms import spectrograms

    rows = []
    for sounds in some:
        pictures = iter(spectrograms([sound for sound, _ in sounds.heard.values() if sound is not None]))
        cells = [Cell(None if sound is None else next(pictures), text) for sound, text in sounds.heard.values()]
        rows.append(SheetRow(_heading(sounds, table.streams), cells))
    names = {name: text for text, name in (("1/4 of the codebooks", "quarter"), ("1/2", "half"), ("all", "all"))}
    return Section(f"Table {table.name}", [names.get(name, name) for name in some[0].heard], rows)


def _heading(sounds: _Sounds, specs: Mapping[str, StreamSpec]) -> str:
    about = [described(sounds.row.streams[name], specs[name], name) for name in ("recording", "level") if name in specs]
    return ",  ".join([f"{sounds.index}  {printable(sounds.row.key, _SHOWN_CHARACTERS)}", *about])
