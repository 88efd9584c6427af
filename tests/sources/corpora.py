"""Corpora in every format, made from the same documents, and the reading of them that the tests share."""

from __future__ import annotations

import bz2
import contextlib
import csv
import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from tokenmill.audio.audio_file import AudioFile
from tokenmill.images.image_file import ImageFile
from tokenmill.job_sources import Source
from tokenmill.sources import byte_streams, item_buffer, jsonl, line_scan, runs, warc
from tokenmill.sources.items import Cursor, Reject
from tokenmill.sources.limits import ReadLimits
from tokenmill.sources.planning import plan_source
from tokenmill.sources.reading import open_split
from tokenmill.sources.splits import InputFile, Split
from tokenmill.storage.inputs import expand


@dataclass(frozen=True)
class Document:
    text: str
    id: str = "a"
    number: int | None = None


Documents = Sequence[Document]


def as_jsonl(documents: Documents) -> bytes:
    return b"".join(
        json.dumps(
            {"skipped": [1, {"text": "no"}], "id": d.id, "text": d.text, "number": d.number},
            ensure_ascii=number % 2 == 0,
        ).encode("utf-8", "surrogatepass")
        + (b"\r\n" if number % 3 == 0 else b"\n")
        for number, d in enumerate(documents)
    )


def as_lines(documents: Documents) -> bytes:
    return b"".join(d.text.encode() + b"\n" for d in documents)


def as_delimited(documents: Documents, delimiter: str) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerow(["number", "text", "id"])
    writer.writerows([("" if d.number is None else d.number, d.text, d.id) for d in documents])
    return file.getvalue().encode()


def as_parquet(documents: Documents, **options: Any) -> bytes:
    table = pa.table(
        {
            "skipped": pa.array([1] * len(documents), pa.int8()),
            "text": pa.array([d.text for d in documents], pa.string()),
            "id": pa.array([d.id for d in documents], pa.large_string()),
            "number": pa.array([d.number for d in documents], pa.int64()),
        }
    )
    file = io.BytesIO()
    pq.write_table(table, file, **{"row_group_size": 3, "write_page_checksum": True, **options})
    return file.getvalue()


def as_file_parquet(documents: Documents, column: str, *, hub: bool) -> bytes:
    """Return rows with a column of files: plain binary, or the struct of bytes and path of the Hugging Face hub."""
    data: Any = pa.array([d.text.encode() for d in documents], pa.large_binary())
    if hub:
        paths = pa.array([d.id for d in documents], pa.string())
        data = pa.StructArray.from_arrays([data.cast(pa.binary()), paths], ["bytes", "path"])
    columns = {column: data, "id": pa.array([d.id for d in documents], pa.string())}
    columns["number"] = pa.array([d.number for d in documents], pa.int64())
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, row_group_size=3, write_page_checksum=True)
    return file.getvalue()


