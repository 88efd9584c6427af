"""Cuts recordings into the items that a source wants of them: channels, stretches of speech, or both.

What readers of any format give, a recording an item, becomes several items each; all have the recording's key and
metadata, and are a document: `documents` has the number of its first item. Reading resumes behind whole recordings
only (`ends` in ItemBatch). Items are numbered anew.

Of a recording that turns out to be damaged the segments before are kept. Its one reject stands before the last of them,
so that it belongs to the same part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tokenmill.audio.audio_file import AudioClip, AudioFile
from tokenmill.errors import ItemError
from tokenmill.job_sources import Source
from tokenmill.sources import reasons
from tokenmill.sources.items import Cursor, ItemBatch, Reject
from tokenmill.sources.limits import BATCH_BYTES, BATCH_ITEMS

#: Bytes of a sample of a clip, as items are measured.
_SAMPLE_BYTES = 2
#: Stands for the end of an item behind which reading cannot resume.
NO_END = -1


@dataclass(frozen=True, slots=True)
class _Piece:
    """An item cut from a recording.

    Attributes:
        payload: It.
        size_bytes: Its size: its share of the file, or of a segment that of its sound at 16 bits.
        place: Where in the recording it is, for its locator.
        stop_seconds: Where it ends, of a segment.
    """

    payload: AudioFile | AudioClip
    size_bytes: int
    place: str
    stop_seconds: float = 0.0


def cut_recordings(batches: Iterator[ItemBatch], source: Source, cursor: Cursor) -> Iterator[ItemBatch]:
    """Yield the items that recordings are cut into.

    Args:
        batches: Recordings, all with locators, from `cursor` on.
        source: Says what is wanted of them.
        cursor: Where reading begins.
    """
    collected = _Collected(source, cursor.ordinal)
    for batch in batches:
        rejects = iter(batch.rejects)
        reject = next(rejects, None)
        for index, ordinal in enumerate(batch.ordinals.tolist()):
            while reject is not None and reject.ordinal < ordinal:
                collected.reject(reject)
                reject = next(rejects, None)
            yield from _cut(collected, batch, index, source)
        while reject is not None:
            collected.reject(reject)
            reject = next(rejects, None)
        yield from collected.flushed()


def _cut(collected: _Collected, batch: ItemBatch, index: int, source: Source) -> Iterator[ItemBatch]:
    """Add the items of one recording; yields batches as they become full."""
    collected.begin()
    held: _Piece | None = None
    reject: Reject | None = None
    key, locator = batch.keys[index], batch.locators[index]
    try:
        for piece in _pieces(batch.payloads[index], int(batch.sizes[index]), source):
            if held is not None:
                collected.add(held, batch, index, NO_END)
                if collected.is_full:
                    yield from collected.flushed()
            held = piece
        if held is None:
            reject = Reject(0, key, locator, reasons.NO_SPEECH, "there is no speech in the recording")
    except ItemError as error:
        lost_seconds = max(error.lost_seconds - (held.stop_seconds if held else 0.0), 0.0)
        reject = Reject(0, key, locator, error.reason, error.what[:500], lost_seconds=lost_seconds)
    if reject is not None:
        collected.reject(reject)
    if held is not None:
        collected.add(held, batch, index, int(batch.ends[index]))
    if collected.is_full:
        yield from collected.flushed()


def _pieces(file: AudioFile, size_bytes: int, source: Source) -> Iterator[_Piece]:
    """Yield what a recording is cut into; raises ItemError where it is damaged."""
    from tokenmill.audio.decoding import DecodedAudio  # PyAV is in the extra

    with DecodedAudio(file.content, file.options.max_seconds) as decoded:
        info = decoded.info
        if source.segments is not None:
            from tokenmill.audio.segments import speech_clips  # and so is the detector

            for clip in speech_clips(decoded, source.channels, source.segments):
                start = clip.start_sample / info.rate_hz
                stop = start + len(clip.samples) / info.rate_hz
                time = f"t={start:.3f},{stop:.3f}"
                place = time if source.channels != "each" else f"channel={clip.channel}&{time}"
                yield _Piece(clip, len(clip.samples) * _SAMPLE_BYTES, place, stop)
            return
    for channel in range(info.channels):  # each is decoded when its turn comes: all at once would have to be held
        share = size_bytes * (channel + 1) // info.channels - size_bytes * channel // info.channels
        options = replace(file.options, channel=channel)
        yield _Piece(AudioFile(file.content, options), share, f"channel={channel}")


class _Collected:
    """Items and rejects that wait to become a batch.

    Args:
        source: Names the metadata columns.
        ordinal: Number of the first item.
    """

    def __init__(self, source: Source, ordinal: int) -> None:
        self._columns = tuple(source.metadata)
        self._ordinal = ordinal
        self._document = ordinal
        self._position = 0
        self._clear()

    def _clear(self) -> None:
        self._numbers: list[tuple[int, int, int, int, int]] = []
        self._keys: list[str] = []
        self._payloads: list[AudioFile | AudioClip] = []
        self._metadata: dict[str, list[object]] = {name: [] for name in self._columns}
        self._locators: list[str] = []
        self._rejects: list[Reject] = []
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether what is there should be handed out."""
        return len(self._keys) + len(self._rejects) >= BATCH_ITEMS or self._bytes >= BATCH_BYTES

    def begin(self) -> None:
        """Begin a recording."""
        self._position = 0

    def add(self, piece: _Piece, batch: ItemBatch, index: int, end: int) -> None:
        """Add an item of a recording, which is an item of a batch; `end` is where reading resumes after it."""
        if self._position == 0:
            self._document = self._ordinal
        self._numbers.append((self._ordinal, end, piece.size_bytes, self._document, self._position))
        self._keys.append(batch.keys[index])
        self._payloads.append(piece.payload)
        for name, values in self._metadata.items():
            values.append(batch.metadata[name][index])
        locator = batch.locators[index]
        self._locators.append(f"{locator}{'&' if '#' in locator else '#'}{piece.place}")
        self._bytes += piece.size_bytes
        self._ordinal += 1
        self._position += 1

    def reject(self, reject: Reject) -> None:
        """Add a reject under the next number."""
        self._rejects.append(replace(reject, ordinal=self._ordinal))
        self._ordinal += 1

    def flushed(self) -> Iterator[ItemBatch]:
        """Yield what is there, if anything is, as a batch, and begin the next."""
        if not self._keys and not self._rejects:
            return
        numbers = np.array(self._numbers, np.int64).reshape(-1, 5)
        ordinals, ends, sizes, documents, positions = (np.ascontiguousarray(column) for column in numbers.T)
        batch = ItemBatch(
            ordinals,
            ends,
            sizes,
            self._keys,
            self._payloads,
            self._metadata,
            "",
            self._locators,
            self._rejects,
            documents,
            positions,
        )
        self._clear()
        yield batch
