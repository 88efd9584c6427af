"""MP4's boxes, as far as sound needs them: where the packets of the first track of AAC or ALAC lie.

Nothing is allocated by what a field claims: every table must lie within the `moov` box, which is read whole and may
have 32 MiB, and must agree with the others. Fragmented files are not read.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tokenmill.audio.byte_reader import ByteReader
from tokenmill.audio.tracks import Damaged, NotAudio, Unsupported

_MOST_MOOV_BYTES = 32 << 20
#: Of a packet a table says how long it is, but where all are of a length: two days of sound have so many.
_MOST_PACKETS = 1 << 23
_MOST_BOXES = 10_000
_AAC_OBJECTS = frozenset((0x40, 0x66, 0x67, 0x68))
_GAPLESS = re.compile(rb"iTunSMPB.{0,64}? 0{8} ([0-9A-F]{8}) [0-9A-F]{8} ([0-9A-F]{16})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Mp4Sound:
    """A track.

    Attributes:
        codec: `aac` or `alac`.
        setup: The codec's header.
        rate_hz: As the tables state it.
        channels: As the tables state it.
        timescale_hz: Ticks a second of `duration` and `skipped`.
        duration: Of all packets.
        skipped: What the edit list leaves out at the beginning.
        edit_seconds: How long the edit list says that the sound is; None where there is none.
        tick_seconds: How exactly it says it.
        gapless: iTunSMPB's delay and samples.
        offsets: int64 `[packet]`: where each begins in the file.
        sizes: int64 `[packet]`: its bytes.
    """

    codec: str
    setup: bytes
    rate_hz: int
    channels: int
    timescale_hz: int
    duration: int
    skipped: int
    edit_seconds: float | None
    tick_seconds: float
    gapless: tuple[int, int] | None
    offsets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]


def read_mp4(reader: ByteReader) -> Mp4Sound:
    """Read the tables of the first track of sound; raises Damaged, Unsupported, or NotAudio where there is none."""
    moov = _moov(reader)
    try:
        return _sound(moov, reader.size_bytes)
    except (struct.error, KeyError, IndexError) as error:
        raise Damaged(f"a box of the file is missing or too short: {error}") from error


def _moov(reader: ByteReader) -> bytes:
    for _ in range(_MOST_BOXES):
        start = reader.position
        head = reader.read(8)
        if len(head) < 8:
            raise Damaged("the file ends before its moov box")
        size, kind = struct.unpack(">I4s", head)
        if size == 1:
            size = int.from_bytes(reader.read(8), "big")
        elif size == 0:
            size = reader.size_bytes - start
        if size < reader.position - start:
            raise Damaged(f"the box at byte {start} announces {size} bytes, its header included")
        if kind == b"moov":
            if size > _MOST_MOOV_BYTES:
                raise Unsupported(f"a moov box of {size} bytes")
            body = reader.read(start + size - reader.position)
            if reader.position < start + size:
                raise Damaged("the file ends within its moov box")
            return body
        reader.seek(start + size)
    raise Damaged(f"no moov box among {_MOST_BOXES} boxes")


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the type and the content of each box; a box that is longer than what holds it makes the file damaged."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", data, at + 8)[0], 16
        elif size == 0:
            size = len(data) - at
        if size < head or at + size > len(data):
            raise Damaged(f"the box {kind!r} announces {size} bytes, and {len(data) - at} are there")
        yield kind, data[at + head : at + size]
        at += size


def _first(data: bytes, *path: bytes) -> bytes:
    for kind in path:
        data = next((content for found, content in _boxes(data) if found == kind), None) or _missing(kind)
    return data


def _missing(kind: bytes) -> bytes:
    raise Damaged(f"there is no box {kind!r}")


def _sound(moov: bytes, file_bytes: int) -> Mp4Sound:
    kinds = [kind for kind, _ in _boxes(moov)]
    tracks = [content for kind, content in _boxes(moov) if kind == b"trak"]
    for track in tracks:
        media = _first(track, b"mdia")
        if _first(media, b"hdlr")[8:12] == b"soun":
            break
    else:
        raise NotAudio("an MP4 file without a track of sound")
    if b"mvex" in kinds:
        raise Unsupported("fragmented MP4")
    tables = dict(_boxes(_first(media, b"minf", b"stbl")))
    codec, setup, rate_hz, channels = _description(tables[b"stsd"])
    timescale_hz = _scale(_first(media, b"mdhd"))
    movie_hz = _scale(_first(moov, b"mvhd"))
    sizes = _sizes(tables, file_bytes)
    duration = _duration(tables[b"stts"], len(sizes))
    skipped, edited = _edit(track)
    found = _GAPLESS.search(moov)
    return Mp4Sound(
        codec,
        setup,
        rate_hz,
        channels,
        timescale_hz,
        duration,
        skipped,
        None if edited is None else edited / movie_hz,
        1 / movie_hz,
        None if found is None else (int(found[1], 16), int(found[2], 16)),
        _offsets(tables, sizes),
        sizes,
    )


def _scale(box: bytes) -> int:
    """Return the ticks a second of an mvhd or mdhd box."""
    scale = int(struct.unpack_from(">I", box, 20 if box[0] else 12)[0])
    if not scale:
        raise Damaged("a timescale is 0")
    return scale


def _edit(track: bytes) -> tuple[int, int | None]:
    """Return what the edit list skips, in the media's ticks, and how long it says the rest is, in the movie's."""
    edits = next((content for kind, content in _boxes(track) if kind == b"edts"), b"")
    table = next((content for kind, content in _boxes(edits) if kind == b"elst"), b"")
    if len(table) < 8:
        return 0, None
    entry = struct.Struct(">QqI" if table[0] else ">IiI")
    count = min(struct.unpack_from(">I", table, 4)[0], (len(table) - 8) // entry.size)
    edits_found = [entry.unpack_from(table, 8 + number * entry.size) for number in range(min(count, 16))]
    sounding = [(length, start) for length, start, _ in edits_found if start >= 0]
    if len(sounding) != 1:  # none, or a montage: what the packets hold is taken as it is
        return 0, None
    length, start = sounding[0]
    return start, length or None


def _description(stsd: bytes) -> tuple[str, bytes, int, int]:
    """Return codec, its header, rate in Hz and channels."""
    kind, entry = next(_boxes(stsd[8:]))
    version, channels, rate_hz = struct.unpack_from(">H", entry, 8)[0], *struct.unpack_from(">H6xH", entry, 16)
    inner = entry[28 + {0: 0, 1: 16}.get(version, 36) :]
    if kind == b"alac":
        cookie = _first(inner, b"alac")
        if len(cookie) < 28:
            raise Damaged("ALAC's header breaks off")
        # Frame length, version, bits, three parameters, channels, run, largest frame, bit rate and sample rate.
        return "alac", struct.pack(">I4s", 36, b"alac") + cookie[:28], int.from_bytes(cookie[24:28], "big"), cookie[13]
    if kind != b"mp4a":
        raise Unsupported(f"MP4 of {kind.decode('latin-1')!a}; AAC and ALAC are decoded")
    boxes = dict(_boxes(inner))
    esds = boxes.get(b"esds") or _first(boxes.get(b"wave", b""), b"esds")
    return "aac", _aac_setup(esds[4:]), rate_hz, channels


def _aac_setup(data: bytes) -> bytes:
    """Walk down an elementary stream's descriptors to AAC's own header."""
    content = _descriptor(data, 3)
    flags = content[2]
    content = content[3 + (2 if flags & 0x80 else 0) :]
    if flags & 0x40:
        content = content[1 + content[0] :]
    content = content[2 if flags & 0x20 else 0 :]
    decoder = _descriptor(content, 4)
    if decoder[0] not in _AAC_OBJECTS:
        raise Unsupported(f"MP4 of the object type {decoder[0]:#04x}; AAC and ALAC are decoded")
    return _descriptor(decoder[13:], 5)


def _descriptor(data: bytes, tag: int) -> bytes:
    if data[0] != tag:
        raise Damaged(f"descriptor {data[0]} where {tag} should be")
    size = at = 0
    for at in range(1, 5):
        size = size << 7 | data[at] & 0x7F
        if not data[at] & 0x80:
            break
    return data[at + 1 : at + 1 + size]


def _table(box: bytes, dtype: str, columns: int, start: int = 4) -> npt.NDArray[np.int64]:
    """Return int64 `[row, column]` of a table that follows on its number of rows."""
    rows = struct.unpack_from(">I", box, start)[0]
    width = np.dtype(dtype).itemsize * columns
    if rows * width > len(box) - start - 4:
        raise Damaged(f"a table announces {rows} rows of {width} bytes, and {len(box) - start - 4} bytes are there")
    return np.frombuffer(box, dtype, rows * columns, start + 4).astype(np.int64).reshape(rows, columns)


def _sizes(tables: dict[bytes, bytes], file_bytes: int) -> npt.NDArray[np.int64]:
    if b"stsz" not in tables:
        raise Unsupported("MP4 with packet sizes in an stz2 box")
    size, count = struct.unpack_from(">II", tables[b"stsz"], 4)
    if not size:
        return _table(tables[b"stsz"], ">u4", 1, 8)[:, 0]
    if count > _MOST_PACKETS or size * count > file_bytes:
        raise Damaged(f"{count} packets of {size} bytes are announced in a file of {file_bytes} bytes")
    return np.full(count, size, np.int64)


def _duration(stts: bytes, packets: int) -> int:
    """Return the duration of all packets, in the media's ticks."""
    table = _table(stts, ">u4", 2)
    counts, ticks = table[:, 0], table[:, 1]
    if float(counts.sum(dtype=np.float64)) != packets or float(np.dot(counts.astype(float), ticks)) > 2.0**52:
        raise Damaged(f"durations of {int(counts.sum(dtype=np.float64))} packets, sizes of {packets}")
    return int(np.dot(counts, ticks))