def as_tar(documents: Documents, extension: str = "txt") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number, d in enumerate(documents):
            name = f"dir.d/{'n' * (120 if number % 4 == 0 else 1)}{number:04}"
            members = {"mp4": b"\x89PNG" * 100, extension: d.text.encode()}
            members["json"] = json.dumps({"id": d.id, "meta": {"number": d.number}}).encode()
            for ending, data in members.items():
                member = tarfile.TarInfo(f"{name}.{ending}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def warc_record(kind: str, body: bytes, content_type: str = "text/plain", **headers: str) -> bytes:
    lines = [
        "WARC/1.0",
        f"WARC-Type: {kind}",
        f"Content-Type: {content_type}",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body + b"\r\n\r\n"


def as_wet_records(documents: Documents) -> list[bytes]:
    records = [warc_record("warcinfo", b"software: x\r\n", "application/warc-fields", WARC_Record_ID="<info>")]
    for number, d in enumerate(documents):
        headers = {"WARC_Record_ID": d.id, **({} if d.number is None else {"X_Number": str(d.number)})}
        if number % 2:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=UTF-8\r\n\r\n"
            kind, body = "response", head + d.text.encode()
            records.append(warc_record("request", b"GET / HTTP/1.1\r\n\r\n", "application/http; msgtype=request"))
            records.append(warc_record(kind, body, "application/http; msgtype=response", **headers))
        else:
            records.append(warc_record("conversion", d.text.encode(), **headers))
    return records


def gz(data: bytes) -> list[bytes]:
    """Two members, and padding."""
    half = len(data) // 2
    return [gzip.compress(data[:half]), gzip.compress(data[half:]), *[b"\0"] * 20]


def zst(data: bytes) -> list[bytes]:
    """Two frames with a skippable one between; the first without, the second with a checksum."""
    half = len(data) // 3
    skippable = b"\x50\x2a\x4d\x18\x05\x00\x00\x00hello"
    first = zstandard.ZstdCompressor().compress(data[:half])
    return [first, skippable, zstandard.ZstdCompressor(write_checksum=True).compress(data[half:])]


def xz(data: bytes) -> list[bytes]:
    """Two streams, with padding between."""
    half = len(data) // 2
    return [lzma.compress(data[:half]), *[b"\0"] * 4, lzma.compress(data[half:])]


def bz(data: bytes) -> list[bytes]:
    """Two streams."""
    half = len(data) // 2
    return [bz2.compress(data[:half]), bz2.compress(data[half:])]


def blocks(data: bytes) -> list[bytes]:
    """A tar file's blocks: cut between them it may look whole."""
    return [data[start : start + 512] for start in range(0, len(data), 512)]


@dataclass(frozen=True)
class Case:
    """A format: how documents become files, how a source reads them, and what a document may hold in it."""

    name: str
    parts: Callable[[Documents], list[bytes]]
    fields: dict[str, str] = field(default_factory=lambda: {"id": "id"})
    metadata: dict[str, str] = field(default_factory=lambda: {"number": "int64"})
    format: str = "auto"
    forbidden: str = ""
    #: Whether a file that is cut can be told from a whole one, except between its parts.
    tears: bool = True
    modality: str = "text"

    def build(self, documents: Documents) -> bytes:
        return b"".join(self.parts(documents))

    def __str__(self) -> str:
        return self.name

    def source(self, **changes: Any) -> Source:
        given = {"name": "s", "uris": ("x",), "fields": self.fields, "metadata": self.metadata, "format": self.format}
        return Source(**{**given, "modality": self.modality, **changes})


CASES = {
    case.name: case
    for case in (
        Case("a.jsonl", lambda d: [as_jsonl(d)], tears=False),
        Case("a.jsonl.gz", lambda d: gz(as_jsonl(d))),
        Case("a.jsonl.zst", lambda d: zst(as_jsonl(d))),
        Case("a.jsonl.xz", lambda d: xz(as_jsonl(d))),
        Case("a.ndjson.bz2", lambda d: bz(as_jsonl(d))),
        Case("a.lines", lambda d: [as_lines(d)], {}, {}, "lines", "\r\n\ufeff", tears=False),
        Case("a.lines.gz", lambda d: gz(as_lines(d)), {}, {}, "lines", "\r\n\ufeff"),
        Case("a.csv", lambda d: [as_delimited(d, ",")], forbidden="\0", tears=False),
        Case("a.tsv.zst", lambda d: zst(as_delimited(d, "\t")), forbidden="\0"),
        Case("a.parquet", lambda d: [as_parquet(d)]),
        Case("a.tar", lambda d: blocks(as_tar(d)), {"id": "json.id"}, {"json.meta.number": "int64"}),
        Case("a.tar.gz", lambda d: gz(as_tar(d)), {"id": "json.id"}, {"json.meta.number": "int64"}),
        Case(
            "a.wet",
            lambda d: [part for r in as_wet_records(d) for part in (r[:-4], *map(bytes, zip(r[-4:])))],
            {},
            {"X-Number": "int64"},
        ),
        Case(
            "images.tar",
            lambda d: blocks(as_tar(d, "JPG")),
            {"id": "json.id"},
            {"json.meta.number": "int64"},
            modality="image",
        ),
        Case(
            "images.tar.zst",
            lambda d: zst(as_tar(d, "still.png")),
            {"id": "json.id", "image": "still.png"},
            {"json.meta.number": "int64"},
            modality="image",
        ),
        Case("images.parquet", lambda d: [as_file_parquet(d, "image", hub=False)], modality="image"),
        Case("hub.parquet", lambda d: [as_file_parquet(d, "image", hub=True)], {"id": "image.path"}, modality="image"),
        Case(
            "recordings.tar",
            lambda d: blocks(as_tar(d, "FLAC")),
            {"id": "json.id"},
            {"json.meta.number": "int64"},
            modality="audio",
        ),
        Case(
            "recordings.parquet",
            lambda d: [as_file_parquet(d, "audio", hub=True)],
            {"id": "audio.path"},
            modality="audio",
        ),
        Case("a.warc.wet.gz", lambda d: list(map(gzip.compress, as_wet_records(d))), {}, {"X-Number": "int64"}),
    )
}


@dataclass(frozen=True)
class Item:
    ordinal: int
    key: str
    text: str
    metadata: tuple[Any, ...]
    size_bytes: int
    locator: str
    end: int


@dataclass
class Result:
    items: list[Item] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)

    @property
    def reasons(self) -> list[str]:
        return [reject.reason for reject in self.rejects]

    @property
    def texts(self) -> list[str]:
        return [item.text for item in self.items]


def write(directory: Path, contents: dict[str, bytes]) -> tuple[str, list[InputFile]]:
    """Write files, and return root and files as `expand` gives them."""
    for name, data in contents.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    expanded = expand([str(directory)])
    return expanded.root, list(expanded.files)


def read_split(
    source: Source, root: str, split: Split, cursor: Cursor | None = None, limits: ReadLimits | None = None
) -> Result:
    """Read a split from a cursor on, checking what every batch promises."""
    result = Result()
    seen = -1 if cursor is None else cursor.ordinal - 1
    with open_split(source, root, split, limits or ReadLimits()) as reader:
        for batch in reader.batches() if cursor is None else reader.batches(cursor):
            assert len(batch) or batch.rejects
            assert len(batch.ordinals) == len(batch.ends) == len(batch.sizes) == len(batch.keys) == len(batch.payloads)
            assert not batch.locators or len(batch.locators) == len(batch)
            numbers = sorted([*batch.ordinals.tolist(), *(reject.ordinal for reject in batch.rejects)])
            assert numbers[0] > seen
            assert len(set(numbers)) == len(numbers)
            assert [r.ordinal for r in batch.rejects] == sorted(r.ordinal for r in batch.rejects)
            seen = numbers[-1]
            for index in range(len(batch)):
                result.items.append(
                    Item(
                        int(batch.ordinals[index]),
                        batch.keys[index],
                        _content(batch.payloads[index]),
                        tuple(values[index] for values in batch.metadata.values()),
                        int(batch.sizes[index]),
                        batch.locators[index] if batch.locators else f"{batch.path}#item={batch.ordinals[index]}",
                        int(batch.ends[index]),
                    )
                )
            assert set(batch.metadata) == set(source.metadata)
            result.rejects += batch.rejects
    for item in result.items:
        assert item.size_bytes == len(item.text.encode("utf-8", "surrogateescape"))
    return result


def _content(payload: Any) -> str:
    """Return a payload for comparisons: of images and recordings, which no reader looks into, the file as text."""
    if isinstance(payload, ImageFile):
        return payload.data.decode("utf-8", "surrogateescape")
    if isinstance(payload, AudioFile):
        with payload.content.open() as file:
            return file.read().decode("utf-8", "surrogateescape")
    return str(payload)


def read_source(
    source: Source, root: str, files: Sequence[InputFile], split_bytes: int = 1 << 20, limits: ReadLimits | None = None
) -> Result:
    """Plan and read all splits of a source."""
    total = Result()
    for split in plan_source(source, root, files, split_bytes):
        result = read_split(source, root, split, limits=limits)
        total.items += result.items
        total.rejects += result.rejects
    return total


@contextlib.contextmanager
def small_pieces(chunk_bytes: int, batch_bytes: int = 1 << 20) -> Iterator[None]:
    """Make readers work in small pieces, so that small corpora have many seams."""
    with contextlib.ExitStack() as stack:
        for module in (byte_streams, line_scan, warc):
            stack.enter_context(mock.patch.object(module, "CHUNK_BYTES", chunk_bytes))
        for module in (jsonl, item_buffer, runs):
            stack.enter_context(mock.patch.object(module, "BATCH_BYTES", batch_bytes))
        stack.enter_context(mock.patch.object(byte_streams, "_PIECE_BYTES", max(chunk_bytes, 1)))
        yield
