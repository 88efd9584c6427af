from __future__ import annotations

import io
import random

from tokenmill.audio.byte_reader import ByteReader

DATA = random.Random(1).randbytes(600_000)


class Slow(io.BytesIO):
    """Returns fewer bytes than it is asked for, as sockets do."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 1000))


def test_it_reads_as_the_file_does_whatever_the_order() -> None:
    rng = random.Random(2)
    for file in (io.BytesIO(DATA), Slow(DATA)):
        reader = ByteReader(file, len(DATA))
        at = 0
        for _ in range(400):
            count = rng.choice((0, 1, 7, 4096, 200_000))
            action = rng.randrange(4)
            if action == 0:
                at = rng.randrange(len(DATA) + 100)
                reader.seek(at)
                at = min(at, len(DATA))
            elif action == 1:
                reader.skip(count)
                at = min(at + count, len(DATA))
            elif action == 2:
                assert reader.peek(count) == DATA[at : at + count]
            else:
                assert reader.read(count) == DATA[at : at + count]
                at += len(DATA[at : at + count])
            assert reader.position == at
            assert reader.left_bytes == len(DATA) - at


def test_nothing_beyond_the_size_that_was_told() -> None:
    reader = ByteReader(io.BytesIO(DATA), 10)
    assert reader.read(100) == DATA[:10]


def test_places_that_no_file_has() -> None:
    reader = ByteReader(io.BytesIO(DATA), len(DATA))
    reader.seek(1 << 70)
    assert (reader.position, reader.read(1)) == (len(DATA), b"")


def test_far_ahead_nothing_is_fetched() -> None:
    fetched: list[int] = []

    class Counting(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            fetched.append(len(data))
            return data

    reader = ByteReader(Counting(DATA), len(DATA))
    reader.read(10)
    reader.skip(400_000)
    reader.read(10)
    assert sum(fetched) < 300_000