def _offsets(tables: dict[bytes, bytes], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return where packets begin, from the chunks they lie in: packets of a chunk follow on each other."""
    chunks = _table(tables[b"co64"], ">u8", 1) if b"co64" in tables else _table(tables[b"stco"], ">u4", 1)
    runs = _table(tables[b"stsc"], ">u4", 3)
    if not len(sizes):
        return np.empty(0, np.int64)
    starts = runs[:, 0] - 1
    if not len(runs) or starts[0] or (np.diff(starts) <= 0).any() or starts[-1] >= len(chunks):
        raise Damaged("the table of chunks contradicts itself")
    lengths = np.diff(np.append(starts, len(chunks)))
    if float(np.dot(lengths.astype(float), runs[:, 1])) != len(sizes):
        raise Damaged("the chunks do not hold as many packets as have a size")
    counts = np.repeat(runs[:, 1], lengths)
    ends = np.cumsum(sizes)
    before = np.concatenate(([0], ends))[:-1]
    firsts = np.cumsum(counts) - counts
    held = counts > 0
    base = chunks[held, 0] - before[firsts[held]]
    offsets: npt.NDArray[np.int64] = before + np.repeat(base, counts[held])
    if (offsets < 0).any():
        raise Damaged("a chunk begins beyond what any file holds")
    return offsets
