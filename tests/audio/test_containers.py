from __future__ import annotations

import io
import random

import pytest

from tests.audio.samples import decoded, every_sort, id3v2, tones, wav, written
from tests.audio.test_fuzz import mended
from tokenmill.audio import reasons
from tokenmill.audio.byte_reader import ByteReader
from tokenmill.audio.containers import open_track
from tokenmill.audio.tracks import Damaged, NotAudio, Unsupported
from tokenmill.errors import ItemError

KINDS = {"rf64": "wav", "w64": "wav"}


def opened(data: bytes) -> str:
    return open_track(ByteReader(io.BytesIO(data), len(data))).info.container


@pytest.mark.parametrize("name", list(every_sort()))
def test_every_sort_is_told_by_its_content(name: str) -> None:
    kind = name.split()[0]
    assert opened(every_sort()[name]) == KINDS.get(kind, kind)


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"RIFF\x10\0\0\0AVI LIST",
        b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(5000),
        b"\x1aE\xdf\xa3" + bytes(500),  # Matroska
        b"FORM\0\0\1\0AIFFCOMM" + bytes(500),
        b"#EXTM3U\nhttp://example.org/a.mp3\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"\xff\xf1\x50\x80" * 500,  # ADTS
        b"\xff\xfb\x90\x00" + bytes(3000),  # one header of MP3, and no frame behind it
        bytes(100_000),
    ],
)
def test_what_is_no_sound_or_of_another_container(data: bytes) -> None:
    with pytest.raises(NotAudio, match=r"it begins with '.*', as no file of sound does"):
        opened(data)


@pytest.mark.parametrize("name", ["mp3", "mp3 gapless", "flac"])
@pytest.mark.parametrize("sizes", [[0], [1000], [300_000, 10]])
def test_tags_before_mp3_and_flac_are_passed_over(name: str, sizes: list[int]) -> None:
    data = every_sort()[name]
    tagged = b"".join(id3v2(size) for size in sizes) + data
    assert (decoded(tagged)[1] == decoded(data)[1]).all()


def test_a_tag_that_announces_more_than_there_is() -> None:
    with pytest.raises(Damaged, match=r"its ID3v2 tag announces \d+ bytes, and 110 are there"):
        opened((id3v2(200 << 20))[:110])


def test_a_tag_with_nothing_behind_it() -> None:
    with pytest.raises(NotAudio, match="behind its ID3v2 tag it begins"):
        opened(id3v2(50) + b"some text" * 100)


def test_random_bytes_are_no_mp3() -> None:
    rng = random.Random(3)
    for _ in range(30):
        with pytest.raises(NotAudio):
            opened(rng.randbytes(100_000))


def test_ogg_and_mp4_without_sound_that_is_decoded() -> None:
    ogg = bytearray(every_sort()["ogg opus"])
    ogg[28:36] = b"Speex   "
    with pytest.raises(Unsupported, match="Ogg of 'Speex   '; Vorbis, Opus and FLAC are decoded"):
        opened(mended(bytes(ogg)))
    with pytest.raises(Unsupported, match="MP4 of 'ac-3'; AAC and ALAC are decoded"):
        opened(every_sort()["m4a aac"].replace(b"mp4a", b"ac-3"))


def test_cover_art_is_passed_over_unread() -> None:
    data = written(tones(4800), 48_000, "FLAC")
    picture = b"\x06" + (1 << 20).to_bytes(3, "big") + bytes(1 << 20)
    assert (decoded(data[:42] + picture + data[42:])[1] == decoded(data)[1]).all()


def test_a_wrong_first_byte_is_told_with_its_reason() -> None:
    with pytest.raises(ItemError) as caught:
        decoded(b"\0" + wav(bytes(100)))
    assert caught.value.reason == reasons.NOT_AUDIO
