from __future__ import annotations

import io

import numpy as np
import pytest

from tests.audio.samples import decoded, tones, written
from tokenmill.audio import reasons
from tokenmill.audio.byte_reader import ByteReader
from tokenmill.audio.flac import FlacTrack, FrameNumbers
from tokenmill.audio.tracks import Damaged
from tokenmill.errors import ItemError

RATE_HZ = 48_000


@pytest.fixture(scope="module")
def flac() -> bytes:
    return written(tones(3 * RATE_HZ), RATE_HZ, "FLAC")


def frames(flac: bytes) -> list[int]:
    """Return where frames begin."""
    track = FlacTrack(ByteReader(io.BytesIO(flac), len(flac)))
    sizes = [len(packet) for packets in track._packets() for packet in packets]
    return [len(flac) - sum(sizes[number:]) for number in range(len(sizes))]


def refusal(data: bytes) -> ItemError:
    with pytest.raises(ItemError) as caught:
        decoded(data)
    assert caught.value.reason == reasons.DAMAGED_AUDIO
    return caught.value


def unknown_length(flac: bytes) -> bytes:
    return flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]


def test_one_bit_anywhere_in_a_frame_is_found(flac: bytes) -> None:
    starts = frames(flac)
    assert len(starts) > 20
    for at in (starts[10] + 1, starts[10] + 4, starts[10] + 500, starts[11] - 1):
        changed = bytearray(flac)
        changed[at] ^= 4
        error = refusal(bytes(changed))
        read = float(error.what.split()[4])
        assert 0.5 < read < 1.1
        assert error.lost_seconds == 3


def test_a_frame_that_is_missing_is_found_though_no_length_is_known(flac: bytes) -> None:
    starts = frames(flac)
    cut = flac[: starts[10]] + flac[starts[11] :]
    assert "frame 11 where 10 should follow" in refusal(unknown_length(cut)).what
    assert "frame 11 where 10 should follow" in refusal(cut).what


def test_a_file_that_ends_between_frames(flac: bytes) -> None:
    cut = flac[: frames(flac)[10]]
    assert "144000 samples are announced, and" in refusal(cut).what
    assert decoded(unknown_length(cut))[1].shape[0] % 4096 == 0  # nobody can tell


@pytest.mark.parametrize("more", [b"TAG" + bytes(125), b"garbage" * 1000, b"\xff\xf8" * 64])
def test_what_is_no_frame_is_passed_over_behind_the_last_and_damage_between(flac: bytes, more: bytes) -> None:
    at = frames(flac)[10]
    np.testing.assert_array_equal(decoded(flac + more)[1], decoded(flac)[1])
    refusal(flac[:at] + more + flac[at:])


@pytest.mark.parametrize(
    "head",
    [
        b"fLaC",
        b"fLaC\x84\0\0\x22" + bytes(34),
        b"fLaC\x80\0\0\x21" + bytes(33),
        b"fLaC\x80\0\0\x22" + bytes(20),
        b"fLaC\x80\0\0\x22" + bytes(34),
    ],
)
def test_headers_that_are_none(head: bytes) -> None:
    assert refusal(head).what.startswith("nothing could be read: ")


def test_metadata_without_end(flac: bytes) -> None:
    assert "10000 metadata blocks" in refusal(flac[:42] + b"\x01\0\0\0" * 10_001).what


def test_bytes_without_any_frame_are_not_held_without_end(flac: bytes) -> None:
    assert "no frame ends within" in refusal(flac[: frames(flac)[0]] + bytes(40 << 20)).what


def test_numbers_of_frames_of_any_size_are_their_first_samples() -> None:
    numbers = FrameNumbers()
    numbers.check(bytes.fromhex("fff91808000000000000"))  # 192 samples, from 0
    numbers.check(bytes.fromhex("fff92808c3800000000000"))  # 576, from 192
    numbers.check(bytes.fromhex("fff97808cc80000f0000"))  # 16, from 768
    with pytest.raises(Damaged, match="frame 0 where 784 should follow"):
        numbers.check(bytes.fromhex("fff91808000000000000"))
