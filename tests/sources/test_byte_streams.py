"""Decompressed bytes: every compression, damage, bombs, and files that change."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.sources.corpora import bz, gz, read_source, write, xz, zst
from tokenmill.errors import ChangedError, InputError, StorageError
from tokenmill.job_sources import Source
from tokenmill.sources.byte_streams import ByteStream, DecompressedStream, byte_stream
from tokenmill.sources.formats import Compression
from tokenmill.sources.limits import ReadLimits
from tokenmill.sources.planning import plan_source
from tokenmill.sources.reading import open_split

_DATA = random.Random(0).randbytes(40_000) * 2 + b"text " * 40_000
_COMPRESSED: dict[Compression, bytes] = {
    "gz": b"".join(gz(_DATA)),
    "zst": b"".join(zst(_DATA)),
    "xz": b"".join(xz(_DATA)),
    "bz2": b"".join(bz(_DATA)),
    "none": _DATA,
}


def _stream(data: bytes, compression: Compression) -> ByteStream:
    return byte_stream(io.BytesIO(data), len(data), "a", compression)


def _read_all(stream: ByteStream, limit: int = 1 << 16) -> bytes:
    pieces = []
    while piece := stream.read(limit):
        assert len(piece) <= limit
        pieces.append(piece)
    assert stream.read(limit) == b""
    return b"".join(pieces)


@pytest.mark.parametrize("compression", _COMPRESSED)
@pytest.mark.parametrize("limit", [997, 1 << 20])
def test_members_and_padding(compression: Compression, limit: int) -> None:
    with _stream(_COMPRESSED[compression], compression) as stream:
        assert _read_all(stream, limit) == _DATA
        assert (stream.tear, stream.position) == (None, len(_DATA))
        assert stream.stored_position == len(_COMPRESSED[compression])
    with _stream(_COMPRESSED[compression], compression) as stream:
        stream.skip_to(100_000)
        assert stream.read_exactly(1000) == _DATA[100_000:101_000]
        assert stream.position == 101_000


@pytest.mark.parametrize("compression", ["gz", "zst", "xz", "bz2"])
def test_damage_keeps_the_same_bytes_whatever_is_asked_for(compression: Compression) -> None:
    for place in range(100, len(_COMPRESSED[compression]) - 100, len(_COMPRESSED[compression]) // 7):
        data = bytearray(_COMPRESSED[compression])
        data[place] ^= 4
        found = []
        for limit in (13, 4096, 1 << 20):
            with _stream(bytes(data), compression) as stream:
                found.append((_read_all(stream, limit), stream.tear))
        assert found[0] == found[1] == found[2]
        assert found[0][1] is not None or compression == "zst"  # whose first frame has no checksum
        assert len(found[0][0]) <= len(_DATA)


@pytest.mark.parametrize("compression", ["gz", "zst", "xz", "bz2"])
def test_trailing_garbage_tears_and_foreign_files_are_told_apart(compression: Compression) -> None:
    with _stream(_COMPRESSED[compression] + b"garbage " * 10, compression) as stream:
        assert _read_all(stream) == _DATA
        assert stream.tear is not None
        assert not stream.tear.at_start
    with _stream(b"this was never compressed, and " * 10, compression) as stream:
        assert _read_all(stream) == b""
        assert stream.tear is not None
        assert stream.tear.at_start
    with _stream(b"", compression) as stream:
        assert (_read_all(stream), stream.tear) == (b"", None)


@pytest.mark.parametrize("name", ["a.jsonl.zst", "a.jsonl.gz"])
def test_bombs_do_not_fill_the_memory(tmp_path: Path, name: str) -> None:
    size_bytes = 200 << 20
    if name.endswith("zst"):
        compressor = zstandard.ZstdCompressor().compressobj()
        data = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(size_bytes >> 20)) + compressor.flush()
    else:
        file = io.BytesIO()
        with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as compressed:
            for _ in range(size_bytes >> 20):
                compressed.write(bytes(1 << 20))
        data = file.getvalue()
    root, files = write(tmp_path, {name: data})
    source = Source(name="s", uris=("x",))
    (split,) = plan_source(source, root, files, 1 << 30)
    tracemalloc.start()
    with open_split(source, root, split, ReadLimits(max_item_bytes=4 << 20)) as reader:
        (batch,) = reader.batches()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    (reject,) = batch.rejects
    assert reject.reason == "item_too_large"
    assert f"{size_bytes} bytes" in reject.message
    assert peak < 20 << 20


def test_windows_and_dictionaries_are_bounded() -> None:
    data = b"\x28\xb5\x2f\xfd\x00" + bytes([(28 - 10) << 3]) + b"\x01\x00\x00"  # an empty frame, window 256 MiB
    with _stream(data, "zst") as stream:
        assert stream.read() == b""
        assert stream.tear is not None
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = compressor.compress(b"large window") + compressor.flush()
    with _stream(data, "zst") as stream:
        assert stream.read() == b"large window"
        assert stream.tear is None
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}]
    with _stream(lzma.compress(b"x", filters=filters), "xz") as stream:
        assert stream.read() == b""
        assert stream.tear is not None


def test_a_file_that_changed_is_refused_by_name(tmp_path: Path) -> None:
    root, files = write(tmp_path, {"a.jsonl": b'{"text": "a"}\n', "b.parquet": b"x", "c.txt": b"c"})
    source = Source(name="s", uris=("x",))
    for file in files:
        (split,) = plan_source(source, root, [file], 1 << 20)
        path = tmp_path / file.path
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        with pytest.raises(ChangedError, match=file.path), open_split(source, root, split, ReadLimits()) as reader:
            list(reader.batches())
        path.unlink()
        with pytest.raises(InputError, match=file.path), open_split(source, root, split, ReadLimits()) as reader:
            list(reader.batches())


def test_a_file_that_shrinks_while_it_is_read_is_refused() -> None:
    with byte_stream(io.BytesIO(b"12345"), 10, "s3://b/a", "none") as stream:
        assert stream.read() == b"12345"
        with pytest.raises(ChangedError, match=r"s3://b/a.*shorter"):
            stream.read()


def test_a_file_that_grows_while_it_is_read_is_read_to_its_old_end() -> None:
    with byte_stream(io.BytesIO(b"12345more"), 5, "a", "none") as stream:
        assert _read_all(stream) == b"12345"


class _Broken(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        raise OSError(5, "Input/output error")


def test_what_the_disk_raises_is_no_damage() -> None:
    for compression in _COMPRESSED:
        with (
            byte_stream(_Broken(b"x"), 1, "/a/b", compression) as stream,
            pytest.raises(StorageError, match=r"/a/b.*Input/output error"),
        ):
            stream.read()


def test_closing_a_reader_closes_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Any] = []
    close = ByteStream.close

    def closing(stream: ByteStream) -> None:
        closed.append(stream)
        close(stream)

    monkeypatch.setattr(ByteStream, "close", closing)
    root, files = write(tmp_path, {"a.jsonl.gz": gzip.compress(b'{"text": "a"}\n' * 5000)})
    source = Source(name="s", uris=("x",))
    (split,) = plan_source(source, root, files, 1 << 20)
    with open_split(source, root, split, ReadLimits()) as reader:
        next(iter(reader.batches()))
        assert closed == []
    assert [type(stream) for stream in closed] == [DecompressedStream]
    assert len(read_source(source, root, files).items) == 5000
