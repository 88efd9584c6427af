"""Tells what an audio file is by its first bytes, and opens it. Names of files play no part."""

from __future__ import annotations

from tokenmill.audio.byte_reader import ByteReader
from tokenmill.audio.flac import FlacTrack
from tokenmill.audio.m4a import M4aTrack
from tokenmill.audio.mp3 import Mp3Track, id3v2_bytes
from tokenmill.audio.ogg import OggTrack
from tokenmill.audio.tracks import Damaged, NotAudio, Track
from tokenmill.audio.wav import WavTrack, is_wav

_HEAD_BYTES = 40
#: ID3v2 tags one behind the other, as careless programs leave them.
_MOST_TAGS = 16


def open_track(reader: ByteReader) -> Track:
    """Open a file, its reader at the beginning.

    WAV, RF64 and Wave64, FLAC, Ogg and MP4 begin with marks of their own. ID3v2 tags may stand before FLAC and MP3. A
    file without a mark is MP3 where frames of it follow on each other: two at the very beginning, or four within the
    first 64 KiB.

    Raises:
        NotAudio: It is none of these.
        Damaged: Its header breaks off or contradicts itself.
        Unsupported: Its sound is of a sort that is not decoded.
    """
    head = reader.peek(_HEAD_BYTES)
    if is_wav(head):
        return WavTrack(reader)
    if head.startswith(b"OggS"):
        return OggTrack(reader)
    if head[4:8] == b"ftyp":
        return M4aTrack(reader)
    for _ in range(_MOST_TAGS):
        size = id3v2_bytes(reader.peek(10))
        if not size:
            break
        if size >= reader.left_bytes:
            raise Damaged(f"its ID3v2 tag announces {size} bytes, and {reader.left_bytes} are there")
        reader.skip(size)
    if reader.peek(4) == b"fLaC":
        return FlacTrack(reader)
    try:
        return Mp3Track(reader)
    except NotAudio as error:
        begins = "behind its ID3v2 tag it begins" if reader.position else "it begins"
        raise NotAudio(f"{begins} with {head[:8].decode('latin-1')!a}, as no file of sound does") from error
